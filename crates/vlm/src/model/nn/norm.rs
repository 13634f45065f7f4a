//! Layer norm and root-mean-square norm over the last dimension.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};
use kernels::norm::Norm as Kind;
use kernels::uninit;

use super::fused::{elements, is_fusable, shaped_like, with_elements};

/// Either norm.
#[derive(Debug, Clone)]
pub enum Norm {
    Rms(RmsNorm),
    Layer(LayerNorm),
}

impl Norm {
    /// `(..., D)` → `(..., D)`
    ///
    /// # Errors
    /// When the last size is not D.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Norm::Rms(norm) => norm.forward(x),
            Norm::Layer(norm) => norm.forward(x),
        }
    }
}

/// Mean removed, divided by the standard deviation, times weight, plus bias.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// (D)
    pub weight: Tensor,
    /// (D)
    pub bias: Tensor,
    pub eps: f64,
}

impl LayerNorm {
    /// `(..., D)` → `(..., D)`
    ///
    /// # Errors
    /// When the last size is not D.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        check(x, &self.weight)?;
        if is_fusable(&[x, &self.weight]) {
            let norm = Kind::Layer { eps: self.eps as f32 };
            return x.contiguous()?.apply_op3(&self.weight, &self.bias, Fused(norm));
        }
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        normed.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// Divided by the root mean square, times weight.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// (D)
    pub weight: Tensor,
    pub eps: f64,
}

impl RmsNorm {
    /// `(..., D)` → `(..., D)`
    ///
    /// # Errors
    /// When the last size is not D.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        check(x, &self.weight)?;
        if is_fusable(&[x, &self.weight]) {
            let norm = Kind::Rms { eps: self.eps as f32 };
            return x.contiguous()?.apply_op2(&self.weight, Fused(norm));
        }
        let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
        x.broadcast_div(&(mean_square + self.eps)?.sqrt()?)?.broadcast_mul(&self.weight)
    }
}

fn check(x: &Tensor, weight: &Tensor) -> Result<()> {
    if x.dims().last() != weight.dims().first() {
        candle_core::bail!("norm of {:?} was given {:?}", weight.dims(), x.dims());
    }
    Ok(())
}

struct Fused(Kind);

impl Fused {
    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> CpuStorage {
        let mut out = uninit(x.len());
        kernels::norm::forward(&mut out, x, (weight, bias), self.0);
        CpuStorage::F32(out)
    }

    /// Gradients of input, weight and bias.
    fn backward(&self, x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<[Tensor; 3]> {
        let d = weight.elem_count();
        let mut dx = uninit(x.elem_count());
        let (mut d_weight, mut d_bias) = (vec![0f32; d], vec![0f32; d]);
        with_elements(x, |x| {
            with_elements(weight, |weight| {
                with_elements(grad, |grad| {
                    let sums = (d_weight.as_mut_slice(), d_bias.as_mut_slice());
                    kernels::norm::backward(&mut dx, (x, grad), weight, self.0, sums);
                })
            })
        })???;
        Ok([shaped_like(dx, x)?, shaped_like(d_weight, weight)?, shaped_like(d_bias, weight)?])
    }
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "rms norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (elements(x, x_layout)?, elements(weight, weight_layout)?);
        Ok((self.forward(x, weight, None), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, d_weight, _] = self.backward(x, weight, grad)?;
        Ok((x.track_op().then_some(dx), weight.track_op().then_some(d_weight)))
    }
}

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "layer norm"
    }

    // tidy: allow(parameters): the trait's.
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (elements(x, x_layout)?, elements(weight, weight_layout)?);
        let bias = elements(bias, bias_layout)?;
        Ok((self.forward(x, weight, Some(bias)), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, d_weight, d_bias] = self.backward(x, weight, grad)?;
        let wanted = |t: &Tensor, d: Tensor| t.track_op().then_some(d);
        Ok((wanted(x, dx), wanted(weight, d_weight), wanted(bias, d_bias)))
    }
}
