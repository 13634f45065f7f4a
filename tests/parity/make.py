"""Makes the parity fixtures: tiny random checkpoints and what transformers computes with them.

    python tests/parity/make.py            writes tests/parity/fixtures/<case>/

Each case is a model folder as transformers saves it, with `image-<n>.png`, `case.json` (messages
and the rendered prompt) and `expected.safetensors` (input_ids, pixel_values, vision_features,
image_embeds, the last rows of logits, and the greedy answer). Pillow image processors throughout.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessor,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

HERE = Path(__file__).resolve().parent
LOGIT_ROWS = 8
NEW_TOKENS = 32
# The answer must not hang on rounding: the best logit leads by this much of the largest.
MARGIN = 2e-3

IDEFICS3_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
LLAVA_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' '}}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}\n    {% if loop.first and message.role != 'system' %}\n"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}\n    {% endif %}\n"
    "{{- '<|im_start|>' + message.role + '\n' }}{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>\n{% else %}{{ part.text | trim }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As llava-hf/llava-onevision-qwen2-0.5b-ov-hf has it, but for videos.
ONEVISION_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    "{# Render all images first #}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ '\n' + content['text'] }}{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ '\n' + content['text'] }}{% endgeneration %}{% endfor %}{% endif %}"
    "{{'<|im_end|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As llava-hf/llava-v1.6-mistral-7b-hf has it.
MISTRAL_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] }}{% endfor %}{{ ' [/INST]' }}{% else %}"
    "{{ ' ' + message['content'][0]['text'] + '<|im_end|> '}}{% endif %}{% endfor %}"
)

CORPUS = ["What is this? A dog.", "Is there a cat? Yes. No.", "Which colour is the car? Red.",
          "How many balls are there? Three balls.", "the top left, the bottom right of the table"]


def tokenizer(adds_bos):
    """Byte-level BPE of about 300 tokens, with the special tokens of every family."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator(CORPUS, trainer)
    cells = [f"<row_{row}_col_{col}>" for row in (1, 2) for col in (1, 2, 3)]
    special = ["<|im_start|>", "<|im_end|>", "<end_of_utterance>", "<global-img>", *cells,
               "<fake_token_around_image>", "<image>"]
    inner.add_special_tokens(special)
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


def idefics3(smol, text, scale_factor=2, tied=False, splitting=False, image_size=32, **options):
    tok = tokenizer(adds_bos=options.get("adds_bos", False))
    vocab = len(tok)
    image_id = tok.convert_tokens_to_ids("<image>")
    config_class = SmolVLMConfig if smol else Idefics3Config
    vision = vision_config("smolvlm_vision" if smol else "idefics3_vision", image_size=image_size)
    config = config_class(
        image_token_id=image_id, pad_token_id=tok.pad_token_id, scale_factor=scale_factor,
        tie_word_embeddings=tied, vision_config=vision,
        text_config=text_config(
            text, vocab, tie_word_embeddings=tied, **options.get("decoder", {})),
    )
    settings = dict(
        size={"longest_edge": options.get("longest", image_size)},
        max_image_size={"longest_edge": image_size}, do_image_splitting=splitting,
    )
    seq = (image_size // 8 // scale_factor) ** 2
    if smol:
        processor = SmolVLMProcessor(
            SmolVLMImageProcessor(**settings), tok,
            SmolVLMVideoProcessor(size={"longest_edge": image_size}),
            image_seq_len=seq, chat_template=IDEFICS3_TEMPLATE,
        )
        return SmolVLMForConditionalGeneration(config), processor
    processor = Idefics3Processor(
        Idefics3ImageProcessor(**settings), tok, image_seq_len=seq, chat_template=IDEFICS3_TEMPLATE
    )
    return Idefics3ForConditionalGeneration(config), processor


def llava(tower, text, layer, strategy, tied=False, pad=False, template=LLAVA_TEMPLATE, **options):
    tok = tokenizer(adds_bos=options.get("adds_bos", False))
    image_id = tok.convert_tokens_to_ids("<image>")
    vision = vision_config(f"{tower}_vision_model")
    if tower == "siglip":
        vision["vision_use_head"] = False
    config = LlavaConfig(
        vision_config=vision,
        text_config=text_config(
            text, len(tok), tie_word_embeddings=tied, **options.get("decoder", {})),
        image_token_index=image_id, vision_feature_layer=layer,
        vision_feature_select_strategy=strategy, tie_word_embeddings=tied,
    )
    if pad:
        images = LlavaImageProcessor(
            do_pad=True, size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    elif tower == "clip":
        images = CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    else:
        images = SiglipImageProcessor(size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        images, tok, patch_size=8, vision_feature_select_strategy=strategy, chat_template=template,
        num_additional_image_tokens=1 if tower == "clip" else 0,
    )
    return LlavaForConditionalGeneration(config), processor


def any_resolution(tower, text, pinpoints, onevision=False, max_tiles=9, template=LLAVA_TEMPLATE,
                   **options):
    """LLaVA-NeXT or LLaVA-OneVision: tiles of 16 pixels, 4 x 4 patches; pinpoints in tiles."""
    tok = tokenizer(adds_bos=options.get("adds_bos", False))
    strategy, n_class = ("default", 1) if tower == "clip" else ("full", 0)
    vision = vision_config(f"{tower}_vision_model", image_size=16, patch_size=4)
    if tower == "siglip":
        vision["vision_use_head"] = False
    pinpoints = [[rows * 16, cols * 16] for rows, cols in pinpoints]
    config = dict(
        vision_config=vision,
        text_config=text_config(text, len(tok), **options.get("decoder", {})),
        image_token_index=tok.convert_tokens_to_ids("<image>"), image_grid_pinpoints=pinpoints,
        vision_feature_layer=options.get("layer", -2), vision_feature_select_strategy=strategy,
        tie_word_embeddings=options.get("decoder", {}).get("tie_word_embeddings", False),
    )
    if not onevision:
        images = LlavaNextImageProcessor(
            size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16},
            image_grid_pinpoints=pinpoints)
        processor = LlavaNextProcessor(
            images, tok, patch_size=4, vision_feature_select_strategy=strategy,
            chat_template=template, num_additional_image_tokens=n_class)
        return LlavaNextForConditionalGeneration(LlavaNextConfig(**config)), processor
    size = {"height": 16, "width": 16}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints), tok,
        LlavaOnevisionVideoProcessor(size=size), num_image_tokens=16 + n_class,
        vision_feature_select_strategy=strategy, chat_template=template,
        vision_aspect_ratio=f"anyres_max_{max_tiles}")
    config = LlavaOnevisionConfig(**config, vision_aspect_ratio=f"anyres_max_{max_tiles}")
    return LlavaOnevisionForConditionalGeneration(config), processor


