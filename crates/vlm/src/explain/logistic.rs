//! Logistic regression and calibration curves: how raw features become probabilities.
//!
//! Newton's method (iteratively reweighted least squares) with an L2 penalty, over standardised
//! features; Platt's and isotonic calibration on top. Small and exact, for some thousands of rows
//! of some dozens of features. It does not know what the features are.
//!
//! Shapes: `n` rows, `F` features.

use serde::{Deserialize, Serialize};

/// Newton steps at most; it converges in fewer than ten or never.
const MAX_STEPS: usize = 60;
/// Steps end when no weight moves by more than this.
const CONVERGED: f64 = 1e-7;

/// `sigmoid(weights · x + bias)`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logistic {
    /// `(F)`
    pub weights: Vec<f32>,
    pub bias: f32,
}

/// Labelled rows to fit to.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    pub n_features: usize,
    /// `(n · F)`
    pub features: Vec<f32>,
    /// `(n)`
    pub labels: Vec<bool>,
    /// `(n)`, how much each row counts.
    pub weights: Vec<f32>,
}

impl Samples {
    /// None yet, of `n_features` each.
    pub fn new(n_features: usize) -> Samples {
        Samples { n_features, ..Samples::default() }
    }

    /// Adds a row `(F)` that counts `weight` times; one of another length is left out.
    pub fn push(&mut self, features: &[f32], label: bool, weight: f32) {
        if features.len() == self.n_features && features.iter().all(|value| value.is_finite()) {
            self.features.extend_from_slice(features);
            self.labels.push(label);
            self.weights.push(weight);
        }
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Makes both labels count the same in total, and all rows `n` together.
    pub fn balance(&mut self) {
        let total = |label| {
            let rows = self.labels.iter().zip(&self.weights).filter(|(l, _)| **l == label);
            rows.map(|(_, weight)| weight).sum::<f32>()
        };
        let half = self.len() as f32 / 2.0;
        let factors = [false, true].map(|label| half / total(label).max(f32::MIN_POSITIVE));
        for (label, weight) in self.labels.iter().zip(&mut self.weights) {
            *weight *= factors[usize::from(*label)];
        }
    }

    fn rows(&self) -> impl Iterator<Item = (&[f32], f64, f64)> {
        let rows = self.features.chunks_exact(self.n_features.max(1));
        let answers = self.labels.iter().zip(&self.weights);
        rows.zip(answers)
            .map(|(row, (&label, &weight))| (row, f64::from(u8::from(label)), f64::from(weight)))
    }

    /// Weighted mean and spread of each feature; a constant one has spread 1.
    fn scales(&self) -> Vec<(f64, f64)> {
        let total = self.weights.iter().map(|&w| f64::from(w)).sum::<f64>().max(f64::MIN_POSITIVE);
        let scale = |feature: usize| {
            let values = || self.rows().map(move |(row, _, w)| (f64::from(row[feature]), w));
            let mean = values().map(|(x, w)| x * w).sum::<f64>() / total;
            let variance = values().map(|(x, w)| (x - mean).powi(2) * w).sum::<f64>() / total;
            (mean, if variance > 1e-12 { variance.sqrt() } else { 1.0 })
        };
        (0..self.n_features).map(scale).collect()
    }
}

impl Logistic {
    /// The weights of least loss, mean log loss plus `l2 / 2 · |w|²` over standardised features.
    ///
    /// `None` when there is only one label, or no finite solution.
    pub fn fit(samples: &Samples, l2: f64) -> Option<Logistic> {
        let both = samples.labels.contains(&true) && samples.labels.contains(&false);
        if !both {
            return None;
        }
        let scales = samples.scales();
        let n = samples.n_features;
        let mut w = vec![0f64; n + 1]; // the bias last
        for _ in 0..MAX_STEPS {
            let (gradient, hessian) = derivatives(samples, &scales, &w, l2);
            let step = solve(hessian, gradient)?;
            // Far steps overshoot where labels are almost separable.
            let longest = step.iter().fold(0f64, |most, s| most.max(s.abs()));
            let damping = if longest > 4.0 { 4.0 / longest } else { 1.0 };
            w.iter_mut().zip(&step).for_each(|(w, s)| *w -= damping * s);
            if longest < CONVERGED {
                break;
            }
        }
        if !w.iter().all(|w| w.is_finite()) {
            return None;
        }
        let raw: Vec<f64> = w.iter().zip(&scales).map(|(w, (_, spread))| w / spread).collect();
        let shift: f64 = raw.iter().zip(&scales).map(|(w, (mean, _))| w * mean).sum();
        let weights = raw.iter().map(|&w| w as f32).collect();
        Some(Logistic { weights, bias: (w[n] - shift) as f32 })
    }

