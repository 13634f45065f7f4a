//! One pre-norm transformer layer that sees in both directions.
//!
//! CLIP, SigLIP, Idefics3 and the text tower share it down to the tensor names; Llama-3.2-Vision
//! has other names, no biases in attention, and gates in some layers. It knows no pixels, no
//! tokens and no positions.
//!
//! Shapes: `B` batch or images, `T` positions, `D` hidden size.

use candle_core::Tensor;

use super::attention::{merge_heads, split_heads};
use super::gate::Gate;
use super::loader::Loader;
use super::nn::{Activation, Attend, LayerNorm, Linear, Projections, attention};
use crate::error::Error;

/// Sizes of a stack of these layers.
#[derive(Debug, Clone)]
pub(super) struct EncoderSizes {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_attention_heads: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
    pub naming: &'static Naming,
}

/// How a checkpoint calls the parts of a layer, and which it has.
#[derive(Debug)]
pub(super) struct Naming {
    norms: [&'static str; 2],
    out_proj: &'static str,
    attention_bias: bool,
    /// What is learned about how much attention and MLP count.
    gates: Option<[&'static str; 2]>,
}

/// `CLIPEncoderLayer`, `SiglipEncoderLayer`, `Idefics3EncoderLayer`.
pub(super) const CLIP: Naming = Naming {
    norms: ["layer_norm1", "layer_norm2"],
    out_proj: "out_proj",
    attention_bias: true,
    gates: None,
};

/// `MllamaVisionEncoderLayer`.
pub(super) const MLLAMA: Naming = Naming {
    norms: ["input_layernorm", "post_attention_layernorm"],
    out_proj: "o_proj",
    attention_bias: false,
    gates: None,
};

/// The same with `is_gated`.
pub(super) const MLLAMA_GATED: Naming = Naming { gates: Some(["gate_attn", "gate_ffn"]), ..MLLAMA };

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`.
pub struct EncoderLayer {
    layer_norm1: LayerNorm,
    qkv_proj: Projections<3>,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    gates: [Option<Gate>; 2],
    hidden_act: Activation,
    n_heads: usize,
}

impl EncoderLayer {
    pub(super) fn load(
        loader: &mut Loader,
        prefix: &str,
        sizes: &EncoderSizes,
    ) -> Result<Self, Error> {
        let (size, wide, eps) = (sizes.hidden_size, sizes.intermediate_size, sizes.layer_norm_eps);
        let attn = format!("{prefix}.self_attn");
        let mlp = format!("{prefix}.mlp");
        let qkv = ["q_proj", "k_proj", "v_proj"].map(|name| (name, size));
        let Naming { norms: [norm1, norm2], out_proj, attention_bias, gates } = sizes.naming;
        let gates = match gates {
            None => [None, None],
            Some([attn, ffn]) => [
                Some(Gate::load(loader, &format!("{prefix}.{attn}"))?),
                Some(Gate::load(loader, &format!("{prefix}.{ffn}"))?),
            ],
        };
        let out_proj = format!("{attn}.{out_proj}");
        Ok(EncoderLayer {
            layer_norm1: loader.layer_norm(&format!("{prefix}.{norm1}"), size, eps)?,
            qkv_proj: loader.projections(&attn, qkv, (size, *attention_bias))?,
            out_proj: loader.linear(&out_proj, (size, size), *attention_bias)?,
            layer_norm2: loader.layer_norm(&format!("{prefix}.{norm2}"), size, eps)?,
            fc1: loader.linear(&format!("{mlp}.fc1"), (wide, size), true)?,
            fc2: loader.linear(&format!("{mlp}.fc2"), (size, wide), true)?,
            gates,
            hidden_act: sizes.hidden_act,
            n_heads: sizes.num_attention_heads,
        })
    }

    /// `x (B, T, D)`, `mask` additive `(B|1, 1, T, T)` → `(B, T, D)`
    pub(super) fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, Error> {
        let [attn_gate, mlp_gate] = &self.gates;
        let attn = self.attend(&self.layer_norm1.forward(x)?, mask)?;
        let x = (x + gated(attn_gate, attn)?)?;
        let wide = self.fc1.forward(&self.layer_norm2.forward(&x)?)?; // (B, T, intermediate)
        let mlp = self.fc2.forward(&self.hidden_act.apply(&wide)?)?; // (B, T, D)
        Ok((x + gated(mlp_gate, mlp)?)?)
    }

    fn attend(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, Error> {
        let [q, k, v] = self.qkv_proj.forward(x)?;
        let q = split_heads(&q, self.n_heads)?; // (B, H, T, d)
        let k = split_heads(&k, self.n_heads)?;
        let v = split_heads(&v, self.n_heads)?;
        let scale = 1.0 / (q.dim(3)? as f32).sqrt();
        let how = Attend { mask, scale, compute: self.qkv_proj.compute() };
        let out = attention(&q, &k, &v, &how)?;
        Ok(self.out_proj.forward(&merge_heads(&out)?)?) // (B, T, D)
    }
}

fn gated(gate: &Option<Gate>, x: Tensor) -> Result<Tensor, Error> {
    match gate {
        Some(gate) => gate.forward(&x),
        None => Ok(x),
    }
}
