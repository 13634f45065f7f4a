//! One measured number with everything needed to judge it: how many, how sure, against what.
//!
//! It does not know what is counted.

use serde::{Deserialize, Serialize};

/// Resamples behind an interval.
const N_RESAMPLES: usize = 1000;

/// A measured share with its sample size, interval, baseline and demand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The share, 0 to 1; None when nothing was asked.
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
    pub demand: Option<f64>,
    /// Whether it does; None where nothing is demanded.
    pub holds: Option<bool>,
}

/// Hits and trials by scene and group. The value is the mean over groups of hits / trials:
/// one group is plain accuracy, two ("yes" and "no") are balanced accuracy.
#[derive(Clone, Debug)]
pub struct Tally {
    n_groups: usize,
    scenes: Vec<Vec<[usize; 2]>>,
}

impl Tally {
    /// An empty tally.
    pub fn new(n_groups: usize) -> Tally {
        Tally { n_groups, scenes: Vec::new() }
    }

    /// Opens the next scene; `add` counts into it.
    pub fn next_scene(&mut self) {
        self.scenes.push(vec![[0, 0]; self.n_groups]);
    }

    /// Counts one trial in the scene opened last.
    pub fn add(&mut self, group: usize, hit: bool) {
        if self.scenes.is_empty() {
            self.next_scene();
        }
        if let Some([hits, n]) = self.scenes.last_mut().and_then(|scene| scene.get_mut(group)) {
            *hits += usize::from(hit);
            *n += 1;
        }
    }

    /// Takes over another tally's scenes.
    pub fn extend(&mut self, other: Tally) {
        self.scenes.extend(other.scenes);
    }

    /// Trials in all groups.
    pub fn n(&self) -> usize {
        self.scenes.iter().flatten().map(|[_, n]| n).sum()
    }

    /// The share, or None when a group is empty.
    pub fn value(&self) -> Option<f64> {
        self.value_of(0..self.scenes.len())
    }

    fn value_of(&self, scenes: impl Iterator<Item = usize>) -> Option<f64> {
        let mut sums = vec![[0usize; 2]; self.n_groups];
        for scene in scenes {
            for (sum, [hits, n]) in sums.iter_mut().zip(&self.scenes[scene]) {
                sum[0] += hits;
                sum[1] += n;
            }
        }
        let shares: Option<Vec<f64>> =
            sums.iter().map(|[hits, n]| (*n > 0).then(|| *hits as f64 / *n as f64)).collect();
        shares.map(|shares| shares.iter().sum::<f64>() / self.n_groups as f64)
    }

    /// 95 % percentile interval over resampled scenes, the same for the same scenes;
    /// Wilson's where every trial went one way and resampling sees no spread.
    pub fn interval(&self) -> [f64; 2] {
        let Some(value) = self.value() else { return [0.0, 1.0] };
        if value <= 0.0 || value >= 1.0 {
            return wilson(value, self.n());
        }
        let value_of = |scenes: &[usize]| self.value_of(scenes.iter().copied());
        resampled(self.scenes.len(), value_of).unwrap_or([0.0, 1.0])
    }

    /// The finished metric.
    pub fn metric(&self, baseline: (&str, f64), demand: Option<f64>) -> Metric {
        let value = self.value();
        Metric {
            value,
            n: self.n(),
            interval: self.interval(),
            baseline: baseline.1,
            baseline_name: baseline.0.to_owned(),
            demand,
            holds: demand.map(|demand| value.is_some_and(|value| value >= demand)),
        }
    }
}

/// 95 % percentile interval of a statistic over resampled scenes, the same for the same scenes;
/// None where it has no value on any of them.
pub fn resampled(n: usize, statistic: impl Fn(&[usize]) -> Option<f64>) -> Option<[f64; 2]> {
    let mut random = SplitMix(0x5167_4713);
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

/// Steele, Lea and Flood's SplitMix64: enough for resampling, the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(z ^ (z >> 31)) * n as u128) >> 64) as usize
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

    fn tally(n_groups: usize, trials: &[(usize, bool)]) -> Tally {
        let mut tally = Tally::new(n_groups);
        for &(group, hit) in trials {
            tally.next_scene();
            tally.add(group, hit);
        }
        tally
    }

    #[test]
    fn one_group_is_accuracy_and_two_are_balanced() {
        let rows: &[(usize, &[(usize, bool)], Option<f64>)] = &[
            (1, &[], None),
            (1, &[(0, true), (0, false), (0, true), (0, true)], Some(0.75)),
            // Always "yes": all of the yes-group, none of the no-group.
            (2, &[(0, true), (0, true), (0, true), (1, false)], Some(0.5)),
            (2, &[(0, true)], None),
        ];
        for (n_groups, trials, expected) in rows {
            assert_eq!(tally(*n_groups, trials).value(), *expected, "{trials:?}");
        }
    }

    #[test]
    fn the_interval_holds_the_value_and_narrows() {
        let trials = |n: usize| (0..n).map(|i| (0, i % 4 != 0)).collect::<Vec<_>>();
        let (few, many) = (tally(1, &trials(40)), tally(1, &trials(4000)));
        for tally in [&few, &many] {
            let [low, high] = tally.interval();
            assert!(low < 0.75 && 0.75 < high, "{low} {high}");
        }
        let width = |[low, high]: [f64; 2]| high - low;
        assert!(width(many.interval()) < width(few.interval()) / 5.0);
        assert_eq!(few.interval(), few.interval());
        let [low, high] = tally(1, &[(0, true); 100]).interval();
        assert!((low - 0.963).abs() < 1e-3 && high > 0.999, "{low} {high}");
    }

    #[test]
    fn a_demand_holds_or_not() {
        let tally = tally(1, &[(0, true), (0, false)]);
        assert_eq!(tally.metric(("chance", 0.1), Some(0.5)).holds, Some(true));
        assert_eq!(tally.metric(("chance", 0.1), Some(0.6)).holds, Some(false));
        assert_eq!(tally.metric(("chance", 0.1), None).holds, None);
        assert_eq!(majority(["a", "b", "a", "c"]), 0.5);
    }
}
