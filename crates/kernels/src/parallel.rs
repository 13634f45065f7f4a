//! Splits rows over rayon's threads when there is more than one and enough work; else runs inline.

use rayon::prelude::*;

/// Fewest floats worth waking another thread for.
const GRAIN: usize = 1 << 15;

/// Rows each task takes, or `None` when one thread should do them all.
pub(crate) fn rows_per_task(n_rows: usize, width: usize) -> Option<usize> {
    let n_threads = rayon::current_num_threads();
    if n_threads < 2 || n_rows < 2 || n_rows * width < 2 * GRAIN {
        return None;
    }
    let tasks = (n_rows * width / GRAIN).clamp(2, 4 * n_threads).min(n_rows);
    Some(n_rows.div_ceil(tasks))
}

/// Calls `f(first_row, out_rows)` for blocks of rows of `out`, each row `width` floats.
pub(crate) fn rows(out: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync + Send) {
    match rows_per_task(out.len() / width.max(1), width) {
        None => f(0, out),
        Some(n) => {
            out.par_chunks_mut(n * width).enumerate().for_each(|(i, block)| f(i * n, block));
        }
    }
}

/// Like [`rows`] with two outputs of the same width.
pub(crate) fn rows2(
    a: &mut [f32],
    b: &mut [f32],
    width: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync + Send,
) {
    match rows_per_task(a.len() / width.max(1), width) {
        None => f(0, a, b),
        Some(n) => a
            .par_chunks_mut(n * width)
            .zip(b.par_chunks_mut(n * width))
            .enumerate()
            .for_each(|(i, (a, b))| f(i * n, a, b)),
    }
}
