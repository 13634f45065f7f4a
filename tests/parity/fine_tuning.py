"""Fine-tunes tiny checkpoints with peft and PyTorch, and keeps what there is to be equal to.

    python tests/parity/fine_tuning.py [CASE ...]    writes tests/parity/fine_tuning/<case>/

Each case takes a checkpoint of tests/parity/fixtures and 50 steps of AdamW (constant rate, betas
.9 and .95, no decay, no clipping) on lessons in their order. Kept are `case.json` (the recipe, the
lessons, the loss of each step), `image-<n>.png`, for adapters `start/` and `end/` as peft saves
them, and `expected.safetensors`: of each lesson the token ids and which are taught, the logits of
the first lesson's taught rows after the last step, and of weights of the model's own that were
trained what became of them.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from reference import draw

HERE = Path(__file__).resolve().parent
STEPS, BATCH = 50, 3
TALK = [
    [("What is this?", "A dog.")],
    [("Which colour is the car?", "Red."), ("Where?", "At the top left.")],
    [("How many balls are there?", "Three balls.")],
    [("Is there a cat?", "No.")],
    [("Is there a table?", "Yes, the table is at the bottom right.")],
    [("What is this?", "A red car.")],
    [("Where is the dog?", "the bottom right of the table")],
]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {
    "lora-smolvlm": dict(base="smolvlm-llama-square", adapt=["language_model"], targets=ALL,
                         rank=4, alpha=8, rate=5e-3),
    "lora-llava-both": dict(base="llava-clip-llama", adapt=["vision_encoder", "language_model"],
                            targets=["q_proj", "v_proj"], rank=2, alpha=6, rate=5e-3),
    "dora-qwen2": dict(base="llava-siglip-qwen2-sharded", adapt=["language_model"],
                       targets=["q_proj", "v_proj", "down_proj"], rank=3, alpha=3, rate=5e-3,
                       dora=True),
    "projector-smolvlm": dict(base="smolvlm-llama-square", train=["projector"], rate=2e-3),
    "projector-llava": dict(base="llava-clip-llama", train=["projector"], rate=2e-3),
}
PARTS = {
    "vision_encoder": ["vision_tower.", "vision_model."],
    "projector": ["connector.", "multi_modal_projector."],
    "language_model": ["language_model.", "text_model."],
}


def is_in(name, parts):
    return any(place in name for part in parts for place in PARTS[part])


def conversation(turns, n):
    """The first `n` messages."""
    messages = []
    for question, answer in turns:
        first = [{"type": "image"}] if not messages else []
        messages.append({"role": "user", "content": first + [{"type": "text", "text": question}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return messages[:n]


def lay_out(processor, turns, picture):
    """A lesson's inputs, and which tokens are taught: the answers with what ends them."""
    def render(n, asks):
        return processor.apply_chat_template(conversation(turns, n), add_generation_prompt=asks)

    def ids(text):
        bos = processor.tokenizer.bos_token
        return processor(text=text, images=[picture], return_tensors="pt",
                         add_special_tokens=not (bos and text.startswith(bos)))

    whole = ids(render(2 * len(turns), False))
    tokens = whole["input_ids"][0]
    taught = torch.zeros(len(tokens), dtype=torch.bool)
    for turn in range(len(turns)):
        ends = []
        for text in (render(2 * turn + 1, True), render(2 * turn + 2, False).rstrip()):
            known = ids(text)["input_ids"][0]
            n = min(len(known), len(tokens))
            differs = (known[:n] != tokens[:n]).nonzero()
            ends.append(int(differs[0]) if len(differs) else n)
        taught[ends[0]:ends[1]] = True
    answer = turns[-1][1]
    if render(2 * len(turns), False).rstrip().endswith(answer):
        last = int(taught.nonzero()[-1]) + 1
        end = torch.tensor([processor.tokenizer.eos_token_id])
        whole["input_ids"] = torch.cat([tokens[:last], end])[None]
        whole["attention_mask"] = torch.ones_like(whole["input_ids"])
        taught = torch.cat([taught[:last], torch.tensor([True])])
    return whole, taught


def logits_of(model, whole, taught):
    """Of the rows that predict what is taught."""
    return model(**whole).logits[0, :-1][taught[1:]]


def make(name, base, rate, adapt=(), train=(), targets=None, rank=0, alpha=0, dora=False):
    checkpoint = HERE / "fixtures" / base
    processor = AutoProcessor.from_pretrained(checkpoint, use_fast=False)
    model = AutoModelForImageTextToText.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
    folder = HERE / "fine_tuning" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    if adapt:
        layers = [layer for layer, _ in model.named_modules()
                  if layer.split(".")[-1] in targets and is_in(layer, adapt)]
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers, use_dora=dora)
        model = get_peft_model(model, config)
        model.save_pretrained(folder / "start")
        moved = [p for p in model.parameters() if p.requires_grad]
    else:
        for parameter_name, parameter in model.named_parameters():
            parameter.requires_grad_(is_in(parameter_name, train))
        moved = [p for p in model.parameters() if p.requires_grad]
    lessons = []
    for seed, turns in enumerate(TALK):
        picture = draw((70 + 9 * seed, 60 + 4 * seed), seed)
        picture.save(folder / f"image-{seed}.png")
        lessons.append(lay_out(processor, turns, Image.open(folder / f"image-{seed}.png")))
    optimizer = torch.optim.AdamW(moved, lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    losses = []
    for step in range(STEPS):
        batch = [lessons[(step * BATCH + i) % len(lessons)] for i in range(BATCH)]
        n = sum(int(taught.sum()) for _, taught in batch)
        loss = 0
        for whole, taught in batch:
            logits = logits_of(model, whole, taught)
            right = whole["input_ids"][0][taught]
            loss = loss + torch.nn.functional.cross_entropy(logits, right, reduction="sum") / n
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    tensors = {}
    for i, (whole, taught) in enumerate(lessons):
        tensors[f"lesson.{i}.input_ids"] = whole["input_ids"][0].contiguous()
        tensors[f"lesson.{i}.is_taught"] = taught.to(torch.uint8)
    with torch.no_grad():
        tensors["logits"] = logits_of(model, *lessons[0]).contiguous()
    if adapt:
        model.save_pretrained(folder / "end")
    else:
        state = model.state_dict()
        for parameter_name, parameter in model.named_parameters():
            if parameter.requires_grad:
                tensors[f"trained.{parameter_name}"] = state[parameter_name].contiguous()
    save_file(tensors, folder / "expected.safetensors")
    for settings in folder.glob("*/adapter_config.json"):
        known = json.loads(settings.read_text())
        known["base_model_name_or_path"] = base
        settings.write_text(json.dumps(known, indent=2) + "\n")
    for extra in folder.glob("*/README.md"):
        extra.unlink()
    recipe = dict(adapt=list(adapt), train=list(train), targets=targets or [], rank=rank or 1,
                  alpha=float(alpha or 1), dora=dora, steps=STEPS, batch=BATCH, learning_rate=rate)
    case = dict(base=base, recipe=recipe, losses=losses,
                lessons=[conversation(turns, 2 * len(turns)) for turns in TALK])
    (folder / "case.json").write_text(json.dumps(case, ensure_ascii=False, indent=1) + "\n")
    print(f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f}, {len(moved)} tensors moved")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or CASES:
        make(name, **CASES[name])
