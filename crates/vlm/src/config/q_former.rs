//! `Blip2Config` and `InstructBlipConfig`, and `qformer_config` in them.
//!
//! The two differ in one thing: InstructBLIP's queries also read the question. It does not know
//! how queries look at a picture (`model::q_former`).

use super::fields::Fields;
use super::{
    Config, GenerationConfig, ModelType, ProjectorConfig, SelectStrategy, TextConfig, VisionConfig,
    unsupported,
};
use crate::error::Error;
use crate::model::nn::Activation;

/// Sizes of the Q-Former, named as in `qformer_config`.
#[derive(Debug, Clone, PartialEq)]
pub struct QFormerConfig {
    /// Queries, and so tokens of a picture.
    pub num_query_tokens: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
    /// Layers 0, n, 2n, … look at the picture.
    pub cross_attention_frequency: usize,
    /// The vocabulary and the longest text, where the queries read the question (InstructBLIP).
    pub text: Option<QFormerText>,
}

/// Sizes of what the Q-Former reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QFormerText {
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
}

impl QFormerConfig {
    fn from_fields(parent: &Fields, model_type: ModelType) -> Result<Self, Error> {
        let fields = parent.object("qformer_config")?;
        let kind = fields.str("position_embedding_type", "absolute")?;
        if kind != "absolute" {
            let key = fields.path("position_embedding_type");
            return Err(unsupported(&key, kind, "absolute"));
        }
        if model_type == ModelType::Blip2 && fields.bool("use_qformer_text_input", false)? {
            let key = fields.path("use_qformer_text_input");
            let supported = "false; a model made for retrieval answers no questions";
            return Err(unsupported(&key, "true", supported));
        }
        let text = QFormerText {
            vocab_size: fields.size("vocab_size", 30_522)?,
            max_position_embeddings: fields.size("max_position_embeddings", 512)?,
        };
        let config = QFormerConfig {
            num_query_tokens: parent.size("num_query_tokens", 32)?,
            hidden_size: fields.size("hidden_size", 768)?,
            intermediate_size: fields.size("intermediate_size", 3072)?,
            num_hidden_layers: fields.size("num_hidden_layers", 12)?,
            num_attention_heads: fields.size("num_attention_heads", 12)?,
            hidden_act: fields.activation("hidden_act", "gelu")?,
            layer_norm_eps: fields.f64("layer_norm_eps", 1e-12)?,
            cross_attention_frequency: fields.size("cross_attention_frequency", 2)?,
            text: (model_type == ModelType::InstructBlip).then_some(text),
        };
        if config.hidden_size % config.num_attention_heads != 0 {
            let heads = config.num_attention_heads;
            let message = format!("{} is not a multiple of {heads} heads", config.hidden_size);
            return Err(Error::config(fields.path("hidden_size"), message));
        }
        Ok(config)
    }

    /// Whether a layer looks at the picture.
    pub fn has_cross_attention(&self, layer_idx: usize) -> bool {
        layer_idx.is_multiple_of(self.cross_attention_frequency)
    }
}

/// The whole `config.json` of either family.
pub(crate) fn config(fields: &Fields, model_type: ModelType) -> Result<Config, Error> {
    let found = fields.opt_u32("image_token_index")?;
    let Some(image_token_id) = found.or(fields.opt_u32("image_token_id")?) else {
        let message = "is missing; take the config.json and tokenizer files of a newer release of \
                       this checkpoint, which has picture tokens";
        return Err(Error::config("image_token_index", message));
    };
    Ok(Config {
        model_type,
        image_token_id,
        pad_token_id: fields.opt_u32("pad_token_id")?,
        vision_config: VisionConfig::blip(fields)?,
        text_config: TextConfig::from_fields(fields, "opt", 1e-6)?,
        projector: ProjectorConfig::QFormer(QFormerConfig::from_fields(fields, model_type)?),
        vision_feature_layer: Vec::new(),
        vision_feature_select_strategy: SelectStrategy::Full,
        any_resolution: None,
        // Only the decoder's own setting counts here.
        tie_word_embeddings: false,
        generation: GenerationConfig::from_config(fields)?,
    })
}
