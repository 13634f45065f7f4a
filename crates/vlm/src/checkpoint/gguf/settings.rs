//! GGUF metadata as `config.json` and `preprocessor_config.json`.
//!
//! Keys follow llama.cpp's `gguf-py/gguf/constants.py` and what its converters write; defaults
//! are those of transformers 4.57 for the family, since we process pictures as it does.

use serde_json::{Map, Value, json};

use super::{Gguf, vocabulary};
use crate::config::unsupported;
use crate::error::Error;
use crate::weights::gguf::GgufFile;

/// Beyond these no model has been made; a file that says more is damaged.
const MAX_LAYERS: usize = 1024;
const MAX_HEADS: usize = 1024;
const MAX_SIZE: usize = 1 << 20;
/// px
const MAX_IMAGE_SIZE: usize = 4096;

/// Where llama.cpp keeps the factors of Llama 3.1's rotary frequencies.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";

/// `config.json`.
pub(super) fn config(gguf: &Gguf) -> Result<Value, Error> {
    let mut text = text_config(gguf)?;
    let Some((file, projector)) = &gguf.vision else { return Ok(text) };
    if let Some((arch, decoder)) = projector.decoder {
        text["model_type"] = json!(decoder);
        let sections = gguf.text.numbers(&format!("{arch}.rope.dimension_sections"))?;
        let sections = sections.unwrap_or_default().into_iter().take(3).map(|n| n as u64);
        text["rope_scaling"] = json!({ "mrope_section": sections.collect::<Vec<_>>() });
    }
    let mut config = json!({
        "model_type": if is_tiled(file)? { "llava_next" } else { projector.model_type },
        "image_token_id": vocabulary::image_token(gguf)?.0,
        "eos_token_id": text["eos_token_id"],
        "tie_word_embeddings": text["tie_word_embeddings"],
        "vision_config": match projector.decoder {
            Some(_) => qwen_vision_config(file, &text["hidden_size"])?,
            None => vision_config(file, projector.name)?,
        },
        "text_config": text,
    });
    match projector.name {
        _ if projector.decoder.is_some() => {}
        "idefics3" => {
            let scale_factor = file.count("clip.vision.projector.scale_factor")?;
            config["scale_factor"] = json!(scale_factor.unwrap_or(2));
        }
        _ => {
            // Later layers are left out of the file; one that does not say which states count
            // was written when the converter kept all but the last layer, for state −2.
            let layers = file.numbers("clip.vision.feature_layer")?;
            let layers = layers.map(|l| l.into_iter().map(|l| l as i64).collect::<Vec<_>>());
            let last = required(file, "clip.vision.block_count", MAX_LAYERS)?;
            config["vision_feature_layer"] = json!(layers.unwrap_or_else(|| vec![last as i64]));
            if is_tiled(file)? {
                config["image_grid_pinpoints"] = json!(pinpoints(file)?);
            }
        }
    }
    Ok(config)
}

/// `preprocessor_config.json`; `None` in a model that reads text only.
pub(super) fn preprocessor(gguf: &Gguf) -> Result<Option<Value>, Error> {
    let Some((file, projector)) = &gguf.vision else { return Ok(None) };
    let side = required(file, "clip.vision.image_size", MAX_IMAGE_SIZE)?;
    let mut settings = match projector.name {
        "idefics3" => {
            let longest = file.count("clip.vision.preproc_image_size")?.filter(|&n| n > 0);
            let longest = longest.unwrap_or(4 * side);
            json!({
                "image_processor_type": "Idefics3ImageProcessor",
                "size": { "longest_edge": longest },
                "max_image_size": { "longest_edge": side },
                "do_image_splitting": longest > side,
            })
        }
        _ if projector.decoder.is_some() => json!({
            "image_processor_type": "Qwen2VLImageProcessor",
            "patch_size": required(file, "clip.vision.patch_size", MAX_IMAGE_SIZE)?,
            "merge_size": MERGE,
        }),
        _ => json!({
            "image_processor_type": "CLIPImageProcessor",
            "size": { "shortest_edge": side },
            "crop_size": { "height": side, "width": side },
        }),
    };
    if is_tiled(file)? {
        settings["image_processor_type"] = json!("LlavaNextImageProcessor");
        settings["image_grid_pinpoints"] = json!(pinpoints(file)?);
    }
    for key in ["image_mean", "image_std"] {
        if let Some(values) = file.numbers(&format!("clip.vision.{key}"))? {
            settings[key] = json!(values);
        }
    }
    Ok(Some(settings))
}

