//! Rotary position embedding in the half-split convention of Llama: element `i` turns with
//! `i + d/2`.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use kernels::uninit;

use super::fused::{elements, is_fusable, shaped_like, with_elements};

/// Turns `x (B, H, T, d)` by angles whose cosines and sines are `(B|1, T, d/2)`.
///
/// # Errors
/// When the shapes do not fit.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (b, _, t, d) = x.dims4()?;
    let (angles_b, angles_t, half) = cos.dims3()?;
    if (angles_b != b && angles_b != 1) || angles_t != t || half * 2 != d {
        bail!("rotary angles {:?} do not fit {:?}", cos.dims(), x.dims());
    }
    if is_fusable(&[x, cos, sin]) {
        let fused = Fused { cos: cos.contiguous()?, sin: sin.contiguous()? };
        return x.contiguous()?.apply_op1(fused);
    }
    let (x0, x1) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?); // (B|1, 1, T, d/2)
    let first = (x0.broadcast_mul(&cos)? - x1.broadcast_mul(&sin)?)?;
    let second = (x1.broadcast_mul(&cos)? + x0.broadcast_mul(&sin)?)?;
    Tensor::cat(&[first, second], D::Minus1) // (B, H, T, d)
}

/// The angles are constants: no gradient flows to them.
struct Fused {
    cos: Tensor,
    sin: Tensor,
}

/// Turns one vector of `d` by angles of `d/2`.
type Turn = fn(&mut [f32], &[f32], (&[f32], &[f32]));

impl Fused {
    fn turn(&self, x: &[f32], dims: &[usize], turn: Turn) -> Result<Vec<f32>> {
        let (h, t, d) = (dims[1], dims[2], dims[3]);
        let shared = self.cos.dims()[0] == 1;
        let mut out = uninit(x.len());
        with_elements(&self.cos, |cos| {
            with_elements(&self.sin, |sin| {
                let rows = out.chunks_exact_mut(d).zip(x.chunks_exact(d));
                for (row, (out, x)) in rows.enumerate() {
                    let (batch_idx, token_idx) = (row / (h * t), row % t);
                    let at = if shared { token_idx } else { batch_idx * t + token_idx } * (d / 2);
                    turn(out, x, (&cos[at..at + d / 2], &sin[at..at + d / 2]));
                }
            })
        })??;
        Ok(out)
    }
}

impl CustomOp1 for Fused {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = self.turn(elements(x, layout)?, layout.dims(), kernels::rope::rotate)?;
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let turn = |grad: &[f32]| self.turn(grad, x.dims(), kernels::rope::rotate_back);
        Ok(Some(shaped_like(with_elements(grad, turn)??, x)?))
    }
}
