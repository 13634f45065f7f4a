//! Scaled dot-product attention, forward and backward, one (batch, head) at a time.
//!
//! The scores of one head live in scratch that the next head reuses; the backward pass computes
//! them again. Nothing of size (T, S) is kept. It knows no positions and no cache.
//!
//! Shapes: `B` batch, `H` query heads, `Hkv` key heads (`H` a multiple), `T` queries, `S` keys,
//! `d` head size; all row-major and dense.

use std::cell::RefCell;

use rayon::prelude::*;

use crate::gemm::{Mat, Out, Precision, Start, gemm_on_this_thread};
use crate::softmax::{softmax_backward_row, softmax_row};

/// Sizes of one attention.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// `B`
    pub batch: usize,
    /// `H`
    pub heads: usize,
    /// `Hkv`, a divisor of `H`
    pub kv_heads: usize,
    /// `T`
    pub queries: usize,
    /// `S`
    pub keys: usize,
    /// `d`
    pub head_size: usize,
}

impl Sizes {
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    fn check(&self, operands: Operands) {
        assert!(self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads));
        assert_eq!(operands.q.len(), self.batch * self.heads * self.queries * self.head_size);
        let n_kv = self.batch * self.kv_heads * self.keys * self.head_size;
        assert!(operands.k.len() == n_kv && operands.v.len() == n_kv);
        if let Some(mask) = operands.mask {
            let one = self.queries * self.keys;
            assert!(mask.len() == one || mask.len() == one * self.batch, "mask: wrong size");
        }
    }
}

/// What is attended with.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    /// (B, H, T, d)
    pub q: &'a [f32],
    /// (B, Hkv, S, d)
    pub k: &'a [f32],
    /// (B, Hkv, S, d)
    pub v: &'a [f32],
    /// additive, (B|1, T, S)
    pub mask: Option<&'a [f32]>,
    /// Multiplies the scores before the mask is added.
    pub scale: f32,
    /// How products are formed.
    pub precision: Precision,
}

thread_local! {
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>)> = RefCell::default();
}

/// One head's view of the operands.
struct Head<'a> {
    q: Mat<'a>,
    k: Mat<'a>,
    v: Mat<'a>,
    mask: Option<&'a [f32]>,
}

impl<'a> Operands<'a> {
    fn head(&self, sizes: Sizes, batch_idx: usize, head_idx: usize) -> Head<'a> {
        let Sizes { heads, kv_heads, queries, keys, head_size, .. } = sizes;
        let q_at = (batch_idx * heads + head_idx) * queries * head_size;
        let kv_at = (batch_idx * kv_heads + head_idx / sizes.group()) * keys * head_size;
        let mask = self.mask.map(|mask| {
            let first = if mask.len() == queries * keys { 0 } else { batch_idx * queries * keys };
            &mask[first..first + queries * keys]
        });
        Head {
            q: Mat::new(&self.q[q_at..q_at + queries * head_size], queries, head_size),
            k: Mat::new(&self.k[kv_at..kv_at + keys * head_size], keys, head_size),
            v: Mat::new(&self.v[kv_at..kv_at + keys * head_size], keys, head_size),
            mask,
        }
    }

    /// The attention weights (T, S) of one head into `weights`.
    fn weights(&self, head: &Head, weights: &mut Vec<f32>) {
        let (n_queries, n_keys) = (head.q.rows, head.k.rows);
        resize(weights, n_queries * n_keys);
        self.product(weights, (head.q, head.k.t()), Start::Zero);
        for (i, row) in weights.chunks_exact_mut(n_keys).enumerate() {
            softmax_row(row, self.scale, head.mask.map(|mask| &mask[i * n_keys..][..n_keys]));
        }
    }

    fn product(&self, out: &mut [f32], (a, b): (Mat, Mat), start: Start) {
        let out = Out { data: out, row_stride: b.cols };
        gemm_on_this_thread(out, a, b, start, self.precision);
    }
}

fn resize(buffer: &mut Vec<f32>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    buffer.truncate(len);
}