    /// The log odds of a row `(F)`; features that are missing count as 0.
    pub fn logit(&self, features: &[f32]) -> f32 {
        self.bias + self.weights.iter().zip(features).map(|(w, x)| w * x).sum::<f32>()
    }

    /// The probability of a row `(F)`.
    pub fn probability(&self, features: &[f32]) -> f32 {
        sigmoid(self.logit(features))
    }
}

/// Gradient `(F + 1)` and Hessian `(F + 1)²` of the penalised mean loss.
fn derivatives(
    samples: &Samples,
    scales: &[(f64, f64)],
    w: &[f64],
    l2: f64,
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = w.len();
    let total = samples.weights.iter().map(|&w| f64::from(w)).sum::<f64>().max(f64::MIN_POSITIVE);
    let mut gradient = vec![0f64; n];
    let mut hessian = vec![vec![0f64; n]; n];
    let mut x = vec![1f64; n];
    for (row, label, weight) in samples.rows() {
        for ((x, value), (mean, spread)) in x.iter_mut().zip(row).zip(scales) {
            *x = (f64::from(*value) - mean) / spread;
        }
        let z: f64 = w.iter().zip(&x).map(|(w, x)| w * x).sum();
        let p = 1.0 / (1.0 + (-z).exp());
        let (slope, curve) = ((p - label) * weight / total, p * (1.0 - p) * weight / total);
        for i in 0..n {
            gradient[i] += slope * x[i];
            for j in 0..=i {
                hessian[i][j] += curve * x[i] * x[j];
            }
        }
    }
    for i in 0..n {
        let penalty = if i + 1 < n { l2 } else { 0.0 };
        gradient[i] += penalty * w[i];
        hessian[i][i] += penalty + 1e-9;
        for j in 0..i {
            hessian[j][i] = hessian[i][j];
        }
    }
    (gradient, hessian)
}

/// Solves `A x = b` for a symmetric positive matrix (Cholesky); `None` when it is none.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let before: f64 = (0..j).map(|k| a[i][k] * a[j][k]).sum();
            let rest = a[i][j] - before;
            a[i][j] = match i == j {
                true if rest > 0.0 => rest.sqrt(),
                true => return None,
                false => rest / a[j][j],
            };
        }
    }
    for i in 0..n {
        let before: f64 = (0..i).map(|k| a[i][k] * b[k]).sum();
        b[i] = (b[i] - before) / a[i][i];
    }
    for i in (0..n).rev() {
        let after: f64 = (i + 1..n).map(|k| a[k][i] * b[k]).sum();
        b[i] = (b[i] - after) / a[i][i];
    }
    Some(b)
}

/// A rising curve through points: what a score is worth as a probability.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Rising.
    pub x: Vec<f32>,
    /// Rising or level, each within 0..=1.
    pub y: Vec<f32>,
}

impl Curve {
    /// Isotonic regression of labels on scores by pooling adjacent violators (Zadrozny and Elkan
    /// 2002); between two blocks it is linear. Each block's share is taken with one extra row of
    /// each label, so that no score is worth exactly 0 or 1.
    pub fn isotonic(scored: &[(f32, bool)]) -> Curve {
        let mut scored: Vec<_> = scored.iter().filter(|(x, _)| x.is_finite()).copied().collect();
        scored.sort_by(|a, b| a.0.total_cmp(&b.0));
        // sum of scores, of true labels, rows
        let mut blocks: Vec<[f64; 3]> = Vec::new();
        for (x, label) in scored {
            blocks.push([f64::from(x), f64::from(u8::from(label)), 1.0]);
            while let [.., before, last] = blocks.as_slice() {
                if before[1] / before[2] < last[1] / last[2] {
                    break;
                }
                let merged = [before[0] + last[0], before[1] + last[1], before[2] + last[2]];
                blocks.truncate(blocks.len() - 2);
                blocks.push(merged);
            }
        }
        let x = blocks.iter().map(|[x, _, n]| (x / n) as f32).collect();
        let mut y: Vec<f32> =
            blocks.iter().map(|[_, hits, n]| ((hits + 1.0) / (n + 2.0)) as f32).collect();
        // The extra rows weigh more in small blocks and may turn the order around.
        for i in 1..y.len() {
            y[i] = y[i].max(y[i - 1]);
        }
        Curve { x, y }
    }

