"""Idefics3 and SmolVLM."""

from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from reference import talk, text_config, tokenizer, vision_config

TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


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
            image_seq_len=seq, chat_template=TEMPLATE,
        )
        return SmolVLMForConditionalGeneration(config), processor
    processor = Idefics3Processor(
        Idefics3ImageProcessor(**settings), tok, image_seq_len=seq, chat_template=TEMPLATE
    )
    return Idefics3ForConditionalGeneration(config), processor


CASES = {
    "smolvlm-llama-tiles-gguf": lambda: (
        idefics3(True, "llama", splitting=True, longest=96, adds_bos=True), [(61, 40)],
        talk(1, second_turn=True)),
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
}
