"""Writes a checkpoint as llama.cpp's converters do: the language model's GGUF and its mmproj.

Follows `convert_hf_to_gguf.py` (text, idefics3, Qwen2-VL) and, of `legacy-models`,
`convert_image_encoder_to_gguf.py` (LLaVA) of llama.cpp: names, metadata, the reordering of q and k,
layers left out and swapped.
Matrices are F16 unless the case's name says Q8_0.

    python tests/parity/gguf_files.py formats     writes gguf/formats.{gguf,safetensors}
"""

import ctypes
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from gguf import (
    GGML_QUANT_SIZES,
    MODEL_ARCH,
    GGMLQuantizationType,
    GGUFWriter,
    RopeScalingType,
    TokenType,
    get_tensor_name_map,
    quants,
)

F32, F16 = GGMLQuantizationType.F32, GGMLQuantizationType.F16


def kind_of(name):
    return GGMLQuantizationType.Q8_0 if "q8_0" in name else F16


def is_matrix(name, shape):
    return len(shape) > 1 and "norm" not in name


def round_trip(model, name):
    """Rounds the weights to what the file will hold."""
    kind = kind_of(name)
    for key, parameter in model.named_parameters():
        if is_matrix(key, parameter.shape):
            rows = parameter.data.numpy()
            flat = rows.reshape(rows.shape[0], -1)
            whole = kind == F16 or flat.shape[1] % 32 == 0
            held = quants.dequantize(quants.quantize(flat, kind), kind) if whole else flat
            parameter.data = torch.from_numpy(held.reshape(rows.shape).copy())


def write(path, arch, fill, in_parts=False):
    writer = GGUFWriter(path, arch, split_max_tensors=8 if in_parts else 0)
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add(writer, name, tensor, kind):
    array = np.ascontiguousarray(tensor.float().numpy())
    if array.ndim < 2 or (kind != F16 and array.shape[-1] % 32):
        kind = F32
    writer.add_tensor(name, quants.quantize(array, kind), raw_dtype=kind)


