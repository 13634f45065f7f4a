//! Muon (Jordan et al. 2024): a matrix is moved by the nearest orthogonal matrix to its momentum,
//! so that every direction of it learns at the same pace.
//!
//! It does not know which weights it is used for.

use candle_core::{Device, Tensor};
use kernels::gemm::{Mat, Out, Precision, Start, gemm_on_this_thread};

use super::change;
use crate::Error;

/// Applied in Nesterov's form.
const MOMENTUM: f32 = 0.95;
/// Root mean square of an AdamW update, which these are scaled to, so that one learning rate
/// serves both (Liu et al. 2025, arXiv 2502.16982, section 2.2).
const UPDATE_RMS: f64 = 0.2;

/// Moves `weight (rows, cols)` in place; `momentum` is flat, of its size. The gradient is
/// multiplied by its scale first; `decay` is the share of the weight that is taken away.
pub(super) fn step(
    weight: &Tensor,
    momentum: &Tensor,
    (gradient, scale): (&Tensor, f32),
    (rate, decay): (f64, f64),
) -> Result<(), Error> {
    let (rows, cols) = weight.dims2()?;
    change(momentum, gradient, |momentum, gradient| {
        for (m, &g) in momentum.iter_mut().zip(gradient) {
            *m = MOMENTUM * *m + (1.0 - MOMENTUM) * g * scale;
        }
    })?;
    let update = orthogonal((rows, cols), (momentum, gradient), scale)?;
    let rate = (rate * UPDATE_RMS * (rows.max(cols) as f64).sqrt()) as f32;
    let keep = (1.0 - decay) as f32;
    change(weight, &update, |weight, update| {
        for (w, &u) in weight.iter_mut().zip(update) {
            *w = *w * keep - rate * u;
        }
    })
}

/// Coefficients of the quintic that pulls every singular value towards 1 (Jordan et al. 2024).
const QUINTIC: (f32, f32, f32) = (3.4445, -4.7750, 2.0315);
const N_QUINTICS: usize = 5;

/// A matrix with the singular vectors of `MOMENTUM · momentum + (1 − MOMENTUM) · gradient` and
/// singular values near 1, `(rows, cols)`.
fn orthogonal(
    (rows, cols): (usize, usize),
    (momentum, gradient): (&Tensor, &Tensor),
    scale: f32,
) -> Result<Tensor, Error> {
    let ahead = f64::from((1.0 - MOMENTUM) * scale);
    let x = ((momentum.reshape((rows, cols))? * f64::from(MOMENTUM))?
        + (gradient.reshape((rows, cols))? * ahead)?)?;
    let length = f64::from(x.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
    let x = (x * (1.0 / (length + 1e-7)))?;
    let mut x = x.flatten_all()?.to_vec1::<f32>()?;
    // The Gram matrix of the shorter side: of rows, else of columns.
    let n = rows.min(cols);
    let (mut gram, mut poly) = (vec![0f32; n * n], vec![0f32; n * n]);
    let mut next = vec![0f32; x.len()];
    for _ in 0..N_QUINTICS {
        let m = Mat::new(&x, rows, cols);
        let (left, right) = if rows <= cols { (m, m.t()) } else { (m.t(), m) };
        product(&mut gram, left, right);
        let g = Mat::new(&gram, n, n);
        product(&mut poly, g, g);
        for (p, &g) in poly.iter_mut().zip(&gram) {
            *p = QUINTIC.2 * *p + QUINTIC.1 * g;
        }
        (0..n).for_each(|i| poly[i * n + i] += QUINTIC.0);
        let p = Mat::new(&poly, n, n);
        let (a, b) = if rows <= cols { (p, m) } else { (m, p) };
        product(&mut next, a, b);
        std::mem::swap(&mut x, &mut next);
    }
    Ok(Tensor::from_vec(x, (rows, cols), &Device::Cpu)?)
}

/// `out = a · b`, dense.
fn product(out: &mut [f32], a: Mat, b: Mat) {
    let out = Out { data: out, row_stride: b.cols };
    gemm_on_this_thread(out, a, b, Start::Zero, Precision::F32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_nearly_orthogonal_and_keeps_the_direction() {
        for (rows, cols) in [(8, 8), (6, 20), (20, 6)] {
            // A heavy diagonal keeps every singular value well above zero.
            let value =
                |i: usize| (i as f32 * 1.7).sin() + if i % (cols + 1) == 0 { 4.0 } else { 0.0 };
            let values: Vec<f32> = (0..rows * cols).map(value).collect();
            let gradient = Tensor::from_vec(values, (rows, cols), &Device::Cpu).expect("a matrix");
            let momentum = gradient.flatten_all().expect("flat");
            let update = orthogonal((rows, cols), (&momentum, &gradient), 1.0).expect("an update");
            let gram = match rows <= cols {
                true => update.matmul(&update.t().expect("turned")),
                false => update.t().expect("turned").matmul(&update),
            };
            let gram: Vec<Vec<f32>> = gram.expect("a product").to_vec2().expect("values");
            for (i, row) in gram.iter().enumerate() {
                // Five quintics leave singular values between about 0.7 and 1.2.
                assert!(row[i] > 0.3 && row[i] < 1.6, "{rows}×{cols}: {}", row[i]);
            }
            let along = (update * gradient).and_then(|t| t.sum_all()?.to_scalar::<f32>());
            assert!(along.expect("a number") > 0.0, "{rows}×{cols}");
        }
    }
}
