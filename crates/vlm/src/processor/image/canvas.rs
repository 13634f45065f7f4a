//! A picture -> the tiles of the canvas that suits it best (Llama-3.2-Vision).
//!
//! Follows `image_processing_mllama.py`: the picture lies at the canvas's top left on black.
//! Does not know that the model fills pictures up with empty tiles.

use image::{RgbImage, imageops};

use super::prepare::{Scale, Tile, Tiles};
use super::resample::{Filter, resize};
use crate::config::mllama::aspect_ratios;

/// `picture` on a canvas of at most `max_tiles` tiles of `side` pixels, cut row by row.
pub(super) fn cut(picture: &RgbImage, max_tiles: usize, side: u32, filter: Filter) -> Tiles {
    let size = picture.dimensions();
    let (rows, cols) = best_canvas(size, max_tiles, side);
    let (width, height) = (cols as u32 * side, rows as u32 * side);
    let (inner_width, inner_height) = fitted(size, (width, height), side);
    let mut canvas = RgbImage::new(width, height);
    imageops::replace(&mut canvas, &resize(picture, inner_width, inner_height, filter), 0, 0);
    let scale = Scale::between(size, (inner_width, inner_height));
    let cells = (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col)));
    let tile = |(row, col)| {
        let (x, y) = (col as u32 * side, row as u32 * side);
        Tile {
            pixels: imageops::crop_imm(&canvas, x, y, side, side).to_image(),
            source: scale.source(i64::from(x), i64::from(y), (side, side)),
            cell: Some((row, col)),
        }
    };
    Tiles { tiles: cells.map(tile).collect(), rows, cols, size }
}

/// `get_optimal_tiled_canvas`: the rows and columns of tiles that enlarge the picture least, else
/// shrink it least; of several the smallest.
fn best_canvas((width, height): (u32, u32), max_tiles: usize, side: u32) -> (usize, usize) {
    let scale = |(rows, cols): (usize, usize)| {
        let down = (rows * side as usize) as f64 / f64::from(height);
        let across = (cols * side as usize) as f64 / f64::from(width);
        down.min(across)
    };
    let mut best = (1, 1);
    for canvas in aspect_ratios(max_tiles) {
        let (new, old) = (scale(canvas), scale(best));
        let better = match (new >= 1.0, old >= 1.0) {
            (true, true) => new < old,
            (enlarges, _) => enlarges || (old < 1.0 && new > old),
        };
        if better || (new == old && canvas.0 * canvas.1 < best.0 * best.1) {
            best = canvas;
        }
    }
    best
}

/// `get_image_size_fit_to_canvas`: (width, height) of the picture on the canvas, of the same aspect
/// ratio, enlarged only up to a tile.
fn fitted((width, height): (u32, u32), canvas: (u32, u32), side: u32) -> (u32, u32) {
    let (target_width, target_height) = (width.clamp(side, canvas.0), height.clamp(side, canvas.1));
    let across = f64::from(target_width) / f64::from(width);
    let down = f64::from(target_height) / f64::from(height);
    let scaled = |length: u32, scale: f64| ((f64::from(length) * scale) as u32).max(1);
    if across < down {
        (target_width, scaled(height, across).min(target_height))
    } else {
        (scaled(width, down).min(target_width), target_height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canvases_are_those_of_the_reference() {
        // Values of transformers 4.57.1 for tiles of 560 px: a picture's width and height, the
        // canvas, and the picture on it.
        let rows = [
            ((560, 560), (1, 1), (560, 560)),
            ((800, 600), (2, 2), (800, 600)),
            ((1120, 560), (1, 2), (1120, 560)),
            ((300, 1000), (2, 1), (300, 1000)),
            ((3, 2), (1, 1), (560, 373)),
            ((561, 100), (1, 2), (561, 100)),
            ((3000, 200), (1, 4), (2240, 149)),
            ((5000, 5000), (2, 2), (1120, 1120)),
            ((1, 900), (2, 1), (1, 900)),
            ((1121, 560), (1, 3), (1121, 560)),
            ((700, 1700), (3, 1), (560, 1360)),
        ];
        for (size, canvas, inner) in rows {
            assert_eq!(best_canvas(size, 4, 560), canvas, "{size:?}");
            let (width, height) = (canvas.1 as u32 * 560, canvas.0 as u32 * 560);
            assert_eq!(fitted(size, (width, height), 560), inner, "{size:?}");
        }
    }
}
