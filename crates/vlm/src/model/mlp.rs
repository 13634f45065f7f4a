//! The feed-forward part of a decoder layer: gated (Llama and its kin) or plain (OPT).
//!
//! It knows neither the norm before it nor the sum after it.
//!
//! Shapes: `B` batch, `T` tokens, `D` hidden size.

use candle_core::Tensor;

use super::loader::Loader;
use super::nn::{Activation, Linear, Projections, swiglu};
use crate::config::{TextConfig, TextKind};
use crate::error::Error;

/// Wider, an activation, and back.
pub(super) enum Mlp {
    /// `down(act(gate(x)) · up(x))`
    Gated { gate_up_proj: Projections<2>, down_proj: Linear, hidden_act: Activation },
    /// `fc2(act(fc1(x)))`
    Plain { fc1: Linear, fc2: Linear, hidden_act: Activation },
}

impl Mlp {
    /// Of the decoder layer `layer`.
    pub fn load(loader: &mut Loader, layer: &str, config: &TextConfig) -> Result<Self, Error> {
        let (d, wide) = (config.hidden_size, config.intermediate_size);
        let (bias, hidden_act) = (config.mlp_bias, config.hidden_act);
        match config.kind {
            TextKind::Llama => {
                let mlp = format!("{layer}.mlp");
                let gate_up = [("gate_proj", wide), ("up_proj", wide)];
                Ok(Mlp::Gated {
                    gate_up_proj: loader.projections(&mlp, gate_up, (d, bias))?,
                    down_proj: loader.linear(&format!("{mlp}.down_proj"), (d, wide), bias)?,
                    hidden_act,
                })
            }
            TextKind::Opt => Ok(Mlp::Plain {
                fc1: loader.linear(&format!("{layer}.fc1"), (wide, d), bias)?,
                fc2: loader.linear(&format!("{layer}.fc2"), (d, wide), bias)?,
                hidden_act,
            }),
        }
    }

    /// `(B, T, D)` → `(B, T, D)`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        match self {
            Mlp::Gated { gate_up_proj, down_proj, hidden_act } => {
                let [gate, up] = gate_up_proj.forward(x)?;
                Ok(down_proj.forward(&swiglu(&gate, &up, *hidden_act)?)?)
            }
            Mlp::Plain { fc1, fc2, hidden_act } => {
                Ok(fc2.forward(&hidden_act.apply(&fc1.forward(x)?)?)?)
            }
        }
    }
}
