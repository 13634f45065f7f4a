//! Whether a map is where a thing is: pointing game, share inside, IoU at Otsu's threshold, and
//! the best IoU that cells of this size allow at all.
//!
//! A box is x0, y0, x1, y1 in pixels. Cells are boxes too, so that maps of any grid and of several
//! tiles are treated alike. It does not know what made the map. Definitions: evidence.md,
//! section 4; the ceiling of the grid: section 5.

/// A map over cells: what each covers and how strong it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Map<'a> {
    pub cells: &'a [[f32; 4]],
    pub values: &'a [f32],
}

impl Map<'_> {
    /// Pointing game: whether the middle of the strongest cell lies in the box, or not further
    /// outside than `tolerance` cells.
    pub fn points_into(&self, bbox: [f32; 4], tolerance: f32) -> bool {
        let Some(peak) = self.peak() else { return false };
        let [x0, y0, x1, y1] = self.cells[peak];
        let (slack_x, slack_y) = (tolerance * (x1 - x0), tolerance * (y1 - y0));
        let (x, y) = ((x0 + x1) / 2.0, (y0 + y1) / 2.0);
        let [left, top, right, bottom] = bbox;
        x >= left - slack_x && x < right + slack_x && y >= top - slack_y && y < bottom + slack_y
    }

    /// The strongest cell, the first of several; None for a map of nothing.
    pub fn peak(&self) -> Option<usize> {
        let stronger = |best: Option<usize>, idx: usize| match best {
            Some(best) if self.values[idx] <= self.values[best] => Some(best),
            _ => Some(idx),
        };
        (0..self.cells.len().min(self.values.len())).fold(None, stronger)
    }

    /// Energy pointing game: Σ in the box / Σ, cells by the share of theirs that lies in it.
    pub fn mass_inside(&self, bbox: [f32; 4]) -> f32 {
        let cells = self.cells.iter().zip(self.values);
        let inside: f32 = cells.map(|(cell, value)| value * covered(*cell, bbox)).sum();
        inside / self.values.iter().sum::<f32>().max(f32::MIN_POSITIVE)
    }

    /// IoU of the box with the cells above Otsu's threshold.
    pub fn iou_at_otsu(&self, bbox: [f32; 4]) -> Option<f32> {
        let threshold = otsu(self.values, OTSU_BINS)?;
        Some(mask_iou(self.cells, bbox, |cell| self.values[cell] > threshold))
    }
}

/// Bins of the histogram behind Otsu's threshold.
const OTSU_BINS: usize = 64;
/// Shares of a cell that must be covered, of which the oracle takes the best.
const ORACLE_SHARES: [f32; 4] = [0.1, 0.25, 0.5, 0.75];

/// The best IoU that a set of cells can have with the box.
pub(crate) fn oracle_iou(cells: &[[f32; 4]], bbox: [f32; 4]) -> f32 {
    let at = |share: f32| mask_iou(cells, bbox, |cell| covered(cells[cell], bbox) >= share);
    ORACLE_SHARES.map(at).into_iter().fold(0.0, f32::max)
}

/// Shared area of two boxes over their joint area.
pub(crate) fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let shared = shared(a, b);
    shared / (area(a) + area(b) - shared).max(f32::MIN_POSITIVE)
}

/// Whether the middle of a cell lies in a box.
pub(crate) fn middle_in([x0, y0, x1, y1]: [f32; 4], bbox: [f32; 4]) -> bool {
    let (x, y) = ((x0 + x1) / 2.0, (y0 + y1) / 2.0);
    x >= bbox[0] && x < bbox[2] && y >= bbox[1] && y < bbox[3]
}

/// The share of a cell that lies in the box.
pub(crate) fn covered(cell: [f32; 4], bbox: [f32; 4]) -> f32 {
    shared(cell, bbox) / area(cell).max(f32::MIN_POSITIVE)
}

