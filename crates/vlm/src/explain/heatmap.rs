//! Attention over image tokens -> one map over the picture, tiles merged.

use crate::processor::ImageSpan;

/// Most cells along one side of a map that several tiles share.
const MAX_SIDE: usize = 64;

/// A grid over a part of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Heatmap {
    pub rows: usize,
    pub cols: usize,
    /// Row by row: the share of attention in each cell, whose sum is at most 1; or where the
    /// evidence is calibrated, the probability of each cell.
    pub values: Vec<f32>,
    /// What the grid covers, px of the original: x0, y0, x1, y1. May reach outside.
    pub source: [f32; 4],
}

impl Heatmap {
    /// The map of picture `image` from an attention row over all positions. `None` when the
    /// picture has no token there.
    pub fn new(row: &[f32], spans: &[ImageSpan], image: usize) -> Option<Heatmap> {
        let spans: Vec<&ImageSpan> = spans.iter().filter(|span| span.image == image).collect();
        let mut map = canvas(&spans)?;
        for span in spans {
            for (i, position) in span.tokens.clone().enumerate() {
                if let Some(bbox) = span.pixel_box(i) {
                    map.spread(bbox, row.get(position).copied().unwrap_or(0.0));
                }
            }
        }
        Some(map)
    }

    /// The map of what is known of each token, as a probability: where tokens overlap, their mean,
    /// in which finer ones count more.
    pub(super) fn mean(values: &[f32], spans: &[ImageSpan], image: usize) -> Option<Heatmap> {
        let ones = vec![1.0; values.len()];
        let mut map = Heatmap::new(values, spans, image)?;
        let weights = Heatmap::new(&ones, spans, image)?.values;
        let cells = map.values.iter_mut().zip(weights);
        cells.for_each(|(value, weight)| *value /= weight.max(f32::MIN_POSITIVE));
        Some(map)
    }

    /// The sum of its values: of a map of attention, that on the whole picture.
    pub fn mass(&self) -> f32 {
        self.values.iter().sum()
    }

    /// What a cell covers, px of the original.
    pub fn cell_box(&self, row: usize, col: usize) -> [f32; 4] {
        let (width, height) = self.cell_size();
        let (x, y) = (self.source[0] + col as f32 * width, self.source[1] + row as f32 * height);
        [x, y, x + width, y + height]
    }

    /// The cell at a place of the picture; `None` outside.
    pub(super) fn cell_at(&self, x: f32, y: f32) -> Option<usize> {
        let (width, height) = self.cell_size();
        let [x0, y0, x1, y1] = self.source;
        if !(x0..x1).contains(&x) || !(y0..y1).contains(&y) {
            return None;
        }
        let (row, col) = ((y - y0) / height, (x - x0) / width);
        Some((row as usize).min(self.rows - 1) * self.cols + (col as usize).min(self.cols - 1))
    }

    /// The value at a place of the picture; `None` outside.
    pub fn at(&self, x: f32, y: f32) -> Option<f32> {
        self.values.get(self.cell_at(x, y)?).copied()
    }

    fn cell_size(&self) -> (f32, f32) {
        let [x0, y0, x1, y1] = self.source;
        ((x1 - x0) / self.cols as f32, (y1 - y0) / self.rows as f32)
    }

    /// Gives `share` to the cells under `bbox`, by area.
    fn spread(&mut self, bbox: [f32; 4], share: f32) {
        let (width, height) = self.cell_size();
        let [left, top, ..] = self.source;
        let columns = overlaps(bbox[0] - left, bbox[2] - left, width, self.cols);
        let rows = overlaps(bbox[1] - top, bbox[3] - top, height, self.rows);
        for (row, down) in &rows {
            for (col, across) in &columns {
                self.values[row * self.cols + col] += share * down * across;
            }
        }
    }
}