# Rows and columns of tiles, as published LLaVA-NeXT and LLaVA-OneVision checkpoints have them.
NEXT_GRIDS = [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)]
ONEVISION_GRIDS = [(rows, cols) for rows in range(1, 7) for cols in range(1, 7)]

CASES = {
    "smolvlm-llama-square": lambda: (
        idefics3(True, "llama", tied=True, longest=32), [(50, 30)], talk(1)),
    "smolvlm-llama-tiles": lambda: (
        idefics3(True, "llama", splitting=True, longest=96, adds_bos=True), [(61, 40), (96, 30)],
        talk(2, second_turn=True)),
    "smolvlm-qwen2-shuffle4": lambda: (
        idefics3(True, "qwen2", scale_factor=4, image_size=64, longest=70), [(20, 90)], talk(1)),
    "idefics3-llama-tiles-sharded": lambda: (
        idefics3(False, "llama", splitting=True, longest=64, decoder={"num_key_value_heads": 1}),
        [(40, 100)], talk(1)),
    "idefics3-qwen2-bf16": lambda: (
        idefics3(False, "qwen2", tied=True, longest=48), [(64, 64), (7, 90)], talk(2)),
    "llava-clip-llama": lambda: (
        llava("clip", "llama", -2, "default", adds_bos=True), [(70, 45)], talk(1)),
    "llava-clip-qwen2-full-pad": lambda: (
        llava("clip", "qwen2", -1, "full", tied=True, pad=True, template=QWEN_TEMPLATE),
        [(30, 55)], talk(1, second_turn=True)),
    "llava-siglip-llama-layers": lambda: (
        llava("siglip", "llama", [-3, -1], "full", decoder={"num_key_value_heads": 4}),
        [(45, 45), (80, 20)], talk(2)),
    "llava-siglip-qwen2-sharded": lambda: (
        llava("siglip", "qwen2", -2, "default", template=QWEN_TEMPLATE), [(31, 47)], talk(1)),
    "llava-next-clip-llama-square": lambda: (
        any_resolution("clip", "llama", NEXT_GRIDS, adds_bos=True), [(40, 40)],
        talk(1, second_turn=True)),
    "llava-next-clip-mistral-wide": lambda: (
        any_resolution("clip", "mistral", NEXT_GRIDS, template=MISTRAL_TEMPLATE,
                       decoder={"sliding_window": 30}),
        [(40, 25)], talk(1)),
    "llava-next-siglip-qwen2-several": lambda: (
        any_resolution("siglip", "qwen2", NEXT_GRIDS, layer=-1, template=QWEN_TEMPLATE,
                       decoder={"tie_word_embeddings": True}),
        [(21, 60), (9, 7), (30, 31)], talk(3)),
    "llava-onevision-clip-llama-small": lambda: (
        any_resolution("clip", "llama", ONEVISION_GRIDS, onevision=True), [(7, 10)], talk(1)),
    "llava-onevision-siglip-qwen2-tall": lambda: (
        any_resolution("siglip", "qwen2", ONEVISION_GRIDS, onevision=True, layer=-1, max_tiles=2,
                       template=ONEVISION_TEMPLATE, decoder={"tie_word_embeddings": True}),
        [(26, 60)], talk(1, second_turn=True)),
    "llava-onevision-siglip-qwen2-max9": lambda: (
        any_resolution("siglip", "qwen2", ONEVISION_GRIDS, onevision=True, layer=-1,
                       template=ONEVISION_TEMPLATE, decoder={"tie_word_embeddings": True}),
        [(64, 47)], talk(1)),
    "llava-onevision-siglip-qwen2-several": lambda: (
        any_resolution("siglip", "qwen2", ONEVISION_GRIDS, onevision=True, layer=-1,
                       template=ONEVISION_TEMPLATE),
        [(50, 20), (20, 33), (16, 16)], talk(3)),
}


