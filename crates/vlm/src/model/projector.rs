//! Vision features to token embeddings of the language model.
//!
//! LLaVA: linear, activation, linear. Idefics3 and SmolVLM: neighbouring patches folded together
//! (pixel shuffle), then one linear map. Llama-3.2-Vision: one linear map. Qwen-VL: norm,
//! neighbours folded, linear, activation, linear; Qwen3-VL has one of these for each state of the
//! tower that it takes. BLIP-2: `q_former`. It does not know where the embeddings go.
//!
//! Shapes: `N` tiles, `P` patches, `D_v` vision width, `T_img` tokens of a tile, `D` hidden size,
//! `k` deepstack layers.

mod merger;

use candle_core::Tensor;

use super::loader::Loader;
use super::nn::{Activation, Linear};
use super::q_former::QFormer;
use crate::config::{Config, ProjectorConfig};
use crate::error::Error;
pub use merger::PatchMerger;

/// The bridge between the two halves of the model.
pub enum Projector {
    PixelShuffle {
        scale_factor: usize,
        proj: Linear,
    },
    Mlp {
        linear_1: Linear,
        act: Activation,
        linear_2: Linear,
    },
    /// for the last state of the tower, then for each that deepstack takes
    PatchMergers(Vec<PatchMerger>),
    Linear(Linear),
    QFormer(Box<QFormer>),
}

/// What the projector makes of tiles.
pub struct Projected {
    /// `(N, T_img, D)`
    pub image_embeds: Tensor,
    /// How much each token looked at each patch, `(N, T_img, P)`, rows of sum 1; where tokens show
    /// no place of their own (Q-Former).
    pub patch_attention: Option<Tensor>,
}

impl Projector {
    pub(super) fn load(loader: &mut Loader, prefix: &str, config: &Config) -> Result<Self, Error> {
        let d = config.text_config.hidden_size;
        let d_v = config.vision_feature_size();
        match &config.projector {
            ProjectorConfig::QFormer(q_former) => {
                let q_former = QFormer::load(loader, prefix, (q_former, config))?;
                Ok(Projector::QFormer(Box::new(q_former)))
            }
            &ProjectorConfig::PixelShuffle { scale_factor } => {
                let name = format!("{prefix}.modality_projection.proj");
                let proj = loader.linear(&name, (d, d_v * scale_factor * scale_factor), false)?;
                Ok(Projector::PixelShuffle { scale_factor, proj })
            }
            &ProjectorConfig::Mlp { hidden_act, bias } => Ok(Projector::Mlp {
                linear_1: loader.linear(&format!("{prefix}.linear_1"), (d, d_v), bias)?,
                act: hidden_act,
                linear_2: loader.linear(&format!("{prefix}.linear_2"), (d, d), bias)?,
            }),
            ProjectorConfig::Linear => {
                Ok(Projector::Linear(loader.linear(prefix, (d, d_v), true)?))
            }
            ProjectorConfig::PatchMerger => {
                Ok(Projector::PatchMergers(PatchMerger::load_all(loader, prefix, config)?))
            }
        }
    }

    /// `(N, P, D_v)` → `(N, T_img, D)`; of mergers `(P, D_v · (1 + k))` → `(T_img, D · (1 + k))`.
    /// Only a text-aware Q-Former reads `qformer_input_ids`, the question in its own tokens.
    pub fn forward(
        &self,
        features: &Tensor,
        qformer_input_ids: &[u32],
    ) -> Result<Projected, Error> {
        let image_embeds = match self {
            Projector::QFormer(q_former) => return q_former.forward(features, qformer_input_ids),
            Projector::PixelShuffle { scale_factor, proj } => {
                proj.forward(&pixel_shuffle(features, *scale_factor)?)?
            }
            Projector::Mlp { linear_1, act, linear_2 } => {
                linear_2.forward(&act.apply(&linear_1.forward(features)?)?)?
            }
            Projector::Linear(linear) => linear.forward(features)?,
            Projector::PatchMergers(mergers) => merger::forward_all(mergers, features)?,
        };
        Ok(Projected { image_embeds, patch_attention: None })
    }
}

/// Folds each `s × s` square of patches into one position, rows first: `(N, P, D_v)` →
/// `(N, P / s², D_v · s²)` (`Idefics3Connector.pixel_shuffle`).
fn pixel_shuffle(x: &Tensor, s: usize) -> Result<Tensor, Error> {
    let (n, p, d) = x.dims3()?;
    let side = p.isqrt();
    if side * side != p || side % s != 0 {
        let expected = format!("a square of patches whose side is a multiple of {s}");
        return Err(Error::Shape { tensor: "vision_features", expected, found: vec![n, p, d] });
    }
    let folded = side / s;
    let x = x.reshape(&[n, folded, s, folded, s * d])?; // rows, row in square, columns, (col, D_v)
    let x = x.transpose(2, 3)?.contiguous()?;
    Ok(x.reshape((n, folded * folded, s * s * d))?) // (N, T_img, D_v · s²)
}
