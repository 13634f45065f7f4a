//! The shipped model's figures: two thousand scenes it has never seen, asked as a user asks.
//!
//! It knows what is demanded of the model; it does not know how to draw, to answer or to judge.

pub mod report;

use crate::ask::{self, Model, Trial};
use crate::metric::Statistic::{Balanced, F1, Share};
use crate::metric::{Demand, Metric, Statistic, Tally, majority};
use crate::sample::each;
use crate::stored::{self, Measured};
use crate::{Error, Sample};
use report::Report;
use scenes::{Mix, Options, QaKind, Scene, SceneKind};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use vlm::Quantization;
use vlm::generate::{Cancel, Session};

/// A figure, and what is demanded of it.
pub(crate) struct Figure {
    pub name: &'static str,
    statistic: Statistic,
    demand: Option<Demand>,
}

const fn at_least(name: &'static str, statistic: Statistic, least: f64) -> Figure {
    Figure { name, statistic, demand: Some(Demand::AtLeast(least)) }
}

/// What is demanded, in the order of the table.
pub(crate) const FIGURES: &[Figure] = &[
    at_least("region_top1", Share, 0.85),
    at_least("object_accuracy", Share, 0.90),
    at_least("colour_accuracy", Share, 0.92),
    at_least("existence_balanced_accuracy", Balanced, 0.65),
    at_least("existence_f1_random", F1, 0.98),
    at_least("existence_f1_popular", F1, 0.96),
    at_least("existence_f1_adversarial", F1, 0.94),
    Figure {
        name: "existence_yes_share",
        statistic: Balanced,
        demand: Some(Demand::Within(0.48, 0.52)),
    },
    at_least("count_accuracy", Share, 0.85),
    at_least("position_accuracy", Share, 0.90),
    at_least("relation_accuracy", Share, 0.85),
    at_least("reading_exact", Share, 0.85),
    at_least("document_field_accuracy", Share, 0.75),
    at_least("chart_accuracy", Share, 0.70),
    Figure { name: "chair_i", statistic: Share, demand: Some(Demand::AtMost(0.05)) },
    at_least("attended_region_hit", Share, 0.60),
];

/// What nothing is demanded of.
const FURTHER: &[&str] = &[
    "box_acc50",
    "named_at_position_accuracy",
    "check_accuracy",
    "verify_accuracy",
    "unseen_accuracy",
    "outside_world",
    "large_count_accuracy",
    "list_accuracy",
    "caption_accuracy",
    "caption_recall",
    "chart_extreme_accuracy",
];

/// Scenes of a kind that is too rare in the world's mixture, asked only for what it is rare for.
struct Extra {
    kind: SceneKind,
    asked: QaKind,
    /// Scenes of it for a thousand of the sample.
    per_mille: u64,
    first_seed: u64,
}

/// Together with the sample's own, 300 questions and more of each on 2,000 scenes. The seeds are
/// for nothing else.
const EXTRA: &[Extra] = &[
    Extra { kind: SceneKind::Single, asked: QaKind::What, per_mille: 100, first_seed: 10_010_000 },
    Extra { kind: SceneKind::Sign, asked: QaKind::Read, per_mille: 100, first_seed: 10_020_000 },
    Extra {
        kind: SceneKind::Document,
        asked: QaKind::DocumentField,
        per_mille: 150,
        first_seed: 10_030_000,
    },
    Extra {
        kind: SceneKind::Chart,
        asked: QaKind::ChartValue,
        per_mille: 150,
        first_seed: 10_040_000,
    },
    Extra {
        kind: SceneKind::Strange,
        asked: QaKind::Strange,
        per_mille: 150,
        first_seed: 10_050_000,
    },
];

/// Measures the model in `model_dir` on the scenes of `sample`; an earlier run's report is shown
/// again unless `fresh`. `progress` hears of scenes done and of all.
///
/// Errors: the engine's, an empty range, `Error::Cancelled` when `cancel` was set.
pub fn nano(
    model_dir: &Path,
    sample: &Sample,
    fresh: bool,
    progress: &(dyn Fn(u64, u64) + Sync),
    cancel: &Cancel,
) -> Result<Report, Error> {
    let n_scenes = sample.len()?;
    let key = stored::model_key::<Report>(model_dir)?;
    if let Some(report) = stored::find(model_dir, &key, sample).filter(|_| !fresh) {
        return Ok(report);
    }
    let started = Instant::now();
    let model = Model::load(model_dir, Quantization::None)?;
    let n_extra = |extra: &Extra| (n_scenes * extra.per_mille).div_ceil(1000);
    let all = n_scenes + EXTRA.iter().map(n_extra).sum::<u64>();
    let session = || Session::new(model.calibration.clone());
    let ask = |scene: &Scene| Ok(ask::ask(&model, &mut session(), scene, cancel)?.trials);
    let mut scenes = sample.each(ask, &|done| progress(done, all), cancel)?;
    let mut before = n_scenes;
    for extra in EXTRA {
        let seeds = extra.first_seed..extra.first_seed + n_extra(extra);
        let (kinds, held_out_style) = (Mix::only(extra.kind), sample.held_out_style);
        let options = Options { kinds, held_out_style, ..Options::default() };
        let ask = |scene: &Scene| {
            let wanted: &dyn Fn(QaKind) -> bool = &|kind| kind == extra.asked;
            let heard = ask::ask_only(&model, &mut session(), (scene, wanted), cancel)?;
            Ok(heard.only_answers())
        };
        let done = |done| progress(before + done, all);
        scenes.extend(each((&seeds, &options), ask, &done, cancel)?);
        before += n_extra(extra);
    }
    let report = report(&scenes, Measured::now(model_dir, sample, (key, started)));
    stored::keep(&report);
    Ok(report)
}

fn report(scenes: &[Vec<Trial>], measured: Measured) -> Report {
    let figures = FIGURES.iter().map(|figure| (figure.name.to_owned(), metric(scenes, figure)));
    let further = FURTHER.iter().map(|&name| {
        let figure = Figure { name, statistic: Share, demand: None };
        (name.to_owned(), metric(scenes, &figure))
    });
    Report { figures: figures.collect(), further: further.collect(), measured }
}

fn metric(scenes: &[Vec<Trial>], figure: &Figure) -> Metric {
    let mut tally = Tally::new(figure.statistic);
    let mut trials = Vec::new();
    for scene in scenes {
        tally.next_scene();
        for trial in scene.iter().filter(|trial| trial.figure == figure.name) {
            tally.add(trial.group, f64::from(trial.hit));
            trials.push(trial);
        }
    }
    tally.metric(baseline(&trials, figure), figure.demand)
}

/// What one reaches on the same trials without looking at the picture, in the best of the ways.
fn baseline(trials: &[&Trial], figure: &Figure) -> (&'static str, f64) {
    let mut ways: BTreeMap<&'static str, Tally> = BTreeMap::new();
    for trial in trials {
        for (way, hit) in &trial.blind {
            let tally = ways.entry(*way).or_insert_with(|| Tally::new(figure.statistic));
            tally.add(trial.group, *hit);
        }
    }
    let reached = ways.iter().filter_map(|(way, tally)| Some((*way, tally.value()?)));
    let best = match figure.demand {
        Some(Demand::AtMost(_)) => reached.min_by(|a, b| a.1.total_cmp(&b.1)),
        _ => reached.max_by(|a, b| a.1.total_cmp(&b.1)),
    };
    best.unwrap_or_else(|| ("most frequent", majority(trials.iter().map(|trial| &trial.truth))))
}
