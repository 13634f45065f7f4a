"""LLaVA-1.5, LLaVA-NeXT and LLaVA-OneVision."""

from transformers import (
    CLIPImageProcessor,
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
    SiglipImageProcessor,
)

from reference import talk, text_config, tokenizer, vision_config

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
    "llava-clip-llama-gguf": lambda: (
        llava("clip", "llama", -2, "default", adds_bos=True), [(70, 45)], talk(1)),
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
    # As llava-hf/bakLlava-v1-hf is made: no code of its own, only this row.
    "llava-clip-mistral-bakllava": lambda: (
        llava("clip", "mistral", -2, "default", template=MISTRAL_TEMPLATE), [(38, 52)], talk(1)),
    "llava-next-clip-llama-square": lambda: (
        any_resolution("clip", "llama", NEXT_GRIDS, adds_bos=True), [(40, 40)],
        talk(1, second_turn=True)),
    "llava-next-clip-llama-gguf": lambda: (
        any_resolution("clip", "llama", NEXT_GRIDS, adds_bos=True), [(21, 47)], talk(1)),
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
