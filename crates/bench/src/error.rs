//! How a measurement can fail.

use std::path::PathBuf;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Vlm(#[from] vlm::Error),

    #[error(transparent)]
    Train(#[from] train::Error),

    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },

    /// A program that was started did not do its work.
    #[error("{command}: {reason}")]
    Process { command: String, reason: String },

    #[error("the measurement was stopped; nothing was stored")]
    Cancelled,
}

impl From<candle_core::Error> for Error {
    fn from(source: candle_core::Error) -> Self {
        Error::Vlm(source.into())
    }
}
