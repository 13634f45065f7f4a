//! Every way that a whole file or folder can fail, as one enum; one bad row is a finding instead.
//!
//! Each sentence names the thing and ends with "; what to do". It does not know how a face shows
//! it.

use std::path::{Path, PathBuf};

/// What went wrong, in words a user can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}; check that it exists and may be read", path.display())]
    Read { path: PathBuf, source: std::io::Error },

    /// A file cannot be written or replaced.
    #[error("cannot write {}: {source}; choose a folder in which you may write", path.display())]
    Write { path: PathBuf, source: std::io::Error },

    /// Text in an encoding that is not UTF-8, or no text at all.
    #[error("{} is {what}; {hint}", path.display())]
    NotText { path: PathBuf, what: &'static str, hint: &'static str },

    /// None of the formats that are known.
    #[error("{} is no training data that is known: {reason}; {hint}", path.display())]
    Unknown { path: PathBuf, reason: String, hint: &'static str },

    /// A known format whose frame is damaged, so that no row can be reached.
    #[error("{} is damaged: {reason}; get the file again", path.display())]
    Damaged { path: PathBuf, reason: String },

    /// VQA comes in two files, and one is not there.
    #[error("{} needs its {wanted} file; put both into one folder", path.display())]
    Partner { path: PathBuf, wanted: &'static str },

    /// `dataset_info.json` has no such data set on this disk.
    #[error("{} has no data set `{name}` on this disk; it has {known}", path.display())]
    NoDataset { path: PathBuf, name: String, known: String },

    /// Something else lies where the rows would go.
    #[error("{} is already there; choose a new name", path.display())]
    Taken { path: PathBuf },

    /// A picture that is not a picture, or one that is not read.
    #[error("{picture} cannot be opened: {reason}; replace it or drop its row")]
    Picture { picture: String, reason: String },

    /// The caller asked to stop.
    #[error("stopped")]
    Cancelled,
}

impl Error {
    pub(crate) fn read(path: &Path) -> impl Fn(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Read { path: path.clone(), source }
    }

    pub(crate) fn write(path: &Path) -> impl Fn(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Write { path: path.clone(), source }
    }

    pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Error {
        Error::Damaged { path: path.to_path_buf(), reason: reason.to_string() }
    }
}
