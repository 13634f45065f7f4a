//! A model as it lies on disk: a folder in Hugging Face layout, or GGUF files of llama.cpp.
//!
//! Everything that reads a model asks here for its files by their Hugging Face names. A GGUF says
//! the same things in other words; those are put into the same files' form, so that nothing
//! behind this knows the difference. It does not know what the files mean.

mod gguf;

use std::path::{Path, PathBuf};

use candle_core::Device;
use serde_json::Value;

use crate::config::read_json;
use crate::error::Error;
use crate::weights::TensorMap;
use gguf::Gguf;

/// The files of one model.
pub struct Checkpoint {
    path: PathBuf,
    gguf: Option<Gguf>,
}

impl Checkpoint {
    /// The model at `path`: a folder with `config.json`, a folder with a GGUF model, or the
    /// model's `.gguf` file. The `mmproj` companion is found in the same folder.
    ///
    /// Errors: GGUF files that are damaged, of an unknown architecture, or do not fit together.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let gguf = match Self::is_folder(path) {
            true => None,
            false => Gguf::find(path)?,
        };
        Ok(Checkpoint { path: path.to_path_buf(), gguf })
    }

    /// Whether there is something at `path` that may be a model; it is not read.
    pub fn is_there(path: &Path) -> bool {
        Self::is_folder(path) || gguf::is_there(path)
    }

    fn is_folder(path: &Path) -> bool {
        path.join("config.json").is_file()
    }

    /// A JSON file of the model, `None` where it has none of this name.
    ///
    /// Errors: unreadable or not JSON; metadata of another kind than expected.
    pub fn json(&self, name: &str) -> Result<Option<Value>, Error> {
        if let Some(gguf) = &self.gguf {
            return gguf.json(name);
        }
        let path = self.path.join(name);
        if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
    }

    /// The same for a file that every model has.
    pub(crate) fn required_json(&self, name: &str) -> Result<Value, Error> {
        match self.json(name)? {
            Some(json) => Ok(json),
            None => read_json(&self.path.join(name)),
        }
    }

    /// A text file of the model, `None` where it has none of this name.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Error> {
        if let Some(gguf) = &self.gguf {
            return Ok(gguf.json(name)?.map(|json| json.to_string()));
        }
        let path = self.path.join(name);
        let exists = path.exists();
        exists.then(|| std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))).transpose()
    }

    /// The files of a GGUF model; none for a folder in Hugging Face layout.
    pub fn gguf_files(&self) -> Vec<PathBuf> {
        self.gguf.as_ref().map(Gguf::paths).unwrap_or_default()
    }

    /// Where what `name` holds comes from, for messages.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        match &self.gguf {
            Some(gguf) => gguf.place(name).to_path_buf(),
            None => self.path.join(name),
        }
    }

    /// The weights, mapped.
    ///
    /// Errors: as [`TensorMap::open`].
    pub fn tensors(&self, device: &Device) -> Result<TensorMap, Error> {
        match &self.gguf {
            Some(gguf) => Ok(TensorMap::from_files(Box::new(gguf.tensors()?), device)),
            None => TensorMap::open(&self.path, device),
        }
    }
}
