//! What the AVX2 bodies of both formats end a block and a tile with.

use std::arch::x86_64::*;

use super::GROUP;

/// `totals += dots · scales`: `dots` are a block's integer sums, `block` begins with the scales of
/// its sixteen outputs, `x_scale` gives that of each row's activations.
///
/// # Safety
/// `block` points to the scales of a whole group.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn add_scaled<const R: usize>(
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

/// Asks memory for the `BYTES` that a lone row comes to some blocks later: it waits for memory
/// and for nothing else, and the processor's own look-ahead ends with each page.
#[inline(always)]
pub(super) fn ask_for<const BYTES: usize>(block: *const u8) {
    const AHEAD: usize = 2048;
    for at in (0..BYTES).step_by(64) {
        // SAFETY: a hint, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(AHEAD + at).cast()) };
    }
}

/// The totals of each row to memory.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn store<const R: usize>(sums: &mut [[f32; GROUP]], totals: &[[__m256; 2]; R]) {
    for (sums, totals) in sums.iter_mut().zip(totals) {
        // SAFETY: sixteen floats are written to an array of sixteen.
        unsafe {
            _mm256_storeu_ps(sums.as_mut_ptr(), totals[0]);
            _mm256_storeu_ps(sums.as_mut_ptr().add(8), totals[1]);
        }
    }
}
