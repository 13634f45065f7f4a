//! Every way this library can fail, as one enum.
//!
//! A variant exists for each thing a caller can act on and carries the names, paths, expected
//! and found values needed to say so in one sentence. It does not know how a face shows them.

use std::path::{Path, PathBuf};

/// What went wrong, in words a user can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    /// A file is not valid JSON.
    #[error("{} is not valid JSON: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },

    /// A key of `config.json` (or a file like it) is missing, of the wrong type or impossible.
    #[error("config key `{key}`: {message}")]
    Config { key: String, message: String },

    /// The model is of a kind this build does not have.
    #[error("`{key}` is `{found}`, which is not supported; supported: {supported}")]
    Unsupported { key: String, found: String, supported: String },

    /// The model compares pictures with texts and has no decoder to answer with.
    #[error(
        "a `{model_type}` model compares pictures with texts and cannot answer questions; \
         use it with `sightline classify`"
    )]
    DualEncoder { model_type: String },

    /// A weight file cannot be opened or read: truncated, empty, corrupt or not safetensors.
    #[error("cannot load weights from {}: {reason}; {hint}", path.display())]
    Weights { path: PathBuf, reason: String, hint: String },

    /// The weight files and `config.json` do not describe the same model.
    #[error("{0}")]
    Tensors(TensorMismatch),

    /// A tensor given to a public function has the wrong shape.
    #[error("`{tensor}` has shape {found:?}, expected {expected}")]
    Shape { tensor: &'static str, expected: String, found: Vec<usize> },

    /// The prompt's image tokens and the encoded images do not match in number.
    #[error(
        "the prompt holds {tokens} image tokens but the images give {embeds} embeddings; \
         the processor and the model disagree"
    )]
    ImageTokens { tokens: usize, embeds: usize },

    /// A token id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab_size}; is this its tokenizer?")]
    TokenId { id: u32, vocab_size: usize },

    /// More tokens than the model has positions for.
    #[error("{tokens} tokens do not fit into the model's context of {limit}; {hint}")]
    ContextOverflow { tokens: usize, limit: usize, hint: String },

    /// A picture for a model without a vision tower.
    #[error(
        "this model reads text only and cannot be asked about a picture; \
         open a vision-language model, or put its mmproj file beside a GGUF model"
    )]
    TextOnly,

    /// Parts of a picture cannot be hidden from a model that reads it whole.
    #[error(
        "this model's pictures do not become tokens that stand for their parts, so parts cannot \
         be hidden from it; cover the pixels instead"
    )]
    Unhidable,

    /// An image cannot be opened, decoded or accepted.
    #[error("cannot open image {name}: {message}")]
    Image { name: String, message: String },

    /// The processor's own files (tokenizer, chat template, preprocessing) are wrong.
    #[error("{file}: {message}")]
    Processor { file: String, message: String },

    /// The asked-for device is not there.
    #[error("device `{device}` cannot be used: {reason}")]
    Device { device: String, reason: String },

    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,

    /// A tensor operation failed; `context` names what was being computed.
    #[error("{context}: {source}")]
    Tensor { context: String, source: candle_core::Error },
}

/// All the differences between the tensors a model needs and those it was given.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TensorMismatch {
    pub missing: Vec<String>,
    pub unexpected: Vec<String>,
    /// name, expected shape, found shape
    pub misshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// name, and how it is stored, which is no way to store weights
    pub foreign: Vec<(String, String)>,
}

impl TensorMismatch {
    pub fn is_empty(&self) -> bool {
        let named = self.missing.is_empty() && self.unexpected.is_empty();
        named && self.misshaped.is_empty() && self.foreign.is_empty()
    }
}

impl std::fmt::Display for TensorMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the weights do not fit config.json:")?;
        list(f, "missing", &self.missing)?;
        list(f, "unexpected", &self.unexpected)?;
        let misshaped: Vec<String> = self
            .misshaped
            .iter()
            .map(|(name, expected, found)| format!("{name} is {found:?}, expected {expected:?}"))
            .collect();
        list(f, "misshaped", &misshaped)?;
        let foreign = self.foreign.iter().map(|(name, dtype)| format!("{name} is {dtype}"));
        list(f, "stored in a dtype that is not read", &foreign.collect::<Vec<_>>())?;
        let hint = match (self.missing.is_empty(), self.misshaped.is_empty()) {
            _ if !self.foreign.is_empty() => "take the weights in F32, F16 or BF16, unquantised",
            (_, false) => "check that config.json and the weights are of the same model",
            (false, _) => "check that every weight file of the model was downloaded",
            _ => "check that config.json is the one saved with these weights",
        };
        write!(f, "; {hint}")
    }
}

/// Writes at most this many names of one kind; the rest is counted.
const LISTED_NAMES: usize = 8;

fn list(f: &mut std::fmt::Formatter<'_>, kind: &str, names: &[String]) -> std::fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    write!(f, " {} {kind} (", names.len())?;
    let shown = names.iter().take(LISTED_NAMES).cloned().collect::<Vec<_>>().join(", ");
    write!(f, "{shown}")?;
    if names.len() > LISTED_NAMES {
        write!(f, " and {} more", names.len() - LISTED_NAMES)?;
    }
    write!(f, ")")
}

impl From<candle_core::Error> for Error {
    fn from(source: candle_core::Error) -> Self {
        Error::Tensor { context: "tensor operation failed".into(), source }
    }
}

impl Error {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Error::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn config(key: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Config { key: key.into(), message: message.into() }
    }
}

/// Names what was being computed when a tensor operation failed.
pub(crate) trait Context<T> {
    fn context(self, what: &str) -> Result<T, Error>;
}

impl<T> Context<T> for candle_core::Result<T> {
    fn context(self, what: &str) -> Result<T, Error> {
        self.map_err(|source| Error::Tensor { context: what.to_string(), source })
    }
}
