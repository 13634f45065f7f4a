//! `y = x Wᵀ + b` with packed `W`: one body for a single row and for thousands.
//!
//! Tasks take groups of outputs. Within a task the rows of `x` pass in chunks that stay in the L2
//! cache, and tiles of a few rows by sixteen outputs keep their integer sums in registers.

use std::ops::Range;

use rayon::prelude::*;

use super::body::{Body, MAX_ROWS, Tile, bodies};
use super::pack::{Format, Packed};
use super::q4::Q4;
use super::q8::Q8;
#[cfg(target_arch = "x86_64")]
use super::tiles::{self, LEAST_ROWS};
use super::{BLOCK, Coding, GROUP};
use crate::buffer::uninit;
#[cfg(target_arch = "x86_64")]
use crate::gemm::{Mat, Start, bf16_columns};
use crate::gemm::{Precision, RawOut};
use crate::{parallel, pool};

/// Bytes of rounded activations that a task goes over again and again: half the L2 cache.
const CHUNK_BYTES: usize = 256 * 1024;
/// Tasks for each thread, so that one that is held up does not hold up the rest.
const TASKS: usize = 8;

/// `out = x Wᵀ + b` for `x (M, K)`, `W (N, K)` and `b (N)`.
///
/// With [`Precision::Bf16`] many rows may be rounded to bf16, and the scaled weights with them.
///
/// `widths` cuts the outputs into several matrices of one input, each dense `(M, width)` and
/// one after the other in `out`; all but the last are multiples of [`GROUP`] and the sum is `N`.
///
/// # Panics
/// When sizes disagree.
pub fn product(
    out: &mut [f32],
    (x, rows): (&[f32], usize),
    weights: Packed,
    bias: Option<&[f32]>,
    (widths, precision): (&[usize], Precision),
) {
    let (n, k) = weights.dims();
    assert_eq!(x.len(), rows * k, "activations do not fit the weights");
    assert_eq!(out.len(), rows * n, "the output is too short");
    assert!(bias.is_none_or(|bias| bias.len() == n));
    assert_eq!(widths.iter().sum::<usize>(), n, "widths do not add up");
    let whole = |width: &usize| width.is_multiple_of(GROUP);
    assert!(widths.iter().rev().skip(1).all(whole), "an inner width is no multiple of {GROUP}");
    if rows == 0 || n == 0 {
        return;
    }
    let outputs = Outputs { out: RawOut { ptr: out.as_mut_ptr(), row_stride: 0 }, widths, bias };
    #[cfg(target_arch = "x86_64")]
    if precision == Precision::Bf16 && crate::level() == crate::Level::Amx && rows >= LEAST_ROWS {
        return in_tiles(outputs, (x, rows), weights);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = precision;
    match weights.format {
        Format::Q8_0 => {
            all_groups(outputs, &Rounded::<Q8>::new((x, rows), k, bodies().q8), weights)
        }
        Format::Q4_0 => {
            all_groups(outputs, &Rounded::<Q4>::new((x, rows), k, bodies().q4), weights)
        }
    }
}

/// Where results go and what is added to them.
struct Outputs<'a> {
    out: RawOut,
    widths: &'a [usize],
    bias: Option<&'a [f32]>,
}

/// Where the outputs of one group go: those of row `i` begin at `first + i · stride`.
#[derive(Clone, Copy)]
struct Place {
    first: usize,
    stride: usize,
    /// Outputs of the group that exist.
    n: usize,
}

impl Outputs<'_> {
    fn place(&self, rows: usize, group: usize) -> Place {
        let (mut first, mut output) = (0, group * GROUP);
        for &width in self.widths {
            if output < width {
                let n = GROUP.min(width - output);
                return Place { first: first + output, stride: width, n };
            }
            output -= width;
            first += rows * width;
        }
        Place { first, stride: 0, n: 0 }
    }
}

/// The same in tiles of bf16: each task takes some outputs of one of the matrices.
#[cfg(target_arch = "x86_64")]
fn in_tiles(outputs: Outputs, (x, rows): (&[f32], usize), weights: Packed) {
    let (n, k) = weights.dims();
    let step = n.div_ceil(pool::n_threads()).next_multiple_of(2 * GROUP);
    let mut parts = Vec::new();
    let (mut first, mut at) = (0, 0);
    for &width in outputs.widths {
        let columns = (0..width).step_by(step);
        parts.extend(columns.map(|c| (first + c, step.min(width - c), at + c, width)));
        (first, at) = (first + width, at + rows * width);
    }
    let (outputs, parts) = (&outputs, &parts);
    pool::run(parts.len(), |task| {
        let (first, n, at, row_stride) = parts[task];
        let start = match outputs.bias {
            Some(bias) => Start::Bias(&bias[first..first + n]),
            None => Start::Zero,
        };
        let columns = tiles::Outputs { weights, first: first / GROUP };
        // SAFETY: the matrices lie one after the other in the output, and each column of each is
        // written by one task.
        unsafe {
            let out = RawOut { ptr: outputs.out.ptr.add(at), row_stride };
            bf16_columns(out, Mat::new(x, rows, k), (&columns, n), start);
        }
    });
}

