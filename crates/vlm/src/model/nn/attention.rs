//! Scaled dot-product attention: fused, or with its weights; and the softmax between.
//!
//! Shapes: `B` batch, `H` query heads, `Hkv` key and value heads (a divisor), `T` queries, `S`
//! keys, `d` head size.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use kernels::attention::{Gradients, Operands, Sizes};
use kernels::uninit;

use super::Compute;
use super::fused::{elements, from_start, is_fusable, shaped_like, with_elements};

/// What an attention needs besides queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub struct Attend<'a> {
    /// additive, `(B|1, 1, T, S)`; it gets no gradient
    pub mask: Option<&'a Tensor>,
    /// Multiplies the scores before the mask is added.
    pub scale: f32,
    pub compute: Compute,
}

/// `softmax(q kᵀ · scale + mask) v`: `q (B, H, T, d)`, `k` and `v (B, Hkv, S, d)` →
/// `(B, H, T, d)`.
///
/// # Errors
/// When the shapes do not fit.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, attend: &Attend) -> Result<Tensor> {
    if !is_fusable(&[q, k, v]) {
        return Ok(attention_with_weights(q, k, v, attend)?.0);
    }
    fused((q, k, v), attend, false)
}

/// As [`attention`], with the weights of the last query `(B, H, 1, S)` beside the output, which
/// is the same to the bit.
///
/// # Errors
/// When the shapes do not fit.
pub fn attention_with_last_weights(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    attend: &Attend,
) -> Result<(Tensor, Tensor)> {
    let (b, h, t, d) = q.dims4()?;
    let n_keys = k.dim(2)?;
    let is_traced = [q, k, v].iter().any(|t| t.track_op());
    if !is_fusable(&[q, k, v]) || is_traced {
        let out = attention(q, k, v, attend)?;
        let q = q.narrow(2, t - 1, 1)?.contiguous()?;
        let mask = attend.mask.map(|mask| mask.narrow(2, t - 1, 1)?.contiguous()).transpose()?;
        let attend = Attend { mask: mask.as_ref(), ..*attend };
        return Ok((out, attention_with_weights(&q, k, v, &attend)?.1));
    }
    let both = fused((q, k, v), attend, true)?; // (B·H·T·d + B·H·S)
    let n_out = b * h * t * d;
    let out = both.narrow(0, 0, n_out)?.reshape((b, h, t, d))?;
    Ok((out, both.narrow(0, n_out, b * h * n_keys)?.reshape((b, h, 1, n_keys))?))
}

/// The output; with `last` it and the last query's weights, flat, one after the other.
fn fused((q, k, v): (&Tensor, &Tensor, &Tensor), attend: &Attend, last: bool) -> Result<Tensor> {
    let (k, v) = (with_dense_heads(k)?, with_dense_heads(v)?);
    let mut sizes = sizes(q, &k, &v, attend.mask)?;
    let same = k.stride() == v.stride();
    let (k, v) = if same { (k, v) } else { (k.contiguous()?, v.contiguous()?) };
    sizes.kv_stride = k.stride()[1];
    let mask = attend.mask.map(|mask| mask.contiguous()).transpose()?;
    let fused = Fused { mask, scale: attend.scale, compute: attend.compute, sizes, last };
    q.contiguous()?.apply_op3(&k, &v, fused)
}

/// `(B, Hkv, S, d)` whose heads are dense and evenly spaced, such as the filled part of a cache.
fn with_dense_heads(x: &Tensor) -> Result<Tensor> {
    let ((_, h, s, d), stride) = (x.dims4()?, x.stride());
    let dense = stride[3] == 1 && stride[2] == d && stride[1] >= s * d;
    match dense && stride[0] == h * stride[1] {
        true => Ok(x.clone()),
        false => x.contiguous(),
    }
}

/// As [`attention`], with the weights `(B, H, T, S)` beside the output.
///
/// # Errors
/// When the shapes do not fit.
pub fn attention_with_weights(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    attend: &Attend,
) -> Result<(Tensor, Tensor)> {
    let sizes = sizes(q, k, v, attend.mask)?;
    let Sizes { batch, heads, kv_heads, queries, keys, head_size, .. } = sizes;
    let weights = attention_weights(q, k, attend)?; // (B, H, T, S)
    let grouped = weights.reshape((batch, kv_heads, heads / kv_heads * queries, keys))?;
    let out = grouped.matmul(&v.contiguous()?)?; // (B, Hkv, G·T, d)
    Ok((out.reshape((batch, heads, queries, head_size))?, weights))
}

/// The weights `softmax(q kᵀ · scale + mask)` alone, `(B, H, T, S)`.
///
/// # Errors
/// When the shapes do not fit.
pub fn attention_weights(
    q: &Tensor,
    k: &Tensor,
    &Attend { mask, scale, .. }: &Attend,
) -> Result<Tensor> {
    let Sizes { batch, heads, kv_heads, queries, keys, head_size, .. } = sizes(q, k, k, mask)?;
    // The query heads of one key head are rows of one product, so keys need no copies.
    let rows = heads / kv_heads * queries;
    let q = q.contiguous()?.reshape((batch, kv_heads, rows, head_size))?;
    let scores = q.matmul(&k.contiguous()?.transpose(2, 3)?)?; // (B, Hkv, G·T, S)
    softmax(&scores.reshape((batch, heads, queries, keys))?, mask, scale)
}

