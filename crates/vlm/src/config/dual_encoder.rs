//! `config.json` of a dual encoder: CLIP, SigLIP, and SigLIP 2 of any aspect ratio.
//!
//! Defaults are those of transformers 4.57.1. It does not know tensor names (`model::towers`) or
//! how texts and pictures are prepared (`processor`).

use std::path::Path;

use serde_json::Value;

use super::fields::Fields;
use super::vision::VisionConfig;
use super::{read_json, unsupported};
use crate::error::Error;
use crate::model::nn::Activation;

/// The families, by `model_type`. SigLIP 2 of one resolution calls itself `siglip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DualEncoderType {
    /// `CLIPModel`
    Clip,
    /// `SiglipModel`
    Siglip,
    /// `Siglip2Model`: pictures of any aspect ratio (NaFlex).
    Siglip2,
}

impl DualEncoderType {
    /// The family of a `model_type`; `None` where it names no dual encoder.
    #[must_use]
    pub fn named(model_type: &str) -> Option<Self> {
        match model_type {
            "clip" => Some(DualEncoderType::Clip),
            "siglip" => Some(DualEncoderType::Siglip),
            "siglip2" => Some(DualEncoderType::Siglip2),
            _ => None,
        }
    }
}

/// Which hidden state stands for a whole text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextPooling {
    /// The mean of all that are no padding.
    Mean,
    /// That of the first token of this id, the end token.
    EndToken(u32),
    /// That of the first token with the largest id: what CLIP's end token was found by before
    /// its id was written down correctly.
    LargestId,
    /// The last one, padding or not.
    Last,
}

/// Sizes of a text tower, named as in `text_config`.
#[derive(Debug, Clone, PartialEq)]
pub struct TextTowerConfig {
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
    /// Width of what a text becomes.
    pub projection_dim: usize,
    /// A token sees only those before it.
    pub is_causal: bool,
    pub pooling: TextPooling,
}

/// Everything `config.json` says about both towers.
#[derive(Debug, Clone, PartialEq)]
pub struct DualEncoderConfig {
    pub model_type: DualEncoderType,
    pub vision_config: VisionConfig,
    pub text_config: TextTowerConfig,
    /// Width of the space that both meet in.
    pub projection_dim: usize,
}

impl DualEncoderConfig {
    /// Reads `config.json` of a model folder.
    ///
    /// Errors: unreadable file, invalid JSON, a model of another kind, impossible values.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        Self::from_json(&read_json(&dir.join("config.json"))?)
    }

    /// The same from an already parsed `config.json`.
    pub fn from_json(json: &Value) -> Result<Self, Error> {
        let fields = Fields::root(json)?;
        let found = fields.required_str("model_type")?;
        let model_type = DualEncoderType::named(found)
            .ok_or_else(|| unsupported("model_type", found, "clip, siglip, siglip2"))?;
        // CLIP's older files repeat a tower's settings under another key, which then counts alone.
        let tower = |name: &str| match fields.object(&format!("{name}_dict"))? {
            repeated if !repeated.is_absent() && model_type == DualEncoderType::Clip => {
                Ok(repeated)
            }
            _ => fields.object(name),
        };
        let vision = tower("vision_config")?;
        let vision_config = VisionConfig::dual_encoder(&vision, model_type)?;
        let (projection_dim, text_config) = match model_type {
            DualEncoderType::Clip => {
                let projection_dim = fields.size("projection_dim", 512)?;
                (projection_dim, TextTowerConfig::clip(&tower("text_config")?, projection_dim)?)
            }
            DualEncoderType::Siglip | DualEncoderType::Siglip2 => {
                if !vision.bool("vision_use_head", true)? {
                    let key = vision.path("vision_use_head");
                    return Err(unsupported(&key, "false", "true, the head pools the picture"));
                }
                let text = TextTowerConfig::siglip(&tower("text_config")?)?;
                (vision_config.hidden_size, text)
            }
        };
        if text_config.projection_dim != projection_dim {
            let message = format!(
                "texts become {} wide and pictures {projection_dim}; they cannot be compared",
                text_config.projection_dim
            );
            return Err(Error::config("text_config.projection_size", message));
        }
        Ok(DualEncoderConfig { model_type, vision_config, text_config, projection_dim })
    }
}

