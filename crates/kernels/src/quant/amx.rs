//! AMX tiles of bytes, for sixteen rows and more; fewer take the AVX-512 body.
//!
//! 32 rows of activations are two tiles as they lie in memory; the weights of a block are spread
//! into one more or two, and the integer sums of the block come out in two or four.

use std::arch::asm;
use std::arch::x86_64::*;

use super::avx512::{self, Dots, LINE, add_scaled, scales, start};
use super::body::{Bodies, Body, MAX_ROWS, Tile};
use super::q4::Q4;
use super::q8::Q8;
use super::{BLOCK, GROUP, SCALES};
use crate::amx::{Shapes, configure, release};

pub(super) const BODIES: Bodies = Bodies {
    q8: Body { max_rows: MAX_ROWS, multiply: multiply::<Q8> },
    q4: Body { max_rows: MAX_ROWS, multiply: multiply::<Q4> },
};

/// Rows of a tile.
const SIDE: usize = MAX_ROWS / 2;

/// Registers in memory.
#[repr(C, align(64))]
struct Lines<const N: usize>([[i32; GROUP]; N]);

/// What the tiles read and write.
struct Scratch {
    /// The weights of a block.
    weights: Lines<32>,
    /// The sums of its rows, in as many parts as the format has.
    sums: [Lines<MAX_ROWS>; 2],
}

/// What differs between the formats.
trait Tiles: Dots {
    /// Tiles 0 to 3 are for sums, 4 and 5 for activations, 6 and 7 for weights.
    const SHAPES: &'static Shapes;

    /// Spreads a block's weights and multiplies them with two tiles of activations, each row
    /// `stride` bytes after the one before.
    ///
    /// # Safety
    /// Level Amx, these shapes; the pointers are to a block's quants and to sixteen rows each.
    unsafe fn block(scratch: &mut Scratch, quants: *const u8, x: [*const u8; 2], stride: usize);

    /// The sums that [`Tiles::block`] found for a row.
    ///
    /// # Safety
    /// Level Amx.
    unsafe fn sums(scratch: &Scratch, row: usize) -> __m512i;
}

/// 16-bit activations are pairs of bytes, a low one without sign and a high one with. Weights with
/// zeros between them meet one of the two; the sums are put together in the end.
impl Tiles for Q8 {
    const SHAPES: &'static Shapes = &Shapes::new([(16, 64); 8]);

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn block(scratch: &mut Scratch, quants: *const u8, x: [*const u8; 2], stride: usize) {
        let (lows, highs) = scratch.weights.0.split_at_mut(BLOCK / 2);
        for (pair, (low, high)) in lows.iter_mut().zip(highs).enumerate() {
            // SAFETY: a pair of all outputs is 32 bytes; a line is 64.
            unsafe {
                let pair = _mm256_loadu_si256(quants.add(pair * 2 * GROUP).cast());
                let pair = _mm512_cvtepu8_epi16(pair);
                _mm512_store_si512(low.as_mut_ptr().cast(), pair);
                _mm512_store_si512(high.as_mut_ptr().cast(), _mm512_slli_epi16::<8>(pair));
            }
        }
        // SAFETY: the compiler uses no tiles; they read 16 lines of low and 16 of high weights and
        // the rows that the caller promises, and write four times 16 lines of sums.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "tileloadd tmm6, [{w} + {line}*1]",
                "tileloadd tmm7, [{w} + {line}*1 + 1024]",
                "tileloadd tmm4, [{x0} + {stride}*1]",
                "tdpbusd tmm0, tmm4, tmm6",
                "tdpbssd tmm2, tmm4, tmm7",
                "tileloadd tmm5, [{x1} + {stride}*1]",
                "tdpbusd tmm1, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
                "tilestored [{sums} + {line}*1], tmm0",
                "tilestored [{sums} + {line}*1 + 1024], tmm1",
                "tilestored [{sums} + {line}*1 + 2048], tmm2",
                "tilestored [{sums} + {line}*1 + 3072], tmm3",
                w = in(reg) &raw const scratch.weights, sums = in(reg) &raw mut scratch.sums,
                x0 = in(reg) x[0], x1 = in(reg) x[1], stride = in(reg) stride,
                line = in(reg) LINE,
                options(nostack, preserves_flags)
            );
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn sums(scratch: &Scratch, row: usize) -> __m512i {
        let high = _mm512_slli_epi32::<8>(scratch.sums[1].register(row));
        _mm512_add_epi32(scratch.sums[0].register(row), high)
    }
}

