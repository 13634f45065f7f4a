//! The tokens of tiles that lie side by side: padding left out, long grids shrunk, rows ended.
//!
//! Follows `_get_unpadded_features` of transformers' `processing_llava_{next,onevision}.py`, which
//! counts what `pack_image_features` of the models makes (`model::packing`).

use super::super::image::Tiles;
use super::super::span::{ImageSpan, Packing};

/// The span of all cut-out tiles of a picture, at place 0. `side`: rows and columns of embeddings
/// of a tile; `max_tiles`: see `config::AnyResolution`.
pub(super) fn mosaic(tiles: &Tiles, side: usize, max_tiles: Option<usize>) -> ImageSpan {
    let whole = (tiles.rows * side, tiles.cols * side);
    let kept = unpadded(tiles.size, whole);
    let grid = max_tiles.map_or(kept, |n| shrunk(kept, n * side * side));
    ImageSpan {
        image: 0,
        tokens: 0..grid.0 * (grid.1 + 1),
        grid,
        first_cell: 0,
        source: middle(source(tiles), whole, kept),
        packing: Packing::Mosaic { tiles: (tiles.rows, tiles.cols), kept },
    }
}

/// Rows and columns that hold some of a picture of `size` (width, height), which was enlarged to
/// fit into `rows` and `cols` and centred there.
fn unpadded(size: (u32, u32), (rows, cols): (usize, usize)) -> (usize, usize) {
    let (width, height) = (f64::from(size.0), f64::from(size.1));
    let (high, wide) = (rows as f64, cols as f64);
    // `int(round(length, 7))`: the last bits of a quotient must not cost a row.
    let int = |length: f64| (length + 5e-8) as usize;
    let without = |all: usize, inner: usize| all - 2 * (all.saturating_sub(inner) / 2);
    if width / height > wide / high {
        (without(rows, int(height * (wide / width))), cols)
    } else {
        (rows, without(cols, int(width * (high / height))))
    }
}

/// Rows and columns of about `most` cells; the same where there are hardly more.
fn shrunk((rows, cols): (usize, usize), most: usize) -> (usize, usize) {
    let ratio = ((rows * cols) as f64 / most as f64).sqrt();
    if ratio <= 1.1 {
        return (rows, cols);
    }
    // Python's `//` for floats.
    let floor = |n: usize| ((n as f64 - n as f64 % ratio) / ratio).round() as usize;
    (floor(rows), floor(cols))
}

/// What all cut-out tiles show, px of the original.
fn source(tiles: &Tiles) -> [f32; 4] {
    let cut = || tiles.tiles.iter().filter(|tile| tile.cell.is_some());
    match (cut().next(), cut().next_back()) {
        (Some(first), Some(last)) => {
            [first.source[0], first.source[1], last.source[2], last.source[3]]
        }
        _ => [0.0; 4],
    }
}

/// What the middle `kept` of `all` rows and columns show.
fn middle(source: [f32; 4], all: (usize, usize), kept: (usize, usize)) -> [f32; 4] {
    let [x0, y0, x1, y1] = source;
    let margin = |length: f32, all: usize, kept: usize| {
        length * ((all - kept) / 2) as f32 / all.max(1) as f32
    };
    let (across, down) = (margin(x1 - x0, all.1, kept.1), margin(y1 - y0, all.0, kept.0));
    [x0 + across, y0 + down, x1 - across, y1 - down]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_have_the_reference_sizes() {
        // Values of transformers 4.57.1: a picture's width and height, its rows and columns.
        let rows = [
            ((800, 600), (48, 48), (36, 48), (36, 48)),
            ((600, 800), (48, 48), (48, 36), (48, 36)),
            ((1000, 300), (24, 72), (22, 72), (22, 72)),
            ((336, 336), (24, 48), (24, 24), (24, 24)),
            ((2304, 2304), (162, 162), (162, 162), (81, 81)),
            ((3000, 1000), (54, 162), (54, 162), (46, 140)),
            ((1, 900), (72, 24), (72, 0), (72, 0)),
        ];
        for (size, whole, kept, grid) in rows {
            assert_eq!(unpadded(size, whole), kept, "{size:?}");
            assert_eq!(shrunk(kept, 9 * 27 * 27), grid, "{size:?}");
        }
    }
}
