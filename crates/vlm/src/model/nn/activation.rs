//! Activation functions, alone and gating another value.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use kernels::activation::Activation as Curve;
use kernels::uninit;
use serde::{Deserialize, Serialize};

use super::fused::{elements, is_fusable, shaped_like, with_elements};

/// An activation, by its name in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// By the error function.
    Gelu,
    /// By the tanh approximation.
    #[serde(alias = "gelu_new")]
    GeluPytorchTanh,
    /// `x · sigmoid(1.702 x)`
    QuickGelu,
    /// `x · sigmoid(x)`
    #[serde(alias = "swish")]
    Silu,
    Relu,
}

impl Activation {
    /// Element by element.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        if is_fusable(&[x]) {
            return x.contiguous()?.apply_op1(Fused(self.curve()));
        }
        match self {
            Activation::Gelu => x.gelu_erf(),
            Activation::GeluPytorchTanh => x.gelu(),
            Activation::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Activation::Silu => x.silu(),
            Activation::Relu => x.relu(),
        }
    }

    fn curve(self) -> Curve {
        match self {
            Activation::Gelu => Curve::Gelu,
            Activation::GeluPytorchTanh => Curve::GeluTanh,
            Activation::QuickGelu => Curve::QuickGelu,
            Activation::Silu => Curve::Silu,
            Activation::Relu => Curve::Relu,
        }
    }
}

/// `act(gate) · up`, both of one shape (SwiGLU when the activation is SiLU).
///
/// # Errors
/// When the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor, act: Activation) -> Result<Tensor> {
    if is_fusable(&[gate, up]) && gate.shape() == up.shape() {
        return gate.contiguous()?.apply_op2(&up.contiguous()?, Fused(act.curve()));
    }
    act.apply(gate)? * up
}

struct Fused(Curve);

impl CustomOp1 for Fused {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = elements(x, layout)?;
        let mut out = uninit(x.len());
        kernels::activation::apply(&mut out, x, self.0);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = uninit(x.elem_count());
        with_elements(x, |x| {
            with_elements(grad, |grad| kernels::activation::backward(&mut dx, x, grad, self.0))
        })??;
        Ok(Some(shaped_like(dx, x)?))
    }
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "gated activation"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (elements(gate, gate_layout)?, elements(up, up_layout)?);
        let mut out = uninit(gate.len());
        kernels::activation::gated(&mut out, gate, up, self.0);
        Ok((CpuStorage::F32(out), gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let n = gate.elem_count();
        let (mut d_gate, mut d_up) = (uninit(n), uninit(n));
        with_elements(gate, |gate| {
            with_elements(up, |up| {
                with_elements(grad, |grad| {
                    let to = (d_gate.as_mut_slice(), d_up.as_mut_slice());
                    kernels::activation::gated_backward(to, (gate, up), grad, self.0);
                })
            })
        })???;
        Ok((Some(shaped_like(d_gate, gate)?), Some(shaped_like(d_up, up)?)))
    }
}