/// Whether pictures are cut into tiles, as LLaVA-NeXT does it.
fn is_tiled(file: &GgufFile) -> Result<bool, Error> {
    let key = "clip.vision.mm_patch_merge_type";
    match file.text(key)? {
        None | Some("flat") => Ok(false),
        Some("spatial_unpad") => Ok(true),
        Some(found) => Err(unsupported(key, found, "flat, spatial_unpad")),
    }
}

/// Sizes that the tiles of a picture may cover together.
fn pinpoints(file: &GgufFile) -> Result<Vec<[u64; 2]>, Error> {
    let key = "clip.vision.image_grid_pinpoints";
    let sides = file.numbers(key)?.unwrap_or_default();
    match sides.as_slice() {
        [] => Err(Error::config(key, format!("is missing in {}", file.path().display()))),
        sides => Ok(sides.chunks_exact(2).map(|pair| [pair[0] as u64, pair[1] as u64]).collect()),
    }
}

/// The decoder's part, which is all of a text-only model's `config.json`.
fn text_config(gguf: &Gguf) -> Result<Value, Error> {
    let (file, arch) = (&gguf.text, gguf.architecture);
    let key = |name: &str| format!("{}.{name}", arch.name);
    let size = |name: &str| required(file, &key(name), MAX_SIZE);
    if file.count(&key("expert_count"))?.is_some_and(|n| n > 0) {
        return Err(unsupported(&key("expert_count"), "a mixture of experts", "0"));
    }
    let heads = required(file, &key("attention.head_count"), MAX_HEADS)?;
    let hidden_size = size("embedding_length")?;
    let head_dim = file.count(&key("attention.key_length"))?.unwrap_or(hidden_size / heads);
    if file.count(&key("rope.dimension_count"))?.is_some_and(|n| n != head_dim) {
        let found = "another number than a head has dimensions";
        return Err(unsupported(&key("rope.dimension_count"), found, &head_dim.to_string()));
    }
    let has = |tensor: &str| file.dims(tensor).is_some();
    let mut config = json!({
        "model_type": arch.model_type,
        "vocab_size": vocab_size(gguf, &key("vocab_size"))?,
        "hidden_size": hidden_size,
        "intermediate_size": size("feed_forward_length")?,
        "num_hidden_layers": required(file, &key("block_count"), MAX_LAYERS)?,
        "num_attention_heads": heads,
        "num_key_value_heads": file.count(&key("attention.head_count_kv"))?.unwrap_or(heads),
        "head_dim": within(&key("attention.key_length"), head_dim, MAX_SIZE)?,
        "max_position_embeddings": file.count(&key("context_length"))?,
        "rms_norm_eps": file.number(&key("attention.layer_norm_rms_epsilon"))?,
        "rope_theta": file.number(&key("rope.freq_base"))?,
        "rope_scaling": rope_scaling(gguf, &key("rope.scaling"))?,
        "attention_bias": has("blk.0.attn_q.bias"),
        "mlp_bias": has("blk.0.ffn_gate.bias"),
        "tie_word_embeddings": !has("output.weight"),
    });
    let ends = ["eos", "eot"].map(|name| file.count(&format!("tokenizer.ggml.{name}_token_id")));
    let ends = ends.into_iter().filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
    if !ends.is_empty() {
        config["eos_token_id"] = json!(ends);
    }
    config["bos_token_id"] = json!(file.count("tokenizer.ggml.bos_token_id")?);
    Ok(config)
}

fn vocab_size(gguf: &Gguf, key: &str) -> Result<usize, Error> {
    match gguf.text.count(key)? {
        Some(n) => Ok(n),
        None => Ok(vocabulary::tokens(gguf)?.len()),
    }
}

fn rope_scaling(gguf: &Gguf, key: &str) -> Result<Value, Error> {
    let file = &gguf.text;
    if file.dims(ROPE_FREQS).is_some() {
        let factors = file.load(ROPE_FREQS, candle_core::DType::F32, &candle_core::Device::Cpu)?;
        let factors: Vec<f32> = factors.flatten_all()?.to_vec1()?;
        return Ok(json!({ "rope_type": "factors", "factors": factors }));
    }
    match file.text(&format!("{key}.type"))? {
        None | Some("none") => Ok(Value::Null),
        Some("linear") => {
            let factor = file.number(&format!("{key}.factor"))?;
            Ok(json!({ "rope_type": "linear", "factor": factor.unwrap_or(1.0) }))
        }
        // llama.cpp keeps the same defaults as transformers for the rest.
        Some("yarn") => Ok(json!({
            "rope_type": "yarn",
            "factor": file.number(&format!("{key}.factor"))?.unwrap_or(1.0),
            "original_max_position_embeddings":
                file.number(&format!("{key}.original_context_length"))?,
        })),
        Some(found) => Err(unsupported(&format!("{key}.type"), found, "none, linear, yarn")),
    }
}

