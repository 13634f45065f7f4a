"""Makes the parity fixtures: tiny random checkpoints and what transformers computes with them.

    python tests/parity/make.py            writes tests/parity/fixtures/<case>/

Each case is a model folder as transformers saves it, with `image-<n>.png`, `case.json` (messages
and the rendered prompt) and `expected.safetensors` (input_ids, pixel_values, vision_features,
image_embeds, the last rows of logits, and the greedy answer). Pillow image processors throughout.
A case whose name says GGUF is written as llama.cpp's converters write it (`gguf_files.py`).
A dual encoder's `case.json` holds texts instead, and its tensors are input_ids (row after row),
pixel_values, vision_features (pooled), image_embeds, text_embeds and logits_per_image.

A family is a file in `families/` whose CASES name for each case how to build it: the model and its
processor, the sizes of its pictures, and the messages or texts.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import gguf_files
from families import dual_encoder, idefics3, llava, mllama, q_former, qwen_vl, text
from reference import compute, draw, randomise

HERE = Path(__file__).resolve().parent
CASES = (idefics3.CASES | llava.CASES | qwen_vl.CASES | q_former.CASES | dual_encoder.CASES
         | mllama.CASES | text.CASES)


def make(name, build):
    (model, processor), sizes, asked = build()
    images = [draw(size, seed) for seed, size in enumerate(sizes)]
    model.eval()
    if model.can_generate():
        model.generation_config.eos_token_id = None
    for seed in range(100):
        randomise(model, seed)
        model.tie_weights()
        if "bf16" in name:
            for parameter in model.parameters():
                parameter.data = parameter.data.bfloat16().float()
        if "gguf" in name:
            gguf_files.round_trip(model, name)
        if not model.can_generate():
            found = {"texts": asked}, dual_encoder.compute(model, processor, images, asked)
            break
        if images:
            found = compute(model, processor, images, asked)
        else:
            found = text.compute(model, processor, asked)
        if found:
            found = {"messages": asked, "prompt": found[0]}, found[1]
            break
    else:
        sys.exit(f"{name}: every seed gives a close call")
    case, tensors = found
    folder = HERE / "fixtures" / name
    shutil.rmtree(folder, ignore_errors=True)
    if "bf16" in name:
        model = model.bfloat16()
    if "gguf" in name:
        gguf_files.save(model, processor, folder, name)
    else:
        model.save_pretrained(folder, max_shard_size="60KB" if "sharded" in name else "1GB")
        processor.save_pretrained(folder)
    for i, image in enumerate(images):
        image.save(folder / f"image-{i}.png")
    case = case | {"images": len(images)}
    (folder / "case.json").write_text(json.dumps(case, ensure_ascii=False, indent=1) + "\n")
    save_file(tensors, folder / "expected.safetensors")
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    print(f"{name}: seed {seed}, {shapes}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or list(CASES)
    for case_name in wanted:
        make(case_name, CASES[case_name])