impl TextTowerConfig {
    /// `CLIPTextConfig`.
    fn clip(fields: &Fields, projection_dim: usize) -> Result<Self, Error> {
        // 2 was written by mistake for years; see `CLIPTextTransformer.forward`.
        let pooling = match fields.opt_u32("eos_token_id")?.unwrap_or(49_407) {
            2 => TextPooling::LargestId,
            id => TextPooling::EndToken(id),
        };
        let config = TextTowerConfig {
            vocab_size: fields.size("vocab_size", 49_408)?,
            max_position_embeddings: fields.size("max_position_embeddings", 77)?,
            hidden_size: fields.size("hidden_size", 512)?,
            intermediate_size: fields.size("intermediate_size", 2048)?,
            num_hidden_layers: fields.size("num_hidden_layers", 12)?,
            num_attention_heads: fields.size("num_attention_heads", 8)?,
            hidden_act: fields.activation("hidden_act", "quick_gelu")?,
            layer_norm_eps: fields.f64("layer_norm_eps", 1e-5)?,
            projection_dim,
            is_causal: true,
            pooling,
        };
        config.check(fields)
    }

    /// `SiglipTextConfig` and `Siglip2TextConfig`.
    fn siglip(fields: &Fields) -> Result<Self, Error> {
        let hidden_size = fields.size("hidden_size", 768)?;
        let config = TextTowerConfig {
            vocab_size: fields.size("vocab_size", 32_000)?,
            max_position_embeddings: fields.size("max_position_embeddings", 64)?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size", 3072)?,
            num_hidden_layers: fields.size("num_hidden_layers", 12)?,
            num_attention_heads: fields.size("num_attention_heads", 12)?,
            hidden_act: fields.activation("hidden_act", "gelu_pytorch_tanh")?,
            layer_norm_eps: fields.f64("layer_norm_eps", 1e-6)?,
            projection_dim: fields.size("projection_size", hidden_size)?,
            is_causal: false,
            pooling: TextPooling::Last,
        };
        config.check(fields)
    }

    fn check(self, fields: &Fields) -> Result<Self, Error> {
        let (size, heads) = (self.hidden_size, self.num_attention_heads);
        if size % heads != 0 {
            let message = format!("{size} is not a multiple of {heads} heads");
            return Err(Error::config(fields.path("hidden_size"), message));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;

    #[test]
    fn the_repeated_settings_of_older_files_count_alone() {
        let json = json!({
            "model_type": "clip", "projection_dim": 768,
            "text_config": {"hidden_size": 99, "eos_token_id": 2, "hidden_act": "gelu"},
            "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12},
            "vision_config": {"hidden_size": 1024, "num_attention_heads": 16, "patch_size": 14},
            "vision_config_dict": null,
        });
        let config = DualEncoderConfig::from_json(&json).expect("CLIP");
        let text = &config.text_config;
        assert_eq!((text.hidden_size, text.hidden_act), (768, Activation::QuickGelu));
        assert_eq!(text.pooling, TextPooling::EndToken(49_407));
        assert_eq!((config.vision_config.n_positions(), config.projection_dim), (257, 768));
    }

    #[test]
    fn defaults_are_those_of_the_family() {
        let config = DualEncoderConfig::from_json(&json!({"model_type": "siglip2"})).expect("ok");
        assert_eq!((config.vision_config.n_positions(), config.projection_dim), (256, 768));
        assert_eq!(config.text_config.pooling, TextPooling::Last);
        let old = json!({"model_type": "clip", "text_config": {"eos_token_id": 2}});
        let config = DualEncoderConfig::from_json(&old).expect("CLIP");
        assert_eq!(config.text_config.pooling, TextPooling::LargestId);
    }

    #[test]
    fn what_cannot_be_compared_or_asked_is_told() {
        let rows = [
            (json!({"model_type": "llava"}), "clip, siglip, siglip2"),
            (
                json!({"model_type": "siglip", "vision_config": {"vision_use_head": false}}),
                "vision_config.vision_use_head",
            ),
            (
                json!({"model_type": "siglip", "text_config": {"projection_size": 5}}),
                "texts become 5 wide and pictures 768",
            ),
            (
                json!({"model_type": "siglip2", "vision_config": {"num_patches": 250}}),
                "vision_config.num_patches",
            ),
        ];
        for (json, part) in rows {
            let error = DualEncoderConfig::from_json(&json).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
        for model_type in ["clip", "siglip", "siglip2"] {
            let json = json!({ "model_type": model_type });
            let error = Config::from_json(&json).expect_err("no chat").to_string();
            assert!(error.contains(model_type) && error.contains("classify"), "{error}");
        }
    }
}