/// Otsu's threshold: the middle of the histogram bin that parts the values with the most variance
/// between the parts. None where all values are the same.
pub(crate) fn otsu(values: &[f32], n_bins: usize) -> Option<f32> {
    let (low, high) = values
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)));
    if low >= high || !(high - low).is_finite() {
        return None;
    }
    let width = (high - low) / n_bins as f32;
    let mut counts = vec![0.0f64; n_bins];
    for value in values {
        counts[(((value - low) / width) as usize).min(n_bins - 1)] += 1.0;
    }
    let middle = |bin: usize| f64::from(low) + f64::from(width) * (bin as f64 + 0.5);
    let total = values.len() as f64;
    let mean: f64 = (0..n_bins).map(|bin| counts[bin] * middle(bin)).sum();
    let (mut below, mut sum_below) = (0.0, 0.0);
    let mut best = (f64::NEG_INFINITY, 0);
    for (bin, count) in counts.iter().enumerate() {
        below += count;
        sum_below += count * middle(bin);
        let between = (mean * below / total - sum_below).powi(2) / (below * (total - below));
        if between > best.0 {
            best = (between, bin);
        }
    }
    Some(middle(best.1) as f32)
}

/// IoU of a box with a set of cells that do not overlap.
fn mask_iou(cells: &[[f32; 4]], bbox: [f32; 4], is_in: impl Fn(usize) -> bool) -> f32 {
    let chosen = (0..cells.len()).filter(|&cell| is_in(cell));
    let (inside, whole) = chosen.fold((0.0, 0.0), |(inside, whole), cell| {
        (inside + shared(cells[cell], bbox), whole + area(cells[cell]))
    });
    inside / (whole + area(bbox) - inside).max(f32::MIN_POSITIVE)
}

fn shared(a: [f32; 4], b: [f32; 4]) -> f32 {
    let side = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    side(0) * side(1)
}

fn area([x0, y0, x1, y1]: [f32; 4]) -> f32 {
    (x1 - x0).max(0.0) * (y1 - y0).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(n: usize, side: f32) -> Vec<[f32; 4]> {
        let cell = side / n as f32;
        let at = |i: usize| [(i % n) as f32 * cell, (i / n) as f32 * cell];
        (0..n * n).map(at).map(|[x, y]| [x, y, x + cell, y + cell]).collect()
    }

    fn near(found: f32, expected: f32) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }

    /// The expected values are metrics_ref.py's, part 4.
    #[test]
    fn the_grid_is_the_ceiling() {
        let rows = [
            (16, [100.0, 60.0, 220.0, 200.0], 0.793_650_8),
            (8, [100.0, 60.0, 220.0, 200.0], 0.625),
            (16, [90.0, 60.0, 180.0, 150.0], 1.0),
            (8, [33.0, 47.0, 90.0, 111.0], 0.366_074_8),
        ];
        for (n, bbox, expected) in rows {
            near(oracle_iou(&grid(n, 480.0), bbox), expected);
        }
    }

    #[test]
    fn otsu_is_the_reference_s() {
        let values = [0.0, 0.05, 0.1, 0.1, 0.12, 0.2, 0.7, 0.8, 0.85, 0.9, 1.0, 0.15];
        near(otsu(&values, 64).expect("a threshold"), 0.195_312_5);
        assert_eq!(otsu(&[0.5; 4], 64), None);
        assert_eq!(otsu(&[], 64), None);
    }

    #[test]
    fn a_map_points_covers_and_holds_mass() {
        let cells = grid(4, 40.0);
        let mut values = vec![0.0; 16];
        (values[5], values[6], values[0]) = (0.6, 0.3, 0.02);
        let map = Map { cells: &cells, values: &values };
        assert!(map.points_into([10.0, 10.0, 20.0, 20.0], 0.0));
        assert!(!map.points_into([20.0, 10.0, 30.0, 20.0], 0.0));
        assert!(map.points_into([20.0, 10.0, 30.0, 20.0], 0.5), "half a cell beside it");
        near(map.mass_inside([10.0, 10.0, 30.0, 20.0]), 0.9 / 0.92);
        near(map.mass_inside([10.0, 10.0, 15.0, 20.0]), 0.3 / 0.92);
        near(map.iou_at_otsu([10.0, 10.0, 30.0, 20.0]).expect("a threshold"), 1.0);
        assert_eq!(Map { cells: &[], values: &[] }.peak(), None);
        near(iou([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]), 1.0 / 3.0);
    }
}
