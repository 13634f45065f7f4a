//! Matrix product `C = start + A·B` with any strides for `A` and `B`.
//!
//! [`Precision::Bf16`] rounds the operands to bf16 while packing them into tiles and sums in f32:
//! AMX where the machine has it, else AVX512-BF16, else a portable loop over the same tiles.
//! [`Precision::F32`] goes to the `gemm` crate, which lays one operand out anew; with few rows that
//! is the smaller one. Knows nothing of layers or gradients.

mod pack;
mod tile;

pub(crate) use pack::{PackedLine, reserve};
use pack::{pack_columns, pack_rows};
use std::cell::RefCell;

use crate::pool;

/// How products are formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// Operands rounded to bf16, sums in f32.
    Bf16,
}

/// A matrix seen inside a slice: element (i, j) is `data[i · row_stride + j · col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance between rows, in elements.
    pub row_stride: usize,
    /// Distance between columns, in elements.
    pub col_stride: usize,
}

impl<'a> Mat<'a> {
    /// A dense row-major matrix.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Row-major with `row_stride` elements from row to row.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        Mat { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Mat {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    fn assert_inside(&self) {
        if self.rows > 0 && self.cols > 0 {
            let last = (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride;
            assert!(last < self.data.len(), "a matrix reaches past its slice");
        }
    }

    /// Some of the rows.
    pub(crate) fn rows_of(self, rows: std::ops::Range<usize>) -> Self {
        let (first, rows) = (rows.start, rows.len());
        let end = match rows {
            0 => first * self.row_stride,
            n => (first + n - 1) * self.row_stride + (self.cols.max(1) - 1) * self.col_stride + 1,
        };
        Mat { data: &self.data[first * self.row_stride..end], rows, ..self }
    }

    fn row_range(self, first: usize, rows: usize) -> Self {
        Mat { data: &self.data[first * self.row_stride..], rows, ..self }
    }

    fn col_range(self, first: usize, cols: usize) -> Self {
        Mat { data: &self.data[first * self.col_stride..], cols, ..self }
    }
}

/// What the output holds before the product is added.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// Nothing: the old contents are overwritten.
    Zero,
    /// The old contents.
    Old,
    /// The same vector (one value a column) in every row.
    Bias(&'a [f32]),
}

/// The output: row-major with `row_stride` elements from row to row.
pub struct Out<'a> {
    /// The elements; those between rows are left alone.
    pub data: &'a mut [f32],
    /// Distance between rows, in elements.
    pub row_stride: usize,
}

/// Output as the bodies see it: parts of one slice that several tasks write disjointly.
#[derive(Clone, Copy)]
pub(crate) struct RawOut {
    pub(crate) ptr: *mut f32,
    pub(crate) row_stride: usize,
}

// SAFETY: a `RawOut` is handed to another thread only together with rows or columns that no
// other task writes (see `gemm` and `attention`).
unsafe impl Send for RawOut {}
// SAFETY: as above.
unsafe impl Sync for RawOut {}

impl RawOut {
    /// # Safety
    /// The element must lie inside the slice this came from.
    pub(crate) unsafe fn offset(self, elements: usize) -> Self {
        // SAFETY: promised by the caller.
        RawOut { ptr: unsafe { self.ptr.add(elements) }, ..self }
    }
}

/// Multiply–adds below which a second thread does not pay.
const PARALLEL_FLOPS: usize = 1 << 20;
/// Multiply–adds below which another task does not.
const TASK_FLOPS: usize = 1 << 18;
/// Multiply–adds from which the library shares an f32 product out itself: what it lays out anew is
/// then laid out once for all threads, and waking them is little beside the work.
const LIBRARY_FLOPS: usize = 1 << 27;

/// `out (m, n) = start + a (m, k) · b (k, n)`, over the pool's threads when there are several.
///
/// # Panics
/// When the shapes disagree or reach past their slices.
pub fn gemm(out: Out, a: Mat, b: Mat, start: Start, precision: Precision) {
    let (m, n) = (a.rows, b.cols);
    assert_eq!(a.cols, b.rows, "inner sizes differ");
    let Some(raw) = checked(out, a, b, start) else { return };
    let (n_threads, work) = (pool::n_threads(), m * n * a.cols);
    if n_threads < 2 || work < PARALLEL_FLOPS {
        // SAFETY: the output was checked above to hold (m, n), and is borrowed mutably.
        return unsafe { block(raw, a, b, start, precision) };
    }
    if precision == Precision::F32 && m > FEW_ROWS && work >= LIBRARY_FLOPS {
        // SAFETY: as above.
        return unsafe { f32_block(raw, a, b, start, n_threads) };
    }
    let n_tasks = (2 * n_threads).min(work / TASK_FLOPS);
    let task = |size: usize| size.div_ceil(n_tasks).next_multiple_of(32);
    if m >= n {
        let step = task(m);
        pool::run(m.div_ceil(step), |i| {
            let (first, rows) = (i * step, step.min(m - i * step));
            // SAFETY: tasks write disjoint rows of the checked output.
            unsafe {
                let part = raw.offset(first * raw.row_stride);
                block(part, a.row_range(first, rows), b, start, precision);
            }
        });
    } else {
        let step = task(n);
        pool::run(n.div_ceil(step), |i| {
            let (first, cols) = (i * step, step.min(n - i * step));
            let start = match start {
                Start::Bias(bias) => Start::Bias(&bias[first..first + cols]),
                other => other,
            };
            // SAFETY: tasks write disjoint columns of the checked output.
            unsafe {
                block(raw.offset(first), a, b.col_range(first, cols), start, precision);
            }
        });
    }
}

