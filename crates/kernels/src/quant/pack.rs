//! The packed form of a weight matrix, and the way there and back.
//!
//! Sixteen outputs form a group; of a group, block after block of 32 inner elements: sixteen f16
//! scales, then the quants in the order of the format's [`Coding`].

use half::f16;
use rayon::prelude::*;

use super::q4::Q4;
use super::q8::Q8;
use super::{BLOCK, Coding, GROUP, SCALES};

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 8.5 bits a weight: `scale · q`, q from −127 to 127.
    Q8_0,
    /// 4.5 bits a weight: `scale · (q − 8)`, q from 0 to 15.
    Q4_0,
}

impl Format {
    fn block_bytes(self) -> usize {
        match self {
            Format::Q8_0 => Q8::BLOCK_BYTES,
            Format::Q4_0 => Q4::BLOCK_BYTES,
        }
    }
}

/// A packed matrix of `rows` outputs by `cols` inner elements.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    pub(super) format: Format,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) bytes: &'a [u8],
}

/// Bytes that [`pack`] makes of (rows, cols) weights.
pub fn packed_len(format: Format, rows: usize, cols: usize) -> usize {
    rows.div_ceil(GROUP) * cols.div_ceil(BLOCK) * format.block_bytes()
}

impl<'a> Packed<'a> {
    /// `None` when the bytes are not as many as the shape needs.
    pub fn new(format: Format, (rows, cols): (usize, usize), bytes: &'a [u8]) -> Option<Self> {
        let fits = bytes.len() == packed_len(format, rows, cols);
        fits.then_some(Packed { format, rows, cols, bytes })
    }

    /// Outputs and inner elements.
    pub fn dims(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Block `at` of a group: scales and quants.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn block(&self, group: usize, at: usize) -> &'a [u8] {
        let size = self.format.block_bytes();
        &self.bytes[(group * self.cols.div_ceil(BLOCK) + at) * size..][..size]
    }

    /// The weights of one output, `out (cols)`.
    ///
    /// # Panics
    /// When there is no such row or `out` has another length.
    pub fn unpack_row(&self, row: usize, out: &mut [f32]) {
        match self.format {
            Format::Q8_0 => self.unpack_row_of::<Q8>(row, out),
            Format::Q4_0 => self.unpack_row_of::<Q4>(row, out),
        }
    }

    fn unpack_row_of<C: Coding>(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols);
        let (group, lane) = (row / GROUP, row % GROUP);
        let size = self.cols.div_ceil(BLOCK) * C::BLOCK_BYTES;
        let blocks = self.bytes[group * size..][..size].chunks_exact(C::BLOCK_BYTES);
        for (out, block) in out.chunks_mut(BLOCK).zip(blocks) {
            let scale = f16::from_le_bytes([block[2 * lane], block[2 * lane + 1]]).to_f32();
            for (i, out) in out.iter_mut().enumerate() {
                *out = scale * C::read(&block[SCALES..], lane, i) as f32;
            }
        }
    }

    /// All weights, `out (rows, cols)`.
    ///
    /// # Panics
    /// When `out` has another length.
    pub fn unpack(&self, out: &mut [f32]) {
        assert_eq!(out.len(), self.rows * self.cols);
        let rows = out.par_chunks_mut(self.cols.max(1)).enumerate();
        rows.for_each(|(row, out)| self.unpack_row(row, out));
    }
}

/// Packs `weights (rows, cols)`.
///
/// # Panics
/// When the weights are not whole rows.
pub fn pack(format: Format, weights: &[f32], cols: usize) -> Vec<u8> {
    let mut out = vec![0; packed_len(format, weights.len() / cols.max(1), cols)];
    pack_into(&mut out, format, weights, cols);
    out
}

/// As [`pack`], into bytes that are there already and all zero.
///
/// # Panics
/// When the weights are not whole rows or `out` has another length than [`packed_len`].
pub fn pack_into(out: &mut [u8], format: Format, weights: &[f32], cols: usize) {
    assert!(cols > 0 && weights.len().is_multiple_of(cols));
    assert_eq!(out.len(), packed_len(format, weights.len() / cols, cols));
    match format {
        Format::Q8_0 => pack_groups::<Q8>(out, weights, cols),
        Format::Q4_0 => pack_groups::<Q4>(out, weights, cols),
    }
}

fn pack_groups<C: Coding>(out: &mut [u8], weights: &[f32], cols: usize) {
    let group_bytes = cols.div_ceil(BLOCK) * C::BLOCK_BYTES;
    let groups = out.par_chunks_exact_mut(group_bytes).zip(weights.par_chunks(GROUP * cols));
    groups.for_each(|(out, rows)| {
        for (lane, row) in rows.chunks_exact(cols).enumerate() {
            let blocks = out.chunks_exact_mut(C::BLOCK_BYTES).zip(row.chunks(BLOCK));
            blocks.for_each(|(out, block)| pack_block::<C>(out, block, lane));
        }
    });
}

/// One block of one output, rounded as ggml's `quantize_row_q8_0_ref` and `_q4_0_ref` do.
fn pack_block<C: Coding>(out: &mut [u8], block: &[f32], lane: usize) {
    let (scales, quants) = out.split_at_mut(SCALES);
    let top = block.iter().fold(0f32, |top, &v| if v.abs() > top.abs() { v } else { top });
    let scale = C::scale(top);
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    scales[2 * lane..2 * lane + 2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    for i in 0..BLOCK {
        C::write(quants, lane, i, block.get(i).copied().unwrap_or(0.0) * inverse);
    }
}
