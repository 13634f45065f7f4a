//! A picture of any resolution -> a squeezed view and cut-out tiles (LLaVA-NeXT, LLaVA-OneVision).
//!
//! Follows `image_processing_llava_{next,onevision}.py` (the Pillow versions) and
//! `select_best_resolution` and `get_patch_output_size` of `image_processing_utils.py`. Does not
//! know what becomes of the padding afterwards.

use image::{RgbImage, imageops};

use super::prepare::{Scale, Tile, Tiles, whole};
use super::resample::{Filter, resize};

/// `picture` squeezed to a square of `side` pixels, then enlarged to the resolution of `pinpoints`
/// that suits it best, on black, and cut into tiles row by row.
pub(super) fn cut(picture: &RgbImage, pinpoints: &[[u32; 2]], side: u32, filter: Filter) -> Tiles {
    let size = picture.dimensions();
    let (width, height) = best_resolution(size, pinpoints);
    let (inner_width, inner_height) = fitted(size, (width, height));
    let (left, top) = ((width - inner_width) / 2, (height - inner_height) / 2);
    let mut canvas = RgbImage::new(width, height);
    let inner = resize(picture, inner_width, inner_height, filter);
    imageops::replace(&mut canvas, &inner, i64::from(left), i64::from(top));
    let scale = Scale::between(size, inner.dimensions());
    let pixels = resize(picture, side, side, filter);
    let mut tiles = vec![Tile { pixels, source: whole(picture), cell: None }];
    let (rows, cols) = (height / side, width / side);
    for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
        let (x, y) = (col * side, row * side);
        let (from_left, from_top) = (i64::from(x) - i64::from(left), i64::from(y) - i64::from(top));
        tiles.push(Tile {
            pixels: imageops::crop_imm(&canvas, x, y, side, side).to_image(),
            source: scale.source(from_left, from_top, (side, side)),
            cell: Some((row as usize, col as usize)),
        });
    }
    Tiles { tiles, rows: rows as usize, cols: cols as usize, size }
}

/// `select_best_resolution`: the (width, height) that keeps most pixels and wastes least.
fn best_resolution((width, height): (u32, u32), pinpoints: &[[u32; 2]]) -> (u32, u32) {
    let product = |width: u32, height: u32| u64::from(width) * u64::from(height);
    let mut best = (0, 0);
    let (mut most, mut least_wasted) = (0, u64::MAX);
    for &[high, wide] in pinpoints {
        let across = f64::from(wide) / f64::from(width);
        let scale = across.min(f64::from(high) / f64::from(height));
        let scaled = |length: u32| (f64::from(length) * scale) as u32;
        let kept = product(scaled(width), scaled(height)).min(product(width, height));
        let wasted = product(wide, high) - kept;
        if kept > most || (kept == most && wasted < least_wasted) {
            (best, most, least_wasted) = ((wide, high), kept, wasted);
        }
    }
    best
}

/// `get_patch_output_size`: the largest (width, height) inside `target` of the same aspect ratio.
fn fitted((width, height): (u32, u32), target: (u32, u32)) -> (u32, u32) {
    let across = f64::from(target.0) / f64::from(width);
    let down = f64::from(target.1) / f64::from(height);
    let scaled = |length: u32, scale: f64| (f64::from(length) * scale).ceil() as u32;
    if across < down {
        (target.0, scaled(height, across).min(target.1))
    } else {
        (scaled(width, down).min(target.0), target.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolution_keeps_most_and_wastes_least() {
        let pinpoints = crate::config::any_resolution::llava_next_pinpoints();
        // Width and height of a picture, of the resolution, and of the picture in it.
        let rows = [
            ((336, 336), (672, 336), (336, 336)),
            ((800, 600), (672, 672), (672, 504)),
            ((1000, 300), (1008, 336), (1008, 303)),
            ((300, 1000), (336, 1008), (303, 1008)),
            ((3, 2), (672, 336), (504, 336)),
        ];
        for (size, resolution, inner) in rows {
            let best = best_resolution(size, &pinpoints);
            assert_eq!((best, fitted(size, best)), (resolution, inner), "{size:?}");
        }
    }
}
