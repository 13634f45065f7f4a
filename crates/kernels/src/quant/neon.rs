//! NEON: the sums of a row's sixteen outputs are four registers. One body multiplies and adds
//! element by element, as every 64-bit Arm processor can; the other has dot products of bytes.

use std::arch::aarch64::*;
use std::arch::asm;

use super::body::{Bodies, Body, Tile, for_rows};
use super::q4::Q4;
use super::q8::Q8;
use super::{BLOCK, Coding, GROUP, SCALES};

pub(super) const BODIES: Bodies = Bodies {
    q8: Body { max_rows: 4, multiply: multiply::<Products<Q8>> },
    q4: Body { max_rows: 2, multiply: multiply::<Products<Q4>> },
};

/// For processors with `dotprod`.
pub(super) const DOT_BODIES: Bodies = Bodies {
    q8: Body { max_rows: 2, multiply: multiply::<DotProducts<Q8>> },
    q4: Body { max_rows: 4, multiply: multiply::<DotProducts<Q4>> },
};

/// The sums of sixteen outputs.
type Sums = [int32x4_t; 4];

/// The integer sums of a block, without the starts.
trait Dots {
    type C: Coding;

    /// # Safety
    /// `quants` points to those of a block, `x` to R rows' activations of it, each `stride` after
    /// the one before, and the processor has what the implementation needs.
    unsafe fn dots<const R: usize>(
        quants: *const u8,
        x: *const <Self::C as Coding>::Activation,
        stride: usize,
    ) -> [Sums; R];
}

/// By `smlal`, which every processor has.
struct Products<C>(C);
/// By `sdot`.
struct DotProducts<C>(C);

impl Dots for Products<Q8> {
    type C = Q8;

    #[inline(always)]
    unsafe fn dots<const R: usize>(quants: *const u8, x: *const i16, stride: usize) -> [Sums; R] {
        // SAFETY: as the caller promises.
        unsafe {
            let mut acc = [[vdupq_n_s32(0); 4]; R];
            for pair in 0..BLOCK / 2 {
                let w = vld2q_s8(quants.add(pair * 2 * GROUP).cast());
                for (i, w) in [w.0, w.1].into_iter().enumerate() {
                    let w = [vmovl_s8(vget_low_s8(w)), vmovl_high_s8(w)];
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let x = vld1q_dup_s16(x.add(r * stride + 2 * pair + i));
                        for (acc, w) in acc.as_chunks_mut::<2>().0.iter_mut().zip(w) {
                            acc[0] = vmlal_s16(acc[0], vget_low_s16(w), vget_low_s16(x));
                            acc[1] = vmlal_high_s16(acc[1], w, x);
                        }
                    }
                }
            }
            acc
        }
    }
}

impl Dots for Products<Q4> {
    type C = Q4;

    /// Eight products of up to 15 · 127 are summed in 16 bits.
    #[inline(always)]
    unsafe fn dots<const R: usize>(quants: *const u8, x: *const i8, stride: usize) -> [Sums; R] {
        // SAFETY: as the caller promises.
        unsafe {
            let mut acc = [[[vdupq_n_s16(0); 2]; 4]; R];
            for eight in 0..BLOCK / 8 {
                for (i, w) in fours(quants.add(eight * 4 * GROUP)).into_iter().enumerate() {
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let x = four(x.add(r * stride + 8 * eight + 4 * i));
                        for (acc, w) in acc.iter_mut().zip(w) {
                            acc[0] = vmlal_s8(acc[0], vget_low_s8(w), vget_low_s8(x));
                            acc[1] = vmlal_high_s8(acc[1], w, x);
                        }
                    }
                }
            }
            let mut sums = [[vdupq_n_s32(0); 4]; R];
            for (sum, acc) in sums.as_flattened_mut().iter_mut().zip(acc.as_flattened()) {
                *sum = vpaddq_s32(vpaddlq_s16(acc[0]), vpaddlq_s16(acc[1]));
            }
            sums
        }
    }
}

impl Dots for DotProducts<Q8> {
    type C = Q8;

    /// An activation is 256 · h + l + 128 with h and l in a signed byte each; what the 128 adds is
    /// the sum of the weights, one for all rows.
    #[inline(always)]
    unsafe fn dots<const R: usize>(quants: *const u8, x: *const i16, stride: usize) -> [Sums; R] {
        // SAFETY: as the caller promises.
        unsafe {
            let zero = [vdupq_n_s32(0); 4];
            let (mut weights, mut highs, mut lows) = (zero, [zero; R], [zero; R]);
            for four in 0..BLOCK / 4 {
                let pairs: *const i16 = quants.add(four * 4 * GROUP).cast();
                let [a, b, c, d] = [0, 8, 16, 24].map(|at| vld1q_s16(pairs.add(at)));
                let w = [vzip1q_s16(a, c), vzip2q_s16(a, c), vzip1q_s16(b, d), vzip2q_s16(b, d)]
                    .map(|w| vreinterpretq_s8_s16(w));
                sdot(&mut weights, w, vdupq_n_s8(1));
                for r in 0..R {
                    let x = vld1q_dup_s64(x.add(r * stride + 4 * four).cast());
                    let x = vreinterpretq_s8_s64(x);
                    sdot(&mut highs[r], w, vuzp2q_s8(x, x));
                    sdot(&mut lows[r], w, veorq_s8(vuzp1q_s8(x, x), vdupq_n_s8(-128)));
                }
            }
            let mut acc = lows;
            for (acc, highs) in acc.iter_mut().zip(highs) {
                for i in 0..4 {
                    let high = vaddq_s32(vshlq_n_s32::<1>(highs[i]), weights[i]);
                    acc[i] = vaddq_s32(acc[i], vshlq_n_s32::<7>(high));
                }
            }
            acc
        }
    }
}

