//! How well a score tells false from true: AUROC, raw and with position held fixed, false alarms
//! at a recall, calibration error.
//!
//! A score that knows nothing but where in the answer a word stands reaches a raw AUROC of .74 to
//! .87, because later words are more often wrong (evidence.md, finding 4). So pairs are compared
//! only inside a stratum. It does not know what is scored. Definitions: evidence.md, section 4.

use crate::metric::resampled;

/// Tokens that share a position bin.
const TOKENS_A_BIN: usize = 5;
/// Equal-width bins of the calibration error.
const CALIBRATION_BINS: usize = 15;

/// What is held fixed when two scores are compared: the bin of the position, whether the word was
/// said before, and what kind of word it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stratum {
    bin: usize,
    repeated: bool,
    kind: usize,
}

impl Stratum {
    /// Of a word whose first token is the `position`-th of the answer; `kind` is any number for
    /// the class of word.
    pub fn new(position: usize, repeated: bool, kind: usize) -> Stratum {
        Stratum { bin: position / TOKENS_A_BIN, repeated, kind }
    }
}

/// One scored thing. `positive`: it is what the score is to find.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scored {
    pub score: f64,
    pub positive: bool,
    pub stratum: Stratum,
    /// Which scene it is of: scenes are resampled as wholes.
    pub scene: usize,
}

/// Scored things in an order that makes weighing them anew cheap.
pub(crate) struct Detection {
    /// By stratum, then by score.
    sorted: Vec<Scored>,
    n_scenes: usize,
}

impl Detection {
    /// Compares inside strata.
    pub fn stratified(mut scored: Vec<Scored>) -> Detection {
        scored.sort_by(|a, b| a.stratum.cmp(&b.stratum).then(a.score.total_cmp(&b.score)));
        let n_scenes = scored.iter().map(|one| one.scene + 1).max().unwrap_or(0);
        Detection { sorted: scored, n_scenes }
    }

    /// Compares everything with everything.
    pub fn raw(mut scored: Vec<Scored>) -> Detection {
        scored.iter_mut().for_each(|one| one.stratum = Stratum::default());
        Detection::stratified(scored)
    }

    pub fn n_positive(&self) -> usize {
        self.sorted.iter().filter(|one| one.positive).count()
    }

    /// Σ n₁n₀·AUROC / Σ n₁n₀ over strata, where AUROC is the share of pairs of a positive and a
    /// negative in which the positive scores higher (ties count half): Mann-Whitney. None where
    /// no stratum has both.
    pub fn auroc(&self) -> Option<f64> {
        self.weighed(|_| 1.0)
    }

    /// 95 % interval of [`Detection::auroc`] over resampled scenes.
    pub fn interval(&self) -> Option<[f64; 2]> {
        resampled(self.n_scenes, |scenes| {
            let mut weights = vec![0.0; self.n_scenes];
            scenes.iter().for_each(|&scene| weights[scene] += 1.0);
            self.weighed(|scene| weights[scene])
        })
    }

    fn weighed(&self, weight: impl Fn(usize) -> f64) -> Option<f64> {
        let (mut won, mut pairs) = (0.0, 0.0);
        for stratum in self.sorted.chunk_by(|a, b| a.stratum == b.stratum) {
            let (mut positives, mut negatives) = (0.0, 0.0);
            for tied in stratum.chunk_by(|a, b| a.score == b.score) {
                let sum = |positive| -> f64 {
                    let of = tied.iter().filter(|one| one.positive == positive);
                    of.map(|one| weight(one.scene)).sum()
                };
                let (here, others) = (sum(true), sum(false));
                won += here * (negatives + 0.5 * others);
                positives += here;
                negatives += others;
            }
            pairs += positives * negatives;
        }
        (pairs > 0.0).then(|| won / pairs)
    }
}

/// The share of negatives that score as high as the threshold above which `recall` of the
/// positives lie.
pub(crate) fn false_alarms_at_recall(scored: &[(f64, bool)], recall: f64) -> Option<f64> {
    let of = |positive| scored.iter().filter(move |one| one.1 == positive).map(|one| one.0);
    let (mut positives, negatives): (Vec<f64>, Vec<f64>) =
        (of(true).collect(), of(false).collect());
    positives.sort_by(|a, b| b.total_cmp(a));
    let needed = (recall * positives.len() as f64).ceil() as usize;
    let threshold = *positives.get(needed.checked_sub(1)?)?;
    let alarms = negatives.iter().filter(|&&score| score >= threshold).count();
    (!negatives.is_empty()).then(|| alarms as f64 / negatives.len() as f64)
}

/// ECE: Σ n_b/n · |share that is true − mean probability| over 15 equal-width bins.
pub(crate) fn calibration_error(said: &[(f64, bool)]) -> Option<f64> {
    binned_error(said, CALIBRATION_BINS)
}

fn binned_error(said: &[(f64, bool)], n_bins: usize) -> Option<f64> {
    let mut bins = vec![(0.0, 0.0); n_bins];
    for &(probability, is_true) in said {
        let bin = ((probability * n_bins as f64) as usize).min(n_bins - 1);
        bins[bin].0 += probability;
        bins[bin].1 += f64::from(is_true);
    }
    // n_b/n · |true/n_b − sum/n_b| = |true − sum| / n.
    let error: f64 = bins.iter().map(|(sum, is_true)| (is_true - sum).abs()).sum();
    (!said.is_empty()).then(|| error / said.len() as f64)
}

