//! The feed-forward part of a decoder layer.
//!
//! It knows neither the norm before it nor the sum after it.
//!
//! Shapes: `B` batch, `T` tokens, `D` hidden size.

use candle_core::Tensor;

use super::loader::Loader;
use super::nn::{Activation, Linear, Projections, swiglu};
use crate::config::TextConfig;
use crate::error::Error;

/// `down(act(gate(x)) · up(x))`
pub(super) struct Mlp {
    gate_up_proj: Projections<2>,
    down_proj: Linear,
    hidden_act: Activation,
}

impl Mlp {
    /// Of the decoder layer `layer`.
    pub fn load(loader: &mut Loader, layer: &str, config: &TextConfig) -> Result<Self, Error> {
        let (d, wide) = (config.hidden_size, config.intermediate_size);
        let mlp = format!("{layer}.mlp");
        let gate_up = [("gate_proj", wide), ("up_proj", wide)];
        Ok(Mlp {
            gate_up_proj: loader.projections(&mlp, gate_up, (d, config.mlp_bias))?,
            down_proj: loader.linear(&format!("{mlp}.down_proj"), (d, wide), config.mlp_bias)?,
            hidden_act: config.hidden_act,
        })
    }

    /// `(B, T, D)` → `(B, T, D)`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        let [gate, up] = self.gate_up_proj.forward(x)?;
        Ok(self.down_proj.forward(&swiglu(&gate, &up, self.hidden_act)?)?)
    }
}
