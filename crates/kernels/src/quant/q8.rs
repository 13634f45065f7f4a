//! 8-bit weights beside 16-bit activations.
//!
//! Quants lie in pairs of inner elements, each pair for all sixteen outputs, so that one load
//! widened to 16 bits meets one broadcast pair of activations.

use super::{BLOCK, Coding, GROUP, SCALES, Tile, padded, round_even};

pub(super) struct Q8;

/// Largest rounded activation: a sum of 32 products with ±127 stays far inside an i32.
const TOP: f32 = 32767.0;

fn at(lane: usize, i: usize) -> usize {
    (i / 2 * GROUP + lane) * 2 + i % 2
}

impl Coding for Q8 {
    const BLOCK_BYTES: usize = SCALES + GROUP * BLOCK;
    const MAX_ROWS: usize = 6;
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

    fn multiply(tile: &Tile<i16>, sums: &mut [[f32; GROUP]]) -> Option<()> {
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
    fn round_row(quants: &mut [i16], scales: &mut [f32], x: &[f32]) {
        for ((x, q), scale) in x.chunks(BLOCK).zip(quants.chunks_exact_mut(BLOCK)).zip(scales) {
            let (padded, inverse) = padded(x, TOP, scale);
            for (q, &v) in q.iter_mut().zip(&padded) {
                *q = round_even(v * inverse) as i16;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! Pairs of 16-bit products summed to 32 bits (`vpmaddwd`): sixteen products an instruction,
    //! twice what f32 does.

    use super::{BLOCK, Coding, GROUP, Q8, SCALES, Tile};
    use crate::quant::avx2::{add_scaled, ask_for, store};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn multiply(tile: &Tile<i16>, sums: &mut [[f32; GROUP]]) {
        match sums.len() {
            1 => rows::<1>(tile, sums),
            2 => rows::<2>(tile, sums),
            3 => rows::<3>(tile, sums),
            4 => rows::<4>(tile, sums),
            5 => rows::<5>(tile, sums),
            6 => rows::<6>(tile, sums),
            n => unreachable!("a tile of {n} rows"),
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn rows<const R: usize>(tile: &Tile<i16>, sums: &mut [[f32; GROUP]]) {
        let n = tile.n_blocks;
        assert!(tile.x.len() == R * n * BLOCK && tile.scales.len() == R * n && sums.len() == R);
        assert!(tile.blocks.len() == n * Q8::BLOCK_BYTES);
        let mut totals = [[_mm256_setzero_ps(); 2]; R];
        for b in 0..n {
            let mut acc = [[_mm256_setzero_si256(); 2]; R];
            // SAFETY: checked above: R rows of n blocks, and b is below n.
            unsafe {
                let block = tile.blocks.as_ptr().add(b * Q8::BLOCK_BYTES);
                if R == 1 {
                    ask_for::<{ Q8::BLOCK_BYTES }>(block);
                }
                let x = tile.x.as_ptr().add(b * BLOCK);
                for pair in 0..BLOCK / 2 {
                    let quants: *const __m128i = block.add(SCALES + pair * 2 * GROUP).cast();
                    let w = [
                        _mm256_cvtepi8_epi16(_mm_loadu_si128(quants)),
                        _mm256_cvtepi8_epi16(_mm_loadu_si128(quants.add(1))),
                    ];
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let x = x.add(r * n * BLOCK + 2 * pair).cast::<i32>();
                        let x = _mm256_set1_epi32(x.read_unaligned());
                        acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(w[0], x));
                        acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(w[1], x));
                    }
                }
                add_scaled(&mut totals, &acc, block, |r| *tile.scales.get_unchecked(r * n + b));
            }
        }
        store(sums, &totals);
    }
}
