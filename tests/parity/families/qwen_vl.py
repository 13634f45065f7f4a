"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL, with the Pillow image processor."""

from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2TokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from reference import talk, text_config, vocabulary

# As Qwen/Qwen2.5-VL-3B-Instruct has it.
TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}"
    "{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}"
    "{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
           "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
FAMILIES = {
    "qwen2_vl": (Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor,
                 Qwen2VLVideoProcessor),
    "qwen2_5_vl": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor,
                   Qwen2VLVideoProcessor),
    "qwen3_vl": (Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor,
                 Qwen3VLVideoProcessor),
}
# Patches of 4 px, 2 x 2 of them merged into a token of 8 px; windows of 2 x 2 tokens.
VISION = dict(depth=4, num_heads=2, patch_size=4, spatial_merge_size=2, temporal_patch_size=2)
VISIONS = {
    "qwen2_vl": dict(embed_dim=16, hidden_size=32, mlp_ratio=2),
    "qwen2_5_vl": dict(hidden_size=16, out_hidden_size=32, intermediate_size=20, window_size=16,
                       fullatt_block_indexes=[1, 3]),
    "qwen3_vl": dict(hidden_size=16, out_hidden_size=32, intermediate_size=24,
                     num_position_embeddings=25, deepstack_visual_indexes=[0, 2]),
}


def qwen_vl(family, tied=False, min_pixels=256, max_pixels=1280, vision={}, **decoder):
    config_class, model_class, processor_class, video_class = FAMILIES[family]
    tok = Qwen2TokenizerFast(
        tokenizer_object=vocabulary(SPECIAL), eos_token="<|im_end|>", pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False, additional_special_tokens=SPECIAL[1:])
    ids = {f"{name}_token_id": tok.convert_tokens_to_ids(f"<|{token}|>") for name, token in [
        ("image", "image_pad"), ("video", "video_pad"), ("vision_start", "vision_start"),
        ("vision_end", "vision_end")]}
    sections = dict(rope_type="default", mrope_section=[2, 3, 3])
    if family == "qwen3_vl":
        sections["mrope_interleaved"] = True
    text = dict(num_attention_heads=2, num_key_value_heads=1, rope_scaling=sections,
                tie_word_embeddings=tied)
    text = text_config(None, len(tok), **text | decoder)
    text.pop("model_type")  # else it would be the whole model's
    config = config_class(
        text_config=text, vision_config=VISION | VISIONS[family] | vision,
        tie_word_embeddings=tied, **ids)
    sizes = dict(patch_size=4, min_pixels=min_pixels, max_pixels=max_pixels) | {
        key: size for key, size in vision.items() if key == "patch_size"}
    processor = processor_class(
        Qwen2VLImageProcessor(**sizes), tok, video_class(**sizes), chat_template=TEMPLATE)
    return model_class(config), processor


CASES = {
    "qwen2-vl-tied-several-bf16": lambda: (
        qwen_vl("qwen2_vl", tied=True), [(60, 30), (9, 12), (21, 50)], talk(3)),
    "qwen2-5-vl-windows-turns-bf16": lambda: (
        qwen_vl("qwen2_5_vl", tied=True, num_hidden_layers=3, num_key_value_heads=2),
        [(43, 58)], talk(1, second_turn=True)),
    "qwen2-5-vl-wide-bf16": lambda: (
        qwen_vl("qwen2_5_vl"), [(90, 12), (24, 24)], talk(2)),
    # As llama.cpp fixes them: windows of 112 px, and the class's own limits of size.
    "qwen2-vl-gguf": lambda: (
        qwen_vl("qwen2_vl", tied=True, min_pixels=3136, max_pixels=1003520,
                vision=dict(patch_size=14)), [(70, 90)], talk(1)),
    "qwen2-5-vl-windows-gguf": lambda: (
        qwen_vl("qwen2_5_vl", min_pixels=3136, max_pixels=1003520,
                vision=dict(patch_size=14, window_size=112)), [(150, 118)], talk(1)),
    "qwen3-vl-two-shapes-bf16": lambda: (
        qwen_vl("qwen3_vl", tied=True, num_hidden_layers=3, head_dim=16, rope_theta=5e6),
        [(50, 20), (17, 33)], talk(2, second_turn=True)),
    "qwen3-vl-tall-bf16": lambda: (
        qwen_vl("qwen3_vl", attention_bias=True, head_dim=16), [(11, 80)], talk(1)),
}
