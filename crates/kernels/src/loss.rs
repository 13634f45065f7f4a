//! Cross entropy over rows of logits, forward and backward.

use crate::math::exp;
use crate::parallel;
use crate::simd::{max, sum};

simd! {
    /// ln Σ exp(x), or negative infinity when nothing is greater.
    pub fn log_sum_exp(x: &[f32]) -> f32 {
        let top = max(x);
        if top == f32::NEG_INFINITY {
            return top;
        }
        top + sum(x.len(), |i| exp(x[i] - top)).ln()
    }
}

simd! {
    /// Index of the first of the greatest; 0 when there is none.
    pub fn argmax(x: &[f32]) -> usize {
        let top = max(x);
        x.iter().position(|&v| v == top).unwrap_or(0)
    }
}

/// Mean over rows of −log softmax(logits)[target]; also returns each row's log-sum-exp.
///
/// `logits` is (N, V) with `targets.len() = N`. A target of V or more is a caller's error: such a
/// row counts as zero loss.
pub fn cross_entropy(logits: &[f32], targets: &[u32]) -> (f32, Vec<f32>) {
    let n_rows = targets.len();
    let vocab = logits.len() / n_rows.max(1);
    let mut lse = vec![0f32; n_rows];
    parallel::rows(&mut lse, 1, |first, lse| {
        for (i, l) in lse.iter_mut().enumerate() {
            *l = log_sum_exp(&logits[(first + i) * vocab..][..vocab]);
        }
    });
    let total: f64 = targets
        .iter()
        .enumerate()
        .filter(|&(_, &t)| (t as usize) < vocab)
        .map(|(i, &t)| f64::from(lse[i] - logits[i * vocab + t as usize]))
        .sum();
    ((total / n_rows.max(1) as f64) as f32, lse)
}

simd! {
    fn probabilities_block(out: &mut [f32], x: &[f32], lse: f32, scale: f32) {
        for (o, &v) in out.iter_mut().zip(x) {
            *o = exp(v - lse) * scale;
        }
    }
}

/// Gradient of [`cross_entropy`] times `grad`: `(softmax − onehot) · grad / N` into `out` (N, V).
pub fn cross_entropy_backward(out: &mut [f32], logits: &[f32], targets: &[u32], grad: f32) {
    let n_rows = targets.len();
    let vocab = logits.len() / n_rows.max(1);
    let scale = grad / n_rows.max(1) as f32;
    parallel::rows(out, vocab, |first, out| {
        for (i, out) in out.chunks_exact_mut(vocab).enumerate() {
            let row = first + i;
            let x = &logits[row * vocab..][..vocab];
            probabilities_block(out, x, log_sum_exp(x), scale);
            match out.get_mut(targets[row] as usize) {
                Some(o) => *o -= scale,
                None => out.fill(0.0),
            }
        }
    });
}
