"""Makes `texts.json`: the token ids that transformers gives published tokenizers of dual encoders.

    python tests/parity/texts.py MATERIAL      MATERIAL: the folder of test material
"""

import json
import sys
from pathlib import Path

from transformers import CLIPTokenizerFast

HERE = Path(__file__).resolve().parent
# Folder in the material -> its tokenizer.
TOKENIZERS = {"tokenizers/onnxruntime-extensions/tokenizer/clip": CLIPTokenizerFast}
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
    text = json.dumps({"texts": TEXTS, "ids": found}, ensure_ascii=False)
    (HERE / "texts.json").write_text(text.replace("], [", "],\n[") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
