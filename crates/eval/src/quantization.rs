//! What holding the weights in 8 or 4 bits costs: the same scenes asked of the same model three
//! times, and everything held against the unquantised one.
//!
//! It knows the figures and what may be lost of each; it does not know how weights are packed.

pub mod report;

use crate::ask::{self, Model, Trial};
use crate::metric::{resampled, wilson};
use crate::stored::{self, Measured};
use crate::{Error, Sample};
use report::{Figure, Report};
use std::ops::Range;
use std::path::Path;
use std::time::Instant;
use vlm::generate::{Cancel, Session};
use vlm::{Config, Quantization, Vlm};

/// How many scenes tell enough: some 600 questions and 2,500 looked-at words.
pub const N_SCENES: u64 = 300;

/// What may be lost.
struct Bounds {
    /// Largest ratio of perplexities.
    perplexity: f64,
    /// Largest loss of a share.
    share: f64,
    /// Smallest share of answers that stay word for word.
    same_answer: f64,
}

/// On plain text llama.cpp's README gives LLaMA 7B a perplexity of 5.9066 in f16, 5.9070 in q8_0
/// (a ratio of 1.0001) and 6.1565 in q4_0 (1.042); a smaller model loses more, so the bounds leave
/// room for that and not for a broken format. Shares may lose what a thousand questions can tell
/// from chance: one point, and twice that in 4 bits. An answer is another one when a single near
/// tie falls otherwise, which is no loss by itself: three in a hundred may, one in ten in 4 bits.
fn bounds(quantization: Quantization) -> Bounds {
    match quantization {
        Quantization::None => Bounds { perplexity: 1.0, share: 0.0, same_answer: 1.0 },
        Quantization::Q8_0 => Bounds { perplexity: 1.02, share: 0.01, same_answer: 0.97 },
        Quantization::Q4_0 => Bounds { perplexity: 1.10, share: 0.02, same_answer: 0.90 },
    }
}

/// Sums over scenes that a figure is made of; the first says how many things were judged.
type Counts = [f64; 4];

/// How one figure is made.
struct Measure {
    name: &'static str,
    /// What one scene counts, beside what it was without quantising.
    counts: fn(&Seen, &Seen) -> Counts,
    value: fn(Counts) -> Option<f64>,
}

/// In the order of the table.
const MEASURES: [Measure; 5] = [
    Measure {
        name: "perplexity",
        counts: |seen, _| [seen.scores.len() as f64, -sum(&seen.scores), 0.0, 0.0],
        value: |[n, nats, ..]| (n > 0.0).then(|| (nats / n).exp()),
    },
    Measure { name: "same_answer", counts: same_answers, value: share },
    Measure {
        name: "existence_f1",
        counts: |seen, _| existence(&seen.trials),
        value: |[_, right, false_yes, missed]| {
            let all = 2.0 * right + false_yes + missed;
            (all > 0.0).then(|| 2.0 * right / all)
        },
    },
    Measure {
        name: "existence_accuracy",
        counts: |seen, _| hits(&seen.trials, "existence_balanced_accuracy"),
        value: share,
    },
    Measure {
        name: "evidence",
        counts: |seen, _| hits(&seen.trials, "attended_region_hit"),
        value: share,
    },
];

/// What was seen of one scene in one format.
struct Seen {
    /// Of each token of the true answers, the logarithm of its probability.
    scores: Vec<f32>,
    answers: Vec<String>,
    trials: Vec<Trial>,
}

/// Measures what 8 and 4 bits cost the model in `model_dir` on the scenes with these seeds; an
/// earlier run's report is shown again unless `fresh`. `progress` hears of scenes done and of all,
/// each counted in every format.
///
/// Errors: the engine's, an empty range, `Error::Cancelled` when `cancel` was set.
pub fn quantization(
    model_dir: &Path,
    seeds: Range<u64>,
    fresh: bool,
    progress: &(dyn Fn(u64, u64) + Sync),
    cancel: &Cancel,
) -> Result<Report, Error> {
    let sample = &Sample { seeds, held_out_style: false };
    let n_scenes = sample.len()?;
    let key = stored::model_key::<Report>(model_dir)?;
    if let Some(report) = stored::find(model_dir, &key, sample).filter(|_| !fresh) {
        return Ok(report);
    }
    let started = Instant::now();
    let mut formats = Vec::new();
    for (format, quantization) in (0u64..).zip(Quantization::ALL) {
        // One model at a time: the next is read when this one is gone.
        let model = Model::load(model_dir, quantization)?;
        let done = |done| progress(format * n_scenes + done, 3 * n_scenes);
        formats.push(sample.each(|scene| look(&model, scene, cancel), &done, cancel)?);
    }
    let config = Config::load(model_dir)?;
    let bytes = Quantization::ALL.map(|q| Vlm::weight_bytes(&config, q).unwrap_or_default());
    let measured = Measured::now(model_dir, sample, (key, started));
    let report = report(&formats, bytes, measured);
    stored::keep(&report);
    Ok(report)
}

