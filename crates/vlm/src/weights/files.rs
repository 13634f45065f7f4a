//! Memory-mapped safetensors files: one, or the shards of an index.
//!
//! It checks what can be checked before mapping (present, not empty) and turns the format's own
//! errors into sentences. It does not know which tensors a model needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};

use super::TensorFiles;
use crate::config::read_json;
use crate::error::Error;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The weight files of one model, mapped into memory.
pub(super) struct Files {
    mapped: MmapedSafetensors,
    paths: Vec<PathBuf>,
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
        Self::open(&shards(dir, &index)?)
    }

    #[allow(unsafe_code)]
    pub(super) fn open(paths: &[PathBuf]) -> Result<Self, Error> {
        for path in paths {
            let size = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
            if size == 0 {
                let hint = "download it again";
                return Err(weights_error(path, "the file is empty".into(), hint));
            }
            check_header(path, size)?;
        }
        // SAFETY: the files are mapped read-only and never written by this program. A change by
        // another program while the model loads is outside what any reader of files can exclude.
        let mapped = unsafe { MmapedSafetensors::multi(paths) };
        let mapped = mapped.map_err(|e| match paths {
            [one] => weights_error(one, e.to_string(), "the file is damaged; download it again"),
            _ => weights_error(
                paths[0].parent().unwrap_or(Path::new(".")),
                e.to_string(),
                "one of the shards is damaged; download them again",
            ),
        })?;
        Ok(Files { mapped, paths: paths.to_vec() })
    }

    fn damaged(&self, name: &str, error: &candle_core::Error) -> Error {
        let path = self.paths.first().map(PathBuf::as_path).unwrap_or(Path::new("."));
        weights_error(path, format!("tensor {name}: {error}"), "download the weights again")
    }
}

impl TensorFiles for Files {
    fn names(&self) -> Vec<String> {
        self.mapped.tensors().into_iter().map(|(name, _)| name).collect()
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, Error> {
        let view = self.mapped.get(name).map_err(|e| self.damaged(name, &e))?;
        Ok(view.shape().to_vec())
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor, Error> {
        let load = || self.mapped.load(name, &Device::Cpu)?.to_dtype(dtype)?.to_device(device);
        load().map_err(|e| self.damaged(name, &e))
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.paths.clone()
    }
}

/// The files an index names; each must exist.
fn shards(dir: &Path, index: &Path) -> Result<Vec<PathBuf>, Error> {
    let json = read_json(index)?;
    let map = json.get("weight_map").and_then(|map| map.as_object());
    let Some(map) = map else {
        let hint = "download the index again";
        return Err(weights_error(index, "it has no `weight_map`".into(), hint));
    };
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
