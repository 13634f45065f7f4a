//! The shapes of AMX tiles, which a thread sets before it uses them and gives up after.

use std::arch::asm;

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
pub(crate) struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// Rows, at most 16, and bytes of a row, at most 64, of each tile.
    pub(crate) const fn new(tiles: [(u8, u16); 8]) -> Shapes {
        let (mut rows, mut bytes_per_row) = ([0; 16], [0; 16]);
        let mut i = 0;
        while i < tiles.len() {
            (rows[i], bytes_per_row[i]) = tiles[i];
            i += 1;
        }
        Shapes { palette: 1, start_row: 0, reserved: [0; 14], bytes_per_row, rows }
    }
}

/// Gives this thread its tiles.
///
/// # Safety
/// The level is Amx.
pub(crate) unsafe fn configure(shapes: &Shapes) {
    // SAFETY: at level Amx the instruction exists and is allowed; it reads 64 bytes.
    unsafe { asm!("ldtilecfg [{0}]", in(reg) shapes, options(nostack, readonly)) };
}

/// Takes them back.
///
/// # Safety
/// The level is Amx.
pub(crate) unsafe fn release() {
    // SAFETY: at level Amx the instruction exists and is allowed.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}
