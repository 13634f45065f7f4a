"""Checks the golden answers of a shipped model against transformers.

    python tests/parity/nano.py [MODEL_DIR] [GOLDEN_DIR]

Loads the folder with transformers, asks every question of GOLDEN_DIR/nano.json of its picture
greedily, and writes GOLDEN_DIR/nano-transformers.json: the answers, their token ids and the sha256
of the weights. Fails when an answer differs from the committed one.
Defaults: models/nano and tests/golden.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

ROOT = Path(__file__).resolve().parents[2]
NEW_TOKENS = 32


def ask(model, processor, picture, question):
    content = [{"type": "image"}, {"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    bos = processor.tokenizer.bos_token
    given = processor(
        text=prompt, images=[picture], return_tensors="pt",
        add_special_tokens=not (bos and prompt.startswith(bos)),
    )
    with torch.no_grad():
        ids = model.generate(**given, do_sample=False, max_new_tokens=NEW_TOKENS)
    ids = ids[0, given["input_ids"].shape[1]:]
    text = processor.tokenizer.decode(ids, skip_special_tokens=True)
    return {"question": question, "ids": ids.tolist(), "text": text}


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "models/nano"
    golden_dir = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "tests/golden"
    golden = json.loads((golden_dir / "nano.json").read_text())
    torch.set_num_threads(1)
    processor = AutoProcessor.from_pretrained(folder, use_fast=False)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    weights = (folder / "model.safetensors").read_bytes()
    answers, n_different = [], 0
    for case in golden:
        picture = Image.open(golden_dir / case["picture"]).convert("RGB")
        answer = {"picture": case["picture"], **ask(model, processor, picture, case["question"])}
        answers.append(answer)
        if answer["text"].strip() != case["answer"].strip():
            n_different += 1
            print(f"{case['picture']}: {case['answer']!r}, transformers {answer['text']!r}")
    found = {"sha256": hashlib.sha256(weights).hexdigest(), "answers": answers}
    target = golden_dir / "nano-transformers.json"
    target.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(f"{target}: {len(answers)} answers, {n_different} differ from the committed ones")
    sys.exit(1 if n_different else 0)


if __name__ == "__main__":
    main()
