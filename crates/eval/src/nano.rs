//! The shipped model's figures: a thousand scenes it has never seen, asked as a user asks.
//!
//! It knows what is demanded of the model; it does not know how to draw, to answer or to judge.

pub mod report;

use crate::ask::{self, Model, Trial};
use crate::metric::{Metric, Tally, majority};
use crate::stored::{self, Measured};
use crate::{Error, Sample};
use report::Report;
use std::path::Path;
use std::time::Instant;
use vlm::Quantization;
use vlm::generate::{Cancel, Session};

/// Figures that nothing is demanded of yet.
const FURTHER: &[&str] = &[
    "box_acc50",
    "existence_yes_share",
    "count_accuracy",
    "position_accuracy",
    "named_at_position_accuracy",
    "relation_accuracy",
    "check_accuracy",
    "verify_accuracy",
    "unseen_accuracy",
    "text_accuracy",
    "list_accuracy",
    "caption_accuracy",
    "document_accuracy",
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
    let ask = |scene: &scenes::Scene| {
        let mut session = Session::new(model.heads.clone());
        Ok(ask::ask(&model, &mut session, scene, cancel)?.trials)
    };
    let scenes = sample.each(ask, &|done| progress(done, n_scenes), cancel)?;
    let report = report(&scenes, Measured::now(model_dir, sample, (key, started)));
    stored::keep(&report);
    Ok(report)
}

fn report(scenes: &[Vec<Trial>], measured: Measured) -> Report {
    let answers = |figure, demand| metric(scenes, figure, (1, demand));
    let further = FURTHER.iter().map(|figure| ((*figure).to_owned(), answers(*figure, None)));
    Report {
        region_top1: answers("region_top1", Some(0.85)),
        object_accuracy: answers("object_accuracy", Some(0.70)),
        colour_accuracy: answers("colour_accuracy", Some(0.75)),
        existence_balanced_accuracy: metric(scenes, "existence_balanced_accuracy", (2, Some(0.65))),
        attended_region_hit: answers("attended_region_hit", Some(0.60)),
        further: further.collect(),
        measured,
    }
}

fn metric(scenes: &[Vec<Trial>], figure: &str, (n_groups, demand): (usize, Option<f64>)) -> Metric {
    let mut tally = Tally::new(n_groups);
    let mut trials = Vec::new();
    for scene in scenes {
        tally.next_scene();
        for trial in scene.iter().filter(|trial| trial.figure == figure) {
            tally.add(trial.group, trial.hit);
            trials.push(trial);
        }
    }
    tally.metric(baseline(&trials, n_groups), demand)
}

/// What one reaches on the same trials without looking at the picture.
fn baseline(trials: &[&Trial], n_groups: usize) -> (&'static str, f64) {
    let looked: Vec<(bool, f64)> = trials.iter().filter_map(|trial| trial.blind).collect();
    if n_groups == 2 {
        ("always yes", 0.5)
    } else if looked.is_empty() {
        ("most frequent", majority(trials.iter().map(|trial| &trial.truth)))
    } else {
        let n = looked.len() as f64;
        let centre = looked.iter().filter(|(centre, _)| *centre).count() as f64 / n;
        let anywhere = looked.iter().map(|(_, area)| area).sum::<f64>() / n;
        if centre > anywhere { ("picture's centre", centre) } else { ("random place", anywhere) }
    }
}
