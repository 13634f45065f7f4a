//! From a map to a region: the cells around the peak that hold at least half of it, and where
//! attention follows an outline, the edges inside the outer cells.

use super::{Evidence, Heatmap};

/// Part of the peak that a neighbour must reach to belong to the region.
const ENOUGH: f32 = 0.5;
/// The same where attention says how much of each cell is covered: corners count.
const ENOUGH_COVERED: f32 = 0.2;

/// The region of `map` around the strongest cell of `strength` (a grid of the same size, which
/// is the map itself or the map relative to something); the score is the map's own share there.
///
/// `outlined`: the strength of a cell follows how much of it the thing covers, so that the box
/// ends inside the outer cells.
pub(super) fn region(image: usize, map: Heatmap, strength: &[f32], outlined: bool) -> Evidence {
    let peak = strongest(strength);
    let enough = strength[peak] * if outlined { ENOUGH_COVERED } else { ENOUGH };
    let cells = around(peak, strength, map.cols, enough);
    let score = cells.iter().map(|&cell| map.values[cell]).sum::<f32>();
    let columns = profile(cells.iter().map(|&cell| (cell % map.cols, strength[cell])), outlined);
    let rows = profile(cells.iter().map(|&cell| (cell / map.cols, strength[cell])), outlined);
    let ((x0, x1), (y0, y1)) = (extent(&columns), extent(&rows));
    let [left, top, right, bottom] = map.source;
    let (width, height) = ((right - left) / map.cols as f32, (bottom - top) / map.rows as f32);
    let bbox = [left + x0 * width, top + y0 * height, left + x1 * width, top + y1 * height];
    let [x0, y0, x1, y1] = map.cell_box(peak / map.cols, peak % map.cols);
    let peak = ((x0 + x1) / 2.0, (y0 + y1) / 2.0);
    Evidence { image, bbox, score: score.clamp(0.0, 1.0), peak, heatmap: map }
}

/// How full each line of cells is, the fullest 1: line and sum, in order. Without `outlined`
/// every line that is there counts as full.
fn profile(cells: impl Iterator<Item = (usize, f32)>, outlined: bool) -> Vec<(usize, f32)> {
    let mut lines: std::collections::BTreeMap<usize, f32> = Default::default();
    cells.for_each(|(line, value)| *lines.entry(line).or_default() += value);
    let most = lines.values().copied().fold(f32::MIN_POSITIVE, f32::max);
    let full = |sum: f32| if outlined { sum / most } else { 1.0 };
    lines.into_iter().map(|(line, sum)| (line, full(sum))).collect()
}

/// Where the lines begin and end, in cells: the outer ones are only as wide as they are full.
fn extent(lines: &[(usize, f32)]) -> (f32, f32) {
    match lines {
        [] => (0.0, 0.0),
        [(only, _)] => (*only as f32, *only as f32 + 1.0),
        [(first, opens), .., (last, closes)] => {
            (*first as f32 + 1.0 - opens, *last as f32 + closes)
        }
    }
}

fn strongest(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, idx| if values[idx] > values[best] { idx } else { best })
}

/// The 4-connected cells around `peak` that reach `enough`.
fn around(peak: usize, values: &[f32], cols: usize, enough: f32) -> Vec<usize> {
    let mut seen = vec![false; values.len()];
    let mut cells = vec![peak];
    seen[peak] = true;
    let mut next = 0;
    while next < cells.len() {
        let cell = cells[next];
        next += 1;
        let (row, col) = (cell / cols, cell % cols);
        let neighbours = [
            (row > 0).then(|| cell - cols),
            (cell + cols < values.len()).then(|| cell + cols),
            (col > 0).then(|| cell - 1),
            (col + 1 < cols).then(|| cell + 1),
        ];
        for neighbour in neighbours.into_iter().flatten() {
            if !seen[neighbour] && values[neighbour] >= enough {
                seen[neighbour] = true;
                cells.push(neighbour);
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_the_component_of_the_peak() {
        let values = vec![
            0.00, 0.00, 0.10, //
            0.30, 0.20, 0.00, //
            0.00, 0.00, 0.25,
        ];
        let map = Heatmap { rows: 3, cols: 3, values: values.clone(), source: [0., 0., 30., 30.] };
        let evidence = region(0, map, &values, false);
        assert_eq!(evidence.bbox, [0.0, 10.0, 20.0, 20.0]);
        assert!((evidence.score - 0.5).abs() < 1e-6);
        assert_eq!(evidence.peak, (5.0, 15.0));
    }

    #[test]
    fn an_outline_ends_inside_its_outer_cells() {
        // A box from (5, 12) to (25, 28): its share of each cell, all adding up to 1.
        let part = |i: usize, low: f32, high: f32| {
            ((i as f32 + 1.0) * 10.0).min(high) - (i as f32 * 10.0).max(low)
        };
        let cover = |i: usize| part(i % 4, 5.0, 25.0).max(0.0) * part(i / 4, 12.0, 28.0).max(0.0);
        let total: f32 = (0..16).map(cover).sum();
        let values: Vec<f32> = (0..16).map(|i| cover(i) / total).collect();
        let map = Heatmap { rows: 4, cols: 4, values: values.clone(), source: [0., 0., 40., 40.] };
        let evidence = region(0, map, &values, true);
        assert!((evidence.score - 1.0).abs() < 1e-5);
        // Rows 1 and 2 are equally full, so both count as whole.
        for (found, expected) in evidence.bbox.iter().zip([5.0, 10.0, 25.0, 30.0]) {
            assert!((found - expected).abs() < 1e-3, "{:?}", evidence.bbox);
        }
    }
}
