//! Trains a small vision-language model from nothing, on drawn scenes whose truth is known.
//!
//! One recipe (TOML) names the model folder and the stages: contrastive image-text training,
//! alignment with the vision tower frozen, instruction tuning. The model trained is the `Vlm`
//! that answers in the window: there is no second implementation. The crate knows nothing of
//! command lines or progress bars; it reports through callbacks.

mod batch;
mod checkpoint;
mod contrast;
mod curve;
mod dialogue;
mod error;
mod evaluate;
mod export;
pub mod fine_tune;
mod grounding;
mod letters;
mod models;
mod objective;
mod optimizer;
mod parameters;
mod recipe;
mod replicas;
mod run;
mod sampling;
mod speed;
mod step;
mod vocabulary;

#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, Progress};
pub use error::Error;
pub use evaluate::{Score, Scores};
pub use export::export;
pub use optimizer::{Optimizer, learning_rate};
pub use parameters::{Parameters, module_of};
pub use recipe::{Evidence, Objective, Recipe, SceneMix, Stage, TextTowerShape, Weights};
pub use run::{Cancel, Event, run};
pub use speed::{StepSize, time_steps};
pub use vocabulary::{Speech, build_nano_tokenizer, build_tokenizer};
