//! Pictures that become no tokens: one picture token stands for each, and layers of their own see
//! the patches of its tiles (Llama-3.2-Vision).
//!
//! Follows transformers' `processing_mllama.py`.

use std::borrow::Cow;

use super::super::image::{Tile, Tiles};
use super::super::span::{ImageSpan, Packing, Visible};

/// How many cross-attention states a picture has: for each tile the class token, then patches.
#[derive(Clone, Copy, Debug)]
pub(super) struct States {
    /// Tiles of a picture, empty ones with them.
    pub max_tiles: usize,
    /// Patches along one side of a tile.
    pub side: usize,
}

impl States {
    fn per_tile(self) -> usize {
        1 + self.side * self.side
    }

    fn per_picture(self) -> usize {
        self.max_tiles * self.per_tile()
    }

    /// The spans of the `image`-th picture: one for each of its tiles.
    pub fn spans(self, image: usize, tiles: &Tiles) -> Vec<ImageSpan> {
        let canvas = (tiles.rows, tiles.cols);
        let span = |(i, tile): (usize, &Tile)| {
            let first = image * self.per_picture() + i * self.per_tile();
            let (grid, source) = self.shown(tile.source, tiles.size);
            ImageSpan {
                image,
                tokens: first..first + self.per_tile(),
                grid,
                first_cell: -1,
                source,
                packing: Packing::CrossAttention { canvas, row_len: self.side },
            }
        };
        tiles.tiles.iter().enumerate().map(span).collect()
    }

    /// Rows and columns of a tile's patches that show some of the picture, and what they show. The
    /// picture begins at the canvas's top left.
    fn shown(self, source: [f32; 4], (width, height): (u32, u32)) -> ((usize, usize), [f32; 4]) {
        let [x0, y0, x1, y1] = source;
        let along = |from: f32, to: f32, length: u32| {
            let patch = (to - from) / self.side as f32;
            // A quotient's last bits must not add a patch.
            let n = ((length as f32 - from) / patch - 1e-3).ceil();
            let n = (n.max(0.0) as usize).min(self.side);
            (n, from + n as f32 * patch)
        };
        let ((cols, x1), (rows, y1)) = (along(x0, x1, width), along(y0, y1, height));
        ((rows, cols), [x0, y0, x1, y1])
    }

    /// `get_cross_attention_token_mask`: a picture is seen from its token on until the next
    /// picture, and pictures that follow one another immediately are seen together.
    pub fn visible(self, input_ids: &[u32], image_token_id: u32, tiled: &[Tiles]) -> Vec<Visible> {
        let places = (0..input_ids.len()).filter(|&i| input_ids[i] == image_token_id);
        let places: Vec<usize> = places.collect();
        let mut end = usize::MAX;
        let mut visible = Vec::new();
        for (image, (&place, tiles)) in places.iter().zip(tiled).enumerate().rev() {
            match places.get(image + 1) {
                Some(&next) if next > place + 1 => end = next,
                _ => {}
            }
            let first = image * self.per_picture();
            let states = first..first + tiles.tiles.len() * self.per_tile();
            visible.push(Visible { tokens: place..end, states });
        }
        visible.reverse();
        visible
    }
}

/// `build_string_from_input`: the first token of all before the words where a template left it out.
pub(super) fn begin<'a>(prompt: &'a str, bos: &str, image_token: &str) -> Cow<'a, str> {
    if prompt.contains(bos) {
        return prompt.into();
    }
    let words = prompt.trim_start_matches(image_token);
    let pictures = &prompt[..prompt.len() - words.len()];
    format!("{pictures}{bos}{words}").into()
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    const STATES: States = States { max_tiles: 4, side: 2 };

    fn tiles(size: (u32, u32), canvas: (usize, usize), sources: &[[f32; 4]]) -> Tiles {
        let tile = |&source| Tile { pixels: RgbImage::new(1, 1), source, cell: None };
        let tiles = sources.iter().map(tile).collect();
        Tiles { tiles, rows: canvas.0, cols: canvas.1, size }
    }

    #[test]
    fn text_sees_the_pictures_just_before_it() {
        let one = || tiles((1, 1), (1, 1), &[[0.0; 4]]);
        let rows: [(&[u32], &[(usize, usize)]); 5] = [
            (&[1, 9, 1, 1], &[(1, usize::MAX)]),
            (&[9, 9, 1], &[(0, usize::MAX), (1, usize::MAX)]),
            (&[1, 9, 1, 9, 1], &[(1, 3), (3, usize::MAX)]),
            (&[9, 9, 1, 9], &[(0, 3), (1, 3), (3, usize::MAX)]),
            (&[1, 1], &[]),
        ];
        for (ids, expected) in rows {
            let tiled: Vec<Tiles> = expected.iter().map(|_| one()).collect();
            let found = STATES.visible(ids, 9, &tiled);
            let tokens = found.iter().map(|v| (v.tokens.start, v.tokens.end));
            assert_eq!(tokens.collect::<Vec<_>>(), expected, "{ids:?}");
            for (image, visible) in found.iter().enumerate() {
                assert_eq!(visible.states, image * 20..image * 20 + 5, "its first tile of four");
            }
        }
    }

    #[test]
    fn padding_shows_nothing() {
        // Two tiles of 10 x 10 px, of which the picture fills 14 x 4.
        let sources = [[0.0, 0.0, 10.0, 10.0], [10.0, 0.0, 20.0, 10.0]];
        let spans = STATES.spans(1, &tiles((14, 4), (1, 2), &sources));
        assert_eq!((spans[0].grid, spans[0].source), ((1, 2), [0.0, 0.0, 10.0, 5.0]));
        assert_eq!((spans[1].grid, spans[1].source), ((1, 1), [10.0, 0.0, 15.0, 5.0]));
        assert_eq!(spans[1].tokens, 25..30);
        let boxes: Vec<_> = (0..5).map(|i| spans[1].pixel_box(i)).collect();
        let first = Some([10.0, 0.0, 15.0, 5.0]);
        assert_eq!(boxes, [first, first, None, None, None], "class token, then 2 x 2 patches");
    }

    #[test]
    fn the_first_token_follows_leading_pictures() {
        for (prompt, expected) in [
            ("<|image|>Hi", "<|image|><s>Hi"),
            ("Hi <|image|>", "<s>Hi <|image|>"),
            ("<s><|image|>Hi", "<s><|image|>Hi"),
        ] {
            assert_eq!(begin(prompt, "<s>", "<|image|>"), expected);
        }
    }
}