def permute(rows, heads):
    """`LlamaModel.permute`: the two halves of a head become neighbouring pairs."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def vocabulary(writer, tok, template):
    inner = json.loads(tok.backend_tokenizer.to_str())
    special = {token["id"] for token in inner["added_tokens"]}
    tokens = tok.convert_ids_to_tokens(range(len(tok)))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [TokenType.CONTROL if i in special else TokenType.NORMAL for i in range(len(tokens))])
    writer.add_token_merges([" ".join(merge) for merge in inner["model"]["merges"]])
    if tok.bos_token_id is not None:
        writer.add_bos_token_id(tok.bos_token_id)
    writer.add_eos_token_id(tok.eos_token_id)
    writer.add_pad_token_id(tok.pad_token_id)
    writer.add_add_bos_token(inner["post_processor"] is not None)
    if template:
        writer.add_chat_template(template)


def write_text(path, decoder, head, config, tok, template, kind):
    arch = {"qwen2": "qwen2", "qwen2_vl_text": "qwen2vl", "qwen2_5_vl_text": "qwen2vl"}.get(
        config.model_type, "llama")
    names = get_tensor_name_map(MODEL_ARCH[arch.upper()], config.num_hidden_layers)
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads

    def fill(writer):
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(heads)
        writer.add_head_count_kv(kv_heads)
        writer.add_rope_freq_base(config.rope_theta)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        if arch == "llama":
            writer.add_rope_dimension_count(head_dim)
            writer.add_vocab_size(config.vocab_size)
        vocabulary(writer, tok, template)
        if arch == "qwen2vl":
            writer.add_rope_dimension_sections(config.rope_scaling["mrope_section"] + [0])
        elif config.rope_scaling and config.rope_scaling["rope_type"] == "yarn":
            writer.add_rope_scaling_type(RopeScalingType.YARN)
            writer.add_rope_scaling_factor(config.rope_scaling["factor"])
            writer.add_rope_scaling_orig_ctx_len(
                config.rope_scaling["original_max_position_embeddings"])
        elif config.rope_scaling:
            writer.add_tensor("rope_freqs.weight", rope_factors(config, head_dim))
        for key, tensor in decoder.state_dict().items():
            if arch == "llama" and ".q_proj." in key:
                tensor = permute(tensor, heads)
            if arch == "llama" and ".k_proj." in key:
                tensor = permute(tensor, kv_heads)
            add(writer, names.get_name(f"model.{key}", (".weight", ".bias")), tensor, kind)
        if not config.tie_word_embeddings:
            add(writer, "output.weight", head.weight.data, kind)

    write(path, arch, fill, "split" in path.name)


def rope_factors(config, head_dim):
    """`LlamaModel.generate_extra_tensors`."""
    scaling = config.rope_scaling
    trained = scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    wavelengths = 2 * np.pi * config.rope_theta ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = (trained / wavelengths - low) / (high - low)
    factors = 1 / ((1 - smooth) / scaling["factor"] + smooth)
    factors = np.where(wavelengths < trained / high, 1, factors)
    return np.where(wavelengths > trained / low, scaling["factor"], factors).astype(np.float32)


def write_idefics3(path, model, processor, kind):
    config, images = model.config, processor.image_processor
    vision = config.vision_config
    names = get_tensor_name_map(MODEL_ARCH.MMPROJ, vision.num_hidden_layers)

    def fill(writer):
        common(writer, vision, images, "idefics3", config.text_config.hidden_size)
        writer.add_vision_block_count(vision.num_hidden_layers)
        writer.add_vision_projector_scale_factor(config.scale_factor)
        writer.add_vision_use_gelu(True)
        writer.add_vision_preproc_image_size(images.size["longest_edge"])
        for key, tensor in model.state_dict().items():
            if key.startswith(("model.vision_model.", "model.connector.")):
                plain = F32 if ".embeddings." in key else kind
                add(writer, names.get_name(key, (".weight", ".bias")), tensor, plain)

    write(path, "clip", fill)


def write_llava(path, model, processor, kind):
    """Only the layers before the selected state, its own width of projection, and the two layers
    of the MLP under each other's name."""
    config, vision = model.config, model.config.vision_config
    layer = config.vision_feature_layer
    last = layer if layer >= 0 else vision.num_hidden_layers + 1 + layer
    tower = model.model.vision_tower.vision_model.state_dict()
    projector = model.model.multi_modal_projector.state_dict()
    renames = [("encoder.layers", "blk"), ("embeddings.", ""), ("_proj", ""),
               ("self_attn.", "attn_"), ("layer_norm", "ln"), ("mlp.fc1", "ffn_down"),
               ("mlp.fc2", "ffn_up"), ("embedding", "embd"), ("layrnorm", "ln")]

    def fill(writer):
        common(writer, vision, processor.image_processor, "mlp", vision.projection_dim)
        writer.add_bool("clip.has_llava_projector", True)
        writer.add_vision_block_count(last)
        writer.add_array("clip.vision.feature_layer", [last])
        writer.add_bool("clip.use_gelu", vision.hidden_act == "gelu")
        if config.model_type == "llava_next":
            writer.add_array("clip.vision.image_grid_pinpoints",
                             [side for pair in config.image_grid_pinpoints for side in pair])
            writer.add_string("clip.vision.mm_patch_merge_type", "spatial_unpad")
            add(writer, "model.image_newline", model.model.image_newline.data, F32)
        for key, tensor in projector.items():
            key = key.replace("linear_1", "0").replace("linear_2", "2")
            add(writer, f"mm.{key}", tensor, kind)
        for key, tensor in tower.items():
            block = key.split(".")[2] if key.startswith("encoder.layers.") else "0"
            if int(block) >= last or key.startswith("post_layernorm") or "position_ids" in key:
                continue
            for old, new in renames:
                key = key.replace(old, new)
            add(writer, f"v.{key}", tensor, kind)

    write(path, "clip", fill)


