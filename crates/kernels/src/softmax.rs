//! Softmax over rows, with a scale and an additive mask, forward and backward.
//! A masked place (−∞, or far below the row's largest) gets exactly 0.

use crate::math::exp;
use crate::simd::{max, sum};

simd! {
    /// In place: `x = softmax(x · scale + mask)` for one row. A row with nothing allowed is zeros.
    pub fn softmax_row(x: &mut [f32], scale: f32, mask: Option<&[f32]>) {
        softmax_row_inline(x, scale, mask)
    }
}

#[inline(always)]
pub(crate) fn softmax_row_inline(x: &mut [f32], scale: f32, mask: Option<&[f32]>) {
    match mask {
        Some(mask) => {
            for (v, &m) in x.iter_mut().zip(mask) {
                *v = *v * scale + m;
            }
        }
        None => {
            for v in x.iter_mut() {
                *v *= scale;
            }
        }
    }
    let top = max(x);
    if top == f32::NEG_INFINITY {
        return x.fill(0.0);
    }
    for v in x.iter_mut() {
        *v = exp(*v - top);
    }
    let inv = 1.0 / sum(x.len(), |i| x[i]);
    for v in x.iter_mut() {
        *v *= inv;
    }
}

simd! {
    /// In place on `grad`: gradient of the scores before scaling, for one row of probabilities.
    pub fn softmax_backward_row(grad: &mut [f32], p: &[f32], scale: f32) {
        let p = &p[..grad.len()];
        let along = sum(grad.len(), |i| grad[i] * p[i]);
        for (g, &p) in grad.iter_mut().zip(p) {
            *g = p * (*g - along) * scale;
        }
    }
}
