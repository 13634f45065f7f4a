//! `config.json` and `generation_config.json` as Hugging Face writes them.
//!
//! Missing keys take the defaults of transformers 4.57.1, because real files omit whatever equals
//! a default. Every error names the key. It does not know tensor names (`family`) or the
//! image preprocessing (`processor`).

pub mod any_resolution;
pub mod dual_encoder;
pub mod fields;
pub mod generation;
pub mod mllama;
pub mod q_former;
pub(crate) mod qwen_vl;
pub mod text;
pub mod vision;

#[cfg(test)]
mod tests;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::family::{self, Family};
use crate::model::nn::Activation;
use crate::model::tensor_names::TensorNames;
use crate::processor::image::Kind;
pub use any_resolution::AnyResolution;
pub use dual_encoder::{DualEncoderConfig, DualEncoderType};
use fields::Fields;
pub use generation::GenerationConfig;
pub use mllama::TileConfig;
pub use q_former::{QFormerConfig, QFormerText};
pub use text::{MultimodalRotary, RopeScaling, TextConfig, TextKind, Yarn};
pub use vision::{DynamicResolution, VisionConfig, VisionKind};

/// The families this build knows, in the order of `family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelType {
    Idefics3,
    SmolVlm,
    Llava,
    LlavaNext,
    LlavaOnevision,
    Mllama,
    Qwen2Vl,
    Qwen2_5Vl,
    Qwen3Vl,
    Blip2,
    InstructBlip,
    /// A language model alone: Llama, Qwen2 or Mistral.
    Text,
}

/// The parts of a model, which can be trained apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    VisionEncoder,
    Projector,
    LanguageModel,
}

/// Which of the vision encoder's positions the projector receives (LLaVA).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectStrategy {
    /// The first position (CLIP's class token) is dropped.
    Default,
    /// Every position is kept.
    Full,
}

/// How vision features become token embeddings.
#[derive(Debug, Clone, PartialEq)]
pub enum ProjectorConfig {
    /// Idefics3 and SmolVLM: `scale_factor`² neighbouring patches folded into one, then a
    /// linear map without bias.
    PixelShuffle { scale_factor: usize },
    /// LLaVA: linear, activation, linear.
    Mlp { hidden_act: Activation, bias: bool },
    /// Qwen-VL: each square of neighbouring patches normed and folded into one, then linear,
    /// activation, linear.
    PatchMerger,
    /// Llama-3.2-Vision: one linear map with bias.
    Linear,
    /// BLIP-2 and InstructBLIP: learned queries look at the patches, then a linear map.
    QFormer(QFormerConfig),
}

/// Everything `config.json` says about the network. Where it reads text only, what concerns
/// pictures is empty and of no meaning.
#[derive(Debug, Clone)]
pub struct Config {
    pub model_type: ModelType,
    pub image_token_id: u32,
    pub pad_token_id: Option<u32>,
    pub vision_config: VisionConfig,
    pub text_config: TextConfig,
    pub projector: ProjectorConfig,
    /// Indices into the hidden states (0 = embeddings, negative from the end). Empty = the
    /// last hidden state after the final layer norm (Idefics3, BLIP-2).
    pub vision_feature_layer: Vec<i64>,
    pub vision_feature_select_strategy: SelectStrategy,
    /// How pictures of any resolution are cut (LLaVA-NeXT, LLaVA-OneVision).
    pub any_resolution: Option<AnyResolution>,
    /// `tie_word_embeddings` at the top level; the decoder's own is `text_config`'s.
    pub tie_word_embeddings: bool,
    pub generation: GenerationConfig,
}

