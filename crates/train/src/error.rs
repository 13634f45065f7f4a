//! What can go wrong while training, said so that the reader knows what to change.
//!
//! It does not know how errors are shown.

use std::path::PathBuf;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe does not parse, or says impossible things; every problem is listed.
    #[error("the recipe {path} cannot be used:\n  - {}", problems.join("\n  - "))]
    Recipe {
        /// The recipe's file.
        path: PathBuf,
        /// One line for each problem, naming the field.
        problems: Vec<String>,
    },
    /// A file could not be read or written.
    #[error("{action} {path}: {source}")]
    File {
        /// "cannot read", "cannot write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A checkpoint belongs to another recipe.
    #[error(
        "{path} was written under another recipe (its finished and current stages differ): \
         give an empty run folder, or put the recipe back"
    )]
    OtherRecipe {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A checkpoint lacks something or holds something of another shape.
    #[error("the checkpoint {path} does not fit the model: {problem}")]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// Which entry, and how it differs.
        problem: String,
    },
    /// The tokenizer or another part of the model folder is unusable.
    #[error("the model folder cannot be trained: {0}")]
    Model(String),
    /// The loss or a gradient stopped being a number.
    #[error("step {step}: the {what} is not finite; lower the learning rate")]
    Diverged {
        /// Optimiser step, from 0.
        step: u64,
        /// "loss" or "gradient".
        what: &'static str,
    },
    /// Training data that cannot be read.
    #[error(transparent)]
    Data(#[from] dataset::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The engine refused the model.
    #[error(transparent)]
    Vlm(#[from] vlm::Error),
}

impl Error {
    pub(crate) fn reading(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action: "cannot read", path, source }
    }

    pub(crate) fn writing(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action: "cannot write", path, source }
    }
}