impl Tiles for Q4 {
    const SHAPES: &'static Shapes = &Shapes::new([
        (16, 64),
        (16, 64),
        (0, 0),
        (0, 0),
        (16, BLOCK as u16),
        (16, BLOCK as u16),
        (BLOCK as u8 / 4, 64),
        (0, 0),
    ]);

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn block(scratch: &mut Scratch, quants: *const u8, x: [*const u8; 2], stride: usize) {
        let fours = scratch.weights.0[..BLOCK / 4].as_chunks_mut::<2>().0;
        for (line, fours) in fours.iter_mut().enumerate() {
            // SAFETY: the caller's quants are as many lines as there are eights in a block.
            let weights = unsafe { Q4::weights(quants.add(line * LINE)) };
            for (four, weights) in fours.iter_mut().zip(weights) {
                // SAFETY: a line is one register.
                unsafe { _mm512_store_si512(four.as_mut_ptr().cast(), weights) };
            }
        }
        // SAFETY: as for the other format, with 8 lines of weights and twice 16 of sums.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tileloadd tmm6, [{w} + {line}*1]",
                "tileloadd tmm4, [{x0} + {stride}*1]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{x1} + {stride}*1]",
                "tdpbssd tmm1, tmm5, tmm6",
                "tilestored [{sums} + {line}*1], tmm0",
                "tilestored [{sums} + {line}*1 + 1024], tmm1",
                w = in(reg) &raw const scratch.weights, sums = in(reg) &raw mut scratch.sums,
                x0 = in(reg) x[0], x1 = in(reg) x[1], stride = in(reg) stride,
                line = in(reg) LINE,
                options(nostack, preserves_flags)
            );
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn sums(scratch: &Scratch, row: usize) -> __m512i {
        scratch.sums[0].register(row)
    }
}

impl<const N: usize> Lines<N> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn register(&self, line: usize) -> __m512i {
        // SAFETY: a line is one register, and lines are aligned.
        unsafe { _mm512_load_si512(self.0[line].as_ptr().cast()) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn multiply<C: Tiles>(tile: &Tile<C::Activation>, sums: &mut [[f32; GROUP]]) {
    if sums.len() >= SIDE {
        return rows::<C>(tile, sums);
    }
    let mut first = 0;
    for sums in sums.chunks_mut(avx512::MAX_ROWS) {
        avx512::multiply::<C>(&tile.rows(first..first + sums.len()), sums);
        first += sums.len();
    }
}

/// Between 16 and 32 rows. The second tile ends with the last row, so it may begin in the first.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn rows<C: Tiles>(tile: &Tile<C::Activation>, sums: &mut [[f32; GROUP]]) {
    assert!((SIDE..=MAX_ROWS).contains(&sums.len()));
    let n = tile.checked::<C>(sums.len(), sums);
    let stride = n * BLOCK * size_of::<C::Activation>();
    let tiles = [0, sums.len() - SIDE];
    let mut totals = [[_mm512_setzero_ps(); SIDE]; 2];
    let mut scratch = Scratch {
        weights: Lines([[0; GROUP]; 32]),
        sums: [const { Lines([[0; GROUP]; MAX_ROWS]) }; 2],
    };
    // SAFETY: this body runs only at level Amx. Checked above: the rows have n blocks each, b is
    // below n, and both tiles of sixteen rows lie inside.
    unsafe {
        configure(C::SHAPES);
        for b in 0..n {
            let block = tile.blocks.as_ptr().add(b * C::BLOCK_BYTES);
            let x = tiles.map(|first| tile.x.as_ptr().add((first * n + b) * BLOCK).cast());
            C::block(&mut scratch, block.add(SCALES), x, stride);
            let scales = scales(block);
            for (i, total) in totals.as_flattened_mut().iter_mut().enumerate() {
                let at = (tiles[i / SIDE] + i % SIDE) * n + b;
                let start = start(*tile.starts.get_unchecked(at));
                let dots = _mm512_add_epi32(C::sums(&scratch, i), start);
                *total = add_scaled(*total, dots, scales, *tile.scales.get_unchecked(at));
            }
        }
        release();
        for (first, totals) in tiles.into_iter().zip(totals) {
            for (sums, total) in sums[first..].iter_mut().zip(totals) {
                _mm512_storeu_ps(sums.as_mut_ptr(), total);
            }
        }
    }
}
