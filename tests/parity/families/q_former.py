"""BLIP-2 and InstructBLIP."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertTokenizerFast,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    PreTrainedTokenizerFast,
)

from reference import CORPUS, talk, text_config, tokenizer, vision_config


def said(message):
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


def questions_and_answers(messages, **_):
    """The prompt of the documentation of Blip2ForConditionalGeneration, earlier answers in it."""
    turns = {"user": "Question: {} Answer:", "assistant": " {}. "}
    return "".join(turns[message["role"]].format(said(message)) for message in messages)


def plain(messages, **_):
    """The prompt of the documentation of InstructBlipForConditionalGeneration: the question."""
    turns = {"user": "{}", "assistant": " {}\n"}
    return "".join(turns[message["role"]].format(said(message)) for message in messages)


def opt_config(vocab_size, **changes):
    config = dict(
        model_type="opt", vocab_size=vocab_size, hidden_size=16, ffn_dim=24, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=128, word_embed_proj_dim=16,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )
    return config | changes


def llama_config(vocab_size, **changes):
    changes = dict(hidden_size=16, intermediate_size=24) | changes
    return text_config("llama", vocab_size, **changes)


def word_piece():
    """A lower-casing WordPiece tokenizer as BERT has it, with InstructBLIP's [DEC]."""
    inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=120, special_tokens=special, show_progress=False)
    inner.train_from_iterator(CORPUS, trainer)
    cls, sep = (inner.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    tok = BertTokenizerFast(tokenizer_object=inner)
    tok.add_special_tokens({"bos_token": "[DEC]"})
    return tok


def q_former(text_aware, text, n_queries=5, **options):
    """BLIP-2, or InstructBLIP where `text_aware`."""
    # Public tokenizers hold <image>, but do not name it as their image token.
    tok = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(adds_bos=True).backend_tokenizer, bos_token="<|im_start|>",
        eos_token="<end_of_utterance>", pad_token="<|im_end|>",
        clean_up_tokenization_spaces=False, model_input_names=["input_ids", "attention_mask"])
    decoder = {"opt": opt_config, "llama": llama_config}[text]
    family = "instructblip" if text_aware else "blip_2"
    config = dict(
        vision_config=vision_config(
            f"{family}_vision_model", hidden_size=16, intermediate_size=24,
            num_hidden_layers=2),
        qformer_config=dict(
            hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3,
            cross_attention_frequency=options.get("frequency", 2), max_position_embeddings=48),
        text_config=decoder(len(tok), **options.get("decoder", {})),
        num_query_tokens=n_queries, image_token_index=tok.convert_tokens_to_ids("<image>"),
    )
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    if not text_aware:
        processor = Blip2Processor(images, tok, num_query_tokens=n_queries)
        processor.apply_chat_template = questions_and_answers
        return Blip2ForConditionalGeneration(Blip2Config(**config)), processor
    qformer_tok = word_piece()
    config["qformer_config"]["vocab_size"] = len(qformer_tok)
    processor = InstructBlipProcessor(images, tok, qformer_tok, num_query_tokens=n_queries)
    processor.apply_chat_template = plain
    return InstructBlipForConditionalGeneration(InstructBlipConfig(**config)), processor


CASES = {
    "blip-2-opt": lambda: (q_former(False, "opt"), [(50, 30)], talk(1)),
    "blip-2-opt-untied-bf16": lambda: (
        q_former(False, "opt", frequency=1, n_queries=3, decoder={"tie_word_embeddings": False}),
        [(20, 60)], talk(1, second_turn=True)),
    "instructblip-llama": lambda: (
        q_former(True, "llama", decoder={"num_key_value_heads": 4}), [(64, 40)], talk(1)),
    "instructblip-llama-turns-bf16": lambda: (
        q_former(True, "llama", n_queries=7), [(33, 90)], talk(1, second_turn=True)),
}
