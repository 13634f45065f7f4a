//! One measured number with everything needed to judge it: how many, how sure, against what.
//!
//! It does not know what is counted.

use serde::{Deserialize, Serialize};

/// Resamples behind an interval.
const N_RESAMPLES: usize = 1000;

/// What a figure must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Demand {
    AtLeast(f64),
    /// Lower is better.
    AtMost(f64),
    /// Both ends belong to it.
    Within(f64, f64),
}

impl Demand {
    /// Whether a value does; one that could not be measured does not.
    pub fn holds(self, value: Option<f64>) -> bool {
        value.is_some_and(|value| match self {
            Demand::AtLeast(least) => value >= least,
            Demand::AtMost(most) => value <= most,
            Demand::Within(low, high) => low <= value && value <= high,
        })
    }
}

/// A demand as it stands in a report: one number, or both ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Bound {
    At(f64),
    Between([f64; 2]),
}

/// A measured figure with its sample size, interval, baseline and demand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Most often a share, 0 to 1; None when nothing was asked.
    pub value: Option<f64>,
    /// How many questions, regions or words were judged.
    pub n: usize,
    /// 95 % interval, by resampling whole scenes (questions about one scene are not independent).
    pub interval: [f64; 2],
    /// What one reaches on the same scenes without looking.
    pub baseline: f64,
    /// How the baseline answers.
    pub baseline_name: String,
    /// What the shipped model must reach.
    pub demand: Option<Bound>,
    /// Whether the demand is the most that it may be.
    #[serde(default)]
    pub lower_is_better: bool,
    /// Whether it does; None where nothing is demanded.
    pub holds: Option<bool>,
}

impl Metric {
    /// A measured value against its demand.
    pub fn new(
        (value, n): (Option<f64>, usize),
        interval: [f64; 2],
        baseline: (&str, f64),
        demand: Option<Demand>,
    ) -> Metric {
        Metric {
            value,
            n,
            interval,
            baseline: baseline.1,
            baseline_name: baseline.0.to_owned(),
            demand: demand.map(|demand| match demand {
                Demand::AtLeast(bound) | Demand::AtMost(bound) => Bound::At(bound),
                Demand::Within(low, high) => Bound::Between([low, high]),
            }),
            lower_is_better: matches!(demand, Some(Demand::AtMost(_))),
            holds: demand.map(|demand| demand.holds(value)),
        }
    }
}

/// What is made of the shares of hits in each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// Of one group.
    Share,
    /// The mean of two: of questions to be answered with yes, and with no.
    Balanced,
    /// F1 of "yes" over the same two groups, as of a set with as many of each (POPE has 3 and 3):
    /// with recall r and false alarms f it is 2r / (1 + r + f).
    F1,
    /// The mean of one group whose "hits" are any numbers.
    Mean,
    /// By how many points of a hundred the second group is below the first.
    Drop,
    /// By what share the second group is below the first.
    Cut,
    /// By what share the second group is above the first.
    Growth,
}

impl Statistic {
    fn n_groups(self) -> usize {
        if matches!(self, Statistic::Share | Statistic::Mean) { 1 } else { 2 }
    }

    /// Whether it lies between 0 and 1, as a share of trials does.
    fn is_share(self) -> bool {
        matches!(self, Statistic::Share | Statistic::Balanced | Statistic::F1)
    }

    fn of(self, shares: &[f64]) -> f64 {
        match (self, shares) {
            (Statistic::F1, [recall, right_no]) => 2.0 * recall / (2.0 + recall - right_no),
            (Statistic::Drop, [first, second]) => 100.0 * (first - second),
            (Statistic::Cut, [first, second]) => 1.0 - second / first.max(f64::MIN_POSITIVE),
            (Statistic::Growth, [first, second]) => second / first.max(f64::MIN_POSITIVE) - 1.0,
            _ => shares.iter().sum::<f64>() / shares.len() as f64,
        }
    }
}

