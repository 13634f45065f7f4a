//! Checkpoint tensors by name, from safetensors or GGUF files or from memory.
//!
//! A model takes each tensor with the shape it needs; everything missing, unexpected or misshaped
//! is collected and reported together, by name. Files are memory-mapped and read tensor by tensor,
//! so a large checkpoint is never held twice. It knows no model: which names exist is
//! `family`'s tables.

mod files;
pub(crate) mod gguf;
pub mod packed;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, TensorMismatch};
use files::Files;

/// Buffers that some checkpoints carry and no model needs.
const IGNORED_SUFFIXES: [&str; 3] = ["inv_freq", "position_ids", "masked_bias"];

enum Source {
    /// In memory; may be a variable under training, so it is passed on untouched.
    Loaded(Tensor),
    /// In a mapped file, under the name it has there.
    Mapped(String),
}

/// Files that hold tensors, under the names that the families know.
pub(crate) trait TensorFiles {
    fn names(&self) -> Vec<String>;

    fn shape(&self, name: &str) -> Result<Vec<usize>, Error>;

    /// How it is stored, where that is no way to store weights: whole numbers, or so few bits that
    /// they mean nothing without scales kept elsewhere.
    fn foreign_dtype(&self, name: &str) -> Result<Option<String>, Error>;

    /// Reads one tensor as `dtype` on `device`.
    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor, Error>;

    fn paths(&self) -> Vec<PathBuf>;
}

/// Named tensors to build a model from.
pub struct TensorMap {
    sources: BTreeMap<String, Source>,
    files: Option<Box<dyn TensorFiles>>,
    device: Device,
    dtype: DType,
    problems: RefCell<TensorMismatch>,
    /// Nothing is read.
    dry: bool,
}

impl From<HashMap<String, Tensor>> for TensorMap {
    /// Tensors already in memory, kept as they are (variables stay linked).
    fn from(tensors: HashMap<String, Tensor>) -> Self {
        let device = tensors.values().next().map_or(Device::Cpu, |t| t.device().clone());
        let sources = tensors.into_iter().map(|(name, t)| (name, Source::Loaded(t))).collect();
        Self::new(sources, None, device)
    }
}

impl TensorMap {
    /// `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    ///
    /// On the CPU every tensor becomes f32 when taken: half-precision products are slower there.
    /// Errors: no weights, a missing shard, an empty, truncated or corrupt file.
    pub fn open(dir: &Path, device: &Device) -> Result<Self, Error> {
        let files = Files::open_folder(dir)?;
        Ok(Self::from_files(Box::new(files), device))
    }

    /// One safetensors file.
    pub fn open_file(path: &Path, device: &Device) -> Result<Self, Error> {
        Ok(Self::from_files(Box::new(Files::open(&[path.to_path_buf()])?), device))
    }

    pub(crate) fn from_files(files: Box<dyn TensorFiles>, device: &Device) -> Self {
        let names = files.names();
        let sources = names.into_iter().map(|name| (name.clone(), Source::Mapped(name))).collect();
        Self::new(sources, Some(files), device.clone())
    }

    fn new(
        sources: BTreeMap<String, Source>,
        files: Option<Box<dyn TensorFiles>>,
        device: Device,
    ) -> Self {
        let dtype = DType::F32;
        TensorMap { sources, files, device, dtype, problems: RefCell::default(), dry: false }
    }

    /// Whether a tensor of this name is (still) there.
    pub fn contains(&self, name: &str) -> bool {
        self.sources.contains_key(name)
    }

