//! The tokens of pictures that keep their shape, and where all tokens stand in three dimensions.
//!
//! Follows `get_rope_index` of `modeling_qwen{2,2_5,3}_vl.py` (pictures; no videos).

use super::super::image::{ImageSettings, Tile};
use super::super::span::{ImageSpan, Packing};
use crate::config::DynamicResolution;

/// The span of a picture, at place 0.
pub(super) fn span(tile: &Tile, patch_size: u32, merge_size: usize) -> ImageSpan {
    let side = patch_size * merge_size as u32;
    let (width, height) = tile.pixels.dimensions();
    let grid = ((height / side) as usize, (width / side) as usize);
    ImageSpan {
        image: 0,
        tokens: 0..grid.0 * grid.1,
        grid,
        first_cell: 0,
        source: tile.source,
        packing: Packing::Patches { merge_size },
    }
}

/// Time, height and width of each of `n_tokens`: words stand one after another, the tokens of a
/// picture at their row and column, and what follows a picture beyond its longer side.
pub(super) fn position_ids(n_tokens: usize, spans: &[ImageSpan]) -> Vec<[u32; 3]> {
    let mut ids: Vec<[u32; 3]> = Vec::with_capacity(n_tokens);
    let mut next = 0;
    let words = |ids: &mut Vec<[u32; 3]>, until: usize, next: &mut u32| {
        while ids.len() < until {
            ids.push([*next; 3]);
            *next += 1;
        }
    };
    for span in spans {
        words(&mut ids, span.tokens.start, &mut next);
        for row in 0..span.grid.0 as u32 {
            ids.extend((0..span.grid.1 as u32).map(|col| [next, next + row, next + col]));
        }
        next += span.grid.0.max(span.grid.1) as u32;
    }
    words(&mut ids, n_tokens, &mut next);
    ids
}

/// What is wrong with image settings for this tower.
pub(super) fn check(
    dynamic: &DynamicResolution,
    patch_size: u32,
    settings: &ImageSettings,
) -> Result<(), String> {
    let Some(found) = &settings.patches else {
        return Err(format!("is for {:?}, not for pictures that keep their shape", settings.kind));
    };
    let rows = [
        ("patch_size", found.patch_size, patch_size as usize),
        ("temporal_patch_size", found.temporal_patch_size, dynamic.temporal_patch_size),
        ("merge_size", found.merge_size, dynamic.spatial_merge_size),
    ];
    match rows.into_iter().find(|(_, found, takes)| *found as usize != *takes) {
        Some((key, found, takes)) => {
            Err(format!("{key} is {found}, but config.json says the vision encoder takes {takes}"))
        }
        None if !settings.do_resize => Err("do_resize must be true for this model".to_owned()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_picture_stands_beyond_its_longer_side() {
        let packing = Packing::Patches { merge_size: 2 };
        let span = |tokens, grid| {
            let source = [0.0; 4];
            ImageSpan { image: 0, tokens, grid, first_cell: 0, source, packing }
        };
        let found = position_ids(12, &[span(1..4, (1, 3)), span(6..10, (2, 2))]);
        let expected = [
            [0, 0, 0],
            [1, 1, 1],
            [1, 1, 2],
            [1, 1, 3],
            [4, 4, 4],
            [5, 5, 5],
            [6, 6, 6],
            [6, 6, 7],
            [6, 7, 6],
            [6, 7, 7],
            [8, 8, 8],
            [9, 9, 9],
        ];
        assert_eq!(found, expected);
    }
}
