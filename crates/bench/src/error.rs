//! How a measurement can fail.

use std::path::PathBuf;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Vlm(#[from] vlm::Error),

    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

impl From<candle_core::Error> for Error {
    fn from(source: candle_core::Error) -> Self {
        Error::Vlm(source.into())
    }
}
