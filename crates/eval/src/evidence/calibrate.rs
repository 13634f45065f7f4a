//! Calibrates a model's evidence on drawn scenes: which heads look at what is said, how attention
//! and lens become probabilities, and how often words and claims marked in some way are wrong.
//!
//! Three passes over the same scenes, each needing the one before: maps from true answers whose
//! boxes are known; words, true and false; claims, true and false. False ones are the model's own
//! and put in (it makes few); probabilities are then calibrated on its own alone, since these are
//! what a user sees. The scenes serve nothing else. It does not know how features are made.

mod fit;
mod heads;
mod rows;

use std::ops::Range;
use std::path::{Path, PathBuf};

use scenes::{Options, Scene};
use vlm::Quantization;
use vlm::explain::logistic::{Logistic, Samples};
use vlm::explain::{Calibration, EvidenceHeads, MapWeights};
use vlm::generate::Cancel;

use super::witness::Witness;
use crate::ask::Model;
use crate::sample::each;
use crate::{Error, stored};
use rows::Row;

/// Scenes that a calibration looks at.
pub const N_SCENES: u64 = 600;
/// The first; nothing is trained or measured on them.
const FIRST_SEED: u64 = 11_000_000;
/// Scenes that heads and the lens are chosen on.
const N_CHOOSING: u64 = 100;
/// Penalty of the regressions.
const L2: f64 = 1e-3;

/// Calibrates the model in `model_dir` as it runs with its weights held so. Heads that it was
/// trained with are kept; for another model they are chosen by where they point. `progress` hears
/// of scenes done and of all.
///
/// Errors: the engine's, no scenes, `Error::Cancelled` when `cancel` was set.
pub fn calibrate(
    model_dir: &Path,
    (n_scenes, quantization): (u64, Quantization),
    progress: &(dyn Fn(u64, u64) + Sync),
    cancel: &Cancel,
) -> Result<Calibration, Error> {
    let seeds = FIRST_SEED..FIRST_SEED + n_scenes;
    if seeds.is_empty() {
        return Err(Error::NoScenes { start: seeds.start, end: seeds.end });
    }
    let model = Model::load(model_dir, quantization)?;
    Fitting { model: &model, seeds, progress, cancel }.all()
}

/// Where the calibration of a model that has none beside it lies: in the cache folder.
///
/// Errors: a model folder that cannot be read.
pub fn cached_at(model_dir: &Path, quantization: Quantization) -> Result<Option<PathBuf>, Error> {
    let Some(cache) = vlm::cache_folder() else { return Ok(None) };
    let key = stored::files_key(model_dir)?;
    let key = key.get(..16).unwrap_or(&key);
    Ok(Some(cache.join("evidence").join(format!("{key}-{}.json", quantization.name()))))
}

/// One calibration under way.
struct Fitting<'a> {
    model: &'a Model,
    seeds: Range<u64>,
    progress: &'a (dyn Fn(u64, u64) + Sync),
    cancel: &'a Cancel,
}

impl Fitting<'_> {
    fn all(&self) -> Result<Calibration, Error> {
        let mut calibration = self.chosen()?;
        calibration.map = self.map(&calibration)?;
        let words: Vec<Row> = self.pass(1, &calibration, rows::words)?.concat();
        if let Some(map) = &mut calibration.map {
            fit::score_regions(map, &words);
        }
        calibration.seen = fit::detector(&words);
        let claims: Vec<Row> = self.pass(2, &calibration, rows::claims)?.concat();
        calibration.checked = fit::detector(&claims);
        if let Some(checked) = &mut calibration.checked {
            fit::set_thresholds(checked, &claims);
            calibration.reliability = fit::reliability(checked, &claims);
        }
        Ok(calibration)
    }

    /// Heads and lens: those of a model that was trained for evidence, or the best of all.
    fn chosen(&self) -> Result<Calibration, Error> {
        let heads = &self.model.calibration.heads;
        if heads.trained {
            // The trainer's lens reads what the first layer does.
            let lens_layer = Some(0);
            return Ok(Calibration { lens_layer, ..Calibration::from(heads.clone()) });
        }
        let config = &self.model.vlm.config;
        let every = heads::all(config);
        let found = self.choose(&every.clone().into(), heads::pointing)?;
        let heads = EvidenceHeads { heads: heads::best(&every.heads, &found), ..every };
        let mut best = (f64::NEG_INFINITY, None);
        for layer in heads::lens_layers(config) {
            let lens_layer = Some(layer);
            let with = Calibration { lens_layer, ..Calibration::from(heads.clone()) };
            let rate = heads::rate(&self.choose(&with, heads::lens_pointing)?);
            best = if rate > best.0 { (rate, lens_layer) } else { best };
        }
        Ok(Calibration { lens_layer: best.1, mask_sinks: true, ..Calibration::from(heads) })
    }

    /// On the few scenes that choices are made on.
    fn choose<T: Send>(
        &self,
        calibration: &Calibration,
        work: fn(&mut Witness, &Scene) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let seeds = self.seeds.start..self.seeds.end.min(self.seeds.start + N_CHOOSING);
        let work = |scene: &Scene| work(&mut self.witness(calibration), scene);
        each((&seeds, &Options::default()), work, &|_| {}, self.cancel)
    }

    /// Patch features to the probability that a word rests on the patch.
    fn map(&self, calibration: &Calibration) -> Result<Option<MapWeights>, Error> {
        let pieces = self.pass(0, calibration, rows::patches)?;
        let n_features = pieces.iter().map(|piece| piece.n_features).max().unwrap_or(0);
        let mut samples = Samples::new(n_features);
        for piece in pieces.iter().filter(|piece| piece.n_features == n_features) {
            samples.features.extend(&piece.features);
            samples.labels.extend(&piece.labels);
            samples.weights.extend(&piece.weights);
        }
        let logistic = Logistic::fit(&samples, L2);
        Ok(logistic.map(|logistic| MapWeights { logistic, score: None, threshold: 0.0 }))
    }

    /// The `nth` of three passes over all scenes.
    fn pass<T: Send>(
        &self,
        nth: u64,
        calibration: &Calibration,
        work: fn(&mut Witness, &Scene) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let n = self.seeds.end - self.seeds.start;
        let progress = |done: u64| (self.progress)(nth * n + done, 3 * n);
        let work = |scene: &Scene| work(&mut self.witness(calibration), scene);
        each((&self.seeds, &Options::default()), work, &progress, self.cancel)
    }

    fn witness(&self, calibration: &Calibration) -> Witness<'_> {
        Witness::with(self.model, calibration.clone(), self.cancel)
    }
}
