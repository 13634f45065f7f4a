//! SigLIP's pooling head: one learned query attends to all patches ("MAP head" of arXiv
//! 2106.04560; `SiglipMultiheadAttentionPoolingHead`).
//!
//! Shapes: `N` pictures, `P` patches, `D_v` width of the vision features.

use candle_core::Tensor;

use crate::config::VisionConfig;
use crate::error::Error;
use crate::model::loader::Loader;
use crate::model::nn::{Activation, Attend, LayerNorm, Linear, Weight, attention};
use crate::model::nn::{merge_heads, split_heads};

/// Attention of one query, then a residual MLP.
pub(super) struct AttentionPooling {
    /// The query, `(1, 1, D_v)`
    probe: Tensor,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    layernorm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    hidden_act: Activation,
    n_heads: usize,
}

impl AttentionPooling {
    pub(super) fn load(
        loader: &mut Loader,
        prefix: &str,
        config: &VisionConfig,
    ) -> Result<Self, Error> {
        let (d, wide) = (config.hidden_size, config.intermediate_size);
        let named = |name: &str| format!("{prefix}.{name}");
        let probe = loader.tensor(&named("probe"), &[1, 1, d])?;
        // `torch.nn.MultiheadAttention` keeps the three projections in one tensor.
        let weights = loader.tensor(&named("attention.in_proj_weight"), &[3 * d, d])?;
        let biases = loader.tensor(&named("attention.in_proj_bias"), &[3 * d])?;
        let compute = loader.compute;
        let projection = |i: usize| -> Result<Linear, Error> {
            let weight = Weight::Dense(weights.narrow(0, i * d, d)?);
            let bias = Some(biases.narrow(0, i * d, d)?);
            Ok(Linear { weight, bias, compute, adapters: Vec::new() })
        };
        Ok(AttentionPooling {
            probe,
            q_proj: projection(0)?,
            k_proj: projection(1)?,
            v_proj: projection(2)?,
            out_proj: loader.linear(&named("attention.out_proj"), (d, d), true)?,
            layernorm: loader.layer_norm(&named("layernorm"), d, config.layer_norm_eps)?,
            fc1: loader.linear(&named("mlp.fc1"), (wide, d), true)?,
            fc2: loader.linear(&named("mlp.fc2"), (d, wide), true)?,
            hidden_act: config.hidden_act,
            n_heads: config.num_attention_heads,
        })
    }

    /// `x (N, P, D_v)`, `mask` additive `(N, 1, P, P)` whose rows are all alike → `(N, D_v)`
    pub(super) fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, Error> {
        let (n, _, d) = x.dims3()?;
        let query = self.q_proj.forward(&self.probe)?.broadcast_as((n, 1, d))?;
        let q = split_heads(&query.contiguous()?, self.n_heads)?; // (N, H, 1, d)
        let k = split_heads(&self.k_proj.forward(x)?, self.n_heads)?; // (N, H, P, d)
        let v = split_heads(&self.v_proj.forward(x)?, self.n_heads)?;
        let mask = mask.map(|mask| mask.narrow(2, 0, 1)?.contiguous()).transpose()?;
        let scale = 1.0 / (q.dim(3)? as f32).sqrt();
        let how = Attend { mask: mask.as_ref(), scale, compute: self.out_proj.compute };
        let pooled = merge_heads(&attention(&q, &k, &v, &how)?)?; // (N, 1, D_v)
        let pooled = self.out_proj.forward(&pooled)?;
        let wide = self.fc1.forward(&self.layernorm.forward(&pooled)?)?;
        let mlp = self.fc2.forward(&self.hidden_act.apply(&wide)?)?;
        Ok((pooled + mlp)?.squeeze(1)?) // (N, D_v)
    }
}
