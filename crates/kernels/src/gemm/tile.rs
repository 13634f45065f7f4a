//! The product of two packed blocks, 32 × 32 outputs: AMX tiles, AVX512-BF16 or plain loops.

use super::pack::PackedLine;
use super::{RawOut, Start};

const SIDE: usize = 32;

#[repr(C, align(64))]
struct Edge([f32; SIDE * SIDE]);

/// Tiles configured on this thread for as long as this lives; nothing on machines without AMX.
pub(crate) struct Session {
    is_on: bool,
}

impl Session {
    pub(crate) fn new() -> Self {
        let is_on = crate::level() == crate::Level::Amx;
        if is_on {
            #[cfg(target_arch = "x86_64")]
            amx::configure();
        }
        Session { is_on }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_on {
            #[cfg(target_arch = "x86_64")]
            amx::release();
        }
    }
}

/// `out (rows, cols) = start + left · right` with `rows, cols ≤ 32`.
///
/// # Safety
/// `out` is valid for `rows` rows of `cols`; on AMX machines a [`Session`] is alive on this thread.
/// A bias holds 32 values. `left` and `right` are packed blocks of equal length.
pub(super) unsafe fn multiply(
    out: RawOut,
    (rows, cols): (usize, usize),
    (left, right): (&[PackedLine], &[PackedLine]),
    start: Start,
) {
    assert!(left.len() == right.len() && left.len().is_multiple_of(SIDE));
    let is_amx = crate::level() == crate::Level::Amx;
    #[cfg(target_arch = "x86_64")]
    if is_amx && rows == SIDE && cols == SIDE {
        // SAFETY: the output is a whole block, the rest is promised by the caller.
        return unsafe { amx::block(out, (left, right), start) };
    }
    let mut edge = Edge([0.0; SIDE * SIDE]);
    // SAFETY: only `rows` × `cols` elements of the output are read or written; `edge` is a whole
    // block of its own.
    unsafe {
        load_edge(&mut edge.0, out, (rows, cols), start);
        if is_amx {
            #[cfg(target_arch = "x86_64")]
            amx::block(
                RawOut { ptr: edge.0.as_mut_ptr(), row_stride: SIDE },
                (left, right),
                Start::Old,
            );
        } else {
            accumulate(&mut edge.0, left, right);
        }
        for i in 0..rows {
            let row = edge.0.as_ptr().add(i * SIDE);
            std::ptr::copy_nonoverlapping(row, out.ptr.add(i * out.row_stride), cols);
        }
    }
}

unsafe fn load_edge(
    edge: &mut [f32; SIDE * SIDE],
    out: RawOut,
    (rows, cols): (usize, usize),
    start: Start,
) {
    for i in 0..rows {
        let row = &mut edge[i * SIDE..][..cols];
        match start {
            Start::Zero => {}
            Start::Bias(bias) => row.copy_from_slice(&bias[..cols]),
            // SAFETY: the caller's output holds `rows` rows of `cols`.
            Start::Old => unsafe {
                let from = out.ptr.add(i * out.row_stride);
                std::ptr::copy_nonoverlapping(from, row.as_mut_ptr(), cols);
            },
        }
    }
}

/// `acc += left · right` on machines without tiles.
fn accumulate(acc: &mut [f32; SIDE * SIDE], left: &[PackedLine], right: &[PackedLine]) {
    #[cfg(target_arch = "x86_64")]
    if crate::level() >= crate::Level::Avx512Bf16 {
        // SAFETY: the level says AVX512-BF16 is there.
        return unsafe { avx512::accumulate(acc, left, right) };
    }
    accumulate_plain(acc, left, right);
}

