//! A learned number that says how much of something is let in: 0 at first, so that what was added
//! to a trained model changes nothing until it has learned to (Flamingo, section 2.2).

use candle_core::Tensor;

use super::loader::Loader;
use crate::error::Error;

/// `tanh(gate)`, between -1 and 1.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    /// (1)
    gate: Tensor,
}

impl Gate {
    pub fn load(loader: &mut Loader, name: &str) -> Result<Self, Error> {
        Ok(Gate { gate: loader.tensor(name, &[1])? })
    }

    /// `x · tanh(gate)`, of any shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(x.broadcast_mul(&self.gate.tanh()?)?)
    }

    /// `x · (1 - tanh(gate))`, of any shape.
    pub fn complement(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(x.broadcast_mul(&(1.0 - self.gate.tanh()?)?)?)
    }
}
