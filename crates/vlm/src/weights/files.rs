//! Memory-mapped safetensors files: one, or the shards of an index.
//!
//! It checks what can be checked before mapping (present, not empty) and turns the format's own
//! errors into sentences. It does not know which tensors a model needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::safetensors::{Load, MmapedSafetensors};
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorView;
use serde_json::{Map, Value};

use super::TensorFiles;
use crate::config::read_json;
use crate::error::Error;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Dtypes that weights are trained and kept in.
const DTYPES: [&str; 4] = ["F32", "F16", "BF16", "F64"];

/// The weight files of one model, mapped into memory.
pub(super) struct Files {
    mapped: Vec<MmapedSafetensors>,
    paths: Vec<PathBuf>,
    /// Which of them holds a tensor.
    places: BTreeMap<String, usize>,
}

impl Files {
    /// The weight files of a model folder.
    pub(super) fn open_folder(dir: &Path) -> Result<Self, Error> {
        let single = dir.join(SINGLE);
        if single.exists() {
            return Self::open(&[single]);
        }
        let index = dir.join(INDEX);
        if !index.exists() {
            let reason = format!("the folder has neither {SINGLE} nor {INDEX}");
            let hint = "a model folder in Hugging Face layout has one of them";
            return Err(weights_error(dir, reason, hint));
        }
        let map = weight_map(&index)?;
        Self::open_mapped(&shards(dir, &index, &map)?, &map)
    }

    pub(super) fn open(paths: &[PathBuf]) -> Result<Self, Error> {
        Self::open_mapped(paths, &Map::new())
    }

    /// `weight_map`: the name of the file that a tensor is to be read from, for each.
    fn open_mapped(paths: &[PathBuf], weight_map: &Map<String, Value>) -> Result<Self, Error> {
        let mut files =
            Files { mapped: Vec::new(), paths: paths.to_vec(), places: BTreeMap::new() };
        for (idx, path) in paths.iter().enumerate() {
            let mapped = map_file(path)?;
            for (name, _) in mapped.tensors() {
                let place = match files.places.get(&name) {
                    None => idx,
                    Some(first) => files.chosen(&name, [*first, idx], weight_map)?,
                };
                files.places.insert(name, place);
            }
            files.mapped.push(mapped);
        }
        Ok(files)
    }

    /// Which of two files a tensor is read from that both hold: the one that the index names.
    fn chosen(
        &self,
        name: &str,
        places: [usize; 2],
        weight_map: &Map<String, Value>,
    ) -> Result<usize, Error> {
        let file = |idx: usize| self.paths[idx].file_name().unwrap_or_default().to_string_lossy();
        let named = weight_map.get(name).and_then(Value::as_str);
        let chosen = places.into_iter().find(|idx| named == Some(&*file(*idx)));
        chosen.ok_or_else(|| {
            let [one, other] = places.map(file);
            let reason = format!("tensor {name} is also in {one}, and {INDEX} names neither");
            let hint = "download the weights and their index again";
            weights_error(&self.paths[0].with_file_name(&*other), reason, hint)
        })
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>, Error> {
        let place = self.places.get(name).copied().unwrap_or(0);
        self.mapped[place].get(name).map_err(|e| self.damaged(name, &e))
    }

    fn damaged(&self, name: &str, error: &candle_core::Error) -> Error {
        let place = self.places.get(name).copied().unwrap_or(0);
        let path = self.paths.get(place).map(PathBuf::as_path).unwrap_or(Path::new("."));
        weights_error(path, format!("tensor {name}: {error}"), "download the weights again")
    }
}

impl TensorFiles for Files {
    fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, Error> {
        Ok(self.view(name)?.shape().to_vec())
    }

    fn foreign_dtype(&self, name: &str) -> Result<Option<String>, Error> {
        let dtype = format!("{:?}", self.view(name)?.dtype());
        Ok(Some(dtype).filter(|dtype| !DTYPES.contains(&dtype.as_str())))
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor, Error> {
        let view = self.view(name)?;
        let load = || view.load(&Device::Cpu)?.to_dtype(dtype)?.to_device(device);
        load().map_err(|e| self.damaged(name, &e))
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.paths.clone()
    }
}

#[allow(unsafe_code)]
fn map_file(path: &Path) -> Result<MmapedSafetensors, Error> {
    let size = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    if size == 0 {
        let hint = "download it again";
        return Err(weights_error(path, "the file is empty".into(), hint));
    }
    check_header(path, size)?;
    // SAFETY: the file is mapped read-only and never written by this program. A change by
    // another program while the model loads is outside what any reader of files can exclude.
    let mapped = unsafe { MmapedSafetensors::new(path) };
    let hint = "the file is damaged; download it again";
    mapped.map_err(|e| weights_error(path, e.to_string(), hint))
}

/// `weight_map` of an index: for each tensor the file that holds it.
fn weight_map(index: &Path) -> Result<Map<String, Value>, Error> {
    match read_json(index)?.get_mut("weight_map").map(Value::take) {
        Some(Value::Object(map)) => Ok(map),
        _ => {
            let hint = "download the index again";
            Err(weights_error(index, "it has no `weight_map`".into(), hint))
        }
    }
}

/// The files an index names; each must exist.
fn shards(dir: &Path, index: &Path, map: &Map<String, Value>) -> Result<Vec<PathBuf>, Error> {
    let names: BTreeSet<&str> = map.values().filter_map(|v| v.as_str()).collect();
    let plain = |name: &&&str| !name.contains(['/', '\\']) && **name != "..";
    let paths: Vec<PathBuf> = names.iter().filter(plain).map(|name| dir.join(name)).collect();
    if paths.is_empty() {
        let hint = "download the index again";
        return Err(weights_error(index, "it names no files".into(), hint));
    }
    match paths.iter().find(|path| !path.exists()) {
        None => Ok(paths),
        Some(path) => {
            let hint = "download the missing shard";
            Err(weights_error(path, "the shard is missing".into(), hint))
        }
    }
}

/// The first eight bytes give the header's length; a cut or foreign file shows here.
fn check_header(path: &Path, size: u64) -> Result<(), Error> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let mut length = [0u8; 8];
    let read = file.read_exact(&mut length);
    let length = u64::from_le_bytes(length);
    if read.is_err() || length.saturating_add(8) > size {
        let reason = "the file is cut short, or is not safetensors".to_string();
        return Err(weights_error(path, reason, "download it again"));
    }
    Ok(())
}

fn weights_error(path: &Path, reason: String, hint: &str) -> Error {
    Error::Weights { path: path.to_path_buf(), reason, hint: hint.to_string() }
}
