//! One pre-norm transformer layer that sees in both directions.
//!
//! The towers and the text tower share it; [`Style`] says how each builds and names its own. It
//! knows no pixels and no tokens.
//!
//! Shapes: `B` batch or images, `T` positions, `P` patches, `D` hidden size, `d` head size.

use candle_core::Tensor;

use super::gate::Gate;
use super::loader::Loader;
use super::mlp::{Mlp, MlpNames, MlpSizes};
use super::nn::{Activation, Attend, Linear, Norm, Projections, attention, rope};
use super::nn::{merge_heads, split_heads};
use super::rotary::Angles;
use crate::error::Error;

/// How a family builds these layers, and what a checkpoint calls their parts.
pub(super) struct Style {
    /// RMS norm instead of LayerNorm.
    pub rms: bool,
    norms: [&'static str; 2],
    qkv: Qkv,
    out: &'static str,
    mlp: MlpNames,
    /// Queries, keys, values and what comes of them have biases.
    attention_bias: bool,
    /// What is learned about how much attention and MLP count.
    gates: Option<[&'static str; 2]>,
}

/// Queries, keys and values: three layers below a prefix, or one for all.
enum Qkv {
    Each(&'static str),
    Together(&'static str),
}

/// CLIP, SigLIP, Idefics3 and the text tower.
pub(super) const CLIP: Style = Style {
    rms: false,
    norms: ["layer_norm1", "layer_norm2"],
    qkv: Qkv::Each("self_attn"),
    out: "self_attn.out_proj",
    mlp: MlpNames::Plain(["fc1", "fc2"]),
    attention_bias: true,
    gates: None,
};

/// Llama-3.2-Vision; its global layers are [`MLLAMA_GLOBAL`].
pub(super) const MLLAMA: Style = Style {
    norms: ["input_layernorm", "post_attention_layernorm"],
    out: "self_attn.o_proj",
    attention_bias: false,
    ..CLIP
};

pub(super) const MLLAMA_GLOBAL: Style = Style { gates: Some(["gate_attn", "gate_ffn"]), ..MLLAMA };

pub(super) const BLIP: Style =
    Style { qkv: Qkv::Together("self_attn.qkv"), out: "self_attn.projection", ..CLIP };

pub(super) const QWEN2_VL: Style =
    Style { norms: ["norm1", "norm2"], qkv: Qkv::Together("attn.qkv"), out: "attn.proj", ..CLIP };

pub(super) const QWEN2_5_VL: Style =
    Style { rms: true, mlp: MlpNames::Gated(["gate_proj", "up_proj", "down_proj"]), ..QWEN2_VL };

pub(super) const QWEN3_VL: Style =
    Style { mlp: MlpNames::Plain(["linear_fc1", "linear_fc2"]), ..QWEN2_VL };

/// Sizes of a stack of these layers.
#[derive(Debug, Clone)]
pub(super) struct EncoderSizes {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_attention_heads: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
}

impl EncoderSizes {
    fn mlp(&self) -> MlpSizes {
        MlpSizes {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            hidden_act: self.hidden_act,
            bias: true,
        }
    }
}

/// Patches of one sequence `(1, P, D)` that turn and see only their own: `P` is cut into `runs`
/// of (how many, how long) windows, one after the other.
pub(super) struct Windows<'a> {
    /// `(1, P, d/2)`
    pub angles: &'a Angles,
    pub runs: &'a [(usize, usize)],
}

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`.
pub struct EncoderLayer {
    norm1: Norm,
    qkv_proj: Projections<3>,
    out_proj: Linear,
    norm2: Norm,
    mlp: Mlp,
    /// of attention and MLP
    gates: Option<[Gate; 2]>,
    n_heads: usize,
}

impl EncoderLayer {
    pub(super) fn load(
        loader: &mut Loader,
        prefix: &str,
        style: &Style,
        sizes: &EncoderSizes,
    ) -> Result<Self, Error> {
        let size = sizes.hidden_size;
        let norm = (style.rms, sizes.layer_norm_eps);
        let name = |part: &str| format!("{prefix}.{part}");
        let bias = style.attention_bias;
        let gates = match style.gates {
            None => None,
            Some([attn, mlp]) => {
                Some([Gate::load(loader, &name(attn))?, Gate::load(loader, &name(mlp))?])
            }
        };
        Ok(EncoderLayer {
            norm1: loader.norm(&name(style.norms[0]), size, norm)?,
            qkv_proj: match style.qkv {
                Qkv::Each(attn) => {
                    let qkv = ["q_proj", "k_proj", "v_proj"].map(|name| (name, size));
                    loader.projections(&name(attn), qkv, (size, bias))?
                }
                Qkv::Together(qkv) => {
                    loader.fused_projections(&name(qkv), [size; 3], (size, bias))?
                }
            },
            out_proj: loader.linear(&name(style.out), (size, size), bias)?,
            norm2: loader.norm(&name(style.norms[1]), size, norm)?,
            mlp: Mlp::named(loader, &name("mlp"), &style.mlp, &sizes.mlp())?,
            gates,
            n_heads: sizes.num_attention_heads,
        })
    }

    /// `x (B, T, D)`, `mask` additive `(B|1, 1, T, T)` → `(B, T, D)`
    pub(super) fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, Error> {
        let qkv = self.qkv_proj.forward(&self.norm1.forward(x)?)?;
        self.finish(x, &self.attend(qkv, mask, None)?)
    }

    /// `x (1, P, D)` → `(1, P, D)`
    pub(super) fn forward_windows(&self, x: &Tensor, windows: &Windows) -> Result<Tensor, Error> {
        let (_, n_patches, d) = x.dims3()?;
        let [q, k, v] = self.qkv_proj.forward(&self.norm1.forward(x)?)?; // (1, P, D)
        let mut attended = Vec::with_capacity(windows.runs.len());
        let mut first = 0;
        for &(n, length) in windows.runs {
            let cut = |x: &Tensor| x.narrow(1, first, n * length)?.reshape((n, length, d));
            let angles = windows.angles.rows(first, (n, length))?;
            let out = self.attend([cut(&q)?, cut(&k)?, cut(&v)?], None, Some(&angles))?;
            attended.push(out.reshape((1, n * length, d))?);
            first += n * length;
        }
        let attended = match attended.as_slice() {
            [whole] => whole.clone(),
            several => Tensor::cat(several, 1)?,
        };
        self.finish(x, &attended.reshape((1, n_patches, d))?)
    }

    /// Queries, keys and values, each `(B, T, D)` → `(B, T, D)`
    fn attend(
        &self,
        [q, k, v]: [Tensor; 3],
        mask: Option<&Tensor>,
        angles: Option<&Angles>,
    ) -> Result<Tensor, Error> {
        let mut q = split_heads(&q, self.n_heads)?; // (B, H, T, d)
        let mut k = split_heads(&k, self.n_heads)?;
        let v = split_heads(&v, self.n_heads)?;
        if let Some(Angles { cos, sin }) = angles {
            (q, k) = (rope(&q, cos, sin)?, rope(&k, cos, sin)?);
        }
        let scale = 1.0 / (q.dim(3)? as f32).sqrt();
        let how = Attend { mask, scale, compute: self.qkv_proj.compute() };
        Ok(merge_heads(&attention(&q, &k, &v, &how)?)?) // (B, T, D)
    }

    fn finish(&self, x: &Tensor, attended: &Tensor) -> Result<Tensor, Error> {
        let mut attended = self.out_proj.forward(attended)?;
        if let Some([gate, _]) = &self.gates {
            attended = gate.forward(&attended)?;
        }
        let x = (x + attended)?;
        let mut mlp = self.mlp.forward(&self.norm2.forward(&x)?)?;
        if let Some([_, gate]) = &self.gates {
            mlp = gate.forward(&mlp)?;
        }
        Ok((x + mlp)?)
    }
}
