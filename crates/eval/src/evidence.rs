//! Whether a model's evidence is true: its regions against the boxes, its maps against what its
//! words depend on, its marks against what is there.
//!
//! Every scene is asked for its list or caption, and one fact; each answer is judged as the model
//! gave it and once more with something wrong put in, since a good model makes few mistakes of its
//! own. What needs a hundred questions a word is measured on a sub-sample. It knows what is asked
//! and when; the parts know how. Definitions, traps and demands: evidence.md, sections 4 to 6.

mod apart;
mod assertions;
mod baselines;
mod calibrate;
mod causal;
mod detection;
mod facts;
mod faithfulness;
mod figures;
mod forced;
mod localisation;
mod look;
mod overhead;
mod pixels;
mod pointing;
pub mod report;
#[cfg(test)]
mod sanity;
mod witness;

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use scenes::{Damage, Mix, Options, Scene, SceneKind};
use vlm::Quantization;
use vlm::generate::Cancel;

use crate::ask::Model;
use crate::sample::each;
use crate::stored::{self, Measured};
use crate::{Error, Sample};
use figures::{Figures, Found};
use look::{look, look_at_damaged};
use report::Report;
use witness::Witness;

pub use calibrate::{N_SCENES as N_CALIBRATION_SCENES, cached_at, calibrate};

/// Scenes that a full measurement asks about.
pub const N_SCENES: u64 = 5_000;
/// Seeds that serve nothing else, and those of the parts.
const FIRST_SEED: u64 = 12_000_000;
const FIRST_DAMAGED: u64 = 12_400_000;
const FIRST_APART: u64 = 12_500_000;
const FIRST_TIMED: u64 = 12_900_000;

/// For a thousand scenes: those of each damage, those taken apart, those that simpler readings see.
const DAMAGED_PER_MILLE: u64 = 50;
const APART_PER_MILLE: u64 = 80;
const COMPARED_PER_MILLE: u64 = 200;
/// Of the scenes taken apart every second has insertion and deletion curves.
const CURVES_EVERY: u64 = 2;
/// Questions that are timed.
const N_TIMED: u64 = 24;
/// How much longer a scene takes that is taken apart, for the progress.
const APART_COST: u64 = 12;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub n_scenes: u64,
    pub quantization: Quantization,
    /// Measure again even where a stored result is there.
    pub fresh: bool,
}

/// Measures the evidence of the model in `model_dir`; an earlier run's report is shown again
/// unless `fresh`. `progress` hears of work done and of all.
///
/// Errors: the engine's, no scenes, `Error::Cancelled` when `cancel` was set.
pub fn evidence(
    model_dir: &Path,
    wanted: Wanted,
    progress: &(dyn Fn(u64, u64) + Sync),
    cancel: &Cancel,
) -> Result<Report, Error> {
    let n = wanted.n_scenes;
    let seeds = FIRST_SEED..FIRST_SEED + n;
    let sample = &Sample { seeds, held_out_style: false };
    sample.len()?;
    let key = key(model_dir, wanted.quantization)?;
    if let Some(report) = stored::find(model_dir, &key, sample).filter(|_| !wanted.fresh) {
        return Ok(report);
    }
    let started = Instant::now();
    let model = Model::load(model_dir, wanted.quantization)?;
    let found = Run { model: &model, n, progress, cancel }.find(sample)?;
    let Figures { table, further } = Figures::of(&found);
    let measured = Measured::now(model_dir, sample, (key, started));
    let report = Report::new(table, further, measured);
    stored::keep(&report);
    Ok(report)
}

/// What a report is filed under: the model's files and how its weights are held.
fn key(model_dir: &Path, quantization: Quantization) -> Result<String, Error> {
    let key = stored::model_key::<Report>(model_dir)?;
    Ok(match quantization {
        Quantization::None => key,
        packed => format!("{}-{key}", packed.name()),
    })
}

/// The kept report on this model, its weights as exact as the checkpoint's, that rests on most
/// scenes.
pub fn kept(model_dir: &Path) -> Option<Report> {
    stored::best(model_dir)
}

/// One measurement under way.
struct Run<'a> {
    model: &'a Model,
    n: u64,
    progress: &'a (dyn Fn(u64, u64) + Sync),
    cancel: &'a Cancel,
}

impl Run<'_> {
    fn find(&self, sample: &Sample) -> Result<Found, Error> {
        let part = |per_mille: u64| (self.n * per_mille).div_ceil(1000);
        let (n_damaged, n_apart) = (part(DAMAGED_PER_MILLE), part(APART_PER_MILLE));
        let n_compared = part(COMPARED_PER_MILLE);
        let n_damages = Damage::ALL.len() as u64;
        let all = self.n + n_damages * n_damaged + n_apart * APART_COST + n_compared + N_TIMED;
        let (model, cancel) = (self.model, self.cancel);
        let mut before = 0;

        let things = Options::default();
        let look = |scene: &Scene| look(&mut Witness::new(model, cancel), scene);
        let seen = each((&sample.seeds, &things), look, &self.after(before, 1, all), cancel)?;
        before += self.n;

        let mut damaged = Vec::new();
        for (i, damage) in (0..).zip(Damage::ALL) {
            let seeds = from(FIRST_DAMAGED + i * 10_000, n_damaged);
            let look =
                |scene: &Scene| look_at_damaged(&mut Witness::new(model, cancel), scene, damage);
            damaged.extend(each((&seeds, &things), look, &self.after(before, 1, all), cancel)?);
            before += n_damaged;
        }

        let take_apart = |scene: &Scene| {
            let with_curves = scene.seed.is_multiple_of(CURVES_EVERY);
            apart::take_apart(&mut Witness::new(model, cancel), scene, with_curves)
        };
        let seeds = from(FIRST_APART, n_apart);
        let progress = self.after(before, APART_COST, all);
        let apart = each((&seeds, &things), take_apart, &progress, cancel)?;
        before += n_apart * APART_COST;

        let simple = baselines::calibration(model);
        let compare = |scene: &Scene| {
            baselines::compare(&mut Witness::with(model, simple.clone(), cancel), scene)
        };
        let seeds = from(FIRST_SEED, n_compared);
        let compared = each((&seeds, &things), compare, &self.after(before, 1, all), cancel)?;
        before += n_compared;

        let turns = self.time(before, all)?;
        Ok(Found { seen, damaged, apart, compared, turns })
    }

    /// Alone on the machine: nothing else of ours runs meanwhile.
    fn time(&self, before: u64, all: u64) -> Result<Vec<overhead::Turn>, Error> {
        let several = Options { kinds: Mix::only(SceneKind::Several), ..Options::default() };
        let mut witness = Witness::new(self.model, self.cancel);
        let mut turns = Vec::new();
        for (done, seed) in (1..).zip(from(FIRST_TIMED, N_TIMED)) {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            turns.extend(overhead::time(&mut witness, &scenes::scene(seed, &several))?);
            (self.progress)(before + done, all);
        }
        Ok(turns)
    }

    /// Progress of a part that comes after `before`, each of whose scenes costs `cost`.
    fn after(&self, before: u64, cost: u64, all: u64) -> impl Fn(u64) + Sync {
        let progress = self.progress;
        move |done| progress(before + done * cost, all)
    }
}

fn from(first: u64, n: u64) -> Range<u64> {
    first..first + n
}