/// `vision_config`.
fn vision_config(file: &GgufFile, projector: &str) -> Result<Value, Error> {
    let size = |name: &str| required(file, &format!("clip.vision.{name}"), MAX_SIZE);
    let flag = |key: &str| Ok::<_, Error>(file.flag(key)?.unwrap_or(false));
    let hidden_act = match (projector, flag("clip.use_gelu")?, flag("clip.use_silu")?) {
        (_, _, true) => "silu",
        ("idefics3", _, _) => "gelu_pytorch_tanh",
        (_, true, _) => "gelu",
        (_, false, _) => "quick_gelu",
    };
    if projector == "mlp" && file.dims("v.class_embd").is_none() {
        let found = "one without a class token (SigLIP)";
        return Err(unsupported("the tower before clip.projector_type mlp", found, "CLIP"));
    }
    let config = json!({
        "model_type": if projector == "mlp" { "clip_vision_model" } else { "idefics3_vision" },
        "hidden_size": size("embedding_length")?,
        "intermediate_size": size("feed_forward_length")?,
        "num_hidden_layers": required(file, "clip.vision.block_count", MAX_LAYERS)?,
        "num_attention_heads": required(file, "clip.vision.attention.head_count", MAX_HEADS)?,
        "image_size": required(file, "clip.vision.image_size", MAX_IMAGE_SIZE)?,
        "patch_size": required(file, "clip.vision.patch_size", MAX_IMAGE_SIZE)?,
        "hidden_act": hidden_act,
    });
    let mut config: Map<String, Value> = config.as_object().cloned().unwrap_or_default();
    if let Some(eps) = file.number("clip.vision.attention.layer_norm_epsilon")? {
        config.insert("layer_norm_eps".into(), json!(eps));
    }
    Ok(Value::Object(config))
}

/// Patches along a side that llama.cpp's Qwen2-VL merges into a token.
const MERGE: usize = 2;
/// Pixels along a side of a window of llama.cpp's Qwen2.5-VL.
const WINDOW: usize = 112;

/// `vision_config` of Qwen2-VL and Qwen2.5-VL; `hidden_size`: the decoder's.
fn qwen_vision_config(file: &GgufFile, hidden_size: &Value) -> Result<Value, Error> {
    let size = |name: &str| required(file, &format!("clip.vision.{name}"), MAX_SIZE);
    let (width, depth) = (size("embedding_length")?, size("block_count")?.min(MAX_LAYERS));
    let heads = required(file, "clip.vision.attention.head_count", MAX_HEADS)?;
    let mut config = json!({
        "depth": depth,
        "num_heads": heads,
        "patch_size": required(file, "clip.vision.patch_size", MAX_IMAGE_SIZE)?,
        "spatial_merge_size": MERGE,
    });
    // Every n-th layer looks at the whole picture; Qwen2-VL's all do and say nothing.
    let Some(every) = file.count("clip.vision.n_wa_pattern")?.filter(|&n| n > 0) else {
        // The converter writes the decoder's width as that of the feed-forward layer.
        let rows = file.dims("v.blk.0.ffn_up.weight").and_then(|dims| dims.first().copied());
        config["embed_dim"] = json!(width);
        config["hidden_size"] = hidden_size.clone();
        config["mlp_ratio"] = json!(rows.unwrap_or(4 * width) as f64 / width as f64);
        return Ok(config);
    };
    config["hidden_size"] = json!(width);
    config["out_hidden_size"] = hidden_size.clone();
    config["intermediate_size"] = json!(size("feed_forward_length")?);
    config["window_size"] = json!(WINDOW);
    config["fullatt_block_indexes"] =
        json!((0..depth).filter(|i| (i + 1).is_multiple_of(every)).collect::<Vec<_>>());
    Ok(config)
}

/// A count that the file must state, from 1 to `most`.
fn required(file: &GgufFile, key: &str, most: usize) -> Result<usize, Error> {
    let missing = || Error::config(key, format!("is missing in {}", file.path().display()));
    within(key, file.count(key)?.ok_or_else(missing)?, most)
}

fn within(key: &str, n: usize, most: usize) -> Result<usize, Error> {
    match (1..=most).contains(&n) {
        true => Ok(n),
        false => Err(Error::config(key, format!("is {n}; such a model is not known"))),
    }
}
