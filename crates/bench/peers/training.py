"""Whole training steps of a small model in PyTorch."""

from __future__ import annotations

import argparse
from typing import Any

from timing import Step, memory_mib, timed


def train(args: argparse.Namespace) -> dict[str, Any]:
    import torch
    from transformers import SmolVLMForConditionalGeneration

    before = memory_mib("VmRSS")
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = SmolVLMForConditionalGeneration.from_pretrained(
        args.model, dtype=torch.float32, attn_implementation="sdpa"
    ).train()
    # Under autocast the connector gives bf16, which transformers cannot put among f32 embeddings.
    model.model.connector.register_forward_hook(lambda _module, _inputs, rows: rows.float())
    optimizer = torch.optim.AdamW(model.parameters())
    config, vision = model.config, model.config.vision_config
    image_tokens = (vision.image_size // vision.patch_size // config.scale_factor) ** 2
    pixel_values = torch.randn(args.batch, 1, 3, vision.image_size, vision.image_size)
    first_text = config.image_token_id + 1
    text_shape = (args.batch, args.tokens - image_tokens)
    text = torch.randint(first_text, config.text_config.vocab_size, text_shape)
    images = torch.full((args.batch, image_tokens), config.image_token_id)
    input_ids = torch.cat([images, text], dim=1)
    labels = torch.cat([torch.full_like(images, -100), text], dim=1)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.engine == "torch-bf16"):
            output = model(
                input_ids=input_ids, pixel_values=pixel_values, labels=labels, use_cache=False
            )
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = timed(Step(step), args.repeats, True)
    peak = memory_mib("VmHWM")
    return {"work": "train", "seconds": seconds, "peak_mib": peak, "before_mib": before}
