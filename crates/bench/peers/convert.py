"""A Hugging Face folder of SmolVLM weights to the GGUF files that llama.cpp reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

MAX_ROWS = 6
Tensors = dict[str, Any]


def byte_tokens() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(moved)) for b in range(256)]


def add_tokenizer(writer: Any, size: int) -> None:
    from gguf import TokenType

    bytes_ = byte_tokens()
    newline = bytes_[ord("\n")]
    special = ["<bos>", "<eos>", "<image>", "<fake_token_around_image>", "<global-img>"]
    grid = range(1, MAX_ROWS + 1)
    special += [f"<row_{row}_col_{column}>" for row in grid for column in grid]
    tokens = bytes_ + [newline * 2] + special
    if size < len(tokens):
        raise ValueError(f"a vocabulary of {size} is too small: {len(tokens)} tokens are needed")
    first_special = len(bytes_) + 1
    kinds = [TokenType.NORMAL] * first_special + [TokenType.CONTROL] * len(special)
    filler = size - len(tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens + [f"filler{i}" for i in range(filler)])
    writer.add_token_types(kinds + [TokenType.NORMAL] * filler)
    writer.add_token_merges([f"{newline} {newline}"])
    writer.add_bos_token_id(first_special)
    writer.add_eos_token_id(first_special + 1)
    writer.add_add_bos_token(False)


def rotary_order(weight: Any, heads: int) -> Any:
    """Rows of q or k from transformers' two halves of a head to llama.cpp's interleaved pairs."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path: Path, arch: str, fill: Callable[[Any], None]) -> None:
    """Writes under another name first: an interrupted conversion leaves no half file behind."""
    from gguf import GGUFWriter

    partial = path.with_suffix(".partial")
    writer = GGUFWriter(partial, arch)
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)


def add_tensor(writer: Any, name: str, array: Any, kind: Any) -> None:
    from gguf import quants

    writer.add_tensor(name, quants.quantize(array, kind), raw_dtype=kind)


def write_text(path: Path, config: dict[str, Any], tensors: Tensors, layers: Any) -> None:
    from gguf import MODEL_ARCH, GGMLQuantizationType, LlamaFileType, get_tensor_name_map

    text = config["text_config"]
    heads, kv_heads = text["num_attention_heads"], text["num_key_value_heads"]
    head_dim = text.get("head_dim") or text["hidden_size"] // heads
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, text["num_hidden_layers"])
    rotated = {"self_attn.q_proj": heads, "self_attn.k_proj": kv_heads}

    def fill(writer: Any) -> None:
        writer.add_context_length(text["max_position_embeddings"])
        writer.add_embedding_length(text["hidden_size"])
        writer.add_block_count(text["num_hidden_layers"])
        writer.add_feed_forward_length(text["intermediate_size"])
        writer.add_head_count(heads)
        writer.add_head_count_kv(kv_heads)
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
        writer.add_rope_dimension_count(head_dim)
        writer.add_rope_freq_base(text["rope_theta"])
        writer.add_layer_norm_rms_eps(text["rms_norm_eps"])
        writer.add_vocab_size(text["vocab_size"])
        writer.add_file_type(LlamaFileType[f"MOSTLY_{layers.name}"])
        add_tokenizer(writer, text["vocab_size"])
        for name, array in tensors.items():
            if not name.startswith("model.text_model."):
                continue
            plain = name.replace("model.text_model.", "model.")
            for part, count in rotated.items():
                if part in name:
                    array = rotary_order(array, count)
            kind = GGMLQuantizationType.F32 if array.ndim == 1 else layers
            if "embed_tokens" in name:
                kind = GGMLQuantizationType.Q8_0
            add_tensor(writer, names.get_name(plain, (".weight",)), array, kind)

    write_gguf(path, "llama", fill)


def write_projector(path: Path, config: dict[str, Any], tensors: Tensors, matrices: Any) -> None:
    from gguf import MODEL_ARCH, GGMLQuantizationType, LlamaFileType, VisionProjectorType
    from gguf import get_tensor_name_map

    vision = config["vision_config"]
    names = get_tensor_name_map(MODEL_ARCH.MMPROJ, vision["num_hidden_layers"])

    def fill(writer: Any) -> None:
        writer.add_file_type(LlamaFileType[f"MOSTLY_{matrices.name}"])
        writer.add_clip_has_vision_encoder(True)
        writer.add_clip_projector_type(VisionProjectorType.IDEFICS3)
        writer.add_vision_projection_dim(config["text_config"]["hidden_size"])
        writer.add_vision_image_size(vision["image_size"])
        writer.add_vision_patch_size(vision["patch_size"])
        writer.add_vision_embedding_length(vision["hidden_size"])
        writer.add_vision_feed_forward_length(vision["intermediate_size"])
        writer.add_vision_block_count(vision["num_hidden_layers"])
        writer.add_vision_head_count(vision["num_attention_heads"])
        writer.add_vision_attention_layernorm_eps(vision.get("layer_norm_eps", 1e-6))
        writer.add_vision_image_mean([0.5] * 3)
        writer.add_vision_image_std([0.5] * 3)
        writer.add_vision_projector_scale_factor(config["scale_factor"])
        writer.add_vision_use_gelu(True)
        # 0 leaves a picture at its own size: only then is a tile not blown up and cut into 16.
        writer.add_vision_preproc_image_size(0)
        for name, array in tensors.items():
            if not name.startswith("model.text_model."):
                plain = array.ndim == 1 or ".embeddings." in name
                kind = GGMLQuantizationType.F32 if plain else matrices
                add_tensor(writer, names.get_name(name, (".weight", ".bias")), array, kind)

    write_gguf(path, "clip", fill)


def convert(model: Path, out: Path) -> dict[str, Any]:
    from gguf import GGMLQuantizationType as Kind
    from safetensors import safe_open

    weights = model / "model.safetensors"
    outputs = {
        out / "text-q8_0.gguf": (write_text, Kind.Q8_0),
        out / "text-q4_0.gguf": (write_text, Kind.Q4_0),
        out / "mmproj-q8_0.gguf": (write_projector, Kind.Q8_0),
        out / "mmproj-f16.gguf": (write_projector, Kind.F16),
    }
    made = weights.stat().st_mtime
    skipped = all(path.exists() and path.stat().st_mtime > made for path in outputs)
    if not skipped:
        config = json.loads((model / "config.json").read_text())
        out.mkdir(parents=True, exist_ok=True)
        with safe_open(weights, "pt") as file:
            tensors = {name: file.get_tensor(name).float().numpy() for name in file.keys()}
        for path, (write, kind) in outputs.items():
            write(path, config, tensors, kind)
    return {"work": "convert", "skipped": skipped, "files": [path.name for path in outputs]}
