"""Llama-3.2-Vision."""

from transformers import (
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaImageProcessor,
    MllamaProcessor,
    PreTrainedTokenizerFast,
)

from reference import talk, text_config, tokenizer, vision_config

# As meta-llama/Llama-3.2-11B-Vision-Instruct has it, but for tools and dates.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\n\n' }}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<|image|>' }}"
    "{% else %}{{ content['text'] | trim }}{% endif %}{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n\n' }}{% endif %}"
)
# Leaves the first token to the processor; text follows pictures.
BARE_TEMPLATE = (
    "{% for message in messages %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|image|>{% else %}{{ content['text'] }}"
    "{% endif %}{% endfor %}<|im_end|>{% endfor %}"
)
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}


def own_tokenizer():
    """The shared one with `<|image|>` as the last token, which `tokenizer_config.json` names
    nowhere."""
    shared = tokenizer(adds_bos=False)
    inner = shared.backend_tokenizer
    inner.add_special_tokens(["<|image|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<|im_start|>", eos_token="<end_of_utterance>",
        pad_token="<|im_end|>", clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def mllama(layers, cross, tied=False, template=TEMPLATE, chosen=(0, 2), **options):
    """Tiles of 12 pixels, at most 4 of them."""
    tok = own_tokenizer()
    image_id = tok.convert_tokens_to_ids("<|image|>")
    vision = vision_config(
        "mllama_vision_model", hidden_size=8, intermediate_size=16, image_size=12, patch_size=4,
        num_global_layers=1, max_num_tiles=4, intermediate_layers_indices=list(chosen),
        vision_output_dim=8 * (1 + len(chosen)), hidden_act="gelu")
    text = text_config(
        "mllama_text_model", image_id, num_hidden_layers=layers, cross_attention_layers=cross,
        hidden_size=16, intermediate_size=24, rope_scaling=LLAMA3, tie_word_embeddings=tied,
        **options.get("decoder", {}))
    config = MllamaConfig(
        vision_config=vision, text_config=text, image_token_index=image_id,
        tie_word_embeddings=tied)
    images = MllamaImageProcessor(size={"height": 12, "width": 12}, max_image_tiles=4)
    processor = MllamaProcessor(images, tok, chat_template=template)
    return MllamaForConditionalGeneration(config), processor


def album():
    """A picture, an answer, and two more pictures at once."""
    def turn(role, *content):
        parts = [{"type": "image"} if part is None else {"type": "text", "text": part}
                 for part in content]
        return {"role": role, "content": parts}

    return [turn("user", None, "What is this?"), turn("assistant", "A dog."),
            turn("user", "And", None, None, "these?")]


CASES = {
    "mllama-square": lambda: (mllama(3, [1]), [(12, 11)], talk(1)),
    "mllama-wide-tied": lambda: (
        mllama(4, [1, 3], tied=True, decoder={"num_key_value_heads": 1}), [(30, 10)],
        talk(1, second_turn=True)),
    "mllama-several-bf16": lambda: (
        mllama(3, [1], chosen=(1,)), [(23, 24), (4, 7), (8, 44)], album()),
    "mllama-bare": lambda: (
        mllama(2, [1], template=BARE_TEMPLATE), [(16, 13), (35, 12)], talk(2)),
}