/// The output once everything is known to lie inside its slice; `None` when it is empty.
fn checked(out: Out, a: Mat, b: Mat, start: Start) -> Option<RawOut> {
    let (m, n) = (a.rows, b.cols);
    if m == 0 || n == 0 {
        return None;
    }
    assert!(out.row_stride >= n || m == 1);
    assert!((m - 1) * out.row_stride + n <= out.data.len(), "the output is too short");
    if let Start::Bias(bias) = start {
        assert_eq!(bias.len(), n);
    }
    a.assert_inside();
    b.assert_inside();
    Some(RawOut { ptr: out.data.as_mut_ptr(), row_stride: out.row_stride })
}

/// [`gemm`] without waking other threads, for callers that already share the work out.
///
/// # Panics
/// When the shapes disagree or reach past their slices.
pub fn gemm_on_this_thread(out: Out, a: Mat, b: Mat, start: Start, precision: Precision) {
    assert_eq!(a.cols, b.rows, "inner sizes differ");
    if let Some(raw) = checked(out, a, b, start) {
        // SAFETY: the output was checked to hold (m, n), and is borrowed mutably.
        unsafe { block(raw, a, b, start, precision) }
    }
}

/// One product on this thread.
///
/// # Safety
/// `out` must be valid for writing (and, for `Start::Old`, reading) `a.rows` rows of `b.cols`.
pub(crate) unsafe fn block(out: RawOut, a: Mat, b: Mat, start: Start, precision: Precision) {
    match precision {
        // SAFETY: passed on from the caller.
        Precision::F32 => unsafe { f32_block(out, a, b, start, 1) },
        // SAFETY: passed on from the caller.
        Precision::Bf16 => unsafe { bf16_columns(out, a, (&b, b.cols), start) },
    }
}

/// With so few rows it is the right operand that need not be laid out anew (measured with 256 to
/// 1,024 inner elements).
const FEW_ROWS: usize = 64;

/// # Safety
/// As [`block`].
unsafe fn f32_block(out: RawOut, a: Mat, b: Mat, start: Start, n_threads: usize) {
    let (m, n) = (a.rows, b.cols);
    if m > 1 && m <= FEW_ROWS && b.row_stride == 1 && !matches!(start, Start::Old) {
        // SAFETY: passed on from the caller.
        return unsafe { few_rows(out, a, b, start) };
    }
    if let Start::Bias(bias) = start {
        for i in 0..m {
            // SAFETY: row i of the output, n elements, is ours to write.
            unsafe {
                std::ptr::copy_nonoverlapping(bias.as_ptr(), out.ptr.add(i * out.row_stride), n);
            }
        }
    }
    let how = (!matches!(start, Start::Zero), n_threads);
    // SAFETY: passed on from the caller.
    unsafe { library(out.ptr, (out.row_stride, 1), (a, b), how) };
}

/// The library lays out anew what it takes for the left operand of a result by columns: the right
/// one where a result by rows is asked for. So a result by columns is, and turned afterwards.
///
/// # Safety
/// As [`block`]; the output's old values do not count.
unsafe fn few_rows(out: RawOut, a: Mat, b: Mat, start: Start) {
    thread_local! {
        static COLUMNS: RefCell<Vec<f32>> = RefCell::default();
    }
    let (m, n) = (a.rows, b.cols);
    COLUMNS.with_borrow_mut(|columns| {
        columns.resize(m * n, 0.0);
        // SAFETY: the scratch has room for n columns of m.
        unsafe { library(columns.as_mut_ptr(), (1, m), (a, b), (false, 1)) };
        for i in 0..m {
            // SAFETY: row i of the output, n elements, is ours to write.
            let row = unsafe { std::slice::from_raw_parts_mut(out.ptr.add(i * out.row_stride), n) };
            let of_row = columns.iter().skip(i).step_by(m);
            match start {
                Start::Bias(bias) => {
                    let pairs = of_row.zip(bias);
                    row.iter_mut().zip(pairs).for_each(|(to, (sum, bias))| *to = sum + bias);
                }
                _ => row.iter_mut().zip(of_row).for_each(|(to, sum)| *to = *sum),
            }
        }
    });
}