/// Hits and trials by scene and group.
#[derive(Clone, Debug)]
pub struct Tally {
    statistic: Statistic,
    scenes: Vec<[(f64, usize); 2]>,
}

impl Tally {
    /// An empty tally.
    pub fn new(statistic: Statistic) -> Tally {
        Tally { statistic, scenes: Vec::new() }
    }

    /// Opens the next scene; `add` counts into it.
    pub fn next_scene(&mut self) {
        self.scenes.push([(0.0, 0); 2]);
    }

    /// Counts one trial in the scene opened last; `hit` is 1 or 0, or how likely it is one.
    pub fn add(&mut self, group: usize, hit: f64) {
        if self.scenes.is_empty() {
            self.next_scene();
        }
        if let Some((hits, n)) = self.scenes.last_mut().and_then(|scene| scene.get_mut(group)) {
            *hits += hit;
            *n += 1;
        }
    }

    /// Trials in all groups.
    pub fn n(&self) -> usize {
        self.scenes.iter().flatten().map(|(_, n)| n).sum()
    }

    /// The figure, or None when a group is empty.
    pub fn value(&self) -> Option<f64> {
        self.value_of(0..self.scenes.len())
    }

    fn value_of(&self, scenes: impl Iterator<Item = usize>) -> Option<f64> {
        let mut sums = [(0.0, 0usize); 2];
        for scene in scenes {
            for (sum, (hits, n)) in sums.iter_mut().zip(&self.scenes[scene]) {
                *sum = (sum.0 + hits, sum.1 + n);
            }
        }
        let sums = &sums[..self.statistic.n_groups()];
        let shares = sums.iter().map(|&(hits, n)| (n > 0).then(|| hits / n as f64));
        Some(self.statistic.of(&shares.collect::<Option<Vec<f64>>>()?))
    }

    /// 95 % percentile interval over resampled scenes, the same for the same scenes;
    /// Wilson's where every trial went one way and resampling sees no spread.
    pub fn interval(&self) -> [f64; 2] {
        let Some(value) = self.value() else { return [0.0, 1.0] };
        if self.statistic.is_share() && (value <= 0.0 || value >= 1.0) {
            return wilson(value, self.n());
        }
        let value_of = |scenes: &[usize]| self.value_of(scenes.iter().copied());
        resampled(self.scenes.len(), value_of).unwrap_or([0.0, 1.0])
    }

    /// The finished metric.
    pub fn metric(&self, baseline: (&str, f64), demand: Option<Demand>) -> Metric {
        Metric::new((self.value(), self.n()), self.interval(), baseline, demand)
    }
}