/// Hanley and McNeil's standard error of an AUROC `a` from `n1` positives and `n0` negatives.
#[cfg(test)]
fn hanley(a: f64, n1: f64, n0: f64) -> f64 {
    let (q1, q2) = (a / (2.0 - a), 2.0 * a * a / (1.0 + a));
    let variance = a * (1.0 - a) + (n1 - 1.0) * (q1 - a * a) + (n0 - 1.0) * (q2 - a * a);
    (variance / (n1 * n0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: [f64; 10] = [0.1, 0.4, 0.4, 0.8, 0.35, 0.9, 0.2, 0.4, 0.6, 0.05];
    const TRUTH: [u8; 10] = [0, 0, 1, 1, 0, 1, 0, 1, 0, 1];
    const STRATA: [usize; 10] = [0, 0, 0, 0, 1, 1, 1, 1, 1, 0];

    fn near(found: Option<f64>, expected: f64) {
        assert!(found.is_some_and(|found| (found - expected).abs() < 1e-9), "{found:?} {expected}");
    }

    fn scored(score: f64, positive: bool, position: usize, scene: usize) -> Scored {
        Scored { score, positive, stratum: Stratum::new(position, false, 0), scene }
    }

    /// The expected values are metrics_ref.py's.
    #[test]
    fn auroc_is_the_reference_s_raw_and_stratified() {
        let all: Vec<Scored> = (0..10)
            .map(|i| scored(SCORES[i], TRUTH[i] == 1, STRATA[i] * TOKENS_A_BIN, i))
            .collect();
        near(Detection::raw(all.clone()).auroc(), 0.68);
        near(Detection::stratified(all.clone()).auroc(), 0.708_333_333_333_333_3);
        let one_sided = all.into_iter().filter(|one| one.positive).collect();
        assert_eq!(Detection::raw(one_sided).auroc(), None);
    }

    /// Knuth's 64-bit linear congruential generator, as in the script that made the values below.
    fn uniform(n: usize) -> Vec<f64> {
        let mut state = 1u64;
        let step = |_| {
            let times = state.wrapping_mul(6_364_136_223_846_793_005);
            state = times.wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..n).map(step).collect()
    }

    /// metrics_ref.py, part 1: a score that knows only the position.
    #[test]
    fn a_score_of_position_alone_is_found_out() {
        let (n, random) = (4000, uniform(12_000));
        let position = |i: usize| (1.0 + random[i] * 139.0) as usize;
        let make = |score: &dyn Fn(usize) -> f64| -> Vec<Scored> {
            let wrong = |i: usize| {
                let logit = -1.7 + 1.6 * (position(i) as f64 - 70.0) / 40.0;
                random[n + i] < 1.0 / (1.0 + (-logit).exp())
            };
            (0..n).map(|i| scored(score(i), wrong(i), position(i), i)).collect()
        };
        let attention = |i: usize| {
            let noise = (0.25 * (random[2 * n + i] - 0.5) * 3.4641).exp();
            -(-(position(i) as f64) / 60.0).exp() * noise
        };
        near(Detection::raw(make(&attention)).auroc(), 0.827_147_053_253_496_4);
        near(Detection::raw(make(&|i| position(i) as f64)).auroc(), 0.847_316_143_057_889_7);
        let stratified = Detection::stratified(make(&attention));
        near(stratified.auroc(), 0.502_842_856_566_797_1);
        let [low, high] = stratified.interval().expect("an interval");
        assert!(low < 0.503 && 0.503 < high && high - low < 0.1, "{low} {high}");
    }

    #[test]
    fn intervals_are_as_wide_as_hanley_and_mcneil_s() {
        let rows = [(100.0, 900.0, 0.0409), (300.0, 2700.0, 0.0236), (2000.0, 2000.0, 0.0099)];
        for (n1, n0, half) in rows {
            assert!((1.96 * hanley(0.9, n1, n0) - half).abs() < 1e-4);
        }
        // Two exponentials whose AUROC is .9: the positives' rate is a ninth.
        let random = uniform(2000);
        let draw = |i: usize| {
            let positive = i % 10 == 0;
            let scale = if positive { 9.0 } else { 1.0 };
            scored(-scale * random[i].max(1e-12).ln(), positive, 0, i)
        };
        let detection = Detection::raw((0..2000).map(draw).collect());
        let [low, high] = detection.interval().expect("an interval");
        let expected = 2.0 * 1.96 * hanley(0.9, 200.0, 1800.0);
        assert!(((high - low) / expected - 1.0).abs() < 0.3, "{} {expected}", high - low);
    }

    #[test]
    fn calibration_error_is_the_reference_s() {
        let said = [0.02, 0.11, 0.3, 0.31, 0.55, 0.58, 0.72, 0.9, 0.97, 1.0];
        let truth = [0, 0, 1, 0, 1, 0, 1, 1, 0, 1];
        let said: Vec<(f64, bool)> =
            said.into_iter().zip(truth).map(|(said, truth)| (said, truth == 1)).collect();
        near(calibration_error(&said), 0.2);
        near(binned_error(&said, 5), 0.18);
        assert_eq!(calibration_error(&[]), None);
    }

    #[test]
    fn false_alarms_are_counted_at_the_threshold_of_the_recall() {
        let scored =
            [(0.9, true), (0.8, false), (0.7, true), (0.6, false), (0.5, true), (0.1, false)];
        near(false_alarms_at_recall(&scored, 0.9), 2.0 / 3.0);
        near(false_alarms_at_recall(&scored, 0.6), 1.0 / 3.0);
        near(false_alarms_at_recall(&scored, 0.3), 0.0);
        assert_eq!(false_alarms_at_recall(&[(0.5, false)], 0.9), None);
    }
}
