//! What can stop a measurement.
//!
//! A wrong answer is data and never an error.

use std::path::PathBuf;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine could not load the model or answer with it.
    #[error(transparent)]
    Vlm(#[from] vlm::Error),
    /// A fine-tuning did not come to its end.
    #[error(transparent)]
    Train(#[from] train::Error),
    /// The seeds name no scene.
    #[error("the seeds {start}..{end} name no scene: the end must be larger than the start")]
    NoScenes {
        /// First seed asked for.
        start: u64,
        /// End, exclusive.
        end: u64,
    },
    /// A file of the model folder could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder for comparison lacks something, or the tensors in it have another shape.
    #[error("{}: {reason}", path.display())]
    Case {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The user stopped the measurement.
    #[error("the measurement was stopped; nothing was stored")]
    Cancelled,
}

impl From<candle_core::Error> for Error {
    fn from(source: candle_core::Error) -> Self {
        Error::Vlm(source.into())
    }
}
