//! 4-bit weights beside 8-bit activations.
//!
//! Quants lie in fours of inner elements, each four for all sixteen outputs; a byte holds an
//! element of one four (low half) and of the next (high half). Weights are kept unsigned, 8 too
//! large; what that adds to a block's sum is taken off at its start.

use super::{BLOCK, Coding, GROUP, SCALES, Tile, padded, round_even};

pub(super) struct Q4;

/// Largest rounded activation. Sixteen products with up to 15 stay inside an i16.
const TOP: f32 = 127.0;

/// The byte and the shift of weight `i` of output `lane`.
fn at(lane: usize, i: usize) -> (usize, usize) {
    ((i / 8 * GROUP + lane) * 4 + i % 4, i / 4 % 2 * 4)
}

impl Coding for Q4 {
    const BLOCK_BYTES: usize = SCALES + GROUP * BLOCK / 2;
    const MAX_ROWS: usize = 4;
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

    fn multiply(tile: &Tile<i8>, sums: &mut [[f32; GROUP]]) -> Option<()> {
        #[cfg(target_arch = "x86_64")]
        if crate::level() >= crate::Level::Avx2 {
            // SAFETY: the level says AVX2 and F16C are there.
            unsafe { avx2::multiply(tile, sums) };
            return Some(());
        }
        None
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

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! Fours of 8-bit products summed in 16 bits (`vpmaddubsw`): 32 products an instruction. A
    //! whole block is summed before it is widened; sums may wrap on the way but not at the end.

    use super::{BLOCK, Coding, GROUP, Q4, SCALES, Tile};
    use crate::quant::avx2::{add_scaled, ask_for, store};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn multiply(tile: &Tile<i8>, sums: &mut [[f32; GROUP]]) {
        match sums.len() {
            1 => rows::<1>(tile, sums),
            2 => rows::<2>(tile, sums),
            3 => rows::<3>(tile, sums),
            4 => rows::<4>(tile, sums),
            n => unreachable!("a tile of {n} rows"),
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn rows<const R: usize>(tile: &Tile<i8>, sums: &mut [[f32; GROUP]]) {
        let n = tile.n_blocks;
        assert!(tile.x.len() == R * n * BLOCK && tile.scales.len() == R * n && sums.len() == R);
        assert!(tile.blocks.len() == n * Q4::BLOCK_BYTES && tile.starts.len() == R * n);
        let (low, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        let mut totals = [[_mm256_setzero_ps(); 2]; R];
        for b in 0..n {
            let mut acc = [[_mm256_setzero_si256(); 2]; R];
            // SAFETY: checked above: R rows of n blocks, and b is below n.
            unsafe {
                for (r, acc) in acc.iter_mut().enumerate() {
                    *acc = [_mm256_set1_epi32(*tile.starts.get_unchecked(r * n + b)); 2];
                }
                let block = tile.blocks.as_ptr().add(b * Q4::BLOCK_BYTES);
                if R == 1 {
                    ask_for::<{ Q4::BLOCK_BYTES }>(block);
                }
                let x = tile.x.as_ptr().add(b * BLOCK);
                for eight in 0..BLOCK / 8 {
                    let quants: *const __m256i = block.add(SCALES + eight * 4 * GROUP).cast();
                    let both = [_mm256_loadu_si256(quants), _mm256_loadu_si256(quants.add(1))];
                    let lows = [_mm256_and_si256(both[0], low), _mm256_and_si256(both[1], low)];
                    let highs = [
                        _mm256_and_si256(_mm256_srli_epi16::<4>(both[0]), low),
                        _mm256_and_si256(_mm256_srli_epi16::<4>(both[1]), low),
                    ];
                    for (i, w) in [lows, highs].into_iter().enumerate() {
                        for (r, acc) in acc.iter_mut().enumerate() {
                            let x = x.add(r * n * BLOCK + 8 * eight + 4 * i).cast::<i32>();
                            let x = _mm256_set1_epi32(x.read_unaligned());
                            acc[0] = _mm256_add_epi16(acc[0], _mm256_maddubs_epi16(w[0], x));
                            acc[1] = _mm256_add_epi16(acc[1], _mm256_maddubs_epi16(w[1], x));
                        }
                    }
                }
                for acc in acc.iter_mut() {
                    *acc = [_mm256_madd_epi16(acc[0], ones), _mm256_madd_epi16(acc[1], ones)];
                }
                add_scaled(&mut totals, &acc, block, |r| *tile.scales.get_unchecked(r * n + b));
            }
        }
        store(sums, &totals);
    }
}
