"""Language models alone: Llama, Qwen2 and Mistral."""

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from reference import LOGIT_ROWS, MARGIN, NEW_TOKENS, talk, text_config, tokenizer

KINDS = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
}
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def text(kind, adds_bos=False, **decoder):
    tok = tokenizer(adds_bos)
    tok.chat_template = TEMPLATE
    config_class, model_class = KINDS[kind]
    config = text_config(kind, len(tok), **decoder)
    del config["model_type"]
    return model_class(config_class(**config)), tok


def compute(model, tok, messages):
    """Everything expected of a case, or None where the greedy answer is a close call."""
    prompt = tok.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    begins = prompt.startswith(tok.bos_token)
    given = tok(prompt, return_tensors="pt", add_special_tokens=not begins)
    n_prompt = given["input_ids"].shape[1]
    with torch.no_grad():
        logits = model(**given).logits[0]
        answer = model.generate(
            **given, do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=None, pad_token_id=0,
            output_logits=True, return_dict_in_generate=True,
        )
    steps = torch.cat(answer.logits)
    best = steps.topk(2).values
    if ((best[:, 0] - best[:, 1]) / steps.abs().max()).min() < MARGIN:
        return None
    tensors = {
        "input_ids": given["input_ids"][0],
        "logits": logits[-LOGIT_ROWS:],
        "greedy": answer.sequences[0, n_prompt:],
    }
    return prompt, {name: tensor.contiguous() for name, tensor in tensors.items()}


LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}

CASES = {
    "text-llama-yarn": lambda: (
        text("llama", rope_scaling=YARN | dict(beta_fast=8, mscale=0.7, mscale_all_dim=1.0)), [],
        talk(0)),
    "text-qwen2-yarn-gguf": lambda: (text("qwen2", rope_scaling=YARN), [], talk(0)),
    "text-qwen2": lambda: (text("qwen2", tie_word_embeddings=True), [], talk(0, second_turn=True)),
    "text-qwen2-layer-types": lambda: (
        text("qwen2", use_sliding_window=True, sliding_window=9,
             layer_types=["sliding_attention", "full_attention"]), [], talk(0)),
    "text-mistral": lambda: (text("mistral", sliding_window=9), [], talk(0)),
    "text-qwen2-gguf": lambda: (text("qwen2"), [], talk(0)),
    "text-qwen2-split-gguf": lambda: (
        text("qwen2", tie_word_embeddings=True), [], talk(0, second_turn=True)),
    "text-llama-llama3-gguf": lambda: (
        text("llama", adds_bos=True, rope_scaling=LLAMA3, tie_word_embeddings=True), [],
        talk(0, second_turn=True)),
    "text-llama-q8_0-gguf": lambda: (text("llama"), [], talk(0)),
}