/// The `gemm` crate's product over so many threads, added to what is there if `add`; `strides` are
/// those from row to row and from column to column of the output.
///
/// # Safety
/// `out` is valid for writing (and reading, if `add`) `a.rows` rows of `b.cols`; the operands lie
/// inside their slices.
unsafe fn library(
    out: *mut f32,
    strides: (usize, usize),
    (a, b): (Mat, Mat),
    (add, n_threads): (bool, usize),
) {
    let parallelism = match n_threads {
        0 | 1 => gemm::Parallelism::None,
        n => gemm::Parallelism::Rayon(n),
    };
    // SAFETY: passed on from the caller.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out,
            strides.1 as isize,
            strides.0 as isize,
            add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Side of an output block: two by two tiles.
const BLOCK: usize = 32;
/// Inner elements packed at a time: two row tiles of this length stay in the L1 cache.
const MAX_K: usize = 768;
/// Elements of the packed right operand: 1 MiB, half the L2 cache.
const MAX_PANEL: usize = 512 * 1024;

#[derive(Default)]
struct Scratch {
    a: Vec<PackedLine>,
    b: Vec<PackedLine>,
    bias: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The right operand of a product in bf16, laid out in tiles a part at a time.
pub(crate) trait Columns {
    /// Inner elements `k0..k0+kc` of columns `n0..n0+nc`, as [`pack_columns`] lays them out; `k0`
    /// and `n0` are multiples of [`BLOCK`].
    fn pack(&self, to: &mut Vec<PackedLine>, k: (usize, usize), n: (usize, usize));
}

impl Columns for Mat<'_> {
    fn pack(&self, to: &mut Vec<PackedLine>, k: (usize, usize), n: (usize, usize)) {
        pack_columns(to, *self, k, n);
    }
}

/// `out = start + a · b` in bf16 on this thread, for `n` columns of `b`.
///
/// # Safety
/// As [`block`].
pub(crate) unsafe fn bf16_columns(
    out: RawOut,
    a: Mat,
    (b, n): (&impl Columns, usize),
    start: Start,
) {
    SCRATCH.with_borrow_mut(|scratch| {
        // SAFETY: passed on from the caller.
        unsafe { bf16_block(out, a, (b, n), start, scratch) }
    });
}

/// # Safety
/// As [`block`].
unsafe fn bf16_block(
    out: RawOut,
    a: Mat,
    (b, n): (&impl Columns, usize),
    start: Start,
    scratch: &mut Scratch,
) {
    let (m, k) = (a.rows, a.cols);
    let k_step = k.div_ceil(k.div_ceil(MAX_K).max(1)).next_multiple_of(BLOCK).max(BLOCK);
    let n_step = (MAX_PANEL / k_step / BLOCK).max(1) * BLOCK;
    let _tiles = tile::Session::new();
    for n0 in (0..n).step_by(n_step) {
        let nc = n_step.min(n - n0);
        // With k = 0 there is still the start to write, so one empty pass is made.
        for k0 in (0..k.max(1)).step_by(k_step) {
            let kc = k_step.min(k - k0);
            let n_k = kc.div_ceil(BLOCK);
            b.pack(&mut scratch.b, (k0, kc), (n0, nc));
            let start = match start {
                _ if k0 > 0 => Start::Old,
                Start::Bias(bias) => {
                    scratch.bias.clear();
                    scratch.bias.extend_from_slice(&bias[n0..n0 + nc]);
                    scratch.bias.resize(nc.next_multiple_of(BLOCK), 0.0);
                    Start::Bias(&scratch.bias)
                }
                other => other,
            };
            for m0 in (0..m).step_by(BLOCK) {
                let mc = BLOCK.min(m - m0);
                pack_rows(&mut scratch.a, a, (m0, mc), (k0, kc));
                for j in (0..nc).step_by(BLOCK) {
                    let right = &scratch.b[j / BLOCK * n_k * 32..][..n_k * 32];
                    let start = match start {
                        Start::Bias(bias) => Start::Bias(&bias[j..j + BLOCK]),
                        other => other,
                    };
                    // SAFETY: rows m0..m0+mc and columns n0+j.. lie in the caller's output.
                    unsafe {
                        let to = out.offset(m0 * out.row_stride + n0 + j);
                        let size = (mc, BLOCK.min(nc - j));
                        tile::multiply(to, size, (&scratch.a[..n_k * 32], right), start);
                    }
                }
            }
        }
    }
}