    /// Its shape, without reading it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn dims(&self, name: &str) -> Result<Option<Vec<usize>>, Error> {
        match (self.sources.get(name), &self.files) {
            (Some(Source::Loaded(tensor)), _) => Ok(Some(tensor.dims().to_vec())),
            (Some(Source::Mapped(stored)), Some(files)) => files.shape(stored).map(Some),
            _ => Ok(None),
        }
    }

    fn foreign_dtype(&self, name: &str) -> Result<Option<String>, Error> {
        match (self.sources.get(name), &self.files) {
            (Some(Source::Mapped(stored)), Some(files)) => files.foreign_dtype(stored),
            _ => Ok(None),
        }
    }

    /// Adds tensors in memory; one of the same name is replaced.
    pub(crate) fn insert(&mut self, tensors: impl IntoIterator<Item = (String, Tensor)>) {
        let tensors = tensors.into_iter();
        self.sources.extend(tensors.map(|(name, tensor)| (name, Source::Loaded(tensor))));
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Renames every tensor; `None` keeps the old name. So does the second of two that would have
    /// the same name, for `finish` to list it; one that has its name already is the first.
    pub(crate) fn rename(&mut self, rename: impl Fn(&str) -> Option<String>) {
        let sources = std::mem::take(&mut self.sources).into_iter();
        let renamed = sources.map(|(name, source)| (rename(&name), name, source));
        let (same, other): (Vec<_>, Vec<_>) =
            renamed.partition(|(new, name, _)| new.as_ref().is_none_or(|new| new == name));
        for (new, name, source) in same.into_iter().chain(other) {
            let free = new.filter(|new| !self.sources.contains_key(new));
            self.sources.insert(free.unwrap_or(name), source);
        }
    }

    /// Drops a tensor that the model is known not to use.
    pub(crate) fn ignore(&mut self, unused: impl Fn(&str) -> bool) {
        self.sources.retain(|name, _| !unused(name));
    }

    /// Removes and returns the tensor `name`, which must have the shape `dims`.
    ///
    /// A missing, misshaped or wrongly stored one is noted for `finish` and replaced by a stand-in
    /// of the right shape, so that one pass finds every problem. Errors: the file cannot be read.
    pub fn take(&mut self, name: &str, dims: &[usize]) -> Result<Tensor, Error> {
        let found = self.dims(name)?.unwrap_or_default();
        let foreign = self.foreign_dtype(name)?;
        let Some(source) = self.sources.remove(name) else {
            self.problems.borrow_mut().missing.push(name.to_string());
            return self.stand_in(dims);
        };
        if let Some(dtype) = foreign {
            self.problems.borrow_mut().foreign.push((name.to_string(), dtype));
            return self.stand_in(dims);
        }
        if found != dims {
            let misshaped = (name.to_string(), dims.to_vec(), found);
            self.problems.borrow_mut().misshaped.push(misshaped);
            return self.stand_in(dims);
        }
        if self.dry {
            return self.stand_in(dims);
        }
        match (source, &self.files) {
            (Source::Loaded(tensor), _) => Ok(tensor),
            (Source::Mapped(stored), Some(files)) => files.load(&stored, self.dtype, &self.device),
            (Source::Mapped(_), None) => self.stand_in(dims),
        }
    }

    /// Removes the tensor `name` without reading it; notes for `finish` what is wrong with it.
    pub(crate) fn check(&mut self, name: &str, dims: &[usize]) -> Result<(), Error> {
        let dry = std::mem::replace(&mut self.dry, true);
        let checked = self.take(name, dims).map(drop);
        self.dry = dry;
        checked
    }

    /// Every later `take` only checks and returns a stand-in.
    pub(crate) fn dry(self) -> Self {
        TensorMap { dry: true, ..self }
    }

    /// Which files the tensors come from, with their sizes and times: changes when they do.
    pub(crate) fn fingerprint(&self) -> String {
        let paths = self.files.as_ref().map(|files| files.paths()).unwrap_or_default();
        let of = |path: &PathBuf| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let about = std::fs::metadata(&path).ok();
            let changed = about.as_ref().and_then(|about| about.modified().ok());
            format!("{} {:?} {changed:?}\n", path.display(), about.map(|about| about.len()))
        };
        paths.iter().map(of).collect()
    }

    /// Ends the taking: an error names every tensor that was missing, misshaped, wrongly stored or
    /// left over.
    pub fn finish(self) -> Result<(), Error> {
        let mut problems = self.problems.into_inner();
        let left = self.sources.into_keys();
        problems.unexpected.extend(left.filter(|name| !is_ignored(name)));
        if problems.is_empty() { Ok(()) } else { Err(Error::Tensors(problems)) }
    }

    /// The same where only some were wanted: what is left over is no problem.
    ///
    /// # Errors
    /// Every tensor that was missing, misshaped or wrongly stored, by name.
    pub(crate) fn finish_part(mut self) -> Result<(), Error> {
        self.sources.clear();
        self.finish()
    }

    /// One zero seen through every index: costs no memory whatever the shape.
    fn stand_in(&self, dims: &[usize]) -> Result<Tensor, Error> {
        Ok(Tensor::zeros((), self.dtype, &self.device)?.broadcast_as(dims)?)
    }
}

fn is_ignored(name: &str) -> bool {
    IGNORED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}