impl Config {
    /// Reads `config.json` and, where present, `generation_config.json` of a model.
    ///
    /// Errors: unreadable file, invalid JSON, unsupported `model_type`, impossible values.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let files = Checkpoint::open(dir)?;
        let mut config = Self::from_json(&files.required_json("config.json")?)?;
        if let Some(generation) = files.json("generation_config.json")? {
            config.generation.update(&generation)?;
        }
        Ok(config)
    }

    /// The same from an already parsed `config.json`.
    pub fn from_json(json: &Value) -> Result<Self, Error> {
        let fields = Fields::root(json)?;
        let named = fields.required_str("model_type")?;
        if DualEncoderType::named(named).is_some() {
            return Err(Error::DualEncoder { model_type: named.into() });
        }
        let family = family::named(named)
            .ok_or_else(|| unsupported("model_type", named, &family::names()))?;
        let config = (family.config)(&fields, family.model_type)?;
        config.check()?;
        Ok(config)
    }

    /// What it has of its own.
    pub fn family(&self) -> &'static Family {
        self.model_type.family()
    }

    /// Where its parts lie in a checkpoint.
    pub(crate) fn tensor_names(&self) -> &'static TensorNames {
        (self.family().tensors)(self)
    }

    /// The part that a weight, layer or adapter belongs to, by its name.
    pub fn part_of(&self, name: &str) -> Part {
        let names = self.tensor_names();
        let is_in = |prefix: &str| {
            name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        // Qwen-VL's mergers lie inside its tower.
        let merges = names.projector == names.vision_encoder && name.contains("merger");
        match name {
            _ if is_in(names.language_model) || is_in(names.lm_head) => Part::LanguageModel,
            _ if is_in(names.vision_encoder) && !merges => Part::VisionEncoder,
            _ => Part::Projector,
        }
    }

    /// The image processor of checkpoints whose files name none.
    pub(crate) fn image_processor(&self) -> Kind {
        (self.family().image_processor)(self.vision_config.kind)
    }

    /// Whether it can be asked about pictures.
    pub fn sees(&self) -> bool {
        self.model_type != ModelType::Text
    }

    /// Embeddings that one tile of `image_size` gives; 0 where pictures keep their shape.
    pub fn tokens_per_tile(&self) -> usize {
        let side = self.vision_config.patches_per_side();
        match &self.projector {
            ProjectorConfig::QFormer(q_former) => q_former.num_query_tokens,
            ProjectorConfig::PixelShuffle { scale_factor } => (side / scale_factor).pow(2),
            ProjectorConfig::Mlp { .. } => match self.vision_feature_select_strategy {
                SelectStrategy::Full => self.vision_config.n_positions(),
                SelectStrategy::Default => self.vision_config.n_positions() - 1,
            },
            ProjectorConfig::PatchMerger => 0,
            ProjectorConfig::Linear => self.vision_config.n_positions(),
        }
    }

    /// Width of what the projector receives: the vision width, once for each selected layer.
    pub fn vision_feature_size(&self) -> usize {
        let tiles = self.vision_config.tiles.as_ref();
        let n_beside = tiles.map_or(0, |tiles| tiles.intermediate_layers_indices.len());
        let n_states = self.vision_feature_layer.len().max(1) + self.n_deepstack() + n_beside;
        self.vision_config.hidden_size * n_states
    }

    /// The decoder's layers whose attention may be evidence: those that see pictures.
    pub fn evidence_layers(&self) -> Vec<usize> {
        match self.text_config.cross_attention_layers.as_slice() {
            [] => (0..self.text_config.num_hidden_layers).collect(),
            layers => layers.to_vec(),
        }
    }

    /// Decoder layers after which picture tokens are given more of the vision tower (Qwen3-VL).
    pub fn n_deepstack(&self) -> usize {
        let dynamic = self.vision_config.dynamic.as_ref();
        dynamic.map_or(0, |dynamic| dynamic.deepstack_visual_indexes.len())
    }

    /// Width of a picture token's embedding, `D · (1 + k)`: what it is, and what is added to it
    /// after each of the first `k` decoder layers.
    pub fn image_embed_size(&self) -> usize {
        self.text_config.hidden_size * (1 + self.n_deepstack())
    }

    fn check(&self) -> Result<(), Error> {
        self.vision_config.check()?;
        let n_layers = self.vision_config.num_hidden_layers as i64;
        for &layer in &self.vision_feature_layer {
            if !(-n_layers - 1..=n_layers).contains(&layer) {
                let message = format!("{layer} is outside the {n_layers} layers of the encoder");
                return Err(Error::config("vision_feature_layer", message));
            }
        }
        if let ProjectorConfig::PixelShuffle { scale_factor } = self.projector
            && scale_factor == 0
        {
            return Err(Error::config("scale_factor", "must be at least 1"));
        }
        if self.vision_config.tiles.is_some() != self.text_config.has_cross_attention() {
            let message = "must be mllama_text_model for mllama, and for no other family";
            return Err(Error::config("text_config.model_type", message));
        }
        match &self.any_resolution {
            Some(any_resolution) => any_resolution.check(self),
            None => Ok(()),
        }
    }
}

