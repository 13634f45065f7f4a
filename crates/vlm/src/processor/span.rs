//! From a picture's token back to the pixels it stands for.

use std::ops::Range;

/// A run of picture tokens: the tiles they are made of, and what each of them shows.
///
/// Token `i` is at place `i + first_cell`; places go row by row over the grid and, where rows end
/// with a newline token, one place beyond each. A place outside the grid shows nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSpan {
    /// Which of the conversation's pictures.
    pub image: usize,
    /// Positions in `input_ids`, one for each embedding; under cross attention, places among the
    /// cross-attention states. In both cases places among what the evidence layers look at.
    pub tokens: Range<usize>,
    /// Rows and columns of tokens that show a part of the picture (padding does not); of patches
    /// that queries look at.
    pub grid: (usize, usize),
    /// -1 where the first token is a class token, 1 where the checkpoint drops the first patch of
    /// a tower without one, else 0.
    pub first_cell: i64,
    /// What the whole grid shows: x0, y0, x1, y1 in pixels of the original picture. Reaches
    /// beyond the picture where the tile is padded.
    pub source: [f32; 4],
    pub packing: Packing,
}

/// How the embeddings of tiles become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// Those of one tile as they are, and with `newline` a newline token after the last.
    Tile { newline: bool },
    /// Those of `tiles` (rows, columns) laid side by side, of which the middle `kept` (rows,
    /// columns) are brought to the span's grid; a newline token ends each row.
    Mosaic { tiles: (usize, usize), kept: (usize, usize) },
    /// Those of one picture that keeps its shape, each made of `merge_size`² patches.
    Patches { merge_size: usize },
    /// Each is a query that has looked at all patches of one tile: it has no place of its own and
    /// shows the whole.
    Queries,
    /// Those of one tile become no tokens: cross-attention layers see them, beside those of the
    /// other tiles of the `canvas` (rows, columns). `row_len`: patches in a row of the tile, of
    /// which the first ones are the grid.
    CrossAttention { canvas: (usize, usize), row_len: usize },
}

impl Packing {
    /// Whether all of a picture must be encoded at once.
    pub fn is_whole(&self) -> bool {
        matches!(self, Packing::Patches { .. } | Packing::CrossAttention { .. })
    }
}

/// Which rows of text see which cross-attention states: what `cross_attention_mask` of transformers
/// has 1 for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visible {
    /// Positions in `input_ids`; without end where everything that follows the prompt sees them.
    pub tokens: Range<usize>,
    /// Those of the real tiles of one picture.
    pub states: Range<usize>,
}

impl ImageSpan {
    /// How many tiles the tokens are made of.
    pub fn n_tiles(&self) -> usize {
        match self.packing {
            Packing::Tile { .. }
            | Packing::Patches { .. }
            | Packing::Queries
            | Packing::CrossAttention { .. } => 1,
            Packing::Mosaic { tiles: (rows, cols), .. } => rows * cols,
        }
    }

    /// How many rows of `pixel_values` the tokens are made of: tiles, or patches.
    pub fn n_rows(&self) -> usize {
        match self.packing {
            Packing::Patches { merge_size } => self.grid.0 * self.grid.1 * merge_size.pow(2),
            _ => self.n_tiles(),
        }
    }

    /// Whether its tokens are tokens of the prompt.
    pub fn is_in_prompt(&self) -> bool {
        !matches!(self.packing, Packing::CrossAttention { .. })
    }

    /// The patches that queries look at, as if they were tokens from position `first` on.
    pub fn patches(&self, first: usize) -> ImageSpan {
        let n = (self.grid.0 * self.grid.1) as i64 - self.first_cell;
        let packing = Packing::Tile { newline: false };
        ImageSpan { tokens: first..first + n.max(0) as usize, packing, ..self.clone() }
    }

    /// Row and column of token `i` of the span; `None` for a class or newline token or a query.
    pub fn cell(&self, i: usize) -> Option<(usize, usize)> {
        let place = usize::try_from(i as i64 + self.first_cell).ok()?;
        let row_len = match self.packing {
            Packing::Queries => return None,
            Packing::Tile { .. } | Packing::Patches { .. } => self.grid.1.max(1),
            Packing::Mosaic { .. } => self.grid.1 + 1,
            Packing::CrossAttention { row_len, .. } => row_len.max(1),
        };
        let (row, col) = (place / row_len, place % row_len);
        (row < self.grid.0 && col < self.grid.1).then_some((row, col))
    }

    /// What token `i` of the span shows: x0, y0, x1, y1 in pixels of the original picture. A class
    /// token or query shows all, a newline token nothing.
    pub fn pixel_box(&self, i: usize) -> Option<[f32; 4]> {
        if self.packing == Packing::Queries || (i as i64) < -self.first_cell {
            return Some(self.source);
        }
        let (row, col) = self.cell(i)?;
        let [x0, y0, x1, y1] = self.source;
        let width = (x1 - x0) / self.grid.1 as f32;
        let height = (y1 - y0) / self.grid.0 as f32;
        let (left, top) = (x0 + col as f32 * width, y0 + row as f32 * height);
        Some([left, top, left + width, top + height])
    }
}
