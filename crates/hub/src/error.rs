//! Every way that getting a model can fail, as one enum.
//!
//! Each sentence names the thing and ends with "; what to do". It does not know how a face shows
//! it.

use std::path::{Path, PathBuf};

/// What went wrong, in words a user can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is fetched while the switch is on.
    #[error("Sightline is set to stay offline; switch offline off to fetch models")]
    Offline,

    /// A setting that cannot be used.
    #[error("{setting} `{value}` cannot be used: {reason}; correct it in the settings")]
    Setting { setting: &'static str, value: String, reason: String },

    /// No answer, or an answer that broke off every time.
    #[error(
        "{host} cannot be reached: {reason}; check the connection, the mirror and the proxy, \
         then try again (what has arrived is kept)"
    )]
    Unreachable { host: String, reason: String },

    /// The server says no.
    #[error("{host} refuses `{what}` (HTTP {status}); {}", refusal(*with_token))]
    Refused { host: String, what: String, status: u16, with_token: bool },

    /// The server knows no such thing.
    #[error("{host} has no `{what}`; check the name and the revision")]
    NotFound { host: String, what: String },

    /// Another status that trying again does not help.
    #[error("{host} answers HTTP {status} for `{what}`; try again later, or use a mirror")]
    Status { host: String, what: String, status: u16 },

    /// An answer that is not what the Hub's interface promises.
    #[error("the answer of {host} about `{what}` cannot be understood: {reason}; is it a mirror?")]
    Answer { host: String, what: String, reason: String },

    /// The bytes that arrived are not the promised ones, twice.
    #[error(
        "{file} arrived damaged twice: its {kind} is {found}, promised was {expected}; \
         nothing of it was kept, try again later or use another mirror"
    )]
    Damaged { file: String, kind: &'static str, expected: String, found: String },

    /// The repository has no weights that can be opened.
    #[error(
        "{repo} has no safetensors weights (model.safetensors, or model.safetensors.index.json \
         with its shards); choose a repository that has them"
    )]
    NoWeights { repo: String },

    /// What is to be fetched does not fit onto the disk.
    #[error(
        "{} is to hold {} more, and its disk has {} free; free some space, or choose a folder \
         on another disk", folder.display(), size(*needs), size(*free)
    )]
    DiskTooSmall { folder: PathBuf, needs: u64, free: u64 },

    /// The disk became full while something was written.
    #[error(
        "the disk became full while {} was written; free some space and try again (what has \
         arrived is kept)", path.display()
    )]
    DiskFull { path: PathBuf },

    /// A file cannot be written or replaced.
    #[error("cannot write {}: {source}; choose a folder in which you may write", path.display())]
    Write { path: PathBuf, source: std::io::Error },

    /// A file cannot be read.
    #[error("cannot read {}: {source}; check that it exists and may be read", path.display())]
    Read { path: PathBuf, source: std::io::Error },

    /// A catalogue or manifest that breaks its own rules.
    #[error("{} is not as Sightline writes it: {reason}; remove the model and get it again",
        path.display())]
    Manifest { path: PathBuf, reason: String },

    /// The catalogue that comes with the program.
    #[error("the catalogue of models is wrong: {0}; please report it")]
    Catalogue(String),

    /// Something else lies where the model would go.
    #[error("{} is already there: {what}; {hint}", folder.display())]
    Taken { folder: PathBuf, what: String, hint: String },

    /// Somebody else is at work on the same model.
    #[error("{name} is being fetched or changed by another window or terminal; wait for it")]
    Busy { name: String },

    /// No model of this name.
    #[error("there is no model `{name}` in {}; `sightline models list` names them",
        folder.display())]
    NoModel { name: String, folder: PathBuf },

    /// A name that no folder can have.
    #[error("`{name}` cannot be a model's name; use letters, digits, dots and dashes")]
    Name { name: String },

    /// No repository of the Hub.
    #[error("`{text}` is not of the form OWNER/NAME[@REVISION]; take it from the model's page")]
    Repo { text: String },

    /// Nothing says where the model came from.
    #[error("{name} was imported, so that it cannot be repaired; import it again")]
    NoOrigin { name: String },

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
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let path = path.to_path_buf();
        move |source| match source.kind() {
            StorageFull | QuotaExceeded => Error::DiskFull { path: path.clone() },
            _ => Error::Write { path: path.clone(), source },
        }
    }
}

fn refusal(with_token: bool) -> &'static str {
    if with_token {
        "the token may not read it: accept the model's terms on its page, or use another token"
    } else {
        "accept the model's terms on its page and set an access token (HF_TOKEN)"
    }
}

/// "2.1 GB", "513 MB"
fn size(bytes: u64) -> String {
    match bytes as f64 {
        b if b >= 1e9 => format!("{:.1} GB", b / 1e9),
        b if b >= 1e6 => format!("{:.0} MB", b / 1e6),
        b => format!("{:.0} KB", b / 1e3),
    }
}
