//! Trains a small vision-language model from nothing, on drawn scenes whose truth is known.
//!
//! One recipe (TOML) names the model folder and the stages: contrastive image-text training,
//! alignment with the vision tower frozen, instruction tuning. The model trained is the `Vlm`
//! that answers in the window: there is no second implementation. The crate knows nothing of
//! command lines or progress bars; it reports through callbacks.

mod error;
mod recipe;
mod vocabulary;
mod parameters;
mod optimizer;
mod dialogue;
mod grounding;
mod batch;
mod contrast;
mod models;
mod objective;
mod sampling;
mod replicas;
mod checkpoint;
mod curve;
mod evaluate;
mod export;
mod run;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use recipe::{Evidence, Objective, Recipe, SceneMix, Stage, TextTowerShape, Weights};
pub use vocabulary::{Speech, build_nano_tokenizer, build_tokenizer};
pub use parameters::{Parameters, module_of};
pub use optimizer::{Optimizer, learning_rate};
pub use checkpoint::{Checkpoint, Progress};
pub use evaluate::{Score, Scores};
pub use export::export;
pub use run::{Cancel, Event, run};