impl Dots for DotProducts<Q4> {
    type C = Q4;

    #[inline(always)]
    unsafe fn dots<const R: usize>(quants: *const u8, x: *const i8, stride: usize) -> [Sums; R] {
        // SAFETY: as the caller promises.
        unsafe {
            let mut acc = [[vdupq_n_s32(0); 4]; R];
            for eight in 0..BLOCK / 8 {
                for (i, w) in fours(quants.add(eight * 4 * GROUP)).into_iter().enumerate() {
                    for (r, acc) in acc.iter_mut().enumerate() {
                        sdot(acc, w, four(x.add(r * stride + 8 * eight + 4 * i)));
                    }
                }
            }
            acc
        }
    }
}

/// The weights of four inner elements, then of the next four.
///
/// # Safety
/// `quants` points to 64 bytes.
#[inline(always)]
unsafe fn fours(quants: *const u8) -> [[int8x16_t; 4]; 2] {
    // SAFETY: four registers are 64 bytes.
    unsafe {
        let both = [0, 16, 32, 48].map(|at| vld1q_u8(quants.add(at)));
        let lows = both.map(|both| vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15))));
        [lows, both.map(|both| vreinterpretq_s8_u8(vshrq_n_u8::<4>(both)))]
    }
}

/// Four activations, four times.
///
/// # Safety
/// `x` points to four.
#[inline(always)]
unsafe fn four(x: *const i8) -> int8x16_t {
    // SAFETY: four bytes are read; `ld1r` needs no alignment.
    unsafe { vreinterpretq_s8_s32(vld1q_dup_s32(x.cast())) }
}

/// Adds to each sum four products. In assembly because the intrinsic is not stable yet.
///
/// # Safety
/// The processor has `dotprod`.
#[inline(always)]
unsafe fn sdot(acc: &mut Sums, w: [int8x16_t; 4], x: int8x16_t) {
    for (acc, w) in acc.iter_mut().zip(w) {
        // SAFETY: the instruction is there, as the caller promises; only `acc` changes.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {acc:v}.4s, {w:v}.16b, {x:v}.16b",
                acc = inout(vreg) *acc, w = in(vreg) w, x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
    }
}

/// # Safety
/// The processor has what `D` needs.
unsafe fn multiply<D: Dots>(tile: &Tile<<D::C as Coding>::Activation>, sums: &mut [[f32; GROUP]]) {
    // SAFETY: passed on from the caller.
    unsafe { for_rows!(sums: 1 2 3 4, R => rows::<D, R>(tile, sums)) }
}

/// # Safety
/// As [`multiply`].
unsafe fn rows<D: Dots, const R: usize>(
    tile: &Tile<<D::C as Coding>::Activation>,
    sums: &mut [[f32; GROUP]],
) {
    let n = tile.checked::<D::C>(R, sums);
    // SAFETY: checked above: R rows of n blocks, and b is below n; the rest is promised.
    unsafe {
        let mut totals = [[vdupq_n_f32(0.0); 4]; R];
        for b in 0..n {
            let block = tile.blocks.as_ptr().add(b * D::C::BLOCK_BYTES);
            let x = tile.x.as_ptr().add(b * BLOCK);
            let dots = D::dots::<R>(block.add(SCALES), x, n * BLOCK);
            let scales = scales(block);
            for (r, (totals, dots)) in totals.iter_mut().zip(dots).enumerate() {
                let start = start(*tile.starts.get_unchecked(r * n + b));
                let x_scale = *tile.scales.get_unchecked(r * n + b);
                for i in 0..4 {
                    let dots = vcvtq_f32_s32(vaddq_s32(dots[i], start));
                    let scale = vmulq_n_f32(scales[i], x_scale);
                    totals[i] = vaddq_f32(totals[i], vmulq_f32(dots, scale));
                }
            }
        }
        for (sums, totals) in sums.iter_mut().zip(totals) {
            for (sums, total) in sums.as_chunks_mut::<4>().0.iter_mut().zip(totals) {
                vst1q_f32(sums.as_mut_ptr(), total);
            }
        }
    }
}

/// What the sums of a block begin with: the two halves of a start together.
#[inline(always)]
fn start(start: i32) -> int32x4_t {
    // SAFETY: every 64-bit Arm processor has NEON.
    unsafe { vdupq_n_s32(i32::from(start as i16) + (start >> 16)) }
}

/// The scales of a block's sixteen outputs. In assembly because the type f16 is not stable yet.
///
/// # Safety
/// `block` points to them.
#[inline(always)]
unsafe fn scales(block: *const u8) -> [float32x4_t; 4] {
    // SAFETY: four times four f16 are read; the instruction is there since NEON is.
    unsafe {
        [0, 8, 16, 24].map(|at| {
            let (four, wide): (_, float32x4_t);
            four = vld1_u16(block.add(at).cast());
            asm!(
                "fcvtl {wide:v}.4s, {four:v}.4h",
                wide = lateout(vreg) wide, four = in(vreg) four,
                options(pure, nomem, nostack, preserves_flags)
            );
            wide
        })
    }
}
