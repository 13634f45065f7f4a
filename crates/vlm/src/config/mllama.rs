//! `MllamaConfig`: Llama-3.2-Vision, whose decoder looks at pictures through layers of its own.
//!
//! Defaults are those of transformers' `configuration_mllama.py`. It does not know how a picture is
//! laid on tiles (`processor`) or what the layers compute (`model::cross_attention`,
//! `model::vision_encoder`).

use super::fields::Fields;
use super::{Config, GenerationConfig, ModelType, ProjectorConfig, SelectStrategy};
use super::{TextConfig, VisionConfig};
use crate::error::Error;

/// What the vision encoder has beside its layers: tiles of one picture that see each other.
#[derive(Debug, Clone, PartialEq)]
pub struct TileConfig {
    /// Each picture is filled up to so many tiles.
    pub max_num_tiles: usize,
    /// Gated layers after the others.
    pub num_global_layers: usize,
    /// Layers whose outputs stand beside the last one in the features.
    pub intermediate_layers_indices: Vec<usize>,
}

/// Every canvas of at most `max_num_tiles` tiles as (rows, columns), in the order of their ids
/// (`get_all_supported_aspect_ratios` of `image_processing_mllama.py`).
pub(crate) fn aspect_ratios(max_num_tiles: usize) -> Vec<(usize, usize)> {
    let sides = || 1..=max_num_tiles;
    let all = sides().flat_map(|rows| sides().map(move |cols| (rows, cols)));
    all.filter(|(rows, cols)| rows * cols <= max_num_tiles).collect()
}

pub(crate) fn config(fields: &Fields) -> Result<Config, Error> {
    let vision = fields.object("vision_config")?;
    let text_config = TextConfig::from_fields(fields, "mllama_text_model", 1e-5)?;
    Ok(Config {
        model_type: ModelType::Mllama,
        image_token_id: fields.u32("image_token_index", fields.u32("image_token_id", 128_256)?)?,
        pad_token_id: fields.opt_u32("pad_token_id")?,
        vision_config: VisionConfig::mllama(&vision, tiles(&vision)?)?,
        text_config,
        projector: ProjectorConfig::Linear,
        vision_feature_layer: Vec::new(),
        vision_feature_select_strategy: SelectStrategy::Full,
        any_resolution: None,
        tie_word_embeddings: fields.bool("tie_word_embeddings", false)?,
        generation: GenerationConfig::from_config(fields)?,
    })
}

fn tiles(fields: &Fields) -> Result<TileConfig, Error> {
    let max_num_tiles = fields.size("max_num_tiles", 4)?;
    let ratios = fields.pairs("supported_aspect_ratios")?;
    let same = |ratios: &Vec<[u32; 2]>| {
        let known = aspect_ratios(max_num_tiles).into_iter();
        known.map(|(rows, cols)| [rows as u32, cols as u32]).eq(ratios.iter().copied())
    };
    if !ratios.as_ref().is_none_or(same) {
        let message = format!("is not every canvas of at most {max_num_tiles} tiles, in order");
        return Err(Error::config(fields.path("supported_aspect_ratios"), message));
    }
    let n_layers = fields.size("num_hidden_layers", 32)?;
    let indices = fields.indices("intermediate_layers_indices")?;
    let indices = indices.unwrap_or_else(|| vec![3, 7, 15, 23, 30]);
    check_layers(&indices, n_layers, fields.path("intermediate_layers_indices"))?;
    let hidden_size = fields.size("hidden_size", 1280)?;
    let width = hidden_size * (1 + indices.len());
    if fields.size("vision_output_dim", 7680)? != width {
        let message = format!("is not the {width} that the chosen layers give");
        return Err(Error::config(fields.path("vision_output_dim"), message));
    }
    Ok(TileConfig {
        max_num_tiles,
        num_global_layers: fields.size("num_global_layers", 8)?,
        intermediate_layers_indices: indices,
    })
}

impl TextConfig {
    /// `MllamaTextConfig`: Llama 3.1 with other layers between.
    pub(super) fn become_mllama(&mut self, fields: &Fields) -> Result<(), Error> {
        self.vocab_size = fields.size("vocab_size", 128_256)?;
        self.intermediate_size = fields.size("intermediate_size", 14_336)?;
        self.num_hidden_layers = fields.size("num_hidden_layers", 40)?;
        self.num_key_value_heads = fields.size("num_key_value_heads", 8)?;
        self.max_position_embeddings = fields.size("max_position_embeddings", 131_072)?;
        self.rms_norm_eps = fields.f64("rms_norm_eps", 1e-5)?;
        self.rope_theta = fields.f64("rope_theta", 500_000.0)?;
        (self.qkv_bias, self.o_bias, self.mlp_bias) = (false, false, false);
        let layers = fields.indices("cross_attention_layers")?;
        let layers = layers.unwrap_or_else(|| vec![3, 8, 13, 18, 23, 28, 33, 38]);
        check_layers(&layers, self.num_hidden_layers, fields.path("cross_attention_layers"))?;
        self.cross_attention_layers = layers;
        Ok(())
    }
}

/// Whether there are layers, all of them below `n_layers`.
fn check_layers(layers: &[usize], n_layers: usize, key: String) -> Result<(), Error> {
    match layers.iter().find(|layer| **layer >= n_layers) {
        Some(layer) => Err(Error::config(key, format!("{layer} is outside the {n_layers} layers"))),
        None if layers.is_empty() => Err(Error::config(key, "is empty")),
        None => Ok(()),
    }
}