def write_qwen_vl(path, model, processor, kind):
    """q, k and v apart, and the patch of each moment of a video."""
    config, vision = model.config, model.config.vision_config
    names = get_tensor_name_map(MODEL_ARCH.MMPROJ, vision.depth)
    windows = hasattr(vision, "fullatt_block_indexes")
    width = vision.hidden_size if windows else vision.embed_dim
    held = SimpleNamespace(
        image_size=560, patch_size=vision.patch_size, hidden_size=width,
        intermediate_size=vision.intermediate_size if windows else vision.hidden_size,
        num_attention_heads=vision.num_heads, layer_norm_eps=1e-6)

    def put(writer, key, tensor, plain=None):
        add(writer, names.get_name(key, (".weight", ".bias")), tensor, plain or kind)

    def fill(writer):
        projector = "qwen2.5vl_merger" if windows else "qwen2vl_merger"
        common(writer, held, processor.image_processor, projector, config.text_config.hidden_size)
        writer.add_vision_block_count(vision.depth)
        if windows:
            writer.add_vision_use_silu(True)
            writer.add_vision_n_wa_pattern(vision.fullatt_block_indexes[0] + 1)
        for key, tensor in model.model.visual.state_dict().items():
            key = f"visual.{key}"
            if ".qkv." in key:
                for part, rows in zip("qkv", tensor.chunk(3)):
                    put(writer, key.replace("qkv", part), rows)
            elif key == "visual.patch_embed.proj.weight":
                for moment, end in enumerate(["", ".1"]):
                    add(writer, f"v.patch_embd.weight{end}", tensor[:, :, moment], kind)
            else:
                put(writer, key, tensor)

    write(path, "clip", fill)


def common(writer, vision, images, projector, width):
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(projector)
    writer.add_vision_projection_dim(width)
    writer.add_vision_image_size(vision.image_size)
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_embedding_length(vision.hidden_size)
    writer.add_vision_feed_forward_length(vision.intermediate_size)
    writer.add_vision_head_count(vision.num_attention_heads)
    writer.add_vision_attention_layernorm_eps(vision.layer_norm_eps)
    writer.add_vision_image_mean(images.image_mean)
    writer.add_vision_image_std(images.image_std)


def save(model, processor, folder, name):
    """The GGUF files of a case, in place of `save_pretrained`."""
    folder.mkdir(parents=True)
    kind = kind_of(name)
    config = model.config
    tok = getattr(processor, "tokenizer", processor)
    if not hasattr(config, "vision_config"):
        decoder, text = model.model, config
    else:
        write_vision = {"llava": write_llava, "llava_next": write_llava, "qwen2_vl": write_qwen_vl,
                        "qwen2_5_vl": write_qwen_vl}.get(config.model_type, write_idefics3)
        write_vision(folder / "mmproj-model-f16.gguf", model, processor, kind)
        inner = model.model
        decoder = getattr(inner, "language_model", None) or inner.text_model
        text = config.text_config
    path = folder / f"model-{kind.name.lower()}{'-split' * ('split' in name)}.gguf"
    write_text(path, decoder, model.lm_head, text, tok, processor.chat_template, kind)


def formats():
    """Two rows of 256 numbers in every format, quantised by ggml, read by gguf-py."""
    import llama_cpp
    from safetensors.numpy import save_file

    libraries = (Path(llama_cpp.__file__).parent / "lib").glob("libggml-base*")
    ggml = ctypes.CDLL(str(next(libraries)))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    rows = np.random.default_rng(0).standard_normal((2, 256)).astype(np.float32)
    pointer = ctypes.POINTER(ctypes.c_float)
    folder = Path(__file__).resolve().parent / "gguf"
    folder.mkdir(exist_ok=True)
    expected = {}

    def fill(writer):
        for name in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0",
                     "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"]:
            kind = GGMLQuantizationType[name]
            block, size = GGML_QUANT_SIZES[kind]
            held = np.zeros((2, 256 // block * size), np.uint8)
            if name in ("F32", "F16", "BF16"):
                held = quants.quantize(rows, kind)
            else:
                ggml.ggml_quantize_chunk(
                    ctypes.c_int(kind), rows.ctypes.data_as(pointer),
                    held.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(0), ctypes.c_int64(2),
                    ctypes.c_int64(256), None)
            writer.add_tensor(name, held, raw_dtype=kind)
            expected[name] = quants.dequantize(held, kind).astype(np.float32)

    write(folder / "formats.gguf", "none", fill)
    save_file(expected, folder / "formats.safetensors")


if __name__ == "__main__" and sys.argv[1:] == ["formats"]:
    formats()
