//! The patch mergers of Qwen-VL (`PatchMerger` of `modeling_qwen{2,2_5,3}_vl.py`).
//!
//! Shapes: `P` patches, `D_v` vision width, `m` side of the square that becomes a token, `T_img`
//! tokens, `D` hidden size, `k` deepstack layers.

use candle_core::{D, Tensor};

use super::super::loader::Loader;
use super::super::nn::{Activation, Linear, Norm};
use crate::config::{Config, VisionKind};
use crate::error::Error;

/// Norm of each patch, or with deepstack of the folded ones; linear, GELU, linear.
pub struct PatchMerger {
    norm: Norm,
    /// The norm comes after folding.
    folds_first: bool,
    fc1: Linear,
    fc2: Linear,
    /// `D_v`
    size: usize,
}

impl PatchMerger {
    /// The merger of the last state, and one for each state that deepstack takes.
    pub(super) fn load_all(
        loader: &mut Loader,
        prefix: &str,
        config: &Config,
    ) -> Result<Vec<Self>, Error> {
        let mut all = vec![Self::load(loader, &format!("{prefix}.merger"), config, false)?];
        for i in 0..config.n_deepstack() {
            let name = format!("{prefix}.deepstack_merger_list.{i}");
            all.push(Self::load(loader, &name, config, true)?);
        }
        Ok(all)
    }

    fn load(
        loader: &mut Loader,
        prefix: &str,
        config: &Config,
        folds_first: bool,
    ) -> Result<Self, Error> {
        let (vision, d) = (&config.vision_config, config.text_config.hidden_size);
        let merge = vision.dynamic.as_ref().map_or(1, |dynamic| dynamic.spatial_merge_size);
        let size = vision.hidden_size;
        let wide = size * merge * merge;
        let (norm, fc1, fc2) = match vision.kind {
            VisionKind::Qwen3Vl => ("norm", "linear_fc1", "linear_fc2"),
            _ => ("ln_q", "mlp.0", "mlp.2"),
        };
        let norm = format!("{prefix}.{norm}");
        let how = (vision.kind == VisionKind::Qwen2_5Vl, vision.layer_norm_eps);
        Ok(PatchMerger {
            norm: loader.norm(&norm, if folds_first { wide } else { size }, how)?,
            folds_first,
            fc1: loader.linear(&format!("{prefix}.{fc1}"), (wide, wide), true)?,
            fc2: loader.linear(&format!("{prefix}.{fc2}"), (d, wide), true)?,
            size,
        })
    }

    /// `(P, D_v)` → `(T_img, D)`
    fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        let wide = self.fc1.weight.dims2()?.1;
        let fold = |x: &Tensor| x.reshape(((), wide)); // (P / m², D_v · m²)
        let x = match self.folds_first {
            true => self.norm.forward(&fold(x)?)?,
            false => fold(&self.norm.forward(x)?)?,
        };
        Ok(self.fc2.forward(&Activation::Gelu.apply(&self.fc1.forward(&x)?)?)?)
    }
}

/// Each merger its own part: `(P, D_v · (1 + k))` → `(T_img, D · (1 + k))`
pub(super) fn forward_all(mergers: &[PatchMerger], features: &Tensor) -> Result<Tensor, Error> {
    let part = |(i, merger): (usize, &PatchMerger)| {
        let part = features.narrow(D::Minus1, i * merger.size, merger.size)?.contiguous()?;
        merger.forward(&part)
    };
    let parts: Vec<Tensor> = mergers.iter().enumerate().map(part).collect::<Result<_, _>>()?;
    match parts.as_slice() {
        [one] => Ok(one.clone()),
        several => Ok(Tensor::cat(several, D::Minus1)?),
    }
}