/// `softmax(x · scale + mask)` over the last dimension: `x (B, H, T, S)`, `mask` additive
/// `(B|1, 1, T, S)`. A masked place gets exactly 0.
///
/// # Errors
/// When the shapes do not fit.
pub fn softmax(x: &Tensor, mask: Option<&Tensor>, scale: f32) -> Result<Tensor> {
    if is_fusable(&[x]) {
        let mask = mask.map(|mask| mask.contiguous()).transpose()?;
        return x.contiguous()?.apply_op1(Softmax { mask, scale });
    }
    let scores = (x * f64::from(scale))?;
    let scores = match mask {
        Some(mask) => scores.broadcast_add(mask)?,
        None => scores,
    };
    let top = scores.max_keepdim(D::Minus1)?.detach();
    let powers = scores.broadcast_sub(&top)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
}

fn sizes(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Sizes> {
    let (batch, heads, queries, head_size) = q.dims4()?;
    let (kv_batch, kv_heads, keys, kv_size) = k.dims4()?;
    let fits = kv_batch == batch
        && kv_size == head_size
        && kv_heads > 0
        && heads.is_multiple_of(kv_heads)
        && k.dims() == v.dims();
    if !fits {
        bail!("attention of q {:?}, k {:?}, v {:?}", q.dims(), k.dims(), v.dims());
    }
    if let Some(mask) = mask {
        let (mask_batch, ones, rows, cols) = mask.dims4()?;
        if (mask_batch != batch && mask_batch != 1) || ones != 1 || (rows, cols) != (queries, keys)
        {
            bail!("attention mask {:?} for q {:?}, k {:?}", mask.dims(), q.dims(), k.dims());
        }
    }
    let kv_stride = keys * head_size;
    Ok(Sizes { batch, heads, kv_heads, queries, keys, head_size, kv_stride })
}

/// Calls `f` with the mask's elements, if there is one.
fn with_mask<R>(mask: Option<&Tensor>, f: impl FnOnce(Option<&[f32]>) -> R) -> Result<R> {
    match mask {
        Some(mask) => with_elements(mask, |mask| f(Some(mask))),
        None => Ok(f(None)),
    }
}

struct Fused {
    mask: Option<Tensor>,
    scale: f32,
    compute: Compute,
    sizes: Sizes,
    /// The last query's weights follow the output.
    last: bool,
}

impl Fused {
    fn with_operands<R>(
        &self,
        (q, k, v): (&[f32], &[f32], &[f32]),
        f: impl FnOnce(Operands) -> R,
    ) -> Result<R> {
        let (scale, precision) = (self.scale, self.compute.precision());
        with_mask(self.mask.as_ref(), |mask| f(Operands { q, k, v, mask, scale, precision }))
    }
}

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "attention"
    }

    // tidy: allow(parameters): the trait's.
    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k) = (elements(q, q_layout)?, from_start(k, k_layout)?);
        let v = from_start(v, v_layout)?;
        let Sizes { batch, heads, keys, .. } = self.sizes;
        let n_last = if self.last { batch * heads * keys } else { 0 };
        let mut all = uninit(q.len() + n_last);
        let (out, last) = all.split_at_mut(q.len());
        let last = self.last.then_some(last);
        self.with_operands((q, k, v), |operands| {
            kernels::attention::forward(out, last, operands, self.sizes);
        })?;
        let shape = if self.last { Shape::from(all.len()) } else { q_layout.shape().clone() };
        Ok((CpuStorage::F32(all), shape))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        if self.last {
            bail!("attention with its last weights has no gradient");
        }
        let sizes = Sizes { kv_stride: self.sizes.keys * self.sizes.head_size, ..self.sizes };
        let mut dq = uninit(q.elem_count());
        let (mut dk, mut dv) = (uninit(k.elem_count()), uninit(v.elem_count()));
        with_elements(q, |q| {
            with_elements(k, |k| {
                with_elements(v, |v| {
                    with_elements(grad, |grad| {
                        self.with_operands((q, k, v), |operands| {
                            let to = Gradients { dq: &mut dq, dk: &mut dk, dv: &mut dv };
                            kernels::attention::backward(to, operands, grad, sizes);
                        })
                    })
                })
            })
        })?????;
        Ok((Some(shaped_like(dq, q)?), Some(shaped_like(dk, k)?), Some(shaped_like(dv, v)?)))
    }
}

struct Softmax {
    mask: Option<Tensor>,
    scale: f32,
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let dims = layout.dims();
        let cols = dims.last().copied().unwrap_or(1).max(1);
        let n_rows = if dims.len() < 2 { 1 } else { dims[dims.len() - 2] };
        let heads = if dims.len() < 3 { 1 } else { dims[dims.len() - 3] };
        let mut out = elements(x, layout)?.to_vec();
        with_mask(self.mask.as_ref(), |mask| {
            for (i, row) in out.chunks_exact_mut(cols).enumerate() {
                let mask = mask.map(|mask| {
                    let one = n_rows * cols;
                    let batch_idx = if mask.len() == one { 0 } else { i / (heads * n_rows) };
                    &mask[batch_idx * one + i % n_rows * cols..][..cols]
                });
                kernels::softmax::softmax_row(row, self.scale, mask);
            }
        })?;
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let cols = y.dim(D::Minus1)?.max(1);
        let mut d = with_elements(grad, <[f32]>::to_vec)?;
        with_elements(y, |y| {
            for (d, p) in d.chunks_exact_mut(cols).zip(y.chunks_exact(cols)) {
                kernels::softmax::softmax_backward_row(d, p, self.scale);
            }
        })?;
        Ok(Some(shaped_like(d, y)?))
    }
}
