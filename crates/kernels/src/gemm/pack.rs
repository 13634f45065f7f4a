//! Rounds operands to bf16 and lays them out in tiles, zero-filled at the edges.
//!
//! A tile is 16 lines of 64 bytes. Of the left operand a line is one row with 32 inner elements.
//! Of the right operand a line is one *pair* of inner elements for 16 columns, interleaved. A
//! block is 32 rows (or columns) wide: for each 32 inner elements two tiles follow each other.

use super::Mat;

/// One tile line: 32 bf16, as 16 pairs (the earlier inner element in the low half).
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct PackedLine(pub(crate) [u32; 16]);

/// Rounds to nearest even; NaN stays NaN.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if x.is_nan() { (bits >> 16) | 0x40 } else { rounded }
}

/// Packs rows `m0..m0+mc` (at most 32) and inner elements `k0..k0+kc` of the left operand.
pub(super) fn pack_rows(
    to: &mut Vec<PackedLine>,
    a: Mat,
    (m0, mc): (usize, usize),
    (k0, kc): (usize, usize),
) {
    let n_k = kc.div_ceil(32);
    reserve(to, n_k * 32);
    for kb in 0..n_k {
        for half in 0..2 {
            let tile = &mut to[(kb * 2 + half) * 16..][..16];
            let rows = mc.saturating_sub(half * 16).min(16);
            let k = k0 + kb * 32;
            let inner = (k0 + kc - k).min(32);
            let source = Source::new(a, (m0 + half * 16, rows), (k, inner));
            source.pack(tile.try_into().expect("sixteen lines"), Lines::Outer);
        }
    }
}

/// Packs inner elements `k0..k0+kc` and columns `n0..n0+nc` of the right operand, block by block.
pub(super) fn pack_columns(
    to: &mut Vec<PackedLine>,
    b: Mat,
    (k0, kc): (usize, usize),
    (n0, nc): (usize, usize),
) {
    let n_k = kc.div_ceil(32);
    let n_blocks = nc.div_ceil(32);
    reserve(to, n_blocks * n_k * 32);
    let columns = b.t();
    for block in 0..n_blocks {
        for kb in 0..n_k {
            for half in 0..2 {
                let tile = &mut to[((block * n_k + kb) * 2 + half) * 16..][..16];
                let j = block * 32 + half * 16;
                let cols = nc.saturating_sub(j).min(16);
                let k = k0 + kb * 32;
                let inner = (k0 + kc - k).min(32);
                let source = Source::new(columns, (n0 + j, cols), (k, inner));
                source.pack(tile.try_into().expect("sixteen lines"), Lines::Inner);
            }
        }
    }
}

/// Makes room; what is there stays.
pub(crate) fn reserve(to: &mut Vec<PackedLine>, lines: usize) {
    if to.len() < lines {
        to.resize(lines, PackedLine::default());
    }
}

/// What a line of the tile is: an outer index (left operand) or a pair of inner ones (right).
#[derive(Clone, Copy, PartialEq)]
enum Lines {
    Outer,
    Inner,
}

/// Up to 16 outer by 32 inner elements of a matrix.
#[derive(Clone, Copy)]
struct Source<'a> {
    data: &'a [f32],
    outer: usize,
    inner: usize,
    outer_stride: usize,
    inner_stride: usize,
}

impl<'a> Source<'a> {
    fn new(m: Mat<'a>, (o0, outer): (usize, usize), (i0, inner): (usize, usize)) -> Self {
        let (outer_stride, inner_stride) = (m.row_stride, m.col_stride);
        if outer == 0 || inner == 0 {
            return Source { data: &[], outer: 0, inner: 0, outer_stride, inner_stride };
        }
        let first = o0 * outer_stride + i0 * inner_stride;
        let last = first + (outer - 1) * outer_stride + (inner - 1) * inner_stride;
        Source { data: &m.data[first..=last], outer, inner, outer_stride, inner_stride }
    }

    fn pack(self, tile: &mut [PackedLine; 16], lines: Lines) {
        #[cfg(target_arch = "x86_64")]
        if crate::level() >= crate::Level::Avx512Bf16
            && (self.inner_stride == 1 || self.outer_stride == 1)
        {
            // SAFETY: the level says AVX-512 with bf16 is there; `Source::new` checked that every
            // element named by the strides lies in `data`.
            return unsafe { fast::pack(self, tile, lines) };
        }
        self.pack_portable(tile, lines);
    }

