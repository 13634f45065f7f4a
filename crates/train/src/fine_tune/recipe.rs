//! The recipe of a fine-tuning: what is trained, how, and how long.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vlm::Quantization;
use vlm::model::nn::Compute;

pub use vlm::config::Part;

use super::gather::Source;
use crate::Error;

/// What is trained, how, and how long; where the examples come from is the caller's business.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FineTune {
    /// The model's folder; in a file, relative to it.
    pub model: PathBuf,
    /// An adapter to go on from, as `peft` writes it.
    pub start: Option<PathBuf>,
    /// What is learned from, and what is only measured on.
    pub data: Vec<Source>,
    pub held_out: Vec<Source>,
    /// Parts whose linear layers get a low-rank adapter each; their own weights stay.
    pub adapt: Vec<Part>,
    /// Parts whose own weights move.
    pub train: Vec<Part>,
    /// Rank of the adapters.
    pub rank: usize,
    /// The adapters' products are multiplied by `alpha ÷ rank`.
    pub alpha: f64,
    /// Adapters that give each output its own length too (DoRA).
    pub dora: bool,
    /// Names of the adapted layers ("q_proj"); empty: all.
    pub targets: Vec<String>,
    /// How the frozen weights are held: `none`, or `q8_0` and `q4_0` (QLoRA).
    pub quantization: Quantization,
    /// Operand precision of matrix products: `bf16` (f32 accumulation) or `f32`.
    pub compute: String,
    /// Optimiser steps.
    pub steps: u64,
    /// Examples of one step.
    pub batch: usize,
    pub learning_rate: f64,
    /// Factors of the learning rate; parts left out have 1.
    pub rates: BTreeMap<Part, f64>,
    /// Steps over which the rate rises; then it falls along a cosine.
    pub warmup_steps: u64,
    /// Share of the rate that is left at the end.
    pub final_rate: f64,
    pub weight_decay: f64,
    /// Largest norm of a step's gradient.
    pub clip: f64,
    /// Of the adapters' start and the order of the examples.
    pub seed: u64,
    /// Examples come in their own order.
    pub in_order: bool,
    /// Data-parallel copies, one thread each.
    pub threads: usize,
    /// Steps between measurements on the held-out examples; 0: only at the end.
    pub evaluate_every: u64,
    /// Seconds between checkpoints.
    pub checkpoint_every_secs: u64,
}

impl Default for FineTune {
    fn default() -> Self {
        FineTune {
            model: PathBuf::new(),
            start: None,
            data: Vec::new(),
            held_out: Vec::new(),
            adapt: vec![Part::LanguageModel],
            train: Vec::new(),
            rank: 8,
            alpha: 16.0,
            dora: false,
            targets: Vec::new(),
            quantization: Quantization::None,
            compute: "bf16".into(),
            steps: 100,
            batch: 8,
            learning_rate: 2e-4,
            rates: BTreeMap::new(),
            warmup_steps: 5,
            final_rate: 0.0,
            weight_decay: 0.0,
            clip: 1.0,
            seed: 0,
            in_order: false,
            threads: 2,
            evaluate_every: 0,
            checkpoint_every_secs: 60,
        }
    }
}

impl FineTune {
    /// Reads and checks a recipe; paths become those from the working directory. `None` where the
    /// file is a recipe of another kind.
    ///
    /// # Errors
    /// [`Error::File`] when unreadable, [`Error::Recipe`] with every problem found.
    pub fn load(path: &Path) -> Result<Option<Self>, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::reading(path))?;
        let fail = |problems| Error::Recipe { path: path.to_owned(), problems };
        let wrong = |e: toml::de::Error| fail(vec![e.to_string().trim_end().to_owned()]);
        let table: toml::Table = toml::from_str(&text).map_err(wrong)?;
        if table.contains_key("stages") {
            return Ok(None);
        }
        let mut recipe: Self = toml::from_str(&text).map_err(wrong)?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        recipe.model = folder.join(&recipe.model);
        recipe.start = recipe.start.map(|start| folder.join(start));
        for source in recipe.data.iter_mut().chain(&mut recipe.held_out) {
            if let Source::File(from) = source {
                from.file = folder.join(&from.file);
                from.pictures = from.pictures.take().map(|pictures| folder.join(pictures));
            }
        }
        let problems = recipe.problems();
        if problems.is_empty() { Ok(Some(recipe)) } else { Err(fail(problems)) }
    }

    /// Everything that is impossible, naming the field.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |fine: bool, problem: &str| {
            if !fine {
                problems.push(problem.to_owned());
            }
        };
        let nothing = self.adapt.is_empty() && self.train.is_empty();
        check(!nothing, "adapt, train: nothing is trained; name a part in one of them");
        let both = self.adapt.iter().any(|part| self.train.contains(part));
        check(!both, "adapt, train: a part can be in one of them only");
        let drawn = self.data.iter().chain(&self.held_out).filter_map(|source| match source {
            Source::Drawn(drawn) => Some(drawn),
            Source::File(_) => None,
        });
        for drawn in drawn {
            check(drawn.pictures > 0, "data: pictures: must be at least 1");
        }
        check(self.rank > 0, "rank: must be at least 1");
        check(self.alpha > 0.0, "alpha: must be above 0");
        check(self.steps > 0 && self.batch > 0, "steps, batch: must be at least 1");
        check(self.threads > 0, "threads: must be at least 1");
        check(self.learning_rate > 0.0, "learning_rate: must be above 0");
        check(self.clip > 0.0, "clip: must be above 0");
        check((0.0..=1.0).contains(&self.final_rate), "final_rate: must be between 0 and 1");
        let packed = self.quantization != Quantization::None;
        check(
            !packed || self.train.is_empty(),
            "quantization: packed weights stay as they are; train adapters only, or set it to none",
        );
        check(
            !(packed && self.dora),
            "dora: needs weights that are not packed; set quantization to none",
        );
        let known = matches!(self.compute.as_str(), "f32" | "bf16");
        check(known, "compute: must be \"f32\" or \"bf16\"");
        problems
    }

    /// Precision of matrix products.
    #[must_use]
    pub fn compute(&self) -> Compute {
        if self.compute == "f32" { Compute::F32 } else { Compute::Bf16 }
    }

    /// The rate of the step after `done`: a linear warm-up, then a cosine down to `final_rate`.
    #[must_use]
    pub fn rate(&self, done: u64) -> f64 {
        if done < self.warmup_steps {
            return self.learning_rate * (done + 1) as f64 / self.warmup_steps as f64;
        }
        let rest = (self.steps - self.warmup_steps.min(self.steps)).max(1) as f64;
        let part = ((done - self.warmup_steps) as f64 / rest).clamp(0.0, 1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * part).cos());
        self.learning_rate * (self.final_rate + (1.0 - self.final_rate) * cosine)
    }
}
