//! Layer norm and root-mean-square norm over rows, forward and backward.
//!
//! Statistics are recomputed in the backward pass: a row is read anyway, and nothing is kept.

use crate::parallel;
use crate::simd::sum;
use rayon::prelude::*;

/// Which norm, with the constant added to the variance.
#[derive(Clone, Copy, Debug)]
pub enum Norm {
    /// Mean removed, divided by the standard deviation.
    Layer {
        /// Added to the variance.
        eps: f32,
    },
    /// Divided by the root mean square.
    Rms {
        /// Added to the mean square.
        eps: f32,
    },
}

/// Mean (0 for RMS) and reciprocal deviation of a row.
#[inline(always)]
fn statistics(x: &[f32], norm: Norm) -> (f32, f32) {
    let n = x.len() as f32;
    let (mean, eps) = match norm {
        Norm::Layer { eps } => (sum(x.len(), |i| x[i]) / n, eps),
        Norm::Rms { eps } => (0.0, eps),
    };
    let variance = sum(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

simd! {
    fn forward_block(out: &mut [f32], x: &[f32], affine: (&[f32], Option<&[f32]>), norm: Norm) {
        let (weight, bias) = affine;
        let d = weight.len();
        for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
            let (mean, inv) = statistics(x, norm);
            match bias {
                Some(bias) => {
                    for i in 0..d {
                        out[i] = (x[i] - mean) * inv * weight[i] + bias[i];
                    }
                }
                None => {
                    for i in 0..d {
                        out[i] = (x[i] - mean) * inv * weight[i];
                    }
                }
            }
        }
    }
}

/// `out` = norm of each row of `x` (rows of `weight.len()`), times weight, plus bias if there.
pub fn forward(out: &mut [f32], x: &[f32], scale: (&[f32], Option<&[f32]>), norm: Norm) {
    let d = scale.0.len();
    assert!(out.len() == x.len() && d > 0 && x.len().is_multiple_of(d));
    parallel::rows(out, d, |row, out| {
        forward_block(out, &x[row * d..row * d + out.len()], scale, norm);
    });
}

simd! {
    fn backward_block(dx: &mut [f32], rows: (&[f32], &[f32]), weight: &[f32], norm: Norm,
        affine: (&mut [f32], &mut [f32])) {
        let d = weight.len();
        let (x, grad) = rows;
        let (d_weight, d_bias) = (&mut affine.0[..d], &mut affine.1[..d]);
        let rows = dx.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(grad.chunks_exact(d));
        for ((dx, x), g) in rows {
            let (mean, inv) = statistics(x, norm);
            let n = d as f32;
            let along = sum(d, |i| g[i] * weight[i] * (x[i] - mean)) * inv / n;
            let level = match norm {
                Norm::Layer { .. } => sum(d, |i| g[i] * weight[i]) / n,
                Norm::Rms { .. } => 0.0,
            };
            for i in 0..d {
                let normed = (x[i] - mean) * inv;
                dx[i] = inv * (g[i] * weight[i] - level - normed * along);
                d_weight[i] += g[i] * normed;
                d_bias[i] += g[i];
            }
        }
    }
}

/// Gradients of [`forward`]: `dx` is overwritten, `d_weight` and `d_bias` are added to.
pub fn backward(
    dx: &mut [f32],
    (x, grad): (&[f32], &[f32]),
    weight: &[f32],
    norm: Norm,
    (d_weight, d_bias): (&mut [f32], &mut [f32]),
) {
    let d = weight.len();
    assert!(dx.len() == x.len() && dx.len() == grad.len() && x.len().is_multiple_of(d));
    let Some(n) = parallel::rows_per_task(dx.len() / d, d) else {
        return backward_block(dx, (x, grad), weight, norm, (d_weight, d_bias));
    };
    let partial: Vec<(Vec<f32>, Vec<f32>)> = dx
        .par_chunks_mut(n * d)
        .zip(x.par_chunks(n * d).zip(grad.par_chunks(n * d)))
        .map(|(dx, rows)| {
            let (mut w, mut b) = (vec![0.0; d], vec![0.0; d]);
            backward_block(dx, rows, weight, norm, (&mut w, &mut b));
            (w, b)
        })
        .collect();
    for (w, b) in partial {
        add_to(d_weight, &w);
        add_to(d_bias, &b);
    }
}

fn add_to(sum: &mut [f32], x: &[f32]) {
    for (s, v) in sum.iter_mut().zip(x) {
        *s += v;
    }
}

simd! {
    /// `out[i] += Σ_rows x[row][i]`: the gradient of a bias.
    pub fn column_sum(out: &mut [f32], x: &[f32]) {
        for row in x.chunks_exact(out.len().max(1)) {
            for (o, &v) in out.iter_mut().zip(row) {
                *o += v;
            }
        }
    }
}
