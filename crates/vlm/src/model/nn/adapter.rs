//! A low-rank change of a linear layer beside its frozen weight (LoRA, arXiv:2106.09685; DoRA,
//! arXiv:2402.09353).

use candle_core::{D, Result, Tensor};

use super::{Compute, Linear, Weight};

/// `y += scale · (x Aᵀ) Bᵀ`; with a magnitude each output is then brought to it.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// A: (rank, in), then B: (out, rank)
    pub down: Tensor,
    pub up: Tensor,
    /// Usually alpha ÷ rank.
    pub scale: f64,
    /// DoRA's m, (out): the length that each row of `W + scale · B A` is given.
    pub magnitude: Option<Tensor>,
}

impl Adapter {
    /// `y (…, out)`, which the layer made of `x (…, in)` without its bias, changed.
    ///
    /// # Errors
    /// When the shapes do not fit; a magnitude over a packed weight, whose rows are not at hand.
    pub(super) fn change(
        &self,
        y: &Tensor,
        x: &Tensor,
        (weight, compute): (&Weight, Compute),
    ) -> Result<Tensor> {
        let linear = |weight: &Tensor, x: &Tensor| {
            let weight = Weight::Dense(weight.clone());
            Linear { weight, bias: None, compute, adapters: Vec::new() }.forward(x)
        };
        let delta = (linear(&self.up, &linear(&self.down, x)?)? * self.scale)?;
        let y = (y + delta)?;
        let Some(magnitude) = &self.magnitude else { return Ok(y) };
        // The lengths count as constants (section 4.3 of the paper).
        let whole = (weight.dense()? + (self.up.matmul(&self.down)? * self.scale)?)?.detach();
        let lengths = whole.sqr()?.sum(D::Minus1)?.sqrt()?; // (out)
        y.broadcast_mul(&(magnitude / lengths)?)
    }

    /// The layer's weight `(out, in)` with the change in it.
    ///
    /// # Errors
    /// As [`Adapter::change`].
    pub fn merged(&self, weight: &Tensor) -> Result<Tensor> {
        let whole = (weight + (self.up.matmul(&self.down)? * self.scale)?)?;
        let Some(magnitude) = &self.magnitude else { return Ok(whole) };
        let lengths = whole.sqr()?.sum(D::Minus1)?.sqrt()?;
        whole.broadcast_mul(&(magnitude / lengths)?.unsqueeze(1)?)
    }
}
