//! Scaled dot-product attention, forward and backward.
//!
//! Forward takes blocks of queries of one head, and only the keys that some query of the block
//! sees; a few queries, as in decoding, are taken without the matrix product. The scores live in
//! scratch that the next block reuses; the backward pass computes them again. Nothing of size
//! (T, S) is kept. It knows no positions and no cache.
//!
//! Shapes: `B` batch, `H` query heads, `Hkv` key heads (`H` a multiple), `T` queries, `S` keys,
//! `d` head size; all row-major, and dense but for the room after each head's keys and values.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use crate::gemm::{Mat, Out, Precision, RawOut, Start, gemm_on_this_thread};
use crate::pool;
use crate::simd::dots;
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
    /// Elements from one head's keys (or values) to the next head's, at least `S · d`: a cache
    /// has room for more than it holds.
    pub kv_stride: usize,
}

/// Queries of one task.
const BLOCK: usize = 128;
/// With fewer queries than this, rows are multiplied one by one.
const FEW: usize = 8;
/// Multiply–adds worth a second thread.
const PARALLEL: usize = 1 << 15;

impl Sizes {
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    fn check(&self, operands: Operands) {
        assert!(self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads));
        assert_eq!(operands.q.len(), self.batch * self.heads * self.queries * self.head_size);
        assert!(self.kv_stride >= self.keys * self.head_size);
        let n_heads = self.batch * self.kv_heads;
        let n_kv = n_heads.saturating_sub(1) * self.kv_stride + self.keys * self.head_size;
        assert!(operands.k.len() >= n_kv && operands.v.len() >= n_kv);
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

/// What the operands are for one head, or for several with the same keys.
#[derive(Clone, Copy)]
struct Head<'a> {
    /// Whether its rows are multiplied one by one.
    is_few: bool,
    q: Mat<'a>,
    k: Mat<'a>,
    v: Mat<'a>,
    mask: Option<&'a [f32]>,
}

impl<'a> Operands<'a> {
    fn head(&self, sizes: Sizes, batch_idx: usize, head_idx: usize) -> Head<'a> {
        self.heads(sizes, batch_idx, head_idx..head_idx + 1)
    }

    /// Query heads that share their keys and values: the rows of all of them, (heads · T, d).
    fn heads(&self, sizes: Sizes, batch_idx: usize, of: Range<usize>) -> Head<'a> {
        let Sizes { heads, kv_heads, queries, keys, head_size, .. } = sizes;
        let rows = of.len() * queries;
        let q_at = (batch_idx * heads + of.start) * queries * head_size;
        let kv_at = (batch_idx * kv_heads + of.start / sizes.group()) * sizes.kv_stride;
        let mask = self.mask.map(|mask| {
            let first = if mask.len() == queries * keys { 0 } else { batch_idx * queries * keys };
            &mask[first..first + queries * keys]
        });
        Head {
            is_few: queries < FEW,
            q: Mat::new(&self.q[q_at..q_at + rows * head_size], rows, head_size),
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

/// `out (B, H, T, d) = softmax(q kᵀ · scale + mask) v`, and of each head's last query the weights
/// `last (B, H, S)` where they are asked for.
///
/// # Panics
/// When a slice does not have the size that `sizes` says.
pub fn forward(out: &mut [f32], last: Option<&mut [f32]>, operands: Operands, sizes: Sizes) {
    sizes.check(operands);
    assert_eq!(out.len(), operands.q.len());
    let Sizes { batch, heads, queries, keys, head_size, .. } = sizes;
    assert!(last.as_ref().is_none_or(|last| last.len() == batch * heads * keys));
    if out.is_empty() || keys == 0 {
        return out.fill(0.0);
    }
    let out = RawOut { ptr: out.as_mut_ptr(), row_stride: head_size };
    let last = last.map(|last| RawOut { ptr: last.as_mut_ptr(), row_stride: keys });
    // A few queries are bound by reading keys and values, so a task takes every head that reads
    // the same; many are bound by arithmetic, so it takes a block of one head's.
    let together = if queries < FEW { sizes.group() } else { 1 };
    let per_head = queries.div_ceil(BLOCK);
    let rows = queries.div_ceil(per_head);
    let task = |i: usize| {
        let (out, last) = (&out, &last);
        let (head_idx, first) = (i / per_head * together, i % per_head * rows);
        let block = first..queries.min(first + rows);
        if block.is_empty() {
            return;
        }
        let is_last = block.end == queries;
        let (batch_idx, in_batch) = (head_idx / heads, head_idx % heads);
        let head = match together {
            1 => operands.head(sizes, batch_idx, in_batch).rows(block.clone()),
            _ => operands.heads(sizes, batch_idx, in_batch..in_batch + together),
        };
        // SAFETY: each task writes the rows of its block of its heads, and the task of the last
        // block the weights of its heads; both lie inside the slices checked above.
        let (out, last) = unsafe {
            let at = out.offset((head_idx * queries + first) * head_size).ptr;
            let out = std::slice::from_raw_parts_mut(at, head.q.rows * head_size);
            let weights = last.filter(|_| is_last).map(|last| {
                let at = last.offset(head_idx * keys).ptr;
                std::slice::from_raw_parts_mut(at, together * keys)
            });
            (out, weights)
        };
        SCRATCH.with_borrow_mut(|(scratch, _)| operands.block(&head, scratch, out, last));
    };
    let n_tasks = batch * heads / together * per_head;
    if batch * heads * queries * keys * head_size < PARALLEL {
        (0..n_tasks).for_each(task);
    } else {
        pool::run(n_tasks, task);
    }
}

impl<'a> Head<'a> {
    /// The same for some of the queries.
    fn rows(self, rows: Range<usize>) -> Head<'a> {
        let (width, n_keys) = (self.q.cols, self.k.rows);
        Head {
            q: Mat::new(&self.q.data[rows.start * width..rows.end * width], rows.len(), width),
            mask: self.mask.map(|mask| &mask[rows.start * n_keys..rows.end * n_keys]),
            ..self
        }
    }

    /// From the first to the last key that any query sees.
    fn visible(&self) -> Range<usize> {
        let n_keys = self.k.rows;
        let Some(mask) = self.mask else { return 0..n_keys };
        let sees = |m: &f32| *m > HIDDEN;
        let rows = mask.chunks_exact(n_keys);
        let first = rows.clone().filter_map(|row| row.iter().position(sees)).min();
        let end = rows.filter_map(|row| row.iter().rposition(sees)).max();
        first.zip(end).map_or(0..n_keys, |(first, end)| first..end + 1)
    }
}

