//! The recipe: one TOML file that says everything about a training run.
//!
//! Unknown fields are refused and every problem is reported at once, with the field's name, so
//! that a recipe is mended in one go. It does not know how the stages are carried out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vlm::model::nn::Compute;

use crate::Error;
use crate::parameters::MODULES;

/// Seeds from here on are never trained on: they are for measuring.
pub const FIRST_HELD_OUT_SEED: u64 = 10_000_000;

/// A whole training run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name shown in the model card and in checkpoints.
    pub name: String,
    /// Folder with `config.json` and `tokenizer.json`, relative to the recipe.
    pub model: PathBuf,
    /// Seed of the initial weights; scenes have their own seeds, see [`Stage::first_seed`].
    #[serde(default)]
    pub seed: u64,
    /// Data-parallel copies, one thread each; a batch is split evenly between them.
    #[serde(default = "two")]
    pub threads: usize,
    /// Operand precision of matrix products: `bf16` (f32 accumulation) or `f32`.
    #[serde(default = "bf16")]
    pub compute: String,
    /// Seconds between checkpoints.
    #[serde(default = "two_minutes")]
    pub checkpoint_every_secs: u64,
    /// Images between measurements on held-out scenes (0: never).
    #[serde(default)]
    pub evaluate_every_images: u64,
    /// Held-out scenes of one measurement.
    #[serde(default = "two_hundred")]
    pub evaluate_scenes: usize,
    /// The text tower that stage 0 trains beside the vision tower.
    pub text_tower: TextTowerShape,
    /// Which attention heads are taught to show what an answer rests on.
    pub evidence: Evidence,
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

/// Size of the text tower and of the space it shares with the region head.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextTowerShape {
    /// Width.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Longest phrase, in tokens.
    pub max_position_embeddings: usize,
    /// Width of the shared space.
    pub projection_dim: usize,
}

/// Heads, as `[layer, head]`, whose attention is supervised with boxes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// At the row that predicts a word: where the object that the word names is.
    pub answer: Vec<[usize; 2]>,
    /// At the row of a question's word: where the object that it names is, if anywhere.
    pub question: Vec<[usize; 2]>,
}

/// What a stage teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Regions against phrases, pictures against captions.
    Contrastive,
    /// Questions and answers about scenes.
    Dialogue,
}

/// Weights of the parts of a stage's loss; 0 leaves a part out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// Answers, next-token cross-entropy.
    pub answer: f64,
    /// Attention heads against boxes: any place inside is right.
    pub evidence: f64,
    /// The same heads against how much of each image token the boxes cover: the whole thing, not
    /// its most telling spot.
    #[serde(skip_serializing_if = "is_zero")]
    pub outline: f64,
    /// Image tokens read as words, against the object under them.
    pub lens: f64,
    /// Boxes against phrases, both directions.
    pub region: f64,
    /// Single patches against phrases.
    pub patch: f64,
    /// Whole pictures against captions, both directions.
    pub caption: f64,
    /// Single patches against the letters printed on them.
    #[serde(skip_serializing_if = "is_zero")]
    pub letters: f64,
}

/// Relative frequencies of the kinds of scenes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SceneMix {
    /// One thing.
    pub single: u32,
    /// Two to four different things.
    pub several: u32,
    /// Things of the same class.
    pub count: u32,
    /// A grid filled with things.
    pub dense: u32,
    /// A sign with words.
    pub sign: u32,
    /// A receipt or a table.
    pub document: u32,
    /// A bar chart.
    pub chart: u32,
    /// Nothing of the drawn world.
    pub strange: u32,
}

impl From<SceneMix> for scenes::Mix {
    fn from(mix: SceneMix) -> Self {
        let SceneMix { single, several, count, dense, sign, document, chart, strange } = mix;
        Self { single, several, count, dense, sign, document, chart, strange }
    }
}