simd! {
    fn accumulate_plain(acc: &mut [f32; SIDE * SIDE], left: &[PackedLine], right: &[PackedLine]) {
        let low = |pair: u32| f32::from_bits(pair << 16);
        let high = |pair: u32| f32::from_bits(pair & 0xffff_0000);
        for (left, right) in left.chunks_exact(SIDE).zip(right.chunks_exact(SIDE)) {
            for i in 0..SIDE {
                for half in 0..2 {
                    let acc = &mut acc[i * SIDE + half * 16..][..16];
                    for p in 0..16 {
                        let pair = left[i].0[p];
                        let (a, b) = (low(pair), high(pair));
                        for (acc, &r) in acc.iter_mut().zip(&right[half * 16 + p].0) {
                            *acc += a * low(r) + b * high(r);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{PackedLine, SIDE};
    use std::arch::x86_64::*;

    /// Rows whose sums are held in registers together: 8 rows of two vectors.
    const ROWS: usize = 8;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    pub(super) fn accumulate(
        acc: &mut [f32; SIDE * SIDE],
        left: &[PackedLine],
        right: &[PackedLine],
    ) {
        for i0 in (0..SIDE).step_by(ROWS) {
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            for (left, right) in left.chunks_exact(SIDE).zip(right.chunks_exact(SIDE)) {
                for p in 0..16 {
                    let (r0, r1) = (line(&right[p]), line(&right[16 + p]));
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let pair = _mm512_set1_epi32(left[i0 + i].0[p] as i32);
                        // SAFETY: both types are 512 plain bits.
                        let pair = unsafe { std::mem::transmute::<__m512i, __m512bh>(pair) };
                        sum[0] = _mm512_dpbf16_ps(sum[0], pair, r0);
                        sum[1] = _mm512_dpbf16_ps(sum[1], pair, r1);
                    }
                }
            }
            for (i, sum) in sums.iter().enumerate() {
                for (half, &sum) in sum.iter().enumerate() {
                    let at = &mut acc[(i0 + i) * SIDE + half * 16..][..16];
                    // SAFETY: sixteen floats are read from and written to a slice of sixteen.
                    unsafe {
                        let old = _mm512_loadu_ps(at.as_ptr());
                        _mm512_storeu_ps(at.as_mut_ptr(), _mm512_add_ps(old, sum));
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn line(line: &PackedLine) -> __m512bh {
        // SAFETY: a line is 64 bytes.
        unsafe { std::mem::transmute::<[u32; 16], __m512bh>(line.0) }
    }
}

#[cfg(target_arch = "x86_64")]
mod amx {
    //! Inline assembly: tiles 0–3 hold the 2 × 2 outputs, 4–5 the left operand, 6–7 the right.

    use super::super::pack::PackedLine;
    use super::super::{RawOut, Start};
    use crate::amx::Shapes;
    use std::arch::asm;

    const SHAPES: &Shapes = &Shapes::new([(16, 64); 8]);

    pub(super) fn configure() {
        // SAFETY: called only at level Amx.
        unsafe { crate::amx::configure(SHAPES) };
    }

    pub(super) fn release() {
        // SAFETY: called only after `configure`.
        unsafe { crate::amx::release() };
    }

    /// A whole 32 × 32 block.
    ///
    /// # Safety
    /// Level Amx, tiles configured, `out` valid for 32 rows of 32, equal packed lengths.
    pub(super) unsafe fn block(
        out: RawOut,
        (left, right): (&[PackedLine], &[PackedLine]),
        start: Start,
    ) {
        let stride = out.row_stride * 4;
        let top = out.ptr;
        let bottom = top.wrapping_add(16 * out.row_stride);
        // SAFETY: the compiler uses no tile registers, so they keep their contents between these
        // assembly blocks. Reads and writes stay inside the 32 × 32 outputs and packed blocks.
        unsafe {
            match start {
                Start::Zero => asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    options(nostack, nomem)
                ),
                Start::Old => load((top, bottom), stride),
                // Stride 0: the same sixteen values in every row of the tile.
                Start::Bias(bias) => load((bias.as_ptr().cast_mut(), bias.as_ptr().cast_mut()), 0),
            }
            if !left.is_empty() {
                asm!(
                    "2:",
                    "tileloadd tmm4, [{a} + {s}*1]",
                    "tileloadd tmm6, [{b} + {s}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b} + {s}*1 + 1024]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a} + {s}*1 + 1024]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {a}, 2048",
                    "add {b}, 2048",
                    "dec {n}",
                    "jnz 2b",
                    a = inout(reg) left.as_ptr() => _,
                    b = inout(reg) right.as_ptr() => _,
                    n = inout(reg) left.len() / 32 => _,
                    s = in(reg) 64usize,
                    options(nostack)
                );
            }
            asm!(
                "tilestored [{c} + {s}*1], tmm0",
                "tilestored [{c} + {s}*1 + 64], tmm1",
                "tilestored [{d} + {s}*1], tmm2",
                "tilestored [{d} + {s}*1 + 64], tmm3",
                c = in(reg) top, d = in(reg) bottom, s = in(reg) stride,
                options(nostack)
            );
        }
    }

    unsafe fn load((top, bottom): (*mut f32, *mut f32), stride: usize) {
        // SAFETY: as `block`.
        unsafe {
            asm!(
                "tileloadd tmm0, [{c} + {s}*1]",
                "tileloadd tmm1, [{c} + {s}*1 + 64]",
                "tileloadd tmm2, [{d} + {s}*1]",
                "tileloadd tmm3, [{d} + {s}*1 + 64]",
                c = in(reg) top, d = in(reg) bottom, s = in(reg) stride,
                options(nostack)
            );
        }
    }
}