/// A mask at or below this hides its key: whatever the score, its weight is 0.
const HIDDEN: f32 = -1e29;

impl Operands<'_> {
    /// `out (rows, d)` of some queries, and the weights `(heads, S)` of each head's last.
    fn block(
        &self,
        head: &Head,
        scratch: &mut Vec<f32>,
        out: &mut [f32],
        last: Option<&mut [f32]>,
    ) {
        let (n_rows, width, n_keys) = (head.q.rows, head.q.cols, head.k.rows);
        let (seen, is_few) = (head.visible(), head.is_few);
        let (k, v) = (head.k.rows_of(seen.clone()), head.v.rows_of(seen.clone()));
        resize(scratch, n_rows * seen.len());
        if is_few {
            scores(scratch, head.q.data, k.data, width);
        } else {
            self.product(scratch, (head.q, k.t()), Start::Zero);
        }
        for (i, row) in scratch.chunks_exact_mut(seen.len()).enumerate() {
            let mask = head.mask.map(|mask| &mask[i * n_keys % mask.len()..][..n_keys]);
            softmax_row(row, self.scale, mask.map(|mask| &mask[seen.clone()]));
        }
        if let Some(last) = last {
            last.fill(0.0);
            let of_head = n_rows / (last.len() / n_keys) * seen.len();
            for (last, weights) in last.chunks_exact_mut(n_keys).zip(scratch.chunks_exact(of_head))
            {
                last[seen.clone()].copy_from_slice(&weights[of_head - seen.len()..]);
            }
        }
        if is_few {
            weigh(out, scratch, v.data, width);
        } else {
            self.product(out, (Mat::new(scratch, n_rows, seen.len()), v), Start::Zero);
        }
    }
}

/// `scores (rows, S) = q (rows, d) · k (S, d)ᵀ`
fn scores(scores: &mut [f32], q: &[f32], k: &[f32], width: usize) {
    let n_keys = k.len() / width;
    for (scores, q) in scores.chunks_exact_mut(n_keys).zip(q.chunks_exact(width)) {
        dots(scores, q, k);
    }
}

simd! {
    /// `out (rows, d) = weights (rows, S) · v (S, d)`
    fn weigh(out: &mut [f32], weights: &[f32], v: &[f32], width: usize) {
        // Eight registers of sums: rows pass once, as they lie in memory.
        const PART: usize = 64;
        let n_keys = v.len() / width;
        for (out, weights) in out.chunks_exact_mut(width).zip(weights.chunks_exact(n_keys)) {
            for (part, out) in out.chunks_mut(PART).enumerate() {
                let mut sums = [0f32; PART];
                if out.len() == PART {
                    for (v, &weight) in v.chunks_exact(width).zip(weights) {
                        let v = &v[part * PART..][..PART];
                        sums.iter_mut().zip(v).for_each(|(sum, v)| *sum += weight * v);
                    }
                } else {
                    for (v, &weight) in v.chunks_exact(width).zip(weights) {
                        let v = &v[part * PART..];
                        sums.iter_mut().zip(v).for_each(|(sum, v)| *sum += weight * v);
                    }
                }
                out.copy_from_slice(&sums[..out.len()]);
            }
        }
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
    let n_kv = sizes.batch * sizes.kv_heads * sizes.keys * sizes.head_size;
    assert!(dk.len() == n_kv && dv.len() == n_kv, "gradients of keys and values are dense");
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
