//! What is known of a model's evidence: which heads are evidence, how features become
//! probabilities, and how often words marked in some way were wrong when it was measured.
//!
//! The file `evidence.json` beside a model. Everything but `heads` may be missing: without a map
//! the regions are those of the heads alone, and without a detector no word has a probability.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::check::N_CLAIM_FEATURES;
use super::features::{WORD_FEATURES, n_patch_features};
use super::logistic::{Curve, Logistic, sigmoid};
use super::{ClaimKind, EvidenceHeads};
use crate::config::read_json;
use crate::{Config, Error};

/// Most heads whose attention is kept apart while an answer is made: bounds its memory.
pub const MAX_HEADS: usize = 16;

/// How a model's evidence is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    pub heads: EvidenceHeads,
    /// Whose output the lens reads of image tokens: 0 what the first decoder layer reads, `l` the
    /// output of the `l`-th. `None`: no lens.
    pub lens_layer: Option<usize>,
    /// Whether tokens that take attention from every word are left out.
    pub mask_sinks: bool,
    pub map: Option<MapWeights>,
    /// From one answer alone: that a word is true of the picture.
    pub seen: Option<Detector>,
    /// After a check (`explain::check`): that a claim is.
    pub checked: Option<Detector>,
    pub reliability: Vec<Mark>,
}

/// Patch features to the probability that a word rests on a patch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MapWeights {
    /// Over the features of `explain::features`.
    #[serde(flatten)]
    pub logistic: Logistic,
    /// Log odds of the strongest patch to the probability that it is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Curve>,
    /// Log odds of the strongest patch below which a word has no region; of a model trained to say
    /// so itself, unused.
    #[serde(default)]
    pub threshold: f32,
}

/// Features of a word or claim to the probability that it is true of the picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    #[serde(flatten)]
    pub logistic: Logistic,
    /// Log odds to probabilities, where the regression's own are not calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curve: Option<Curve>,
    /// From this probability on it is called seen.
    #[serde(default = "seen_from")]
    pub seen_from: f32,
    /// Below this it is called unsupported.
    #[serde(default = "unsupported_below")]
    pub unsupported_below: f32,
    /// The same for things, of which so few that are there are lost; 0: as for the rest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub thing_unsupported_below: f32,
}

fn is_zero(number: &f32) -> bool {
    *number == 0.0
}

fn seen_from() -> f32 {
    0.9
}

fn unsupported_below() -> f32 {
    0.3
}

impl Detector {
    /// Below which probability claims of a kind are unsupported.
    pub fn below(&self, kind: ClaimKind) -> f32 {
        match kind {
            ClaimKind::Object => self.thing_unsupported_below.max(self.unsupported_below),
            _ => self.unsupported_below,
        }
    }

    /// The probability of a row of features.
    pub fn probability(&self, features: &[f32]) -> f32 {
        let logit = self.logistic.logit(features);
        self.curve.as_ref().and_then(|curve| curve.at(logit)).unwrap_or_else(|| sigmoid(logit))
    }
}

/// How often what was marked in some way was wrong when it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Of claims, such as `object`; `word` for words.
    pub kind: String,
    /// `seen`, `guessed` or `unsupported`.
    pub state: String,
    pub n: usize,
    /// Share that was wrong.
    pub wrong: f32,
    /// Whether that tells more than how often the kind is wrong at all.
    pub beats_chance: bool,
}

#[derive(Serialize, Deserialize)]
struct File {
    heads: Vec<(usize, usize)>,
    #[serde(default)]
    null_token: usize,
    #[serde(default)]
    outlined: bool,
    /// Files from before calibration are those of models trained for evidence.
    #[serde(default = "yes")]
    trained: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lens_layer: Option<usize>,
    #[serde(default)]
    mask_sinks: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    map: Option<MapWeights>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Detector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checked: Option<Detector>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reliability: Vec<Mark>,
}

fn yes() -> bool {
    true
}

impl From<EvidenceHeads> for Calibration {
    /// Heads alone: regions as they say, no probabilities.
    fn from(heads: EvidenceHeads) -> Calibration {
        Calibration {
            heads,
            lens_layer: None,
            mask_sinks: false,
            map: None,
            seen: None,
            checked: None,
            reliability: Vec::new(),
        }
    }
}