    fn pack_portable(self, tile: &mut [PackedLine; 16], lines: Lines) {
        let at = |o: usize, i: usize| {
            if o < self.outer && i < self.inner {
                round(self.data[o * self.outer_stride + i * self.inner_stride])
            } else {
                0
            }
        };
        for o in 0..16 {
            for p in 0..16 {
                let pair = at(o, 2 * p) | (at(o, 2 * p + 1) << 16);
                match lines {
                    Lines::Outer => tile[o].0[p] = pair,
                    Lines::Inner => tile[p].0[o] = pair,
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod fast {
    //! The same with AVX512-BF16 conversions and a 16 × 16 transpose in registers.

    use super::{Lines, PackedLine, Source};
    use std::arch::x86_64::*;

    fn mask(n: usize) -> __mmask16 {
        ((1u32 << n.min(16)) - 1) as __mmask16
    }

    /// # Safety
    /// The processor has AVX-512 F, BW, VL and BF16; one stride is 1; the elements are in `data`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    pub(super) unsafe fn pack(s: Source, tile: &mut [PackedLine; 16], lines: Lines) {
        // SAFETY: the caller's promise.
        let (mut rows, is_by_outer) =
            unsafe { if s.inner_stride == 1 { (by_outer(s), true) } else { (by_inner(s), false) } };
        if is_by_outer != (lines == Lines::Outer) {
            rows = transpose(rows);
        }
        for (line, row) in tile.iter_mut().zip(rows) {
            // SAFETY: a line is 64 bytes, aligned to 64.
            unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), row) };
        }
    }

    /// Vector `o`: the 16 pairs of outer index `o`, whose inner elements lie side by side.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    unsafe fn by_outer(s: Source) -> [__m512i; 16] {
        let mut rows = [_mm512_setzero_si512(); 16];
        let (low, high) = (mask(s.inner), mask(s.inner.saturating_sub(16)));
        for (o, row) in rows.iter_mut().enumerate().take(s.outer) {
            // SAFETY: masked-off lanes are not read, the others lie in `data`.
            let (a, b) = unsafe {
                let from = s.data.as_ptr().add(o * s.outer_stride);
                (
                    _mm512_maskz_loadu_ps(low, from),
                    _mm512_maskz_loadu_ps(high, from.wrapping_add(16)),
                )
            };
            // SAFETY: both types are 512 plain bits.
            *row = unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a)) };
        }
        rows
    }

    /// Vector `p`: inner pair `p` for 16 outer indices, which lie side by side.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    unsafe fn by_inner(s: Source) -> [__m512i; 16] {
        let mut rows = [_mm512_setzero_si512(); 16];
        let lanes = mask(s.outer);
        // Moves element j of the low half next to element j of the high half.
        let mut order = [0u16; 32];
        for (i, o) in order.iter_mut().enumerate() {
            *o = (i / 2 + (i % 2) * 16) as u16;
        }
        // SAFETY: 64 bytes are read from a 64-byte array.
        let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
        for (p, row) in rows.iter_mut().enumerate().take(s.inner.div_ceil(2)) {
            let both = if 2 * p + 1 < s.inner { lanes } else { 0 };
            // SAFETY: masked-off lanes are not read, the others lie in `data`.
            let (a, b) = unsafe {
                let from = s.data.as_ptr().add(2 * p * s.inner_stride);
                (
                    _mm512_maskz_loadu_ps(lanes, from),
                    _mm512_maskz_loadu_ps(both, from.wrapping_add(s.inner_stride)),
                )
            };
            // SAFETY: both types are 512 plain bits.
            let halves =
                unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a)) };
            *row = _mm512_permutexvar_epi16(order, halves);
        }
        rows
    }

    /// Transposes 16 × 16 elements of 32 bits.
    #[target_feature(enable = "avx512f")]
    fn transpose(r: [__m512i; 16]) -> [__m512i; 16] {
        let mut t = r;
        // Pairs of rows, then fours: within each 128-bit quarter a 4 × 4 transpose.
        for i in (0..16).step_by(4) {
            let a = _mm512_unpacklo_epi32(r[i], r[i + 1]);
            let b = _mm512_unpackhi_epi32(r[i], r[i + 1]);
            let c = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]);
            let d = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
            t[i] = _mm512_unpacklo_epi64(a, c);
            t[i + 1] = _mm512_unpackhi_epi64(a, c);
            t[i + 2] = _mm512_unpacklo_epi64(b, d);
            t[i + 3] = _mm512_unpackhi_epi64(b, d);
        }
        // t[4g + j] holds columns j, 4+j, 8+j, 12+j of rows 4g..4g+4, one a quarter.
        let mut out = r;
        for j in 0..4 {
            let (a, b, c, d) = (t[j], t[4 + j], t[8 + j], t[12 + j]);
            let ab_low = _mm512_shuffle_i32x4::<0x44>(a, b);
            let ab_high = _mm512_shuffle_i32x4::<0xee>(a, b);
            let cd_low = _mm512_shuffle_i32x4::<0x44>(c, d);
            let cd_high = _mm512_shuffle_i32x4::<0xee>(c, d);
            out[j] = _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low);
            out[4 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_low, cd_low);
            out[8 + j] = _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high);
            out[12 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high);
        }
        out
    }
}
