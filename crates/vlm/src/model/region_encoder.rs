//! The contrastive side: phrases and image regions in one space (RegionCLIP's idea, arXiv
//! 2112.09106, over CLIP's loss, arXiv 2103.00020).
//!
//! A text tower embeds a phrase; a region head embeds patch features of the shared vision encoder,
//! pooled under a box. It knows no boxes and no tokenizer: the caller pools and encodes.
//!
//! Shapes: `B` phrases, `T` tokens, `R` regions, `P` patches, `D` hidden size, `D_v` vision width,
//! `E` width of the shared space.

use std::path::Path;

use candle_core::{D, Device, Tensor};
use serde::Serialize;

use super::loader::Loader;
use super::nn::{Activation, Compute, Linear};
use super::towers::normalise;
use super::towers::text_tower::{TextTower, TextTowerNames};
use crate::config::dual_encoder::{TextPooling, TextTowerConfig};
use crate::config::fields::Fields;
use crate::error::Error;
use crate::weights::TensorMap;

/// CLIP's cap on the temperature: logits are multiplied by at most this.
pub const MAX_SCALE: f64 = 100.0;

/// Sizes of both, as in the `config.json` beside the text tower's weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RegionEncoderConfig {
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// `E`
    pub projection_dim: usize,
    /// `D_v`
    pub vision_hidden_size: usize,
    pub layer_norm_eps: f64,
}

impl RegionEncoderConfig {
    /// Every key but `layer_norm_eps` is required to be at least 1 where present.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, Error> {
        let fields = Fields::root(json)?;
        let config = RegionEncoderConfig {
            vocab_size: fields.size("vocab_size", 2048)?,
            max_position_embeddings: fields.size("max_position_embeddings", 32)?,
            hidden_size: fields.size("hidden_size", 192)?,
            intermediate_size: fields.size("intermediate_size", 768)?,
            num_hidden_layers: fields.size("num_hidden_layers", 3)?,
            num_attention_heads: fields.size("num_attention_heads", 3)?,
            projection_dim: fields.size("projection_dim", 192)?,
            vision_hidden_size: fields.size("vision_hidden_size", 192)?,
            layer_norm_eps: fields.f64("layer_norm_eps", 1e-6)?,
        };
        if config.hidden_size % config.num_attention_heads != 0 {
            return Err(Error::config("hidden_size", "is not a multiple of num_attention_heads"));
        }
        Ok(config)
    }

    fn text_config(&self) -> TextTowerConfig {
        TextTowerConfig {
            vocab_size: self.vocab_size,
            max_position_embeddings: self.max_position_embeddings,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            hidden_act: Activation::GeluPytorchTanh,
            layer_norm_eps: self.layer_norm_eps,
            projection_dim: self.projection_dim,
            is_causal: false,
            pooling: TextPooling::Mean,
        }
    }
}

/// The text tower and the region head together, as they are trained and stored.
pub struct RegionEncoder {
    text_tower: TextTower,
    pub region_head: RegionHead,
}

impl RegionEncoder {
    /// Reads a folder with `config.json` and `model.safetensors`.
    ///
    /// Errors: an unreadable file; weights that do not fit the configuration, by name.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, Error> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|source| Error::io(&path, source))?;
        let json = serde_json::from_str(&text).map_err(|source| Error::Json { path, source })?;
        let config = RegionEncoderConfig::from_json(&json)?;
        Self::from_tensors(&config, TensorMap::open(dir, device)?, Compute::F32)
    }

    /// Errors with every missing, unexpected and misshaped tensor.
    pub fn from_tensors(
        config: &RegionEncoderConfig,
        tensors: TensorMap,
        compute: Compute,
    ) -> Result<Self, Error> {
        let mut loader = Loader::new(tensors, compute);
        let dual = Self::build(config, &mut loader)?;
        loader.finish()?;
        Ok(dual)
    }

    /// Every parameter's name and shape.
    pub fn parameter_shapes(
        config: &RegionEncoderConfig,
    ) -> Result<Vec<(String, Vec<usize>)>, Error> {
        let mut recorder = Loader::recorder();
        Self::build(config, &mut recorder)?;
        Ok(recorder.asked)
    }

    fn build(config: &RegionEncoderConfig, loader: &mut Loader) -> Result<Self, Error> {
        let names = TextTowerNames {
            tower: "text_tower",
            projection: "text_tower.text_projection",
            projection_bias: false,
        };
        Ok(RegionEncoder {
            text_tower: TextTower::load(loader, &names, &config.text_config())?,
            region_head: RegionHead::load(loader, config)?,
        })
    }

    /// Phrases as token ids → `(B, E)`, each of length 1; phrases longer than the tower's
    /// positions are cut.
    pub fn embed_phrases(&self, phrases: &[Vec<u32>]) -> Result<Tensor, Error> {
        let n_positions = self.text_tower.n_positions()?;
        let cut = |phrase: &Vec<u32>| phrase.len().min(n_positions);
        let (b, t) = (phrases.len(), phrases.iter().map(cut).max().unwrap_or(0).max(1));
        let (mut ids, mut mask) = (vec![0u32; b * t], vec![0f32; b * t]);
        for (i, phrase) in phrases.iter().enumerate() {
            let n = cut(phrase);
            ids[i * t..i * t + n].copy_from_slice(&phrase[..n]);
            mask[i * t..i * t + n].fill(1.0);
        }
        let device = self.text_tower.device();
        let ids = Tensor::from_vec(ids, (b, t), device)?;
        let mask = Tensor::from_vec(mask, (b, t), device)?;
        normalise(&self.text_tower.forward(&ids, Some(&mask))?)
    }
}

