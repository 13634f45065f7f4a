//! AVX2: the sums of a row's sixteen outputs are two registers.

use std::arch::x86_64::*;

use super::body::{Bodies, Body, Tile, ask_for, for_rows};
use super::q4::Q4;
use super::q8::Q8;
use super::{BLOCK, Coding, GROUP, SCALES};

pub(super) const BODIES: Bodies =
    Bodies { q8: Body { max_rows: 6, multiply: q8 }, q4: Body { max_rows: 4, multiply: q4 } };

/// Pairs of 16-bit products summed to 32 bits (`vpmaddwd`): sixteen products an instruction, twice
/// what f32 does.
#[target_feature(enable = "avx2,fma,f16c")]
fn q8(tile: &Tile<i16>, sums: &mut [[f32; GROUP]]) {
    for_rows!(sums: 1 2 3 4 5 6, R => q8_rows::<R>(tile, sums));
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q8_rows<const R: usize>(tile: &Tile<i16>, sums: &mut [[f32; GROUP]]) {
    let n = tile.checked::<Q8>(R, sums);
    let mut totals = [[_mm256_setzero_ps(); 2]; R];
    for b in 0..n {
        let mut acc = [[_mm256_setzero_si256(); 2]; R];
        // SAFETY: checked above: R rows of n blocks, and b is below n.
        unsafe {
            let block = tile.blocks.as_ptr().add(b * Q8::BLOCK_BYTES);
            if R == 1 {
                ask_for::<Q8>(block);
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

/// Fours of 8-bit products summed in 16 bits (`vpmaddubsw`): 32 products an instruction. A whole
/// block is summed before it is widened; sums may wrap on the way but not at the end.
#[target_feature(enable = "avx2,fma,f16c")]
fn q4(tile: &Tile<i8>, sums: &mut [[f32; GROUP]]) {
    for_rows!(sums: 1 2 3 4, R => q4_rows::<R>(tile, sums));
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q4_rows<const R: usize>(tile: &Tile<i8>, sums: &mut [[f32; GROUP]]) {
    let n = tile.checked::<Q4>(R, sums);
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
                ask_for::<Q4>(block);
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

/// `totals += dots · scales`: `dots` are a block's integer sums, `block` begins with the scales of
/// its sixteen outputs, `x_scale` gives that of each row's activations.
///
/// # Safety
/// `block` points to the scales of a whole group.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_scaled<const R: usize>(
    totals: &mut [[__m256; 2]; R],
    dots: &[[__m256i; 2]; R],
    block: *const u8,
    x_scale: impl Fn(usize) -> f32,
) {
    let scales: *const __m128i = block.cast();
    // SAFETY: sixteen f16 scales are read, as the caller promises.
    let scales = unsafe {
        [_mm256_cvtph_ps(_mm_loadu_si128(scales)), _mm256_cvtph_ps(_mm_loadu_si128(scales.add(1)))]
    };
    for (r, (totals, dots)) in totals.iter_mut().zip(dots).enumerate() {
        let scale = _mm256_set1_ps(x_scale(r));
        for i in 0..2 {
            let scale = _mm256_mul_ps(scales[i], scale);
            let part = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[i]), scale);
            totals[i] = _mm256_add_ps(totals[i], part);
        }
    }
}

/// The totals of each row to memory.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn store<const R: usize>(sums: &mut [[f32; GROUP]], totals: &[[__m256; 2]; R]) {
    for (sums, totals) in sums.iter_mut().zip(totals) {
        // SAFETY: sixteen floats are written to an array of sixteen.
        unsafe {
            _mm256_storeu_ps(sums.as_mut_ptr(), totals[0]);
            _mm256_storeu_ps(sums.as_mut_ptr().add(8), totals[1]);
        }
    }
}