/// `Idefics3Config` / `SmolVLMConfig`.
pub(crate) fn idefics3(fields: &Fields, model_type: ModelType) -> Result<Config, Error> {
    let vision = fields.object("vision_config")?;
    Ok(Config {
        model_type,
        image_token_id: fields.u32("image_token_id", 128_257)?,
        pad_token_id: fields.opt_u32("pad_token_id")?,
        vision_config: VisionConfig::idefics3(&vision)?,
        text_config: TextConfig::from_fields(fields, "llama", 1e-5)?,
        projector: ProjectorConfig::PixelShuffle { scale_factor: fields.usize("scale_factor", 2)? },
        vision_feature_layer: Vec::new(),
        vision_feature_select_strategy: SelectStrategy::Full,
        any_resolution: None,
        tie_word_embeddings: fields.bool("tie_word_embeddings", false)?,
        generation: GenerationConfig::from_config(fields)?,
    })
}

/// `LlavaConfig`, `LlavaNextConfig` and `LlavaOnevisionConfig`, which differ in their defaults.
pub(crate) fn llava(fields: &Fields, model_type: ModelType) -> Result<Config, Error> {
    let (image_token, layer, strategy, decoder) = match model_type {
        ModelType::LlavaOnevision => (151_646, -1, "full", "qwen2"),
        _ => (32_000, -2, "default", "llama"),
    };
    let strategy = match fields.str("vision_feature_select_strategy", strategy)? {
        "default" => SelectStrategy::Default,
        "full" => SelectStrategy::Full,
        found => return Err(unsupported("vision_feature_select_strategy", found, "default, full")),
    };
    let found = fields.opt_u32("image_token_index")?;
    let found = found.or(fields.opt_u32("image_token_id")?);
    Ok(Config {
        model_type,
        image_token_id: found.unwrap_or(image_token),
        pad_token_id: fields.opt_u32("pad_token_id")?,
        vision_config: VisionConfig::llava(fields, model_type)?,
        text_config: TextConfig::from_fields(fields, decoder, 1e-6)?,
        projector: ProjectorConfig::Mlp {
            hidden_act: fields.activation("projector_hidden_act", "gelu")?,
            bias: fields.bool("multimodal_projector_bias", true)?,
        },
        vision_feature_layer: fields.layers("vision_feature_layer", layer)?,
        vision_feature_select_strategy: strategy,
        any_resolution: AnyResolution::from_fields(fields, model_type)?,
        tie_word_embeddings: fields.bool("tie_word_embeddings", false)?,
        generation: GenerationConfig::from_config(fields)?,
    })
}

/// `LlamaConfig`, `Qwen2Config` and `MistralConfig`: the decoder's keys at the top.
pub(crate) fn text_only(fields: &Fields) -> Result<Config, Error> {
    Ok(Config {
        model_type: ModelType::Text,
        image_token_id: u32::MAX,
        pad_token_id: fields.opt_u32("pad_token_id")?,
        vision_config: VisionConfig::none(),
        text_config: TextConfig::read(fields, fields.required_str("model_type")?, 1e-6)?,
        projector: ProjectorConfig::PixelShuffle { scale_factor: 1 },
        vision_feature_layer: Vec::new(),
        vision_feature_select_strategy: SelectStrategy::Full,
        any_resolution: None,
        tie_word_embeddings: false,
        generation: GenerationConfig::read(fields, fields)?,
    })
}

pub(crate) fn unsupported(key: &str, found: &str, supported: &str) -> Error {
    Error::Unsupported { key: key.into(), found: found.into(), supported: supported.into() }
}

pub(crate) fn read_json(path: &Path) -> Result<Value, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, source))?;
    serde_json::from_str(&text).map_err(|source| Error::Json { path: path.to_path_buf(), source })
}
