//! From a map to a region: the cells around the peak that hold at least half of it.

use super::{Evidence, Heatmap};

/// The region of `map` around the strongest cell of `strength` (a grid of the same size, which
/// is the map itself or the map relative to something); the score is the map's own share there.
pub(super) fn region(image: usize, map: Heatmap, strength: &[f32]) -> Evidence {
    let peak = strongest(strength);
    let cells = around(peak, strength, map.cols);
    let mut bbox = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
    let mut score = 0.0;
    for &cell in &cells {
        let [x0, y0, x1, y1] = map.cell_box(cell / map.cols, cell % map.cols);
        bbox = [bbox[0].min(x0), bbox[1].min(y0), bbox[2].max(x1), bbox[3].max(y1)];
        score += map.values[cell];
    }
    let [x0, y0, x1, y1] = map.cell_box(peak / map.cols, peak % map.cols);
    let peak = ((x0 + x1) / 2.0, (y0 + y1) / 2.0);
    Evidence { image, bbox, score: score.clamp(0.0, 1.0), peak, heatmap: map }
}

fn strongest(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, idx| if values[idx] > values[best] { idx } else { best })
}

/// The 4-connected cells around `peak` that reach half of its value.
fn around(peak: usize, values: &[f32], cols: usize) -> Vec<usize> {
    let enough = values[peak] / 2.0;
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
        let evidence = region(0, map, &values);
        assert_eq!(evidence.bbox, [0.0, 10.0, 20.0, 20.0]);
        assert!((evidence.score - 0.5).abs() < 1e-6);
        assert_eq!(evidence.peak, (5.0, 15.0));
    }
}
