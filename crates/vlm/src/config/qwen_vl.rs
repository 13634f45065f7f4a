//! `Qwen2VLConfig`, `Qwen2_5_VLConfig` and `Qwen3VLConfig` (dense).
//!
//! Published Qwen2-VL and Qwen2.5-VL files have the decoder's keys at the top level, newer ones
//! in `text_config`; both are read. It knows no layers.

use super::fields::Fields;
use super::text::MultimodalRotary;
use super::vision::DynamicResolution;
use super::{
    Config, GenerationConfig, ModelType, ProjectorConfig, SelectStrategy, TextConfig, VisionConfig,
    VisionKind, unsupported,
};
use crate::error::Error;

/// The whole `config.json` of one of the three families.
pub(crate) fn qwen_vl(fields: &Fields, model_type: ModelType) -> Result<Config, Error> {
    let vision = fields.object("vision_config")?;
    let (vision_config, out) = match model_type {
        ModelType::Qwen2Vl => qwen2(&vision)?,
        ModelType::Qwen2_5Vl => qwen2_5(&vision)?,
        _ => qwen3(&vision)?,
    };
    let text_config = text(fields, model_type)?;
    if out.1 != text_config.hidden_size {
        let message = format!("is {}, but the decoder's is {}", out.1, text_config.hidden_size);
        return Err(Error::config(vision.path(out.0), message));
    }
    Ok(Config {
        model_type,
        image_token_id: fields.u32("image_token_id", 151_655)?,
        pad_token_id: fields.opt_u32("pad_token_id")?,
        vision_config,
        text_config,
        projector: ProjectorConfig::PatchMerger,
        vision_feature_layer: Vec::new(),
        vision_feature_select_strategy: SelectStrategy::Full,
        any_resolution: None,
        tie_word_embeddings: fields.bool("tie_word_embeddings", false)?,
        generation: GenerationConfig::from_config(fields)?,
    })
}