/// The kept report on this model that rests on most scenes.
pub fn kept(model_dir: &Path) -> Option<Report> {
    stored::best(model_dir)
}

fn look(model: &Model, scene: &scenes::Scene, cancel: &Cancel) -> Result<Seen, Error> {
    let mut session = Session::new(model.calibration.clone());
    let heard = ask::ask(model, &mut session, scene, cancel)?;
    let scores = ask::score(model, &mut session, scene, cancel)?;
    Ok(Seen { scores, answers: heard.answers, trials: heard.trials })
}

/// `formats`: every scene's sight for each of [`Quantization::ALL`].
fn report(formats: &[Vec<Seen>], bytes: [usize; 3], measured: Measured) -> Report {
    let mut report = Report::new(bytes, measured);
    let plain = &formats[0];
    for (seen, quantization) in formats.iter().zip(Quantization::ALL).skip(1) {
        for measure in &MEASURES {
            let figure = measure.figure((seen, plain), quantization);
            report.add(measure.name, quantization, figure);
        }
    }
    report
}

impl Measure {
    fn figure(&self, (seen, plain): (&[Seen], &[Seen]), quantization: Quantization) -> Figure {
        let count = |seen: &[Seen]| -> Vec<Counts> {
            seen.iter().zip(plain).map(|(seen, plain)| (self.counts)(seen, plain)).collect()
        };
        let (counts, before) = (count(seen), count(plain));
        let value_of = |counts: &[Counts], scenes: &[usize]| {
            let add = |sum: Counts, &scene: &usize| -> Counts {
                std::array::from_fn(|i| sum[i] + counts[scene][i])
            };
            (self.value)(scenes.iter().fold([0.0; 4], add))
        };
        let lost_of = |scenes: &[usize]| {
            Some(self.lost(value_of(&counts, scenes)?, value_of(&before, scenes)?))
        };
        let all: Vec<usize> = (0..counts.len()).collect();
        let (value, baseline) = (value_of(&counts, &all), value_of(&before, &all));
        let n = counts.iter().map(|counts| counts[0]).sum::<f64>() as usize;
        let interval = match value {
            // Where nothing or everything went wrong, resampling sees no spread.
            Some(share @ (0.0 | 1.0)) if !self.is_perplexity() => Some(wilson(share, n)),
            _ => resampled(all.len(), |scenes| value_of(&counts, scenes)),
        };
        let demand = baseline.map(|baseline| self.demand(baseline, &bounds(quantization)));
        let holds = |(value, demand): (f64, f64)| match self.is_perplexity() {
            true => value <= demand,
            false => value >= demand,
        };
        Figure {
            value,
            n,
            interval,
            baseline,
            lost: lost_of(&all),
            lost_interval: resampled(all.len(), lost_of),
            demand,
            holds: value.zip(demand).map(holds),
        }
    }

    fn is_perplexity(&self) -> bool {
        self.name == "perplexity"
    }

    /// Points of a share, or the share by which the perplexity grew.
    fn lost(&self, value: f64, baseline: f64) -> f64 {
        if self.is_perplexity() { value / baseline - 1.0 } else { baseline - value }
    }

    fn demand(&self, baseline: f64, bounds: &Bounds) -> f64 {
        match self.name {
            "perplexity" => baseline * bounds.perplexity,
            "same_answer" => bounds.same_answer,
            _ => (baseline - bounds.share).max(0.0),
        }
    }
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum()
}

/// Of n, how many.
fn share([n, hits, ..]: Counts) -> Option<f64> {
    (n > 0.0).then(|| hits / n)
}