def randomise(model, seed):
    """Weights large enough that every part of the network shows in the logits."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn_like(parameter)
        if name.endswith("image_newline"):
            parameter.data = 0.8 * noise
        elif parameter.ndim == 1:
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.data = centre + 0.2 * noise
        else:
            fan_in = parameter[0].numel()
            parameter.data = noise * (1.2 / fan_in**0.5 if "embed" not in name else 0.8)


def listen(projector, seen):
    """Copies what goes into and out of the projector; the hooks return nothing."""
    def before(_, inputs):
        seen.setdefault("vision_features", inputs[0].detach().clone())

    def after(_, __, output):
        seen.setdefault("image_embeds", output.detach().clone())

    return [projector.register_forward_pre_hook(before), projector.register_forward_hook(after)]


def compute(model, processor, images, messages):
    """Everything expected of a case, or None where the greedy answer is a close call."""
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    bos = processor.tokenizer.bos_token
    # As `apply_chat_template` gives them: the pictures of each conversation in a list.
    nested = [images] if isinstance(processor, LlavaOnevisionProcessor) else images
    given = processor(text=prompt, images=nested, return_tensors="pt",
                      add_special_tokens=not prompt.startswith(bos))
    pixel_values = given["pixel_values"]
    pixel_values = pixel_values.reshape(-1, *pixel_values.shape[-3:])
    # Tiles of zeros fill up the batch.
    pixel_values = pixel_values[pixel_values.flatten(1).abs().amax(1) > 0]
    inner = model.model
    seen = {}
    hooks = listen(getattr(inner, "connector", None) or inner.multi_modal_projector, seen)
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
    tensors = {
        "input_ids": given["input_ids"][0],
        "pixel_values": pixel_values,
        **seen,
        "logits": logits[-LOGIT_ROWS:],
        "greedy": answer.sequences[0, n_prompt:],
    }
    return prompt, {name: tensor.contiguous() for name, tensor in tensors.items()}


def make(name, build):
    (model, processor), sizes, messages = build()
    images = [draw(size, seed) for seed, size in enumerate(sizes)]
    model.eval()
    model.generation_config.eos_token_id = None
    for seed in range(100):
        randomise(model, seed)
        model.tie_weights()
        if "bf16" in name:
            for parameter in model.parameters():
                parameter.data = parameter.data.bfloat16().float()
        found = compute(model, processor, images, messages)
        if found:
            break
    else:
        sys.exit(f"{name}: every seed gives a close call")
    prompt, tensors = found
    folder = HERE / "fixtures" / name
    shutil.rmtree(folder, ignore_errors=True)
    if "bf16" in name:
        model = model.bfloat16()
    model.save_pretrained(folder, max_shard_size="60KB" if "sharded" in name else "1GB")
    processor.save_pretrained(folder)
    for i, image in enumerate(images):
        image.save(folder / f"image-{i}.png")
    case = {"messages": messages, "images": len(images), "prompt": prompt}
    (folder / "case.json").write_text(json.dumps(case, ensure_ascii=False, indent=1) + "\n")
    save_file(tensors, folder / "expected.safetensors")
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    print(f"{name}: seed {seed}, {shapes}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or list(CASES)
    for case_name in wanted:
        make(case_name, CASES[case_name])
