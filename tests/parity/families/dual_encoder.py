"""CLIP, SigLIP and SigLIP 2: pictures and texts compared. Needs sentencepiece and protobuf, too."""

import json
import tempfile
from pathlib import Path

import sentencepiece
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import processors as post_processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizerFast,
    GemmaTokenizerFast,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    Siglip2Processor,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
    SiglipTokenizer,
)
from transformers.models.clip.tokenization_clip import bytes_to_unicode

from reference import CORPUS, vision_config

# Tokenizers read their files again whenever they are copied.
SCRATCH = tempfile.TemporaryDirectory()

# Case, marks, runs of spaces, other alphabets, a picture character, nothing, and too much.
TEXTS = [
    "a photo of a cat",
    "What is this?  A DOG, größer!",
    "the top left; {table} don't 3x 🐕",
    "",
    "the ball " * 40,
]


def clip_tokenizer(max_length):
    """Bytes, each also as the end of a word, and a few merges."""
    letters = list(bytes_to_unicode().values())
    merges = ["t h", "th e</w>", "a t</w>", "i s</w>", "c at</w>", "o f</w>", "p h", "ph o", "b a",
              "l l</w>", "ba ll</w>"]
    tokens = letters + [letter + "</w>" for letter in letters]
    tokens += [merge.replace(" ", "") for merge in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocab, rules = Path(SCRATCH.name) / "vocab.json", Path(SCRATCH.name) / "merges.txt"
    vocab.write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    rules.write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return CLIPTokenizerFast(str(vocab), str(rules), model_max_length=max_length)


def gemma_tokenizer(**options):
    """BPE that falls back on bytes, with the end token behind every text."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=90, show_progress=False))
    made = json.loads(trained.to_str())["model"]
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokens = special + [f"<0x{byte:02X}>" for byte in range(256)] + list(made["vocab"])
    inner = Tokenizer(models.BPE(
        {token: i for i, token in enumerate(tokens)}, [tuple(pair) for pair in made["merges"]],
        unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    inner.normalizer = trained.normalizer
    inner.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    inner.add_special_tokens(special)
    return GemmaTokenizerFast(
        tokenizer_object=inner, add_bos_token=False, add_eos_token=True, padding_side="right",
        **options)


class SentencePieces(SiglipTokenizer):
    """SiglipTokenizer that also writes the `tokenizer.json` which others made of its model.

    As plain as it can be: what the class does to a text before the model sees it is left out."""

    def save_pretrained(self, folder, **options):
        saved = super().save_pretrained(folder, **options)
        Path(folder, "spiece.model").unlink()
        config = Path(folder, "tokenizer_config.json")
        config.write_text(config.read_text().replace(type(self).__name__, "SiglipTokenizer"))
        pieces = [(self.sp_model.id_to_piece(i), self.sp_model.get_score(i))
                  for i in range(self.sp_model.get_piece_size())]
        inner = Tokenizer(models.Unigram(pieces, unk_id=self.sp_model.unk_id()))
        inner.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
        inner.pre_tokenizer = pre_tokenizers.Metaspace()
        inner.decoder = decoders.Metaspace()
        inner.post_processor = post_processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", self.eos_token_id)])
        inner.add_special_tokens(["</s>", "<unk>"])
        inner.save(str(Path(folder, "tokenizer.json")))
        return saved


def siglip_tokenizer(max_length):
    folder = SCRATCH.name
    corpus = Path(folder) / "corpus.txt"
    corpus.write_text("\n".join(CORPUS * 20 + ["a photo of a cat", "größer"] * 20).lower())
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=f"{folder}/spiece", vocab_size=60, minloglevel=2,
        normalization_rule_name="identity", hard_vocab_limit=False, pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1)
    return SentencePieces(
        f"{folder}/spiece.model", model_max_length=max_length, model_input_names=["input_ids"])


def text_tower(tokenizer, **changes):
    return dict(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16, bos_token_id=None, pad_token_id=None,
    ) | changes


def vision_tower(kind, **changes):
    sizes = dict(hidden_size=24, intermediate_size=32, num_hidden_layers=2, image_size=16,
                 patch_size=4)
    return vision_config(f"{kind}_vision_model", **sizes, **changes)


def clip(act, projection_dim, eos_token_id=None):
    tokenizer = clip_tokenizer(16)
    eos = eos_token_id or tokenizer.eos_token_id
    config = CLIPConfig(
        text_config=text_tower(tokenizer, hidden_act=act, eos_token_id=eos),
        vision_config=vision_tower("clip", hidden_act=act), projection_dim=projection_dim)
    images = CLIPImageProcessor(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return CLIPModel(config), CLIPProcessor(images, tokenizer)


def siglip(tokenizer, text_size, resample):
    text = text_tower(tokenizer, hidden_size=text_size, projection_size=24)
    config = SiglipConfig(text_config=text, vision_config=vision_tower("siglip"))
    images = SiglipImageProcessor(size={"height": 16, "width": 16}, resample=resample)
    return SiglipModel(config), SiglipProcessor(images, tokenizer)


def siglip2(max_num_patches):
    tokenizer = gemma_tokenizer(model_input_names=["input_ids"])
    vision = vision_tower("siglip2", num_patches=16)
    del vision["image_size"]
    text = text_tower(tokenizer, projection_size=24, max_position_embeddings=20)
    images = Siglip2ImageProcessor(patch_size=4, max_num_patches=max_num_patches)
    config = Siglip2Config(text_config=text, vision_config=vision)
    return Siglip2Model(config), Siglip2Processor(images, tokenizer)


def compute(model, processor, images, texts):
    """Everything expected of a case. Texts are padded as the zero-shot pipeline does it."""
    n_positions = model.config.text_config.max_position_embeddings
    padding = "max_length" if "siglip" in model.config.model_type else True
    given = processor.tokenizer(
        texts, padding=padding, max_length=n_positions, truncation=True, return_tensors="pt")
    seen = processor.image_processor(images, return_tensors="pt")
    with torch.no_grad():
        found = model(**given, **seen)
    tensors = {
        "input_ids": given["input_ids"].flatten(),
        "pixel_values": seen["pixel_values"],
        "vision_features": found.vision_model_output.pooler_output,
        "image_embeds": found.image_embeds,
        "text_embeds": found.text_embeds,
        "logits_per_image": found.logits_per_image,
    }
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


SIZES = [(50, 35), (20, 60), (17, 16)]

CASES = {
    # The end token was called 2 in the first configurations.
    "clip-quick-gelu": lambda: (clip("quick_gelu", 16, eos_token_id=2), SIZES, TEXTS),
    "clip-gelu-bf16": lambda: (clip("gelu", 20), SIZES[:2], TEXTS),
    "siglip-sentencepiece": lambda: (siglip(siglip_tokenizer(16), 24, 3), SIZES, TEXTS),
    # SigLIP 2 of one resolution; here with a tokenizer that lets padding be hidden.
    "siglip-gemma-masked": lambda: (siglip(gemma_tokenizer(), 16, 2), SIZES[:2], TEXTS),
    "siglip2-naflex": lambda: (siglip2(20), [*SIZES, (120, 5)], TEXTS),
}
