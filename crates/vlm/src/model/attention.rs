//! Multi-head attention as the layers use it: head splitting, masks, and what a probe asks for.
//!
//! The arithmetic is `nn`'s; this file decides which rows of the weights are wanted and keeps the
//! output the same whether or not anyone looks. It knows no positions and no cache.
//!
//! Shapes: `B` batch, `T` query tokens, `S` keys, `H` heads, `Hkv` key and value heads, `d` head
//! size, `D` hidden size.

use candle_core::{DType, Device, Tensor};

use super::nn::{Attend, attention, attention_weights};
use super::nn::{attention_with_last_weights, attention_with_weights};
use crate::error::{Context, Error};
use crate::probe::Rows;

/// Added to the score of a key that must not be seen. Finite, so that a row that sees nothing
/// stays a number.
pub const MASKED: f32 = -1e30;

/// Attention output `(B, H, T, d)` and, where asked for, weights `(B, H, rows, S)`. The last row
/// alone changes no bit of the output.
pub(super) fn attend(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    how: &Attend,
    rows: Option<Rows>,
) -> Result<(Tensor, Option<Tensor>), Error> {
    match rows {
        None => Ok((attention(q, k, v, how)?, None)),
        Some(Rows::Last) => {
            let (out, weights) = attention_with_last_weights(q, k, v, how)?;
            Ok((out, Some(weights)))
        }
        Some(Rows::All) => {
            let (out, weights) = attention_with_weights(q, k, v, how)?;
            Ok((out, Some(weights)))
        }
        Some(Rows::Chosen(rows)) => {
            let (few, mask) = chosen(q, how.mask, &rows)?;
            let weights = attention_weights(&few, k, &Attend { mask: mask.as_ref(), ..*how })?;
            Ok((attention(q, k, v, how)?, Some(weights)))
        }
    }
}

/// The queries `(B, H, R, d)` and rows of the mask `(B, 1, R, S)` at `rows (B, R)` of `q`
/// `(B, H, T, d)`.
fn chosen(
    q: &Tensor,
    mask: Option<&Tensor>,
    rows: &Tensor,
) -> Result<(Tensor, Option<Tensor>), Error> {
    let ((b, h, t, d), r) = (q.dims4()?, rows.dim(1)?);
    let first = Tensor::arange(0u32, b as u32, rows.device())?.affine(t as f64, 0.0)?;
    let flat = rows.broadcast_add(&first.unsqueeze(1)?)?.flatten_all()?; // (B R)
    let by_row = q.transpose(1, 2)?.reshape((b * t, h * d))?;
    let q = by_row.index_select(&flat, 0)?.reshape((b, r, h, d))?.transpose(1, 2)?.contiguous()?;
    let of_mask = |mask: &Tensor| {
        let n_keys = mask.dim(3)?;
        let mask = mask.broadcast_as((b, 1, t, n_keys))?.reshape((b * t, n_keys))?;
        mask.index_select(&flat, 0)?.reshape((b, 1, r, n_keys))
    };
    Ok((q, mask.map(of_mask).transpose()?))
}

/// The causal mask of `n_new` tokens after `n_past`, `(1, 1, T, S)`; `None` when every key is seen.
pub fn causal_mask(
    n_new: usize,
    n_past: usize,
    window: Option<usize>,
    device: &Device,
) -> Result<Option<Tensor>, Error> {
    let n_keys = n_past + n_new;
    let windowed = window.is_some_and(|window| n_keys > window);
    if n_new == 1 && !windowed {
        return Ok(None);
    }
    let window = window.unwrap_or(usize::MAX);
    let mut mask = vec![0f32; n_new * n_keys];
    for (row_idx, row) in mask.chunks_exact_mut(n_keys).enumerate() {
        let position = n_past + row_idx;
        row[position + 1..].fill(MASKED);
        row[..(position + 1).saturating_sub(window)].fill(MASKED);
    }
    let mask = Tensor::from_vec(mask, (1, 1, n_new, n_keys), device).context("causal mask")?;
    Ok(Some(mask))
}

/// The additive mask that hides padding keys: `keep (B, S)`, 1 to see and 0 to hide, becomes
/// `(B, 1, n_rows, S)`.
pub fn padding_mask(keep: &Tensor, n_rows: usize) -> Result<Tensor, Error> {
    let (b, s) = keep.dims2()?;
    let keep = keep.to_dtype(DType::F32)?;
    let hidden = keep.affine(-f64::from(MASKED), f64::from(MASKED))?; // 1 → 0, 0 → MASKED
    Ok(hidden.reshape((b, 1, 1, s))?.broadcast_as((b, 1, n_rows, s))?.contiguous()?)
}
