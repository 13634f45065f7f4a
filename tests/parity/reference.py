"""What the families' cases share: a tokenizer, pictures, sizes, random weights, and what
transformers computes with them."""

import re

import numpy as np
import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

LOGIT_ROWS = 8
NEW_TOKENS = 32
# The answer must not hang on rounding: the best logit leads by this much of the largest.
MARGIN = 2e-3

CORPUS = ["What is this? A dog.", "Is there a cat? Yes. No.", "Which colour is the car? Red.",
          "How many balls are there? Three balls.", "the top left, the bottom right of the table"]


def vocabulary(special):
    """Byte-level BPE of 290 tokens and the special ones."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator(CORPUS, trainer)
    inner.add_special_tokens(special)
    return inner


def tokenizer(adds_bos):
    """The tokenizer of the families whose picture token is `<image>`."""
    cells = [f"<row_{row}_col_{col}>" for row in (1, 2) for col in (1, 2, 3)]
    special = ["<|im_start|>", "<|im_end|>", "<end_of_utterance>", "<global-img>", *cells,
               "<fake_token_around_image>", "<image>"]
    inner = vocabulary(special)
    if adds_bos:
        bos = inner.token_to_id("<|im_start|>")
        inner.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", pair="<|im_start|> $A $B",
            special_tokens=[("<|im_start|>", bos)],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )


def draw(size, seed):
    """A picture with edges, a gradient and noise: everything a resize can get wrong."""
    width, height = size
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([x * 255 // width, y * 255 // height, (x * 3 + y * 7) % 256], axis=-1)
    pixels = np.clip(pixels + rng.integers(-20, 20, pixels.shape), 0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels, "RGB")
    pen = ImageDraw.Draw(picture)
    pen.ellipse([width * 0.1, height * 0.2, width * 0.5, height * 0.9], fill=(220, 30, 40))
    pen.rectangle([width * 0.6, height * 0.1, width * 0.9, height * 0.5], fill=(20, 60, 230))
    return picture


def text_config(kind, vocab_size, **changes):
    config = dict(
        model_type=kind, vocab_size=vocab_size, hidden_size=32, intermediate_size=48,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=512, rms_norm_eps=1e-5, rope_theta=10000.0,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )
    return config | changes


def vision_config(kind, **changes):
    config = dict(
        model_type=kind, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=2, image_size=32, patch_size=8,
    )
    return config | changes


def talk(n_images, second_turn=False):
    """One question about all the pictures; or pictures in the first turn and a follow-up."""
    content = [{"type": "image"}] * n_images + [{"type": "text", "text": "What is this?"}]
    messages = [{"role": "user", "content": content}]
    if second_turn:
        messages += [
            {"role": "assistant", "content": [{"type": "text", "text": "A dog, größer."}]},
            {"role": "user", "content": [{"type": "text", "text": "Which colour?  Red? 🐕"}]},
        ]
    return messages


def randomise(model, seed):
    """Weights large enough that every part of the network shows in the logits."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn_like(parameter)
        if name.endswith("image_newline"):
            parameter.data = 0.8 * noise
        elif "gate" in name.split(".")[-1]:
            parameter.data = 0.8 + 0.3 * noise
        elif parameter.ndim <= 1:
            centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            parameter.data = centre + 0.2 * noise
        else:
            fan_in = parameter[0].numel()
            parameter.data = noise * (1.2 / fan_in**0.5 if "embed" not in name else 0.8)


# Of which modules of a family each tensor is the input (True) or the output; of several, what lies
# side by side in this order.
PROJECTOR = r"model\.(connector|multi_modal_projector)"
MERGERS = r"model\.visual\.(merger|deepstack_merger_list\.\d+)"
Q_FORMER = {"vision_features": (r"vision_model", False),
            "image_embeds": (r"language_projection", False)}
TENSORS = {
    "qwen2_vl": {"vision_features": (MERGERS, True), "image_embeds": (MERGERS, False)},
    "blip-2": Q_FORMER,
    "instructblip": Q_FORMER,
}
TENSORS["qwen2_5_vl"] = TENSORS["qwen3_vl"] = TENSORS["qwen2_vl"]
USUAL = {"vision_features": (PROJECTOR, True), "image_embeds": (PROJECTOR, False)}
CROSS_ATTENTION = r"qformer\..*\.crossattention\.attention"


def listen(model, seen):
    """Copies the first of what passes the modules of `TENSORS`; the hooks return nothing."""
    def keep(name, path, value):
        value = value if torch.is_tensor(value) else value[0]
        value = value.flatten(0, -3) if value.ndim > 3 else value  # tile by tile
        parts = seen.setdefault(name, {})
        if parts.get(path) is None:
            parts[path] = value.detach().clone()

    def attention(_, __, value):  # (N, H, T_img, P), mean over heads
        keep("patch_attention", "last", value[1].mean(1))

    named, hooks = list(model.named_modules()), []
    for name, (pattern, is_input) in TENSORS.get(model.config.model_type, USUAL).items():
        for path, module in named:
            if not re.fullmatch(pattern, path):
                continue
            # Its place beside the others: modules are registered in another order than called.
            seen.setdefault(name, {})[path] = None
            if is_input:
                hooks.append(module.register_forward_pre_hook(
                    lambda _, given, name=name, path=path: keep(name, path, given[0])))
            else:
                hooks.append(module.register_forward_hook(
                    lambda _, __, value, name=name, path=path: keep(name, path, value)))
    looking = [module for path, module in named if re.fullmatch(CROSS_ATTENTION, path)]
    hooks += [module.register_forward_hook(attention) for module in looking[-1:]]
    return hooks


def compute(model, processor, images, messages):
    """Everything expected of a case, or None where the greedy answer is a close call."""
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    bos = processor.tokenizer.bos_token
    # As `apply_chat_template` gives them: the pictures of each conversation in a list.
    nested = [images] if type(processor).__name__ == "LlavaOnevisionProcessor" else images
    given = processor(text=prompt, images=nested, return_tensors="pt",
                      add_special_tokens=not (bos and prompt.startswith(bos)))
    pixel_values = given["pixel_values"]
    if pixel_values.ndim > 2:  # else rows of patches
        pixel_values = pixel_values.reshape(-1, *pixel_values.shape[-3:])
        # Tiles of zeros fill up the batch.
        pixel_values = pixel_values[pixel_values.flatten(1).abs().amax(1) > 0]
    seen = {}
    hooks = listen(model, seen)
    with torch.no_grad():
        logits = model(**given).logits[0]
        answer = model.generate(
            **given, do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=None, pad_token_id=0,
            output_logits=True, return_dict_in_generate=True,
        )
    for hook in hooks:
        hook.remove()
    steps = torch.cat(answer.logits)
    best = steps.topk(2).values
    if ((best[:, 0] - best[:, 1]) / steps.abs().max()).min() < MARGIN:
        return None
    n_prompt = given["input_ids"].shape[1]
    if "qformer_input_ids" in given:
        seen["qformer_input_ids"] = {"": given["qformer_input_ids"][0]}
    tensors = {
        "input_ids": given["input_ids"][0],
        "pixel_values": pixel_values,
        **{name: torch.cat(called, -1) for name, parts in seen.items()
           if (called := [part for part in parts.values() if part is not None])},
        "logits": logits[-LOGIT_ROWS:],
        "greedy": answer.sequences[0, n_prompt:],
    }
    return prompt, {name: tensor.contiguous() for name, tensor in tensors.items()}
