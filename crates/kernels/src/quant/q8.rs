//! 8-bit weights beside 16-bit activations.
//!
//! Quants lie in pairs of inner elements, each pair for all sixteen outputs, so that one load
//! widened to 16 bits meets one broadcast pair of activations.

use super::{BLOCK, Coding, GROUP, SCALES, padded, round_even};

pub(super) struct Q8;

/// Largest rounded activation: a sum of 32 products with ±127 stays far inside an i32.
const TOP: f32 = 32767.0;

fn at(lane: usize, i: usize) -> usize {
    (i / 2 * GROUP + lane) * 2 + i % 2
}

impl Coding for Q8 {
    const BLOCK_BYTES: usize = SCALES + GROUP * BLOCK;
    type Activation = i16;

    fn write(quants: &mut [u8], lane: usize, i: usize, x: f32) {
        quants[at(lane, i)] = (x.round() as i8).cast_unsigned();
    }

    fn read(quants: &[u8], lane: usize, i: usize) -> i32 {
        i32::from(quants[at(lane, i)].cast_signed())
    }

    fn scale(top: f32) -> f32 {
        top.abs() / 127.0
    }

    fn round(quants: &mut [i16], of: (&mut [f32], &mut [i32]), x: &[f32]) {
        round_row(quants, of.0, x);
    }
}

simd! {
    fn round_row(quants: &mut [i16], scales: &mut [f32], x: &[f32]) {
        for ((x, q), scale) in x.chunks(BLOCK).zip(quants.chunks_exact_mut(BLOCK)).zip(scales) {
            let (padded, inverse) = padded(x, TOP, scale);
            for (q, &v) in q.iter_mut().zip(&padded) {
                *q = round_even(v * inverse) as i16;
            }
        }
    }
}
