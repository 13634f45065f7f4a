//! A run on disk: weights, optimiser moments and how far it came, in one file that is replaced
//! as a whole, so that a kill at any moment loses at most the time since the last one.
//!
//! It does not know what the weights mean.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::optimizer::Optimizer;
use crate::parameters::{Parameters, hash};
use crate::recipe::Recipe;

const PROGRESS: &str = "progress";
const MOMENTS: &str = "moments/";

/// How far a run came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Stage under way, from 0.
    pub stage: usize,
    /// Images seen in this stage: with the stage's first seed they give the next seed.
    pub stage_images: u64,
    /// Images seen in all stages.
    pub images: u64,
    /// Optimiser steps in all stages.
    pub step: u64,
    /// Optimiser steps since the moments were zero (each stage begins anew).
    pub moment_steps: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Of the recipe up to the stage under way; later stages may still be changed.
    pub recipe_hash: u64,
}

/// Everything needed to go on as if never stopped.
pub struct Checkpoint {
    /// The weights.
    pub parameters: Parameters,
    /// The optimiser's state.
    pub optimizer: Optimizer,
    /// How far the run came.
    pub progress: Progress,
}

/// Hash of what has already shaped the weights: everything but the stages after `stage`.
pub(crate) fn recipe_hash(recipe: &Recipe, stage: usize) -> u64 {
    let mut past = recipe.clone();
    past.stages.truncate(stage + 1);
    past.model.clear();
    past.checkpoint_every_secs = 0;
    past.evaluate_every_images = 0;
    past.evaluate_scenes = 0;
    hash(&serde_json::to_string(&past).unwrap_or_default())
}

/// Writes a checkpoint beside `path` and then puts it in its place.
///
/// # Errors
/// [`Error::File`] when it cannot be written.
pub(crate) fn save(
    path: &Path,
    parameters: &Parameters,
    optimizer: &Optimizer,
    progress: &Progress,
) -> Result<(), Error> {
    let weights = parameters.vars.iter().map(|(n, v)| (n.clone(), v.as_detached_tensor()));
    let moments = optimizer.moments.iter().map(|(n, t)| (format!("{MOMENTS}{n}"), t.clone()));
    let tensors: BTreeMap<String, Tensor> = weights.chain(moments).collect();
    let progress = serde_json::to_string(progress).unwrap_or_default();
    write_tensors(path, &tensors, HashMap::from([(PROGRESS.to_owned(), progress)]))
}

/// Writes tensors to a safetensors file that appears whole or not at all.
pub(crate) fn write_tensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: HashMap<String, String>,
) -> Result<(), Error> {
    let unfinished = path.with_extension("unfinished");
    safetensors::serialize_to_file(tensors, Some(metadata), &unfinished)
        .map_err(std::io::Error::other)
        .map_err(Error::writing(&unfinished))?;
    std::fs::rename(&unfinished, path).map_err(Error::writing(path))
}

/// Reads a checkpoint whose weights must be exactly those of `shapes`.
///
/// # Errors
/// [`Error::File`] when unreadable, [`Error::Checkpoint`] when it does not fit.
pub(crate) fn load(path: &Path, shapes: &[(String, Vec<usize>)]) -> Result<Checkpoint, Error> {
    let unfit = |problem: String| Error::Checkpoint { path: path.to_owned(), problem };
    let bytes = std::fs::read(path).map_err(Error::reading(path))?;
    let (_, metadata) =
        safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| unfit(e.to_string()))?;
    let progress = metadata.metadata().as_ref().and_then(|m| m.get(PROGRESS).cloned());
    let progress: Progress = serde_json::from_str(&progress.unwrap_or_default())
        .map_err(|e| unfit(format!("its progress is unreadable: {e}")))?;
    let mut tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    let mut parameters = Parameters { vars: BTreeMap::new() };
    for (name, dims) in shapes {
        let tensor = tensors.remove(name).ok_or_else(|| unfit(format!("{name} is missing")))?;
        if tensor.dims() != dims {
            return Err(unfit(format!("{name} is {:?}, not {dims:?}", tensor.dims())));
        }
        parameters.vars.insert(name.clone(), candle_core::Var::from_tensor(&tensor)?);
    }
    let moments = tensors
        .into_iter()
        .filter_map(|(n, t)| Some((n.strip_prefix(MOMENTS)?.to_owned(), t)))
        .collect();
    let optimizer = Optimizer { moments, steps: progress.moment_steps };
    Ok(Checkpoint { parameters, optimizer, progress })
}
