//! 4-bit weights beside 8-bit activations.
//!
//! Quants lie in fours of inner elements, each four for all sixteen outputs; a byte holds an
//! element of one four (low half) and of the next (high half). Weights are kept unsigned, 8 too
//! large; what that adds to a block's sum is taken off at its start.

use super::{BLOCK, Coding, GROUP, SCALES, padded, round_even};

pub(super) struct Q4;

/// Largest rounded activation. Sixteen products with up to 15 stay inside an i16.
const TOP: f32 = 127.0;

/// The byte and the shift of weight `i` of output `lane`.
fn at(lane: usize, i: usize) -> (usize, usize) {
    ((i / 8 * GROUP + lane) * 4 + i % 4, i / 4 % 2 * 4)
}

impl Coding for Q4 {
    const BLOCK_BYTES: usize = SCALES + GROUP * BLOCK / 2;
    type Activation = i8;

    fn write(quants: &mut [u8], lane: usize, i: usize, x: f32) {
        let (byte, shift) = at(lane, i);
        quants[byte] |= ((x + 8.5) as u8).min(15) << shift;
    }

    fn read(quants: &[u8], lane: usize, i: usize) -> i32 {
        let (byte, shift) = at(lane, i);
        i32::from(quants[byte] >> shift & 15) - 8
    }

    fn scale(top: f32) -> f32 {
        top / -8.0
    }

    fn round(quants: &mut [i8], of: (&mut [f32], &mut [i32]), x: &[f32]) {
        round_row(quants, of, x);
    }
}

simd! {
    fn round_row(quants: &mut [i8], of: (&mut [f32], &mut [i32]), x: &[f32]) {
        let of = of.0.iter_mut().zip(of.1);
        let blocks = x.chunks(BLOCK).zip(quants.chunks_exact_mut(BLOCK));
        for ((x, q), (scale, start)) in blocks.zip(of) {
            let (padded, inverse) = padded(x, TOP, scale);
            let mut sums = [0i16; BLOCK];
            for ((q, sum), &v) in q.iter_mut().zip(&mut sums).zip(&padded) {
                *sum = round_even(v * inverse) as i16;
                *q = *sum as i8;
            }
            // The first two of each four meet in one 16-bit sum, the last two in another.
            for half in [16, 8, 4] {
                for i in 0..half {
                    sums[i] += sums[i + half];
                }
            }
            let [a, b] = [sums[0] + sums[1], sums[2] + sums[3]];
            let [a, b] = [a, b].map(|sum| u32::from((-8 * sum).cast_unsigned()));
            *start = (a | b << 16).cast_signed();
        }
    }
}
