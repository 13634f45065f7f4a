//! Between a token's row and its heads, as one step each way.
//!
//! Shapes: `B` batch, `T` tokens, `H` heads, `d` head size.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use kernels::uninit;

use super::fused::{elements, is_fusable, shaped_like, with_elements};

/// `(B, T, H·d)` → `(B, H, T, d)`
///
/// # Errors
/// When the heads do not divide the last size.
pub fn split_heads(x: &Tensor, n_heads: usize) -> Result<Tensor> {
    let (b, t, width) = x.dims3()?;
    if n_heads == 0 || !width.is_multiple_of(n_heads) {
        bail!("{width} cannot be split into {n_heads} heads");
    }
    let d = width / n_heads;
    if t > 1 && is_fusable(&[x]) {
        let to = Shape::from((b, n_heads, t, d));
        return x.contiguous()?.apply_op1(Swap { blocks: b, sizes: [t, n_heads, d], to });
    }
    x.reshape((b, t, n_heads, d))?.transpose(1, 2)?.contiguous()
}

/// `(B, H, T, d)` → `(B, T, H·d)`
///
/// # Errors
/// Of another rank.
pub fn merge_heads(x: &Tensor) -> Result<Tensor> {
    let (b, h, t, d) = x.dims4()?;
    if t > 1 && is_fusable(&[x]) {
        let to = Shape::from((b, t, h * d));
        return x.contiguous()?.apply_op1(Swap { blocks: b, sizes: [h, t, d], to });
    }
    x.transpose(1, 2)?.contiguous()?.reshape((b, t, h * d))
}

/// In each block `(i, j, d)` → `(j, i, d)`.
struct Swap {
    blocks: usize,
    sizes: [usize; 3],
    to: Shape,
}

impl Swap {
    fn swapped(&self, x: &[f32], [n_i, n_j, d]: [usize; 3]) -> Vec<f32> {
        let mut out = uninit(x.len());
        let block = (n_i * n_j * d).max(1);
        let blocks = out.chunks_exact_mut(block).zip(x.chunks_exact(block));
        for (out, x) in blocks.take(self.blocks) {
            for (k, row) in out.chunks_exact_mut(d).enumerate() {
                let (j, i) = (k / n_i, k % n_i);
                row.copy_from_slice(&x[(i * n_j + j) * d..][..d]);
            }
        }
        out
    }
}

impl CustomOp1 for Swap {
    fn name(&self) -> &'static str {
        "heads"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = self.swapped(elements(x, layout)?, self.sizes);
        Ok((CpuStorage::F32(out), self.to.clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [n_i, n_j, d] = self.sizes;
        let dx = with_elements(grad, |grad| self.swapped(grad, [n_j, n_i, d]))?;
        Ok(Some(shaped_like(dx, x)?))
    }
}
