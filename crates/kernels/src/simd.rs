//! `simd!` compiles one plain loop three times (portable, AVX2, AVX-512) and picks at run time.
//! The loops use no fused multiply-add and sum in sixteen fixed lanes, so every body gives the
//! same bits.

/// Number of partial sums in a reduction: one AVX-512 register.
pub(crate) const LANES: usize = 16;

macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?)
        $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn portable($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { portable($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { portable($($arg),*) }

                let level = $crate::level();
                if level >= $crate::Level::Avx512 {
                    // SAFETY: `level` is at least Avx512, so the processor has these features.
                    return unsafe { avx512($($arg),*) };
                }
                if level >= $crate::Level::Avx2 {
                    // SAFETY: `level` is at least Avx2, so the processor has these features.
                    return unsafe { avx2($($arg),*) };
                }
            }
            portable($($arg),*)
        }
    };
}

/// Sum of `f(i)` over `0..n` in sixteen lanes.
#[inline(always)]
pub(crate) fn sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = n / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for (j, lane) in lanes.iter_mut().enumerate() {
            *lane += f(i + j);
        }
        i += LANES;
    }
    let mut total = total(lanes);
    for i in whole..n {
        total += f(i);
    }
    total
}

/// The sum of the lanes, in halves.
#[inline(always)]
fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Sum of `a[i] · b[i]`.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (blocks_a, rest_a) = a.as_chunks::<LANES>();
    let (blocks_b, rest_b) = b.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for (a, b) in blocks_a.iter().zip(blocks_b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    rest_a.iter().zip(rest_b).fold(total(lanes), |sum, (a, b)| sum + a * b)
}

/// [`dot`] of `q` with each row of `rows (S, d)`.
pub(crate) fn dots(out: &mut [f32], q: &[f32], rows: &[f32]) {
    assert!(rows.len() == out.len() * q.len());
    #[cfg(target_arch = "x86_64")]
    if q.len().is_multiple_of(LANES) && crate::level() >= crate::Level::Avx2 {
        // SAFETY: the level says AVX2 is there, and the sizes were checked.
        return unsafe { dots_avx2(out, q, rows) };
    }
    for (out, row) in out.iter_mut().zip(rows.chunks_exact(q.len().max(1))) {
        *out = dot(q, row);
    }
}

/// Four rows at a time, whose lanes are summed side by side in the order of [`total`]. By hand,
/// because compilers make of the plain loop one that loads two lanes at a time.
///
/// # Safety
/// The processor has AVX2; `rows` holds `out.len()` rows of `q.len()`, a multiple of [`LANES`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn dots_avx2(out: &mut [f32], q: &[f32], rows: &[f32]) {
    use std::arch::x86_64::*;
    let width = q.len();
    // SAFETY: rows and lanes stay below the sizes that the caller promises.
    let quarter = |row: *const f32| unsafe {
        let mut sums = [_mm256_setzero_ps(); 2];
        for i in (0..width).step_by(LANES) {
            for (half, sum) in sums.iter_mut().enumerate() {
                let (q, x) = (q.as_ptr().add(i + 8 * half), row.add(i + 8 * half));
                let product = _mm256_mul_ps(_mm256_loadu_ps(q), _mm256_loadu_ps(x));
                *sum = _mm256_add_ps(*sum, product);
            }
        }
        let sum = _mm256_add_ps(sums[0], sums[1]);
        _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum))
    };
    let (fours, rest) = out.as_chunks_mut::<4>();
    let mut row = rows.as_ptr();
    for out in fours {
        // SAFETY: as above; four floats are written to an array of four.
        unsafe {
            let at = |i: usize| row.add(i * width);
            let [a, b, c, d] = [quarter(at(0)), quarter(at(1)), quarter(at(2)), quarter(at(3))];
            let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
            let (ab2, cd2) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
            let (first, second) = (_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
            let (third, fourth) = (_mm_movelh_ps(ab2, cd2), _mm_movehl_ps(cd2, ab2));
            let sum = _mm_add_ps(_mm_add_ps(first, third), _mm_add_ps(second, fourth));
            _mm_storeu_ps(out.as_mut_ptr(), sum);
            row = at(4);
        }
    }
    let last = rows.len() - rest.len() * width;
    for (out, row) in rest.iter_mut().zip(rows[last..].chunks_exact(width)) {
        *out = dot(q, row);
    }
}

/// Largest of `x`, or negative infinity when it is empty.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &v) in lanes.iter_mut().zip(block) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}
