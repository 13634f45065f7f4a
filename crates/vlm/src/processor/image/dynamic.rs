//! A picture that keeps its shape -> whole patches of it (Qwen2-VL, Qwen2.5-VL, Qwen3-VL).
//!
//! Follows `image_processing_qwen2_vl.py` (the Pillow version, but minimal and maximal area also
//! from `size`, as the other version reads it).
//!
//! Legend: `P` patches of all pictures, `C` channels (3), `p` side of a patch in pixels.

use candle_core::{Device, Tensor};
use image::RgbImage;

use super::prepare::{Tile, Tiles};
use crate::Error;

/// Longest side over shortest from which the reference refuses a picture.
const MAX_RATIO: f64 = 200.0;

/// How a picture is brought to whole patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchSettings {
    /// px
    pub patch_size: u32,
    /// Frames in a patch: the picture, that many times.
    pub temporal_patch_size: u32,
    /// Side of the square of patches that becomes one token.
    pub merge_size: u32,
    /// Least area after resizing, px.
    pub min_pixels: u64,
    /// Largest area after resizing, px.
    pub max_pixels: u64,
}

impl PatchSettings {
    /// Side of what becomes one token, px.
    pub fn token_side(&self) -> u32 {
        self.patch_size * self.merge_size
    }

    /// `smart_resize`: (width, height), both whole tokens, the area within bounds.
    pub(super) fn size(&self, (width, height): (u32, u32)) -> (u32, u32) {
        let side = f64::from(self.token_side());
        let (wide, high) = (f64::from(width), f64::from(height));
        let whole = |length: f64| (length / side).round_ties_even() * side;
        let (mut to_width, mut to_height) = (whole(wide), whole(high));
        let (least, most) = (self.min_pixels as f64, self.max_pixels as f64);
        if to_width * to_height > most {
            let shrink = (high * wide / most).sqrt();
            let down = |length: f64| ((length / shrink / side).floor() * side).max(side);
            (to_width, to_height) = (down(wide), down(high));
        } else if to_width * to_height < least {
            let grow = (least / (high * wide)).sqrt();
            let up = |length: f64| (length * grow / side).ceil() * side;
            (to_width, to_height) = (up(wide), up(high));
        }
        (to_width as u32, to_height as u32)
    }

    /// Refuses what the reference refuses: pictures that are nearly lines.
    pub(super) fn check(&self, tiled: &[Tiles]) -> Result<(), Error> {
        for Tiles { size: (width, height), .. } in tiled {
            let (long, short) = (f64::from(*width.max(height)), f64::from(*width.min(height)));
            if long / short > MAX_RATIO {
                let message = format!(
                    "{width} x {height} pixels are too long and thin for this model, which takes \
                     sides of up to 1 to {MAX_RATIO}; crop the picture"
                );
                return Err(Error::Processor { file: "picture".into(), message });
            }
        }
        Ok(())
    }

    /// `pixel_values (P, C · frames · p · p)`: the patches of each tile, square by square of those
    /// that become one token; `table` has the value of each byte in each channel.
    pub(super) fn pixel_values(
        &self,
        tiles: &[&Tile],
        table: &[[f32; 256]; 3],
    ) -> Result<Tensor, Error> {
        let (p, frames) = (self.patch_size as usize, self.temporal_patch_size as usize);
        let row_len = 3 * frames * p * p;
        let mut values = Vec::new();
        for tile in tiles {
            let (width, height) = tile.pixels.dimensions();
            values.reserve((width * height) as usize / (p * p) * row_len);
            for (x, y) in self.corners((width, height)) {
                self.patch(&tile.pixels, (x, y), table, &mut values);
            }
        }
        let n_patches = values.len() / row_len;
        Ok(Tensor::from_vec(values, (n_patches, row_len), &Device::Cpu)?)
    }

    /// The corner (x, y) of each patch, in order.
    fn corners(&self, (width, height): (u32, u32)) -> impl Iterator<Item = (u32, u32)> {
        let (p, merge, side) = (self.patch_size, self.merge_size, self.token_side());
        let (rows, cols) = (height / side, width / side);
        let tokens = (0..rows).flat_map(move |row| (0..cols).map(move |col| (row, col)));
        tokens.flat_map(move |(row, col)| {
            let inner = (0..merge).flat_map(move |down| (0..merge).map(move |right| (down, right)));
            inner.map(move |(down, right)| (col * side + right * p, row * side + down * p))
        })
    }

    /// One patch: channel by channel, frame by frame, row by row.
    fn patch(
        &self,
        pixels: &RgbImage,
        (x, y): (u32, u32),
        table: &[[f32; 256]; 3],
        to: &mut Vec<f32>,
    ) {
        let (p, stride) = (self.patch_size as usize, pixels.width() as usize * 3);
        for (channel, table) in table.iter().enumerate() {
            for _ in 0..self.temporal_patch_size {
                for row in 0..p {
                    let first = (y as usize + row) * stride + x as usize * 3 + channel;
                    let bytes = pixels.as_raw()[first..].iter().step_by(3).take(p);
                    to.extend(bytes.map(|&byte| table[usize::from(byte)]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_tokens_of_the_reference() {
        let settings = PatchSettings {
            patch_size: 14,
            temporal_patch_size: 2,
            merge_size: 2,
            min_pixels: 56 * 56,
            max_pixels: 28 * 28 * 1280,
        };
        // Values of transformers 4.57.1: a picture's width and height, and those it is brought to.
        let rows = [
            ((540, 360), (532, 364)),
            ((1, 1), (56, 56)),
            ((42, 70), (56, 56)),
            ((4000, 3000), (1148, 840)),
            ((30, 5000), (28, 5012)),
            ((200, 1), (812, 28)),
        ];
        for (size, expected) in rows {
            assert_eq!(settings.size(size), expected, "{size:?}");
        }
    }
}