/// One stage of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Name in logs.
    pub name: String,
    /// What it teaches.
    pub objective: Objective,
    /// Images to see; the schedule counts images, never time.
    pub images: u64,
    /// Images of one optimiser step.
    pub batch: usize,
    /// Peak learning rate, multiplied by each module's factor.
    pub learning_rate: f64,
    /// Images over which the rate rises from 0.
    #[serde(default)]
    pub warmup_images: u64,
    /// Rate at the end, as a part of the peak.
    #[serde(default)]
    pub final_rate: f64,
    /// Decoupled weight decay of matrices (never of vectors or embeddings).
    #[serde(default)]
    pub weight_decay: f64,
    /// Largest global gradient norm.
    #[serde(default = "one")]
    pub clip: f64,
    /// Whether matrices inside layers are moved by Muon; all else, and without it all, by AdamW.
    #[serde(default)]
    pub muon: bool,
    /// Learning-rate factor of each trained module; modules left out are frozen.
    pub modules: BTreeMap<String, f64>,
    /// Weights of the loss.
    pub weights: Weights,
    /// Part of the images that are dense collages.
    #[serde(default)]
    pub collages: f64,
    /// Relative frequency of each kind of scene; without it, the world's own mixture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenes: Option<SceneMix>,
    /// Most questions asked about one image.
    #[serde(default = "six")]
    pub questions: usize,
    /// Longest sequence of one image, in tokens: questions that no longer fit are left out, so
    /// that little of a batch is padding (0: no limit).
    #[serde(default)]
    pub tokens: usize,
    /// Part of the dialogue rows that are ordinary multi-turn conversations.
    #[serde(default)]
    pub multi_turn: f64,
    /// Part of the dialogue rows whose words see no picture: what is likely without looking.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub blind: f64,
    /// Part of the dialogue rows whose words do not see the image tokens of one thing, and are
    /// asked as if it were not there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub covered: f64,
    /// Part of the pictures that are made worse: noise, blur, little contrast, small JPEG files.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub damaged: f64,
    /// Relative frequency of each kind of question; kinds left out keep 1.
    #[serde(default)]
    pub kinds: BTreeMap<String, f64>,
    /// First scene seed; every image takes the next one.
    pub first_seed: u64,
}

/// Recipes from before a weight existed keep their hash.
fn is_zero(weight: &f64) -> bool {
    *weight == 0.0
}
fn two() -> usize {
    2
}
fn six() -> usize {
    6
}
fn one() -> f64 {
    1.0
}
fn two_hundred() -> usize {
    200
}
fn two_minutes() -> u64 {
    120
}
fn bf16() -> String {
    "bf16".to_owned()
}

impl Recipe {
    /// Reads and checks a recipe; `model` becomes a path from the working directory.
    ///
    /// # Errors
    /// [`Error::File`] when unreadable, [`Error::Recipe`] with every problem found.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::reading(path))?;
        let mut recipe = Self::parse(&text, path)?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        recipe.model = folder.join(&recipe.model);
        Ok(recipe)
    }

    /// Parses and checks; `path` is only for messages.
    ///
    /// # Errors
    /// [`Error::Recipe`] with every problem found.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let fail = |problems| Error::Recipe { path: path.to_owned(), problems };
        let recipe: Self =
            toml::from_str(text).map_err(|e| fail(vec![e.to_string().trim_end().to_owned()]))?;
        let problems = recipe.problems();
        if problems.is_empty() { Ok(recipe) } else { Err(fail(problems)) }
    }

    /// Precision of matrix products.
    #[must_use]
    pub fn compute(&self) -> Compute {
        if self.compute == "f32" { Compute::F32 } else { Compute::Bf16 }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |fine: bool, problem: &str| {
            if !fine {
                problems.push(problem.to_owned());
            }
        };
        check(!self.stages.is_empty(), "stages: at least one is needed");
        check(self.threads > 0, "threads: must be at least 1");
        check(
            matches!(self.compute.as_str(), "f32" | "bf16"),
            "compute: must be \"f32\" or \"bf16\"",
        );
        check(
            self.text_tower.hidden_size % self.text_tower.num_attention_heads.max(1) == 0,
            "text_tower: num_attention_heads must divide hidden_size",
        );
        for stage in &self.stages {
            problems.extend(stage.problems(self.threads));
        }
        problems
    }
}

impl Stage {
    /// Optimiser steps of the whole stage.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.images.div_ceil(self.batch as u64)
    }

    fn problems(&self, threads: usize) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |fine: bool, problem: String| {
            if !fine {
                problems.push(format!("stage {}: {problem}", self.name));
            }
        };
        check(self.images > 0, "images: must be positive".into());
        check(
            self.batch > 0 && self.batch.is_multiple_of(threads.max(1)),
            format!("batch: {} cannot be split over {threads} threads", self.batch),
        );
        check(
            self.learning_rate > 0.0 && self.learning_rate.is_finite(),
            "learning_rate: must be positive".into(),
        );
        check(self.warmup_images <= self.images, "warmup_images: exceeds images".into());
        check(self.clip > 0.0, "clip: must be positive".into());
        let parts = [
            ("collages", self.collages),
            ("multi_turn", self.multi_turn),
            ("blind", self.blind),
            ("covered", self.covered),
            ("damaged", self.damaged),
        ];
        for (name, part) in parts {
            check((0.0..=1.0).contains(&part), format!("{name}: must be between 0 and 1"));
        }
        check(!self.modules.is_empty(), "modules: nothing is trained".into());
        for module in self.modules.keys() {
            check(
                MODULES.contains(&module.as_str()),
                format!("modules: unknown module {module:?}; known: {}", MODULES.join(", ")),
            );
        }
        check(
            self.first_seed + self.images < FIRST_HELD_OUT_SEED,
            format!("first_seed: seeds must stay below {FIRST_HELD_OUT_SEED} (held out)"),
        );
        problems
    }
}
