//! Linear layers with weights of 8 or 4 bits, as llama.cpp's Q8_0 and Q4_0 have them: 32 inner
//! elements share one f16 scale.
//!
//! The one copy of the weights is packed for both uses, a token at a time (memory decides) and a
//! prompt at a time (arithmetic decides). Activations are rounded a block of 32 at a time, to 16
//! bits beside 8-bit weights (the only error left is that of the weights) and to 8 bits beside
//! 4-bit ones. Sums of a block are exact integers and every body adds blocks in the same order, so
//! one row gives the same bits alone, in a batch and on every processor. Where a caller allows
//! bf16 and the processor has tiles of it, many rows are multiplied in those instead (`tiles`).
//!
//! Shapes: `M` rows of activations, `N` outputs, `K` inner elements.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod body;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod product;
mod q4;
mod q8;
#[cfg(target_arch = "x86_64")]
mod tiles;

pub use pack::{Format, Packed, pack, pack_into, packed_len};
pub use product::product;

use crate::buffer::Plain;

/// Inner elements under one scale.
pub const BLOCK: usize = 32;
/// Outputs packed side by side.
pub const GROUP: usize = 16;
/// Bytes of the f16 scales of one block of one group; its quants follow.
const SCALES: usize = 2 * GROUP;

/// What differs between the formats.
trait Coding {
    /// Bytes of one block of one group: scales, then quants.
    const BLOCK_BYTES: usize;
    /// A rounded activation.
    type Activation: Plain + Send + Sync + Into<i32>;

    /// Writes weight `i` of output `lane` into a block's zeroed quants; `x` is weight / scale.
    fn write(quants: &mut [u8], lane: usize, i: usize, x: f32);

    /// The weight that [`Coding::write`] wrote, as a multiple of the scale.
    fn read(quants: &[u8], lane: usize, i: usize) -> i32;

    /// The scale of a block of weights, given its largest in magnitude.
    fn scale(top: f32) -> f32;

    /// Rounds rows of whole blocks: quants, a scale for each block, and what its sums begin with.
    fn round(quants: &mut [Self::Activation], of: (&mut [f32], &mut [i32]), x: &[f32]);
}

/// A block filled up with zeros, its scale when the largest magnitude becomes `top`, and what to
/// multiply by for that.
#[inline(always)]
fn padded(x: &[f32], top: f32, scale: &mut f32) -> ([f32; BLOCK], f32) {
    let mut padded = [0f32; BLOCK];
    padded[..x.len()].copy_from_slice(x);
    let largest = largest(&padded);
    *scale = largest / top;
    (padded, if largest > 0.0 { top / largest } else { 0.0 })
}

/// Largest magnitude in a block.
#[inline(always)]
fn largest(x: &[f32; BLOCK]) -> f32 {
    let mut tops = [0f32; 8];
    for eight in x.as_chunks::<8>().0 {
        for (top, v) in tops.iter_mut().zip(eight) {
            *top = if v.abs() > *top { v.abs() } else { *top };
        }
    }
    tops.iter().fold(0f32, |a, &b| if b > a { b } else { a })
}

/// To the nearest integer, ties to even, for |x| up to 2²².
#[inline(always)]
fn round_even(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    ((x + MAGIC).to_bits().cast_signed()).wrapping_sub(MAGIC.to_bits().cast_signed())
}
