//! Weights packed to 8 or 4 bits once, kept in a file and mapped from then on.
//!
//! The file is safetensors of bytes in the order of `kernels::quant`. It belongs to the very
//! weight files it was made of (their sizes and times are in its name), can be deleted at any
//! time, and is made in memory instead where the disk refuses. Weights are packed one matrix at a
//! time, so no model is held twice.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernels::quant::{Format, GROUP, pack_into, packed_len};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::TensorMap;
use crate::error::Error;
use crate::model::nn::Bytes;

/// Raised when the order of bytes changes: files from before are then made anew.
const LAYOUT: &str = "sightline packed 1";
/// Matrices begin at multiples of this, the length of a cache line.
const ALIGNMENT: usize = 64;

/// Rows packed at a time: whole groups, and few enough to need little room beside the tensor.
const ROWS_AT_ONCE: usize = 256 * GROUP;

/// How the weights of a model are held in memory. On the CPU only; norms, biases and positions
/// always stay f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    /// f32, as exact as the checkpoint.
    #[default]
    None,
    /// 8.5 bits a weight.
    Q8_0,
    /// 4.5 bits a weight in the decoder's layers, 8.5 elsewhere.
    Q4_0,
}

impl Quantization {
    pub const ALL: [Quantization; 3] = [Quantization::None, Quantization::Q8_0, Quantization::Q4_0];

    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Quantization::None => "none",
            Quantization::Q8_0 => "q8_0",
            Quantization::Q4_0 => "q4_0",
        }
    }
}

impl std::str::FromStr for Quantization {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Quantization::ALL.into_iter().find(|q| q.name() == name);
        found.ok_or_else(|| Error::Unsupported {
            key: "quantization".into(),
            found: name.to_string(),
            supported: Quantization::ALL.map(Quantization::name).join(", "),
        })
    }
}

/// One packed matrix: tensors `(rows, cols)` of the checkpoint, one under the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Matrix {
    pub parts: Vec<(String, usize)>,
    pub cols: usize,
    pub format: Format,
}

impl Matrix {
    pub(crate) fn rows(&self) -> usize {
        self.parts.iter().map(|(_, rows)| rows).sum()
    }

    fn name(&self) -> String {
        let names: Vec<&str> = self.parts.iter().map(|(name, _)| name.as_str()).collect();
        names.join("+")
    }

    /// Bytes of its packed form.
    pub(crate) fn len(&self) -> usize {
        packed_len(self.format, self.rows(), self.cols)
    }

    /// Its packed form; the outer error is the checkpoint's, the inner one the disk's.
    fn write(
        &self,
        to: &mut impl Write,
        tensors: &mut TensorMap,
    ) -> Result<std::io::Result<()>, Error> {
        for (name, n_rows) in &self.parts {
            let tensor = tensors.take(name, &[*n_rows, self.cols])?;
            for first in (0..*n_rows).step_by(ROWS_AT_ONCE) {
                let n = ROWS_AT_ONCE.min(n_rows - first);
                let rows = tensor.narrow(0, first, n)?.flatten_all()?.to_vec1::<f32>()?;
                let mut out = vec![0; packed_len(self.format, n, self.cols)];
                pack_into(&mut out, self.format, &rows, self.cols);
                if let Err(error) = to.write_all(&out) {
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(()))
    }
}

/// The packed matrices of one model.
pub(crate) struct PackedFile {
    memory: Arc<dyn AsRef<[u8]> + Send + Sync>,
    ranges: HashMap<String, Range<usize>>,
}

impl PackedFile {
    /// The file of these matrices in `cache`, made from `tensors` when it is not there yet.
    ///
    /// Errors: a tensor cannot be read.
    pub(crate) fn open_or_make(
        cache: Option<&Path>,
        key: &str,
        matrices: &[Matrix],
        tensors: impl Fn() -> Result<TensorMap, Error>,
    ) -> Result<Self, Error> {
        let path = cache.map(|cache| file_name(cache, key, matrices));
        if let Some(found) = path.as_deref().and_then(|path| Self::open(path, matrices)) {
            return Ok(found);
        }
        if let Some(path) = &path {
            // A disk that is full or read-only costs only memory and the next start's time.
            if write_file(path, matrices, &mut tensors()?)?.is_ok()
                && let Some(made) = Self::open(path, matrices)
            {
                return Ok(made);
            }
        }
        let n_bytes = matrices.iter().map(Matrix::len).sum::<usize>();
        let mut bytes = Vec::with_capacity(header(matrices).len() + n_bytes);
        let written = write(&mut bytes, matrices, &mut tensors()?)?;
        written.map_err(|e| Error::io(Path::new("memory"), e))?;
        let ranges = ranges(&bytes, matrices).ok_or_else(damaged)?;
        Ok(PackedFile { memory: Arc::new(bytes), ranges })
    }

    #[allow(unsafe_code)]
    fn open(path: &Path, matrices: &[Matrix]) -> Option<Self> {
        let file = std::fs::File::open(path).ok()?;
        // SAFETY: the file is mapped read-only; this program writes such files under another name
        // and renames them when complete. A change by another program while the model is in use is
        // outside what any reader of files can exclude.
        let mapped = unsafe { memmap2::Mmap::map(&file) }.ok()?;
        let ranges = ranges(&mapped, matrices)?;
        Some(PackedFile { memory: Arc::new(mapped), ranges })
    }

    pub(crate) fn bytes(&self, matrix: &Matrix) -> Result<Bytes, Error> {
        let range = self.ranges.get(&matrix.name()).cloned().ok_or_else(damaged)?;
        Ok(Bytes { memory: self.memory.clone(), range })
    }
}

/// The user's folder for what can be made again, by each platform's custom; made when needed.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME")
        .or_else(|| set("LOCALAPPDATA"))
        .or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("sightline"))
}