    /// The curve at `x`, level beyond its ends; `None` where it has no point.
    pub fn at(&self, x: f32) -> Option<f32> {
        let (first, last) = (*self.y.first()?, *self.y.last()?);
        let next = self.x.partition_point(|&known| known < x);
        match (next.checked_sub(1), self.x.get(next)) {
            (None, _) => Some(first),
            (_, None) => Some(last),
            (Some(before), Some(&x1)) => {
                let (x0, y0) = (self.x[before], *self.y.get(before)?);
                let y1 = *self.y.get(next)?;
                let part = if x1 > x0 { (x - x0) / (x1 - x0) } else { 1.0 };
                Some(y0 + part * (y1 - y0))
            }
        }
    }
}

/// Platt's calibration: the logistic regression of labels on one score, almost unpenalised.
pub fn platt(scored: &[(f32, bool)]) -> Option<Logistic> {
    let mut samples = Samples::new(1);
    scored.iter().for_each(|&(score, label)| samples.push(&[score], label, 1.0));
    Logistic::fit(&samples, 1e-4)
}

/// `1 / (1 + e^-x)`
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `ln(p / (1 - p))`, finite for 0 and 1 too.
pub fn logit(p: f32) -> f32 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows drawn from a known model by a small linear congruential generator.
    fn drawn(n: usize, weights: [f32; 2], bias: f32) -> Samples {
        let mut state = 7u64;
        let mut unit = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let mut samples = Samples::new(2);
        for _ in 0..n {
            let x = [4.0 * unit() - 2.0, 100.0 + 10.0 * unit()];
            let z = weights[0] * x[0] + weights[1] * (x[1] - 105.0) + bias;
            samples.push(&x, unit() < sigmoid(z), 1.0);
        }
        samples
    }

    #[test]
    fn the_weights_of_the_model_that_drew_the_rows_are_found() {
        let fit = Logistic::fit(&drawn(20_000, [1.5, -0.4], 0.3), 1e-6).expect("a fit");
        for (found, expected) in fit.weights.iter().zip([1.5, -0.4]) {
            assert!((found - expected).abs() < 0.06, "{fit:?}");
        }
        let centre = fit.logit(&[0.0, 105.0]);
        assert!((centre - 0.3).abs() < 0.08, "{centre}");
    }

    #[test]
    fn separable_rows_and_useless_features_have_finite_weights() {
        let mut samples = Samples::new(2);
        for i in 0..20 {
            samples.push(&[i as f32, 5.0], i >= 10, 1.0);
        }
        samples.push(&[f32::NAN, 0.0], true, 1.0);
        samples.push(&[0.0], true, 1.0);
        assert_eq!(samples.len(), 20);
        let fit = Logistic::fit(&samples, 1e-3).expect("a fit");
        assert!(fit.probability(&[0.0, 5.0]) < 0.05 && fit.probability(&[19.0, 5.0]) > 0.95);
        assert_eq!(Logistic::fit(&Samples::new(1), 1.0), None);
    }

    #[test]
    fn balanced_rows_have_even_odds() {
        let mut samples = Samples::new(1);
        (0..100).for_each(|i| samples.push(&[0.0], i < 10, 1.0));
        let plain = Logistic::fit(&samples, 1e-3).expect("a fit").probability(&[0.0]);
        samples.balance();
        let even = Logistic::fit(&samples, 1e-3).expect("a fit").probability(&[0.0]);
        assert!((plain - 0.1).abs() < 1e-3 && (even - 0.5).abs() < 1e-3, "{plain} {even}");
    }

    #[test]
    fn curves_rise_and_say_what_scores_were_worth() {
        let scored: Vec<(f32, bool)> =
            (0..1000).map(|i| (i as f32 / 1000.0, i % 10 < i / 100)).collect();
        let curve = Curve::isotonic(&scored);
        assert!(curve.y.windows(2).all(|pair| pair[0] <= pair[1]), "{curve:?}");
        for (x, expected) in [(-1.0, 0.05), (0.55, 0.5), (0.95, 0.9), (2.0, 0.9)] {
            let found = curve.at(x).expect("a value");
            assert!((found - expected).abs() < 0.06, "{x}: {found}");
        }
        assert_eq!(Curve::default().at(0.5), None);
        let line = platt(&scored).expect("a fit");
        assert!((line.probability(&[0.5]) - 0.45).abs() < 0.05);
        assert!(line.weights[0] > 0.0);
        assert!((sigmoid(logit(0.3)) - 0.3).abs() < 1e-5 && logit(1.0).is_finite());
    }
}
