"""Makes `texts.json`: the token ids that transformers gives texts, by published tokenizers: padded
batches of dual encoders, and plain texts of decoders (those of llama.cpp's tests among them).

    python tests/parity/texts.py MATERIAL      MATERIAL: the folder of test material
"""

import json
import sys
from pathlib import Path

from transformers import CLIPTokenizerFast, PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
# Folder in the material -> its tokenizer.
TOKENIZERS = {"tokenizers/onnxruntime-extensions/tokenizer/clip": CLIPTokenizerFast}
# Files of decoders' tokenizers in the material, and where llama.cpp's texts are.
PLAIN = ["tokenizers/onnxruntime-extensions/phi-3-vision/tokenizer.json",
         "tokenizers/built/qwen2.5-vl-tokenizer.json"]
GOLDEN = "tokenizers/llama.cpp/ggml-vocab-phi-3.gguf.inp"
TEXTS = [
    "a photo of a cat",
    "A Photo of a CAT!",
    "  two   spaces,\ttabs\nand lines ",
    "This is a photo of größe, Ærøskøbing, naïve café.",
    "don't, it's, we've; they'll 3.14 42nd #1 @home",
    "北京 🐕🐈 привет ١٢٣",
    "<|startoftext|>typed<|endoftext|> by hand",
    "",
    "word " * 100,
]


def main(material):
    found = {}
    for folder, kind in TOKENIZERS.items():
        tokenizer = kind.from_pretrained(material / folder)
        found[folder] = tokenizer(TEXTS, padding=True, truncation=True)["input_ids"]
    golden = (material / GOLDEN).read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    plain = {}
    for file in PLAIN:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(material / file))
        plain[file] = [tokenizer(text, add_special_tokens=False)["input_ids"]
                       for text in TEXTS + golden]
    found = {"texts": TEXTS, "ids": found, "golden": golden, "plain": plain}
    text = json.dumps(found, ensure_ascii=False)
    (HERE / "texts.json").write_text(text.replace("], [", "],\n[") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