/// Projects pooled patch features into the phrases' space; holds the learned temperature.
pub struct RegionHead {
    projection: Linear,
    /// `ln` of what logits are multiplied by, `(1)`
    pub logit_scale: Tensor,
}

impl RegionHead {
    fn load(loader: &mut Loader, config: &RegionEncoderConfig) -> Result<Self, Error> {
        let size = (config.projection_dim, config.vision_hidden_size);
        Ok(RegionHead {
            projection: loader.linear("region_head.projection", size, true)?,
            logit_scale: loader.tensor("region_head.logit_scale", &[1])?,
        })
    }

    /// Mean patch features of regions `(…, D_v)` → `(…, E)`, each of length 1.
    pub fn forward(&self, regions: &Tensor) -> Result<Tensor, Error> {
        normalise(&self.projection.forward(regions)?)
    }

    /// What similarities are multiplied by before the softmax, at most `MAX_SCALE`. `(1)`
    pub fn scale(&self) -> Result<Tensor, Error> {
        let cap = MAX_SCALE.ln();
        Ok(self.logit_scale.clamp(f64::NEG_INFINITY, cap)?.exp()?)
    }

    /// How well each patch `(P, D_v)` fits a phrase `(E)`: cosines, `(P)`.
    pub fn patch_similarity(&self, patches: &Tensor, text: &Tensor) -> Result<Tensor, Error> {
        let patches = self.forward(patches)?; // (P, E)
        Ok(patches.broadcast_mul(&text.flatten_all()?.unsqueeze(0)?)?.sum(D::Minus1)?) // (P)
    }
}

/// What each patch of a `side × side` grid over a square picture counts in the mean under a box
/// (x0, y0, x1, y1 in pixels of a picture `image_size` wide): the part of the box inside it.
/// `(P)`, adding up to 1; zeros for a box outside the picture.
#[must_use]
pub fn pooling_weights(bbox: [f32; 4], side: usize, image_size: f32) -> Vec<f32> {
    let cell = image_size / side as f32;
    let part = |i: usize, low: f32, high: f32| {
        let start = i as f32 * cell;
        (high.min(start + cell) - low.max(start)).max(0.0)
    };
    let [x0, y0, x1, y1] = bbox;
    let shares = (0..side * side).map(|i| part(i % side, x0, x1) * part(i / side, y0, y1));
    let shares: Vec<f32> = shares.collect();
    let sum = shares.iter().sum::<f32>().max(f32::MIN_POSITIVE);
    shares.into_iter().map(|share| share / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_weighs_the_patches_it_covers() {
        assert_eq!(pooling_weights([0.0, 0.0, 2.0, 2.0], 2, 4.0), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(pooling_weights([1.0, 0.0, 3.0, 2.0], 2, 4.0), [0.5, 0.5, 0.0, 0.0]);
        assert_eq!(pooling_weights([0.0, 0.0, 4.0, 4.0], 2, 4.0), [0.25; 4]);
        assert_eq!(pooling_weights([9.0, 9.0, 9.0, 9.0], 2, 4.0), [0.0; 4]);
    }
}