/// `out (B, H, T, d) = softmax(q kᵀ · scale + mask) v`.
///
/// # Panics
/// When a slice does not have the size that `sizes` says.
pub fn forward(out: &mut [f32], operands: Operands, sizes: Sizes) {
    sizes.check(operands);
    assert_eq!(out.len(), operands.q.len());
    let one = sizes.queries * sizes.head_size;
    if one == 0 {
        return;
    }
    let run = |i: usize, out: &mut [f32]| {
        SCRATCH.with_borrow_mut(|(weights, _)| {
            let head = operands.head(sizes, i / sizes.heads, i % sizes.heads);
            operands.weights(&head, weights);
            let weights = Mat::new(weights, sizes.queries, sizes.keys);
            operands.product(out, (weights, head.v), Start::Zero);
        });
    };
    if rayon::current_num_threads() < 2 || sizes.queries * sizes.keys < 1024 {
        out.chunks_exact_mut(one).enumerate().for_each(|(i, out)| run(i, out));
    } else {
        out.par_chunks_exact_mut(one).enumerate().for_each(|(i, out)| run(i, out));
    }
}

/// Where the gradients go, all overwritten: the shapes of q, k and v.
pub struct Gradients<'a> {
    /// (B, H, T, d)
    pub dq: &'a mut [f32],
    /// (B, Hkv, S, d)
    pub dk: &'a mut [f32],
    /// (B, Hkv, S, d)
    pub dv: &'a mut [f32],
}

/// Gradients of [`forward`] for `grad (B, H, T, d)`.
///
/// # Panics
/// As [`forward`].
pub fn backward(gradients: Gradients, operands: Operands, grad: &[f32], sizes: Sizes) {
    sizes.check(operands);
    let Gradients { dq, dk, dv } = gradients;
    assert!(dq.len() == operands.q.len() && grad.len() == operands.q.len());
    assert!(dk.len() == operands.k.len() && dv.len() == operands.v.len());
    let group = sizes.group();
    let (n_q, n_kv) = (group * sizes.queries * sizes.head_size, sizes.keys * sizes.head_size);
    if n_q == 0 || n_kv == 0 {
        return;
    }
    let run = |i: usize, of: Gradients| {
        let (batch_idx, kv_idx) = (i / sizes.kv_heads, i % sizes.kv_heads);
        let grad = &grad[i * n_q..][..n_q];
        for g in 0..group {
            let head = operands.head(sizes, batch_idx, kv_idx * group + g);
            let n = n_q / group;
            let part = Gradients { dq: &mut of.dq[g * n..][..n], dk: of.dk, dv: of.dv };
            let start = if g == 0 { Start::Zero } else { Start::Old };
            backward_head(&operands, &head, part, (&grad[g * n..][..n], start));
        }
    };
    let n_threads = rayon::current_num_threads();
    if n_threads < 2 || sizes.queries * sizes.keys < 1024 {
        let kv = dk.chunks_exact_mut(n_kv).zip(dv.chunks_exact_mut(n_kv));
        for (i, (dq, (dk, dv))) in dq.chunks_exact_mut(n_q).zip(kv).enumerate() {
            run(i, Gradients { dq, dk, dv });
        }
    } else {
        let kv = dk.par_chunks_exact_mut(n_kv).zip(dv.par_chunks_exact_mut(n_kv));
        dq.par_chunks_exact_mut(n_q)
            .zip(kv)
            .enumerate()
            .for_each(|(i, (dq, (dk, dv)))| run(i, Gradients { dq, dk, dv }));
    }
}

/// One query head: `dq` overwritten; `dk` and `dv` overwritten or added to, as `start` says.
fn backward_head(operands: &Operands, head: &Head, of: Gradients, (grad, start): (&[f32], Start)) {
    let (n_queries, n_keys) = (head.q.rows, head.k.rows);
    let grad = Mat::new(grad, n_queries, head.q.cols);
    SCRATCH.with_borrow_mut(|(weights, d_scores)| {
        operands.weights(head, weights);
        resize(d_scores, n_queries * n_keys);
        operands.product(d_scores, (grad, head.v.t()), Start::Zero);
        let p = Mat::new(weights, n_queries, n_keys);
        operands.product(of.dv, (p.t(), grad), start);
        for (d, p) in d_scores.chunks_exact_mut(n_keys).zip(weights.chunks_exact(n_keys)) {
            softmax_backward_row(d, p, operands.scale);
        }
        let d_scores = Mat::new(d_scores, n_queries, n_keys);
        operands.product(of.dq, (d_scores, head.k), Start::Zero);
        operands.product(of.dk, (d_scores.t(), head.q), start);
    });
}
