//! A map -> the one region that is drawn of it: its outline along the cells, and its area.
//!
//! The outline is never smoothed, so that nobody takes it for finer than the model's grid. Knows
//! no picture and no model.

use std::collections::BTreeMap;

use vlm::explain::Heatmap;

/// Part of the peak that a cell must reach to belong to the region.
const ENOUGH: f32 = 0.5;

/// Closed rings in px of the picture, and the share of it that they hold.
pub(crate) struct Outline {
    pub rings: Vec<Vec<[f32; 2]>>,
    pub area: f32,
}

/// The region around the peak of `map` in a picture of `size` px.
pub(crate) fn outline(map: &Heatmap, size: (u32, u32)) -> Outline {
    let inside = around_peak(map);
    let (width, height) = (size.0.max(1) as f32, size.1.max(1) as f32);
    let [left, top, right, bottom] = map.source;
    let (w, h) = ((right - left) / map.cols as f32, (bottom - top) / map.rows as f32);
    let x = |col: usize| (left + col as f32 * w).clamp(0.0, width);
    let y = |row: usize| (top + row as f32 * h).clamp(0.0, height);
    let cells = (0..inside.len()).filter(|&cell| inside[cell]);
    let areas = cells.map(|cell| {
        let (row, col) = (cell / map.cols, cell % map.cols);
        (x(col + 1) - x(col)) * (y(row + 1) - y(row))
    });
    let area = areas.sum::<f32>() / (width * height);
    let rings = rings(&inside, map.rows, map.cols);
    let rings =
        rings.into_iter().map(|ring| ring.into_iter().map(|(row, col)| [x(col), y(row)]).collect());
    Outline { rings: rings.collect(), area }
}

/// The box around the region of `map`; `None` where nothing is.
pub(crate) fn hull(map: &Heatmap) -> Option<[f32; 4]> {
    let inside = around_peak(map);
    let cells = (0..inside.len()).filter(|&cell| inside[cell]);
    let boxes = cells.map(|cell| map.cell_box(cell / map.cols, cell % map.cols));
    boxes.reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])])
}

/// Whether each cell belongs to the part around the strongest one that reaches enough of it.
fn around_peak(map: &Heatmap) -> Vec<bool> {
    let values = &map.values;
    let mut inside = vec![false; values.len()];
    let peak = (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b]));
    let Some(peak) = peak.filter(|&peak| values[peak] > 0.0) else { return inside };
    let mut open = vec![peak];
    while let Some(cell) = open.pop() {
        if inside[cell] || values[cell] < ENOUGH * values[peak] {
            continue;
        }
        inside[cell] = true;
        let (row, col) = (cell / map.cols, cell % map.cols);
        open.extend((row > 0).then(|| cell - map.cols));
        open.extend((row + 1 < map.rows).then(|| cell + map.cols));
        open.extend((col > 0).then(|| cell - 1));
        open.extend((col + 1 < map.cols).then(|| cell + 1));
    }
    inside
}

/// A corner of the grid: row and column of lines.
type Corner = (usize, usize);

/// The borders of the cells that are inside, each a closed ring of corners, clockwise around what
/// is inside, without corners on straight lines.
fn rings(inside: &[bool], rows: usize, cols: usize) -> Vec<Vec<Corner>> {
    let is = |row: Option<usize>, col: Option<usize>| match (row, col) {
        (Some(row), Some(col)) => row < rows && col < cols && inside[row * cols + col],
        _ => false,
    };
    let mut edges: BTreeMap<Corner, Vec<Corner>> = BTreeMap::new();
    let mut add = |from: Corner, to: Corner| edges.entry(from).or_default().push(to);
    for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
        if !inside[row * cols + col] {
            continue;
        }
        if !is(row.checked_sub(1), Some(col)) {
            add((row, col), (row, col + 1));
        }
        if !is(Some(row), Some(col + 1)) {
            add((row, col + 1), (row + 1, col + 1));
        }
        if !is(Some(row + 1), Some(col)) {
            add((row + 1, col + 1), (row + 1, col));
        }
        if !is(Some(row), col.checked_sub(1)) {
            add((row + 1, col), (row, col));
        }
    }
    let mut rings = Vec::new();
    while let Some((&start, _)) = edges.first_key_value() {
        let mut ring = vec![start];
        let mut at = start;
        while let Some(next) = take(&mut edges, at) {
            at = next;
            if at == start {
                break;
            }
            ring.push(at);
        }
        rings.push(straight(&ring));
    }
    rings
}

fn take(edges: &mut BTreeMap<Corner, Vec<Corner>>, from: Corner) -> Option<Corner> {
    let ends = edges.get_mut(&from)?;
    let to = ends.pop();
    if ends.is_empty() {
        edges.remove(&from);
    }
    to
}

/// Only the corners where a ring turns.
fn straight(ring: &[Corner]) -> Vec<Corner> {
    let n = ring.len();
    let turns = (0..n).filter(|&i| {
        let (before, at, after) = (ring[(i + n - 1) % n], ring[i], ring[(i + 1) % n]);
        !(before.0 == at.0 && at.0 == after.0) && !(before.1 == at.1 && at.1 == after.1)
    });
    turns.map(|i| ring[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rows: usize, cols: usize, values: &[f32]) -> Heatmap {
        let source = [0.0, 0.0, 10.0 * cols as f32, 10.0 * rows as f32];
        Heatmap { rows, cols, values: values.to_vec(), source }
    }

    #[test]
    fn one_ring_around_the_peak_and_nothing_else() {
        let values = [
            0.9, 0.1, 0.8, //
            0.6, 0.1, 0.1,
        ];
        let found = outline(&map(2, 3, &values), (30, 20));
        assert_eq!(found.rings, [[[0.0, 0.0], [10.0, 0.0], [10.0, 20.0], [0.0, 20.0]]]);
        assert!((found.area - 1.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn a_hole_is_a_ring_of_its_own_and_corners_turn() {
        let mut values = [1.0; 9];
        values[4] = 0.0;
        let found = outline(&map(3, 3, &values), (30, 30));
        assert_eq!(found.rings.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
        values = [1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let found = outline(&map(3, 3, &values), (30, 30));
        assert_eq!(found.rings.iter().map(Vec::len).collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn what_is_padding_is_cut_off_and_an_empty_map_has_no_region() {
        let padded = Heatmap { source: [-10.0, 0.0, 20.0, 10.0], ..map(1, 3, &[1.0, 1.0, 0.0]) };
        let found = outline(&padded, (20, 10));
        assert!((found.area - 0.5).abs() < 1e-6, "{}", found.area);
        assert!(outline(&map(2, 2, &[0.0; 4]), (20, 20)).rings.is_empty());
    }
}
