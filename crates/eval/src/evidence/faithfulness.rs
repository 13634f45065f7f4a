//! Whether the model used what a map shows: rank correlation with the true effect of each thing,
//! and the curves of an answer while the picture goes or comes, strongest cells first.
//!
//! It does not know how cells are taken away. Definitions: evidence.md, sections 4 and 6.4.

/// Steps of a deletion or insertion curve: none, then sixteen more.
pub(crate) const N_STEPS: usize = 17;

/// Spearman's rank correlation: Pearson's over ranks, ties sharing the middle of theirs. None for
/// fewer than three pairs, or where one side is all the same.
pub(crate) fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < 3 {
        return None;
    }
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (a, b) = (ranks(&a), ranks(&b));
    let mean = (pairs.len() + 1) as f64 / 2.0;
    let product = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum()
    };
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    (scale > 0.0).then(|| product(&a, &b) / scale)
}

/// Ranks from 1, of equal values the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (tied.len() + 1) as f64 / 2.0;
        tied.iter().for_each(|&idx| ranks[idx] = rank);
        before += tied.len();
    }
    ranks
}

/// The cells in the order of a map, the strongest first.
pub(crate) fn strongest_first(values: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

/// How many of `n` cells are gone (or there) at each step.
pub(crate) fn steps(n: usize) -> [usize; N_STEPS] {
    std::array::from_fn(|step| (step * n + (N_STEPS - 1) / 2) / (N_STEPS - 1))
}

/// The area under a curve over equal steps from 0 to 1, by trapezoids.
pub(crate) fn area_under(curve: &[f64]) -> f64 {
    let between = curve.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
    between.sum::<f64>() / (curve.len().saturating_sub(1)).max(1) as f64
}

/// Insertion minus deletion: the areas under the probabilities of the answer, each relative to its
/// probability with the whole picture and at most 1. A random order gives about 0.
pub(crate) fn gap(inserted: &[f64], deleted: &[f64], whole: f64) -> f64 {
    let relative = |curve: &[f64]| -> Vec<f64> {
        curve.iter().map(|p| (p / whole.max(f64::MIN_POSITIVE)).min(1.0)).collect()
    };
    area_under(&relative(inserted)) - area_under(&relative(deleted))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pearson over the average ranks that metrics_ref.py gives.
    #[test]
    fn spearman_shares_ranks_among_ties() {
        let pairs = [(1.0, 2.0), (2.0, 1.0), (2.0, 3.0), (4.0, 3.0), (5.0, 6.0), (3.0, 5.0)];
        let found = spearman(&pairs).expect("a correlation");
        assert!((found - 0.779_411_764_705_882_5).abs() < 1e-12, "{found}");
        let rising = [(1.0, 10.0), (2.0, 100.0), (3.0, 1000.0)];
        assert_eq!(spearman(&rising), Some(1.0));
        assert_eq!(spearman(&rising.map(|(a, b)| (a, -b))), Some(-1.0));
        assert_eq!(spearman(&[(1.0, 1.0), (2.0, 1.0), (3.0, 1.0)]), None);
        assert_eq!(spearman(&rising[..2]), None);
    }

    #[test]
    fn curves_have_areas_and_a_gap() {
        assert_eq!(area_under(&[1.0; N_STEPS]), 1.0);
        assert!((area_under(&[0.0, 1.0]) - 0.5).abs() < 1e-12);
        assert_eq!(steps(36)[0], 0);
        assert_eq!(steps(36)[N_STEPS - 1], 36);
        assert_eq!(steps(16), std::array::from_fn(|step| step));
        let (early, late) = ([0.0, 0.8, 0.8], [0.8, 0.0, 0.0]);
        assert!((gap(&early, &late, 0.8) - 0.5).abs() < 1e-12);
        assert_eq!(gap(&early, &early, 0.8), 0.0);
        assert_eq!(strongest_first(&[0.1, 0.9, 0.5]), [1, 2, 0]);
    }
}