fn damaged() -> Error {
    let reason = "the packed weights are not those that were asked for".to_string();
    let hint = "load the model again".to_string();
    Error::Weights { path: PathBuf::from("memory"), reason, hint }
}

fn file_name(cache: &Path, key: &str, matrices: &[Matrix]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (LAYOUT, key).hash(&mut hasher);
    for matrix in matrices {
        (&matrix.parts, matrix.cols, matrix.format).hash(&mut hasher);
    }
    cache.join("packed").join(format!("{:016x}.safetensors", hasher.finish()))
}

/// Where each matrix lies, if the file is whole and holds just these.
fn ranges(bytes: &[u8], matrices: &[Matrix]) -> Option<HashMap<String, Range<usize>>> {
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    let mut found = HashMap::new();
    for matrix in matrices {
        let data = tensors.tensor(&matrix.name()).ok()?.data();
        let first = data.as_ptr() as usize - bytes.as_ptr() as usize;
        if data.len() != matrix.len() {
            return None;
        }
        found.insert(matrix.name(), first..first + data.len());
    }
    Some(found)
}

/// Writes under another name and renames: a file that is there is whole. The outer error is the
/// checkpoint's, the inner one the disk's.
fn write_file(
    path: &Path,
    matrices: &[Matrix],
    tensors: &mut TensorMap,
) -> Result<std::io::Result<()>, Error> {
    let part = path.with_extension(format!("{}.part", std::process::id()));
    let folder = path.parent().unwrap_or(Path::new("."));
    let opened = std::fs::create_dir_all(folder).and_then(|()| std::fs::File::create(&part));
    let file = match opened {
        Ok(file) => file,
        Err(error) => return Ok(Err(error)),
    };
    let mut file = std::io::BufWriter::new(file);
    let written = write(&mut file, matrices, tensors);
    let finished = |()| file.into_inner().map_err(|e| e.into_error())?.sync_all();
    let done = written
        .map(|written| written.and_then(finished).and_then(|()| std::fs::rename(&part, path)));
    if !matches!(done, Ok(Ok(()))) {
        let _ = std::fs::remove_file(&part);
    }
    done
}

fn write(
    to: &mut impl Write,
    matrices: &[Matrix],
    tensors: &mut TensorMap,
) -> Result<std::io::Result<()>, Error> {
    if let Err(error) = to.write_all(&header(matrices)) {
        return Ok(Err(error));
    }
    for matrix in matrices {
        if let Err(error) = matrix.write(to, tensors)? {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// The length and the JSON of a safetensors file, padded with spaces as the format allows.
fn header(matrices: &[Matrix]) -> Vec<u8> {
    let mut first = 0;
    let entries = matrices.iter().map(|matrix| {
        let end = first + matrix.len();
        let entry = serde_json::json!({
            "dtype": "U8", "shape": [matrix.len()], "data_offsets": [first, end],
        });
        first = end;
        (matrix.name(), entry)
    });
    let mut header = serde_json::Map::from_iter(entries);
    header.insert("__metadata__".into(), serde_json::json!({ "format": LAYOUT }));
    let mut json = serde_json::Value::Object(header).to_string().into_bytes();
    json.resize((json.len() + 8).next_multiple_of(ALIGNMENT) - 8, b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    bytes
}