impl Calibration {
    /// From `evidence.json` of a model folder, else heads that nobody calibrated.
    ///
    /// Errors: as [`Calibration::read`].
    pub fn load(dir: &Path, config: &Config) -> Result<Calibration, Error> {
        let path = dir.join("evidence.json");
        match path.exists() {
            true => Calibration::read(&path, config),
            false => Ok(EvidenceHeads::untrained(config).into()),
        }
    }

    /// From such a file anywhere. A detector of checked claims that knows other features than this
    /// program's counts as missing.
    ///
    /// Errors: a file that is not valid, names heads or layers that the model does not have, or
    /// has not as many weights as there are features.
    pub fn read(path: &Path, config: &Config) -> Result<Calibration, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let wrong = |message: String| Error::Processor { file: name.clone(), message };
        let file: File =
            serde_json::from_value(read_json(path)?).map_err(|error| wrong(error.to_string()))?;
        check(&file, config).map_err(wrong)?;
        let heads = EvidenceHeads {
            heads: file.heads,
            null_token: file.null_token,
            trained: file.trained,
            outlined: file.outlined,
        };
        Ok(Calibration {
            heads,
            lens_layer: file.lens_layer,
            mask_sinks: file.mask_sinks,
            map: file.map,
            seen: file.seen,
            // Without it a claim still has the model's own yes against its no.
            checked: file.checked.filter(|d| d.logistic.weights.len() == N_CLAIM_FEATURES),
            reliability: file.reliability,
        })
    }

    /// The text of the file that [`Calibration::read`] reads.
    pub fn to_json(&self) -> Result<String, Error> {
        let heads = &self.heads;
        let file = File {
            heads: heads.heads.clone(),
            null_token: heads.null_token,
            outlined: heads.outlined,
            trained: heads.trained,
            lens_layer: self.lens_layer,
            mask_sinks: self.mask_sinks,
            map: self.map.clone(),
            seen: self.seen.clone(),
            checked: self.checked.clone(),
            reliability: self.reliability.clone(),
        };
        let failed = |error: serde_json::Error| Error::Processor {
            file: "evidence.json".into(),
            message: error.to_string(),
        };
        Ok(serde_json::to_string_pretty(&file).map_err(failed)? + "\n")
    }

    /// Whether more than the mean row of attention is kept of each token.
    pub(crate) fn wants_features(&self) -> bool {
        self.map.is_some() || self.seen.is_some()
    }
}

fn check(file: &File, config: &Config) -> Result<(), String> {
    let (layers, n_heads) = (config.evidence_layers(), config.text_config.num_attention_heads);
    let bad = file.heads.iter().find(|(layer, head)| !layers.contains(layer) || *head >= n_heads);
    if let Some((layer, head)) = bad {
        return Err(format!(
            "head [{layer}, {head}] is not among those that see pictures; remove it"
        ));
    }
    if file.heads.is_empty() {
        return Err("`heads` is empty; name some".into());
    }
    let n_layers = config.text_config.num_hidden_layers;
    if let Some(layer) = file.lens_layer.filter(|&layer| layer > n_layers) {
        return Err(format!("`lens_layer` is {layer}, but the model has {n_layers} layers"));
    }
    let has_map = file.map.is_some() || file.seen.is_some();
    if has_map && file.heads.len() > MAX_HEADS {
        let found = file.heads.len();
        return Err(format!("`heads` are {found}; a calibrated model has at most {MAX_HEADS}"));
    }
    let weights = [
        ("map", file.map.as_ref().map(|map| &map.logistic), n_patch_features(file.heads.len())),
        ("seen", file.seen.as_ref().map(|seen| &seen.logistic), WORD_FEATURES.len()),
    ];
    for (name, logistic, expected) in weights {
        let found = logistic.map_or(expected, |logistic| logistic.weights.len());
        if found != expected {
            return Err(format!(
                "`{name}` has {found} weights, expected {expected}; calibrate the model again"
            ));
        }
    }
    Ok(())
}