/// 95 % percentile interval of a statistic over resampled scenes, the same for the same scenes;
/// None where it has no value on any of them.
pub fn resampled(n: usize, statistic: impl Fn(&[usize]) -> Option<f64>) -> Option<[f64; 2]> {
    let mut random = SplitMix::new(0x5167_4713);
    let mut scenes = vec![0; n];
    let mut values: Vec<f64> = (0..N_RESAMPLES)
        .filter_map(|_| {
            scenes.iter_mut().for_each(|scene| *scene = random.below(n));
            statistic(&scenes)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let at = |share: f64| values[(last as f64 * share).round() as usize];
    Some([at(0.025), at(0.975)])
}

/// Wilson's score interval at 95 %.
pub fn wilson(p: f64, n: usize) -> [f64; 2] {
    let (n, z) = (n as f64, 1.96);
    let centre = p + z * z / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    [((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0)]
}

/// Steele, Lea and Flood's SplitMix64: enough for resampling and choosing, the same everywhere.
pub(crate) struct SplitMix(u64);

impl SplitMix {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> SplitMix {
        SplitMix(seed)
    }

    /// From 0 to `n - 1`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// From 0 to 1, which it does not reach.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// The share of the most frequent item: what always giving that answer reaches.
pub fn majority<T: Ord>(items: impl IntoIterator<Item = T>) -> f64 {
    let mut counts = std::collections::BTreeMap::new();
    let mut n = 0usize;
    for item in items {
        *counts.entry(item).or_insert(0usize) += 1;
        n += 1;
    }
    counts.values().copied().max().unwrap_or(0) as f64 / n.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    use Statistic::{Balanced, Cut, Drop, F1, Growth, Share};

    fn tally(statistic: Statistic, trials: &[(usize, bool)]) -> Tally {
        let mut tally = Tally::new(statistic);
        for &(group, hit) in trials {
            tally.next_scene();
            tally.add(group, f64::from(hit));
        }
        tally
    }

    #[test]
    fn shares_become_accuracy_balanced_accuracy_or_f1() {
        // Always "yes": all of the yes-group, none of the no-group.
        let yes: &[(usize, bool)] = &[(0, true), (0, true), (0, true), (1, false)];
        let half: &[(usize, bool)] = &[(0, true), (0, false), (1, true), (1, true)];
        let rows: &[(Statistic, &[(usize, bool)], Option<f64>)] = &[
            (Share, &[], None),
            (Share, &[(0, true), (0, false), (0, true), (0, true)], Some(0.75)),
            (Balanced, yes, Some(0.5)),
            (Balanced, &[(0, true)], None),
            (F1, yes, Some(2.0 / 3.0)),
            // One right yes, one missed, none wrong: precision 1, recall 1/2.
            (F1, half, Some(2.0 / 3.0)),
            (F1, &[(0, true), (1, true)], Some(1.0)),
            (F1, &[(0, false), (1, true)], Some(0.0)),
            (Drop, &[(0, true), (1, true), (1, false)], Some(50.0)),
            (Cut, &[(0, true), (1, true), (1, false)], Some(0.5)),
            (Growth, &[(1, true), (0, true), (0, false)], Some(1.0)),
        ];
        for (statistic, trials, expected) in rows {
            assert_eq!(tally(*statistic, trials).value(), *expected, "{statistic:?} {trials:?}");
        }
    }

    #[test]
    fn the_interval_holds_the_value_and_narrows() {
        let trials = |n: usize| (0..n).map(|i| (0, i % 4 != 0)).collect::<Vec<_>>();
        let (few, many) = (tally(Share, &trials(40)), tally(Share, &trials(4000)));
        for tally in [&few, &many] {
            let [low, high] = tally.interval();
            assert!(low < 0.75 && 0.75 < high, "{low} {high}");
        }
        let width = |[low, high]: [f64; 2]| high - low;
        assert!(width(many.interval()) < width(few.interval()) / 5.0);
        assert_eq!(few.interval(), few.interval());
        let [low, high] = tally(Share, &[(0, true); 100]).interval();
        assert!((low - 0.963).abs() < 1e-3 && high > 0.999, "{low} {high}");
    }

    #[test]
    fn a_demand_holds_or_not() {
        let tally = tally(Share, &[(0, true), (0, false)]);
        let rows = [
            (Some(Demand::AtLeast(0.5)), Some(true)),
            (Some(Demand::AtLeast(0.6)), Some(false)),
            (Some(Demand::AtMost(0.5)), Some(true)),
            (Some(Demand::AtMost(0.4)), Some(false)),
            (Some(Demand::Within(0.48, 0.52)), Some(true)),
            (Some(Demand::Within(0.52, 0.6)), Some(false)),
            (None, None),
        ];
        for (demand, holds) in rows {
            let metric = tally.metric(("chance", 0.1), demand);
            assert_eq!(metric.holds, holds, "{demand:?}");
            let text = serde_json::to_string(&metric).expect("JSON");
            assert_eq!(serde_json::from_str::<Metric>(&text).expect("a metric"), metric);
        }
        assert!(!Demand::AtMost(0.5).holds(None), "nothing measured proves nothing");
        assert_eq!(majority(["a", "b", "a", "c"]), 0.5);
    }
}
