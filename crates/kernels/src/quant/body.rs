//! What multiplies a tile of rows with a group of outputs: one body for each family of
//! instructions, chosen once a product.

use half::f16;

use super::q4::Q4;
use super::q8::Q8;
use super::{BLOCK, Coding, GROUP, SCALES};

/// Rows of the largest tile.
pub(super) const MAX_ROWS: usize = 32;

/// What a body reads: some rows of rounded activations and one group's blocks.
pub(super) struct Tile<'a, A> {
    /// (R, K′), dense
    pub x: &'a [A],
    /// (R, K′ / 32)
    pub scales: &'a [f32],
    /// (R, K′ / 32): what the sum of a block begins with, for the fast bodies.
    pub starts: &'a [i32],
    /// All blocks of the group.
    pub blocks: &'a [u8],
    pub n_blocks: usize,
}

impl<A> Tile<'_, A> {
    /// Some of the rows.
    pub fn rows(&self, rows: std::ops::Range<usize>) -> Self {
        let at = rows.start * self.n_blocks..rows.end * self.n_blocks;
        Tile {
            x: &self.x[at.start * BLOCK..at.end * BLOCK],
            scales: &self.scales[at.clone()],
            starts: &self.starts[at],
            ..*self
        }
    }

    /// The number of blocks, once all that `rows` rows read and write is known to be there.
    #[inline(always)]
    pub fn checked<C>(&self, rows: usize, sums: &[[f32; GROUP]]) -> usize
    where
        C: Coding<Activation = A>,
    {
        let n = self.n_blocks;
        assert!(self.x.len() == rows * n * BLOCK && self.blocks.len() == n * C::BLOCK_BYTES);
        assert!(self.scales.len() == rows * n && self.starts.len() == rows * n);
        assert!(sums.len() == rows);
        n
    }
}

/// One way to multiply.
#[derive(Clone, Copy)]
pub(super) struct Body<A> {
    /// Rows that it takes at once.
    pub max_rows: usize,
    /// Writes to `sums`, zeros before, the product of each row with the group's weights. Unsafe
    /// because the processor must have the body's instructions.
    pub multiply: unsafe fn(&Tile<A>, sums: &mut [[f32; GROUP]]),
}

/// A body for each format.
pub(super) struct Bodies {
    pub q8: Body<i16>,
    pub q4: Body<i8>,
}

const PORTABLE: Bodies = Bodies {
    q8: Body { max_rows: 8, multiply: multiply::<Q8> },
    q4: Body { max_rows: 8, multiply: multiply::<Q4> },
};

/// The fastest that this processor has; so they may be called.
pub(super) fn bodies() -> Bodies {
    use crate::Level;
    match crate::level() {
        #[cfg(target_arch = "x86_64")]
        Level::Amx => super::amx::BODIES,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni | Level::Avx512Bf16 => super::avx512::BODIES,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx512 => super::avx2::BODIES,
        #[cfg(target_arch = "aarch64")]
        Level::NeonDot => super::neon::DOT_BODIES,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => super::neon::BODIES,
        _ => PORTABLE,
    }
}

/// Asks memory for what a lone row comes to some blocks later: it waits for memory and for nothing
/// else, and the processor's own look-ahead ends with each page.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn ask_for<C: Coding>(block: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    const AHEAD: usize = 2048;
    for at in (0..C::BLOCK_BYTES).step_by(64) {
        // SAFETY: a hint, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(AHEAD + at).cast()) };
    }
}

/// Evaluates an expression with the constant that is the number of sums.
macro_rules! for_rows {
    ($sums:ident: $($n:literal)*, $R:ident => $call:expr) => {
        match $sums.len() {
            $($n => { const $R: usize = $n; $call })*
            n => unreachable!("a tile of {n} rows"),
        }
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use for_rows;

/// The plain body, which says what all others give.
fn multiply<C: Coding>(tile: &Tile<C::Activation>, sums: &mut [[f32; GROUP]]) {
    for (b, block) in tile.blocks.chunks_exact(C::BLOCK_BYTES).enumerate() {
        let (scales, quants) = block.split_at(SCALES);
        let mut weights = [[0i32; BLOCK]; GROUP];
        for (lane, weights) in weights.iter_mut().enumerate() {
            weights.iter_mut().enumerate().for_each(|(i, w)| *w = C::read(quants, lane, i));
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            let at = r * tile.n_blocks + b;
            let x = &tile.x[at * BLOCK..][..BLOCK];
            for (lane, sum) in sums.iter_mut().enumerate() {
                let scale = f16::from_le_bytes([scales[2 * lane], scales[2 * lane + 1]]).to_f32();
                let dot: i32 = weights[lane].iter().zip(x).map(|(&w, &x)| w * x.into()).sum();
                *sum += dot as f32 * (scale * tile.scales[at]);
            }
        }
    }
}