/// An empty map over everything that the tiles show, as fine as the finest of them.
fn canvas(spans: &[&ImageSpan]) -> Option<Heatmap> {
    let first = spans.first()?;
    let mut source = first.source;
    let mut cell = [f32::INFINITY; 2];
    for span in spans.iter().filter(|span| span.grid.0 > 0 && span.grid.1 > 0) {
        let [x0, y0, x1, y1] = span.source;
        source = [source[0].min(x0), source[1].min(y0), source[2].max(x1), source[3].max(y1)];
        cell[0] = cell[0].min((x1 - x0) / span.grid.1.max(1) as f32);
        cell[1] = cell[1].min((y1 - y0) / span.grid.0.max(1) as f32);
    }
    let side = |length: f32, cell: f32| match cell > 0.0 {
        true => ((length / cell).round() as usize).clamp(1, MAX_SIDE),
        false => 1,
    };
    let (rows, cols) = match spans.len() {
        1 => (first.grid.0.max(1), first.grid.1.max(1)),
        _ => (side(source[3] - source[1], cell[1]), side(source[2] - source[0], cell[0])),
    };
    Some(Heatmap { rows, cols, values: vec![0.0; rows * cols], source })
}

/// The cells that the interval touches, each with the share of the interval inside it.
fn overlaps(from: f32, to: f32, size: f32, n: usize) -> Vec<(usize, f32)> {
    let length = (to - from).max(f32::MIN_POSITIVE);
    let first = ((from / size + 1e-3).floor().max(0.0) as usize).min(n - 1);
    let last = ((to / size - 1e-3).ceil().max(1.0) as usize).clamp(first + 1, n);
    let mut cells = Vec::new();
    let mut total = 0.0;
    for idx in first..last {
        let inside = to.min((idx + 1) as f32 * size) - from.max(idx as f32 * size);
        let share = (inside / length).max(0.0);
        total += share;
        cells.push((idx, share));
    }
    // Rounding at the edges must not lose attention.
    cells.iter_mut().for_each(|cell| cell.1 /= total.max(f32::MIN_POSITIVE));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::Packing;

    fn span(tokens: std::ops::Range<usize>, source: [f32; 4]) -> ImageSpan {
        let packing = Packing::Tile { newline: false };
        ImageSpan { image: 0, tokens, grid: (2, 2), first_cell: 0, source, packing }
    }

    #[test]
    fn one_tile_keeps_its_grid_and_its_values() {
        let row = [0.5, 0.1, 0.2, 0.05, 0.15];
        let map = Heatmap::new(&row, &[span(1..5, [0.0, 0.0, 20.0, 10.0])], 0).unwrap();
        assert_eq!((map.rows, map.cols), (2, 2));
        for (found, expected) in map.values.iter().zip([0.1, 0.2, 0.05, 0.15]) {
            assert!((found - expected).abs() < 1e-6, "{:?}", map.values);
        }
        assert_eq!(map.cell_box(1, 0), [0.0, 5.0, 10.0, 10.0]);
    }

    #[test]
    fn what_falls_on_newlines_is_on_no_map() {
        let packing = Packing::Mosaic { tiles: (1, 1), kept: (2, 2) };
        let rows = ImageSpan { packing, ..span(0..6, [0.0, 0.0, 20.0, 20.0]) };
        let map = Heatmap::new(&[0.1, 0.2, 0.4, 0.05, 0.15, 0.1], &[rows], 0).unwrap();
        for (found, expected) in map.values.iter().zip([0.1, 0.2, 0.05, 0.15]) {
            assert!((found - expected).abs() < 1e-6, "{:?}", map.values);
        }
    }

    #[test]
    fn tiles_merge_and_lose_no_attention() {
        let spans = [
            span(0..4, [0.0, 0.0, 10.0, 10.0]),
            span(4..8, [10.0, 0.0, 20.0, 10.0]),
            span(8..12, [0.0, 0.0, 20.0, 10.0]),
        ];
        let row: Vec<f32> = (1..=12).map(|i| i as f32 / 78.0).collect();
        let map = Heatmap::new(&row, &spans, 0).unwrap();
        assert_eq!((map.rows, map.cols), (2, 4));
        assert!((map.mass() - 1.0).abs() < 1e-5, "{}", map.mass());
        assert!(Heatmap::new(&row, &spans, 1).is_none());
    }
}
