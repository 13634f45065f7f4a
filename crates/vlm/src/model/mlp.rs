//! The feed-forward part of a transformer layer, plain or gated.
//!
//! Encoders and decoders share it. It knows neither the norm before it nor the sum after it.
//!
//! Shapes: `D` hidden size.

use candle_core::Tensor;

use super::loader::Loader;
use super::nn::{Activation, Linear, Projections, swiglu};
use crate::config::{TextConfig, TextKind};
use crate::error::Error;

/// Wider, an activation, and back.
pub(super) enum Mlp {
    /// `fc2(act(fc1(x)))`
    Plain { fc1: Linear, act: Activation, fc2: Linear },
    /// `down(act(gate(x)) · up(x))`
    Gated { gate_up_proj: Projections<2>, act: Activation, down_proj: Linear },
}

/// The wide layers (of two the first is activated and multiplies the second) and the last.
pub(super) enum MlpNames {
    Plain([&'static str; 2]),
    Gated([&'static str; 3]),
}

/// Sizes, and whether every layer has a bias.
pub(super) struct MlpSizes {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub hidden_act: Activation,
    pub bias: bool,
}

impl Mlp {
    /// Of the decoder layer `layer`.
    pub fn load(loader: &mut Loader, layer: &str, config: &TextConfig) -> Result<Self, Error> {
        let sizes = MlpSizes {
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            hidden_act: config.hidden_act,
            bias: config.mlp_bias,
        };
        match config.kind {
            TextKind::Llama => {
                let names = MlpNames::Gated(["gate_proj", "up_proj", "down_proj"]);
                Self::named(loader, &format!("{layer}.mlp"), &names, &sizes)
            }
            TextKind::Opt => Self::named(loader, layer, &MlpNames::Plain(["fc1", "fc2"]), &sizes),
        }
    }

    /// Of the layers `{prefix}.{name}`.
    pub fn named(
        loader: &mut Loader,
        prefix: &str,
        names: &MlpNames,
        sizes: &MlpSizes,
    ) -> Result<Self, Error> {
        let (size, wide, act) = (sizes.hidden_size, sizes.intermediate_size, sizes.hidden_act);
        let name = |part: &str| format!("{prefix}.{part}");
        match *names {
            MlpNames::Plain([fc1, fc2]) => {
                let fc1 = loader.linear(&name(fc1), (wide, size), sizes.bias)?;
                let fc2 = loader.linear(&name(fc2), (size, wide), sizes.bias)?;
                Ok(Mlp::Plain { fc1, act, fc2 })
            }
            MlpNames::Gated([gate, up, down]) => {
                let gate_up = [(gate, wide), (up, wide)];
                let gate_up_proj = loader.projections(prefix, gate_up, (size, sizes.bias))?;
                let down_proj = loader.linear(&name(down), (size, wide), sizes.bias)?;
                Ok(Mlp::Gated { gate_up_proj, act, down_proj })
            }
        }
    }

    /// `(…, D)` → `(…, D)`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(match self {
            Mlp::Plain { fc1, act, fc2 } => fc2.forward(&act.apply(&fc1.forward(x)?)?)?,
            Mlp::Gated { gate_up_proj, act, down_proj } => {
                let [gate, up] = gate_up_proj.forward(x)?;
                down_proj.forward(&swiglu(&gate, &up, *act)?)?
            }
        })
    }
}
