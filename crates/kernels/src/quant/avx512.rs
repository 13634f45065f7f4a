//! AVX-512 with dot products of integers (VNNI): the sums of a row's sixteen outputs are one
//! register, and an instruction adds to each a pair of 16-bit products or four of 8 bits.
//!
//! The few processors that have AVX-512 without VNNI keep the AVX2 body: what its wider
//! multiplications gain there, their lower clock and one unit less for them take back.

use std::arch::asm;
use std::arch::x86_64::*;

use super::body::{Bodies, Body, Tile, ask_for, for_rows};
use super::q4::Q4;
use super::q8::Q8;
use super::{BLOCK, Coding, GROUP, SCALES};

pub(super) const BODIES: Bodies = Bodies {
    q8: Body { max_rows: MAX_ROWS, multiply: multiply::<Q8> },
    q4: Body { max_rows: MAX_ROWS, multiply: multiply::<Q4> },
};

/// Rows that [`multiply`] takes at once.
pub(super) const MAX_ROWS: usize = 8;

/// Bytes of quants that [`Dots::weights`] takes.
pub(super) const LINE: usize = 64;

/// What differs between the formats.
pub(super) trait Dots: Coding {
    /// A line of quants as the weights of two steps. A step takes four bytes of activations.
    ///
    /// # Safety
    /// The processor has VNNI and `quants` points to a whole line.
    unsafe fn weights(quants: *const u8) -> [__m512i; 2];

    /// `sums` and the products of one step.
    ///
    /// # Safety
    /// The processor has VNNI.
    unsafe fn dot(sums: __m512i, weights: __m512i, x: __m512i) -> __m512i;
}

impl Dots for Q8 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn weights(quants: *const u8) -> [__m512i; 2] {
        let pairs: *const __m256i = quants.cast();
        // SAFETY: a line is two of them.
        let pairs = unsafe { [_mm256_loadu_si256(pairs), _mm256_loadu_si256(pairs.add(1))] };
        [_mm512_cvtepi8_epi16(pairs[0]), _mm512_cvtepi8_epi16(pairs[1])]
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn dot(mut sums: __m512i, weights: __m512i, x: __m512i) -> __m512i {
        // In assembly because the compiler takes the intrinsic apart again into a multiplication
        // and an addition, which is twice the work.
        // SAFETY: the instruction is there, as the caller promises; only `sums` changes.
        unsafe {
            asm!(
                "vpdpwssd {sums}, {weights}, {x}",
                sums = inout(zmm_reg) sums, weights = in(zmm_reg) weights, x = in(zmm_reg) x,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sums
    }
}

impl Dots for Q4 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn weights(quants: *const u8) -> [__m512i; 2] {
        let low = _mm512_set1_epi8(15);
        // SAFETY: a line is one register.
        let both = unsafe { _mm512_loadu_si512(quants.cast()) };
        [_mm512_and_si512(both, low), _mm512_and_si512(_mm512_srli_epi16::<4>(both), low)]
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn dot(sums: __m512i, weights: __m512i, x: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(sums, weights, x)
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn multiply<C: Dots>(tile: &Tile<C::Activation>, sums: &mut [[f32; GROUP]]) {
    for_rows!(sums: 1 2 3 4 5 6 7 8, R => rows::<C, R>(tile, sums));
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn rows<C: Dots, const R: usize>(tile: &Tile<C::Activation>, sums: &mut [[f32; GROUP]]) {
    let n = tile.checked::<C>(R, sums);
    let row_steps = n * BLOCK * size_of::<C::Activation>() / 4;
    let mut totals = [_mm512_setzero_ps(); R];
    for b in 0..n {
        // SAFETY: checked above: R rows of n blocks, and b is below n.
        unsafe {
            // Two sums in turns, so that a step need not wait for the one before.
            let mut acc = [[_mm512_setzero_si512(); 2]; R];
            for (r, acc) in acc.iter_mut().enumerate() {
                acc[0] = start(*tile.starts.get_unchecked(r * n + b));
            }
            let block = tile.blocks.as_ptr().add(b * C::BLOCK_BYTES);
            if R == 1 {
                ask_for::<C>(block);
            }
            let x: *const i32 = tile.x.as_ptr().add(b * BLOCK).cast();
            for line in 0..(C::BLOCK_BYTES - SCALES) / LINE {
                let weights = C::weights(block.add(SCALES + line * LINE));
                for (i, weights) in weights.into_iter().enumerate() {
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let x = x.add(r * row_steps + 2 * line + i).read_unaligned();
                        acc[i] = C::dot(acc[i], weights, _mm512_set1_epi32(x));
                    }
                }
            }
            let scales = scales(block);
            for (r, (total, acc)) in totals.iter_mut().zip(acc).enumerate() {
                let acc = _mm512_add_epi32(acc[0], acc[1]);
                *total = add_scaled(*total, acc, scales, *tile.scales.get_unchecked(r * n + b));
            }
        }
    }
    for (sums, total) in sums.iter_mut().zip(totals) {
        // SAFETY: sixteen floats are written to an array of sixteen.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), total) };
    }
}

/// What the sums of a block begin with: the two halves of a start together.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn start(start: i32) -> __m512i {
    _mm512_madd_epi16(_mm512_set1_epi32(start), _mm512_set1_epi16(1))
}

/// The scales of a block's sixteen outputs.
///
/// # Safety
/// `block` points to them.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn scales(block: *const u8) -> __m512 {
    // SAFETY: sixteen f16 scales are read, as the caller promises.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(block.cast()) })
}

/// `total + dots · scales`, for a block's integer sums and the scale of the row's activations.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn add_scaled(total: __m512, dots: __m512i, scales: __m512, x_scale: f32) -> __m512 {
    let scales = _mm512_mul_ps(scales, _mm512_set1_ps(x_scale));
    _mm512_add_ps(total, _mm512_mul_ps(_mm512_cvtepi32_ps(dots), scales))
}
