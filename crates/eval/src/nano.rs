//! The shipped model's figures: a thousand scenes it has never seen, asked as a user asks.
//!
//! Seeds from [`HELD_OUT`] are used for nothing else; training stays below them.
//! It knows what is demanded of the model; it does not know how to draw, to answer or to judge.

mod ask;
mod judge;
mod region;
pub mod report;
pub mod stored;

use crate::Error;
use crate::metric::{Metric, Tally, majority};
use ask::{Model, Trial};
use report::{Measured, Report};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use vlm::explain::EvidenceHeads;
use vlm::generate::Cancel;
use vlm::processor::Processor;
use vlm::{Config, Vlm};

/// The scenes that no training sees.
pub const HELD_OUT: Range<u64> = 10_000_000..10_001_000;

/// Scenes are asked in this many threads; a small model leaves cores idle in one.
const N_THREADS: usize = 2;

/// Figures that nothing is demanded of yet.
const FURTHER: &[&str] = &[
    "box_acc50",
    "existence_yes_share",
    "count_accuracy",
    "position_accuracy",
    "named_at_position_accuracy",
    "relation_accuracy",
    "check_accuracy",
    "text_accuracy",
    "list_accuracy",
    "caption_accuracy",
    "document_accuracy",
];

/// What to measure on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Seeds of the scenes.
    pub seeds: Range<u64>,
    /// Draw everything in the style that no training scene shows.
    pub held_out_style: bool,
}

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
    let seeds = &sample.seeds;
    if seeds.is_empty() {
        return Err(Error::NoScenes { start: seeds.start, end: seeds.end });
    }
    let key = stored::model_key(model_dir)?;
    if let Some(report) = stored::find(model_dir, &key, sample).filter(|_| !fresh) {
        return Ok(report);
    }
    let started = Instant::now();
    let model = load(model_dir)?;
    let scenes = ask_all(&model, sample, progress, cancel)?;
    let measured = Measured {
        date: stored::now(),
        build: stored::build(model_dir),
        first_seed: seeds.start,
        n_scenes: seeds.end - seeds.start,
        held_out_style: sample.held_out_style,
        model: key,
        seconds: started.elapsed().as_secs_f64(),
        stored: false,
    };
    let report = report(&scenes, measured);
    stored::keep(&report, sample);
    Ok(report)
}

fn load(model_dir: &Path) -> Result<Model, Error> {
    let config = Config::load(model_dir)?;
    let processor = Processor::load(model_dir, &config)?;
    let heads = EvidenceHeads::load(model_dir, &config)?;
    let regions = region::Regions::load(model_dir, &processor)?;
    let vlm = Vlm::load(model_dir, &candle_core::Device::Cpu)?;
    Ok(Model { vlm, processor, heads, regions })
}

/// Every scene's trials, in the order of the seeds whichever thread asked them.
fn ask_all(
    model: &Model,
    Sample { seeds, held_out_style }: &Sample,
    progress: &(dyn Fn(u64, u64) + Sync),
    cancel: &Cancel,
) -> Result<Vec<Vec<Trial>>, Error> {
    let how = scenes::Options { held_out_style: *held_out_style, ..Default::default() };
    let (next, done) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let results = Mutex::new(BTreeMap::new());
    let work = || -> Result<(), Error> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(());
            }
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let scene = scenes::scene(seed, &how);
            let trials = ask::ask(model, &scene, cancel)?;
            if let Ok(mut results) = results.lock() {
                results.insert(seed, trials);
            }
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress(done, seeds.end - seeds.start);
        }
    };
    let outcomes: Vec<Result<(), Error>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..N_THREADS).map(|_| scope.spawn(work)).collect();
        let panicked = |_| std::panic::panic_any("a measuring thread panicked");
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    outcomes.into_iter().collect::<Result<(), Error>>()?;
    let results = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    Ok(results.into_values().collect())
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