/// Scales and starts of some rows.
type Scales<'a> = (&'a mut [f32], &'a mut [i32]);

/// Activations rounded a block of 32 at a time; rows are padded to whole blocks.
struct Rounded<C: Coding> {
    /// (M, K′)
    quants: Vec<C::Activation>,
    /// (M, K′ / 32)
    scales: Vec<f32>,
    /// (M, K′ / 32)
    starts: Vec<i32>,
    rows: usize,
    n_blocks: usize,
    body: Body<C::Activation>,
}

impl<C: Coding> Rounded<C> {
    fn new((x, rows): (&[f32], usize), cols: usize, body: Body<C::Activation>) -> Self {
        let n_blocks = cols.div_ceil(BLOCK);
        let mut quants = uninit::<C::Activation>(rows * n_blocks * BLOCK);
        let (mut scales, mut starts) = (vec![0.0; rows * n_blocks], vec![0; rows * n_blocks]);
        let per_task = parallel::rows_per_task(rows, cols).unwrap_or(rows);
        let n = per_task * n_blocks;
        let round = |((q, x), of): ((&mut [C::Activation], &[f32]), Scales)| {
            let rows = q.chunks_exact_mut(n_blocks * BLOCK).zip(x.chunks_exact(cols));
            let of = of.0.chunks_exact_mut(n_blocks).zip(of.1.chunks_exact_mut(n_blocks));
            rows.zip(of).for_each(|((q, x), of)| C::round(q, of, x));
        };
        if per_task >= rows {
            round(((&mut quants, x), (&mut scales, &mut starts)));
        } else {
            let of = scales.par_chunks_mut(n).zip(starts.par_chunks_mut(n));
            let rows = quants.par_chunks_mut(n * BLOCK).zip(x.par_chunks(per_task * cols));
            rows.zip(of).for_each(round);
        }
        Rounded { quants, scales, starts, rows, n_blocks, body }
    }

    /// Rows in pieces whose quants fit the cache.
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> {
        let row_bytes = self.n_blocks * BLOCK * size_of::<C::Activation>();
        let max_rows = self.body.max_rows;
        let step = (CHUNK_BYTES / row_bytes / max_rows).max(1) * max_rows;
        let rows = self.rows;
        (0..rows).step_by(step).map(move |first| first..rows.min(first + step))
    }

    /// All rows beside the blocks of one group.
    fn tile<'a>(&'a self, blocks: &'a [u8]) -> Tile<'a, C::Activation> {
        let Rounded { quants: x, scales, starts, n_blocks, .. } = self;
        Tile { x, scales, starts, blocks, n_blocks: *n_blocks }
    }
}

fn all_groups<C: Coding>(outputs: Outputs, x: &Rounded<C>, weights: Packed)
where
    Rounded<C>: Sync,
{
    let n_groups = weights.rows.div_ceil(GROUP);
    let per_task = n_groups.div_ceil(TASKS * pool::n_threads());
    let group_bytes = x.n_blocks * C::BLOCK_BYTES;
    let outputs = &outputs;
    pool::run(n_groups.div_ceil(per_task), |task| {
        let mut sums = [[0.0; GROUP]; MAX_ROWS];
        let groups = task * per_task..n_groups.min((task + 1) * per_task);
        for rows in x.chunks() {
            for group in groups.clone() {
                let blocks = &weights.bytes[group * group_bytes..][..group_bytes];
                // SAFETY: each group is written by one task, and its places lie inside `out`.
                unsafe { group_rows(outputs, group, (x, rows.clone()), blocks, &mut sums) };
            }
        }
    });
}

/// All outputs of one group for some rows.
///
/// # Safety
/// The group's places for these rows lie inside the output and no other thread writes there.
unsafe fn group_rows<C: Coding>(
    outputs: &Outputs,
    group: usize,
    (x, rows): (&Rounded<C>, Range<usize>),
    blocks: &[u8],
    sums: &mut [[f32; GROUP]; MAX_ROWS],
) {
    let place = outputs.place(x.rows, group);
    let bias = outputs.bias.map(|bias| &bias[group * GROUP..][..place.n]);
    let tile = x.tile(blocks);
    for first in rows.clone().step_by(x.body.max_rows) {
        let tile_rows = first..rows.end.min(first + x.body.max_rows);
        let sums = &mut sums[..tile_rows.len()];
        sums.fill([0.0; GROUP]);
        // SAFETY: the body is one that this processor has.
        unsafe { (x.body.multiply)(&tile.rows(tile_rows), sums) };
        for (i, sums) in sums.iter_mut().enumerate() {
            if let Some(bias) = bias {
                sums.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
            }
            // SAFETY: passed on from the caller; `place.n` is at most GROUP.
            unsafe {
                let to = outputs.out.ptr.add(place.first + (first + i) * place.stride);
                std::ptr::copy_nonoverlapping(sums.as_ptr(), to, place.n);
            }
        }
    }
}
