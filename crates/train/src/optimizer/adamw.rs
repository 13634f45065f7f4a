//! AdamW (Loshchilov and Hutter, arXiv 1711.05101): every element is moved by its own mean gradient
//! over the root of its mean square.
//!
//! It does not know which weights it is used for.

use candle_core::Tensor;

use super::change;
use crate::Error;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.95;
const EPS: f32 = 1e-8;

/// Moves `weight` in place; `moments` is flat, of twice its size: first moments, then second. The
/// gradient is multiplied by its scale first; `decay` is the share of the weight that is taken
/// away; `steps` counts this one.
pub(super) fn step(
    weight: &Tensor,
    moments: &Tensor,
    (gradient, scale): (&Tensor, f32),
    (rate, decay): (f64, f64),
    steps: u64,
) -> Result<(), Error> {
    change(moments, gradient, |moments, gradient| {
        let (first, second) = moments.split_at_mut(gradient.len());
        for ((m, v), &g) in first.iter_mut().zip(second).zip(gradient) {
            let g = g * scale;
            *m = BETA1 * *m + (1.0 - BETA1) * g;
            *v = BETA2 * *v + (1.0 - BETA2) * g * g;
        }
    })?;
    // The corrections of both moments' bias towards zero are folded into the factors.
    let steps = i32::try_from(steps).unwrap_or(i32::MAX);
    let rate = (rate / (1.0 - f64::from(BETA1).powi(steps))) as f32;
    let correction = (1.0 / (1.0 - f64::from(BETA2).powi(steps))).sqrt() as f32;
    let keep = (1.0 - decay) as f32;
    change(weight, moments, |weight, moments| {
        let (first, second) = moments.split_at(weight.len());
        for ((w, &m), &v) in weight.iter_mut().zip(first).zip(second) {
            *w = *w * keep - rate * m / (v.sqrt() * correction + EPS);
        }
    })
}
