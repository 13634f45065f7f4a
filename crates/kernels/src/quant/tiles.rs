//! Packed weights as tiles of bf16, for many rows where a caller allows that precision: scaled
//! weights are rounded once for all rows, and a whole inner length is summed inside the tiles,
//! where exact blocks would have to leave them after every 32 elements.

use std::arch::x86_64::*;

use super::avx512::{LINE, scales};
use super::pack::{Format, Packed};
use super::q4::Q4;
use super::q8::Q8;
use super::{BLOCK, Coding, GROUP, SCALES};
use crate::gemm::{Columns, PackedLine, reserve};

/// Fewer rows do not pay for spreading the weights.
pub(super) const LEAST_ROWS: usize = 32;

/// Outputs from the group `first` on as columns of a right operand.
pub(super) struct Outputs<'a> {
    pub weights: Packed<'a>,
    pub first: usize,
}

impl Columns for Outputs<'_> {
    fn pack(&self, to: &mut Vec<PackedLine>, (k0, kc): (usize, usize), (n0, nc): (usize, usize)) {
        let n_k = kc.div_ceil(BLOCK);
        reserve(to, nc.div_ceil(2 * GROUP) * n_k * 2 * GROUP);
        let groups = nc.div_ceil(2 * GROUP) * 2;
        for (i, tile) in to.chunks_exact_mut(GROUP).take(groups * n_k).enumerate() {
            // Tiles lie pair of groups by pair, in it block by block.
            let (pair, block, half) = (i / 2 / n_k, i / 2 % n_k, i % 2);
            let column = pair * 2 * GROUP + half * GROUP;
            if column >= nc {
                tile.fill(PackedLine::default());
                continue;
            }
            let group = self.first + (n0 + column) / GROUP;
            let block = self.weights.block(group, k0 / BLOCK + block);
            // SAFETY: these columns are packed only where the processor has tiles of bf16.
            unsafe {
                match self.weights.format {
                    Format::Q8_0 => spread::<Q8>(block, tile),
                    Format::Q4_0 => spread::<Q4>(block, tile),
                }
            }
        }
    }
}

/// The weights of one block as pairs of integers: what lies in one line of a tile.
trait Pairs: Coding {
    /// Lines of a tile that one piece of the quants, read at once, holds.
    const LINES: usize;

    /// The even and the odd elements of the pairs in a line of the `i`-th piece.
    ///
    /// # Safety
    /// The processor has AVX-512; `quants` are a block's.
    unsafe fn pairs(quants: *const u8, i: usize, line: usize) -> [__m512i; 2];
}

impl Pairs for Q8 {
    const LINES: usize = 1;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn pairs(quants: *const u8, i: usize, _line: usize) -> [__m512i; 2] {
        // SAFETY: a pair of all outputs is 32 bytes, and a block has sixteen.
        let both = unsafe { _mm256_loadu_si256(quants.add(i * 2 * GROUP).cast()) };
        let both = _mm512_cvtepi16_epi32(both);
        let even = _mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(both));
        [even, _mm512_srai_epi32::<8>(both)]
    }
}

impl Pairs for Q4 {
    const LINES: usize = 4;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn pairs(quants: *const u8, i: usize, line: usize) -> [__m512i; 2] {
        // SAFETY: eight elements of all outputs are a register, and a block has four.
        let eight = unsafe { _mm512_loadu_si512(quants.add(i * LINE).cast()) };
        // Lines 0 and 1 are the low halves of bytes 0 to 3, lines 2 and 3 the high ones.
        let shift = (line / 2 * 4 + line % 2 * 16) as u32;
        let of = |shift: u32| {
            let shifted = _mm512_srl_epi32(eight, _mm_cvtsi32_si128(shift as i32));
            let low = _mm512_and_si512(shifted, _mm512_set1_epi32(15));
            _mm512_sub_epi32(low, _mm512_set1_epi32(8))
        };
        [of(shift), of(shift + 8)]
    }
}

/// A block's weights, scaled and rounded to bf16, as a tile: a line is a pair of inner elements
/// for all sixteen outputs.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn spread<C: Pairs>(block: &[u8], tile: &mut [PackedLine]) {
    assert!(block.len() == C::BLOCK_BYTES && tile.len() == GROUP);
    // The evens lie in the low half, the odds in the high: place `2 l` is `l`, `2 l + 1` is 16 + l.
    let low = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let in_turns =
        _mm512_or_si512(low, _mm512_slli_epi32::<16>(_mm512_add_epi32(low, _mm512_set1_epi32(16))));
    // SAFETY: a block begins with sixteen scales and holds the quants of sixteen pairs; a line is
    // one register.
    unsafe {
        let scales = scales(block.as_ptr());
        let quants = block.as_ptr().add(SCALES);
        for (at, out) in tile.iter_mut().enumerate() {
            let pairs = C::pairs(quants, at / C::LINES, at % C::LINES);
            let [even, odd] = pairs.map(|n| _mm512_mul_ps(_mm512_cvtepi32_ps(n), scales));
            let both = _mm512_cvtne2ps_pbh(odd, even);
            let both = std::mem::transmute::<__m512bh, __m512i>(both);
            let both = _mm512_permutexvar_epi16(in_turns, both);
            _mm512_storeu_si512(out.0.as_mut_ptr().cast(), both);
        }
    }
}