fn same_answers(seen: &Seen, plain: &Seen) -> Counts {
    let same = seen.answers.iter().zip(&plain.answers).filter(|(one, other)| one == other);
    [seen.answers.len() as f64, same.count() as f64, 0.0, 0.0]
}

fn hits(trials: &[Trial], figure: &str) -> Counts {
    let trials = trials.iter().filter(|trial| trial.figure == figure);
    let [n, hits] = trials.fold([0.0; 2], |[n, hits], t| [n + 1.0, hits + f64::from(t.hit)]);
    [n, hits, 0.0, 0.0]
}

/// Questions "Is there ...?": all, and of those with the answer yes or where yes was said, the
/// right ones, the wrongly said and the missed.
fn existence(trials: &[Trial]) -> Counts {
    let mut counts = [0.0; 4];
    for trial in trials.iter().filter(|trial| trial.figure == "existence_yes_share") {
        counts[0] += 1.0;
        match (trial.hit, trial.truth == "yes") {
            (true, true) => counts[1] += 1.0,
            (true, false) => counts[2] += 1.0,
            (false, true) => counts[3] += 1.0,
            (false, false) => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(scores: &[f32], answers: &[&str], yes: &[(bool, &str)]) -> Seen {
        let trial = |&(hit, truth): &(bool, &str)| Trial {
            figure: "existence_yes_share",
            group: 0,
            hit,
            truth: truth.into(),
            blind: Vec::new(),
        };
        let answers = answers.iter().map(|answer| answer.to_string()).collect();
        Seen { scores: scores.to_vec(), answers, trials: yes.iter().map(trial).collect() }
    }

    /// Two scenes in three formats: 8 bits change nothing, 4 bits change much.
    fn example() -> Report {
        let half = 0.5f32.ln();
        let quarter = 0.25f32.ln();
        let plain = || {
            vec![
                seen(&[half, half], &["A dog.", "Yes."], &[(true, "yes"), (false, "no")]),
                seen(&[half], &["A cat."], &[(true, "yes")]),
            ]
        };
        let bad = vec![
            seen(&[quarter, quarter], &["A dog.", "No."], &[(false, "yes"), (true, "no")]),
            seen(&[quarter], &["A cat."], &[(true, "yes")]),
        ];
        report(&[plain(), plain(), bad], [400, 100, 60], Measured::example())
    }

    #[test]
    fn figures_are_held_against_the_unquantised_model() {
        let report = example();
        let figure = |name, quantization| report.figure(name, quantization).expect(name).clone();
        let near = |found: Option<f64>, expected: f64| {
            assert!(found.is_some_and(|found| (found - expected).abs() < 1e-6), "{found:?}");
        };
        let perplexity = figure("perplexity", Quantization::Q8_0);
        near(perplexity.value, 2.0);
        assert_eq!((perplexity.n, perplexity.holds), (3, Some(true)));
        let perplexity = figure("perplexity", Quantization::Q4_0);
        near(perplexity.value, 4.0);
        near(perplexity.baseline, 2.0);
        near(perplexity.lost, 1.0);
        near(perplexity.demand, 2.2);
        assert_eq!(perplexity.holds, Some(false));
        let same = figure("same_answer", Quantization::Q4_0);
        near(same.value, 2.0 / 3.0);
        // One right yes, one wrong one, one missed: 2 / (2 + 1 + 1).
        let existence = figure("existence_f1", Quantization::Q4_0);
        near(existence.value, 0.5);
        near(existence.lost, 0.5);
        assert_eq!(existence.n, 3);
        // Nobody pointed at anything, so nothing is claimed.
        let evidence = figure("evidence", Quantization::Q4_0);
        assert_eq!((evidence.value, evidence.holds, evidence.n), (None, None, 0));
        assert!(report.holds(Quantization::Q8_0) && !report.holds(Quantization::Q4_0));
    }

    #[test]
    fn an_unchanged_figure_has_lost_nothing_on_any_resample() {
        let figure = example();
        let figure = figure.figure("perplexity", Quantization::Q8_0).expect("a figure");
        assert_eq!(figure.lost_interval, Some([0.0, 0.0]));
        let same = example();
        let same = same.figure("same_answer", Quantization::Q8_0).expect("a figure");
        let [low, high] = same.interval.expect("an interval");
        assert!(low < 0.5 && high > 0.999, "three answers prove little: {low} {high}");
    }
}