/// The vision tower, and the key and value of what its merger gives.
type Tower = (VisionConfig, (&'static str, usize));

fn qwen2(fields: &Fields) -> Result<Tower, Error> {
    let width = fields.size("embed_dim", 1280)?;
    let out = ("hidden_size", fields.size("hidden_size", 3584)?);
    let ratio = fields.f64("mlp_ratio", 4.0)?;
    let base = vision(fields, VisionKind::Qwen2Vl, (32, 14, "quick_gelu"))?;
    let intermediate_size = (width as f64 * ratio) as usize;
    Ok((VisionConfig { hidden_size: width, intermediate_size, ..base }, out))
}

fn qwen2_5(fields: &Fields) -> Result<Tower, Error> {
    let mut base = vision(fields, VisionKind::Qwen2_5Vl, (32, 14, "silu"))?;
    base.hidden_size = fields.size("hidden_size", 3584)?;
    base.intermediate_size = fields.size("intermediate_size", 3420)?;
    if let Some(dynamic) = &mut base.dynamic {
        let unit = dynamic.spatial_merge_size * base.patch_size;
        let window = fields.size("window_size", 112)? / unit;
        if window == 0 {
            let message = format!("is smaller than the {unit} pixels of one token");
            return Err(Error::config(fields.path("window_size"), message));
        }
        dynamic.window = Some(window);
        dynamic.fullatt_block_indexes =
            fields.indices("fullatt_block_indexes")?.unwrap_or(vec![7, 15, 23, 31]);
    }
    Ok((base, ("out_hidden_size", fields.size("out_hidden_size", 3584)?)))
}

fn qwen3(fields: &Fields) -> Result<Tower, Error> {
    let mut base = vision(fields, VisionKind::Qwen3Vl, (27, 16, "gelu_pytorch_tanh"))?;
    base.hidden_size = fields.size("hidden_size", 1152)?;
    base.intermediate_size = fields.size("intermediate_size", 4304)?;
    if let Some(dynamic) = &mut base.dynamic {
        let n_positions = fields.size("num_position_embeddings", 2304)?;
        if n_positions.isqrt().pow(2) != n_positions {
            let message = format!("{n_positions} are no square");
            return Err(Error::config(fields.path("num_position_embeddings"), message));
        }
        dynamic.num_position_embeddings = Some(n_positions);
        let indices = fields.indices("deepstack_visual_indexes")?;
        dynamic.deepstack_visual_indexes = indices.unwrap_or(vec![8, 16, 24]);
        let n_layers = base.num_hidden_layers;
        if dynamic.deepstack_visual_indexes.iter().any(|&index| index >= n_layers) {
            let message = format!("reaches beyond the {n_layers} layers of the encoder");
            return Err(Error::config(fields.path("deepstack_visual_indexes"), message));
        }
    }
    Ok((base, ("out_hidden_size", fields.size("out_hidden_size", 3584)?)))
}

/// What the three towers share; widths are each one's own.
fn vision(
    fields: &Fields,
    kind: VisionKind,
    (depth, patch_size, hidden_act): (usize, usize, &'static str),
) -> Result<VisionConfig, Error> {
    Ok(VisionConfig {
        kind,
        hidden_size: 0,
        intermediate_size: 0,
        num_hidden_layers: fields.size("depth", depth)?,
        num_attention_heads: fields.size("num_heads", 16)?,
        num_channels: fields.size("in_channels", 3)?,
        image_size: 0,
        patch_size: fields.size("patch_size", patch_size)?,
        hidden_act: fields.activation("hidden_act", hidden_act)?,
        layer_norm_eps: 1e-6,
        tiles: None,
        dynamic: Some(DynamicResolution {
            temporal_patch_size: fields.size("temporal_patch_size", 2)?,
            spatial_merge_size: fields.size("spatial_merge_size", 2)?,
            window: None,
            fullatt_block_indexes: Vec::new(),
            num_position_embeddings: None,
            deepstack_visual_indexes: Vec::new(),
        }),
    })
}

fn text(fields: &Fields, model_type: ModelType) -> Result<TextConfig, Error> {
    let nested = fields.object("text_config")?;
    let flat = nested.is_absent() && model_type != ModelType::Qwen3Vl;
    let text = if flat { fields } else { &nested };
    let decoder = match model_type {
        ModelType::Qwen2Vl => "qwen2_vl_text",
        ModelType::Qwen2_5Vl => "qwen2_5_vl_text",
        _ => "qwen3_vl_text",
    };
    let found = if flat { decoder } else { text.str("model_type", decoder)? };
    if found != decoder {
        return Err(unsupported(&text.path("model_type"), found, decoder));
    }
    match model_type {
        ModelType::Qwen3Vl => qwen3_text(text),
        _ => qwen2_text(text),
    }
}

fn qwen2_text(fields: &Fields) -> Result<TextConfig, Error> {
    let hidden_size = fields.size("hidden_size", 8192)?;
    let num_attention_heads = fields.size("num_attention_heads", 64)?;
    let mut config = TextConfig {
        vocab_size: fields.size("vocab_size", 152_064)?,
        intermediate_size: fields.size("intermediate_size", 29_568)?,
        num_hidden_layers: fields.size("num_hidden_layers", 80)?,
        num_key_value_heads: fields.size("num_key_value_heads", 8)?,
        head_dim: hidden_size / num_attention_heads,
        max_position_embeddings: fields.size("max_position_embeddings", 32_768)?,
        rope_theta: fields.f64("rope_theta", 1e6)?,
        qkv_bias: true,
        multimodal_rotary: Some(multimodal_rotary(fields, None)?),
        hidden_size,
        num_attention_heads,
        ..TextConfig::llama(fields, 1e-5)?
    };
    config.slide(fields, 80)?;
    config.check(fields)?;
    Ok(TextConfig { o_bias: false, mlp_bias: false, ..config })
}

fn qwen3_text(fields: &Fields) -> Result<TextConfig, Error> {
    let config = TextConfig {
        vocab_size: fields.size("vocab_size", 151_936)?,
        intermediate_size: fields.size("intermediate_size", 22_016)?,
        num_key_value_heads: fields.size("num_key_value_heads", 32)?,
        head_dim: fields.size("head_dim", 128)?,
        max_position_embeddings: fields.size("max_position_embeddings", 128_000)?,
        rope_theta: fields.f64("rope_theta", 5e6)?,
        mlp_bias: false,
        qk_norm: true,
        multimodal_rotary: Some(multimodal_rotary(fields, Some([24, 20, 20]))?),
        ..TextConfig::llama(fields, 1e-6)?
    };
    config.check(fields)?;
    Ok(config)
}

/// `rope_scaling.mrope_section`; only Qwen3-VL has a default, and it alone interleaves.
fn multimodal_rotary(
    fields: &Fields,
    default: Option<[usize; 3]>,
) -> Result<MultimodalRotary, Error> {
    let scaling = fields.object("rope_scaling")?;
    let path = scaling.path("mrope_section");
    let mrope_section = match (scaling.indices("mrope_section")?, default) {
        (Some(found), _) => <[usize; 3]>::try_from(found)
            .map_err(|_| Error::config(&path, "needs three numbers: time, height, width"))?,
        (None, Some(default)) => default,
        (None, None) => return Err(Error::config(&path, "is missing")),
    };
    Ok(MultimodalRotary { mrope_section, interleaved: default.is_some() })
}
