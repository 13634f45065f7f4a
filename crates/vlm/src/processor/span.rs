//! From a picture's token back to the pixels it stands for.

use std::ops::Range;

/// The tokens of one tile.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSpan {
    /// Which of the conversation's pictures.
    pub image: usize,
    /// Positions in `input_ids`, one for each embedding of the tile.
    pub tokens: Range<usize>,
    /// Rows and columns of tokens; token `i` is at cell `i + first_cell`, row by row.
    pub grid: (usize, usize),
    /// -1 where the first token is a class token, 1 where the checkpoint drops the first patch of
    /// a tower without one, else 0.
    pub first_cell: i64,
    /// What the whole grid shows: x0, y0, x1, y1 in pixels of the original picture. Reaches
    /// beyond the picture where the tile is padded.
    pub source: [f32; 4],
}

impl ImageSpan {
    /// Row and column of token `i` of the span; `None` for a class token.
    pub fn cell(&self, i: usize) -> Option<(usize, usize)> {
        let cell = usize::try_from(i as i64 + self.first_cell).ok()?;
        Some((cell / self.grid.1.max(1), cell % self.grid.1.max(1)))
    }

    /// What token `i` of the span shows: x0, y0, x1, y1 in pixels of the original picture. A class
    /// token shows all.
    pub fn pixel_box(&self, i: usize) -> [f32; 4] {
        let Some((row, col)) = self.cell(i) else { return self.source };
        let [x0, y0, x1, y1] = self.source;
        let width = (x1 - x0) / self.grid.1 as f32;
        let height = (y1 - y0) / self.grid.0 as f32;
        let (left, top) = (x0 + col as f32 * width, y0 + row as f32 * height);
        [left, top, left + width, top + height]
    }
}
