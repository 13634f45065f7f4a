//! One GGUF file, mapped into memory: its metadata and its tensors, by their names in the file.
//! A file that `llama-gguf-split` cut into parts is read as one.
//!
//! Follows `docs/gguf.md` of ggml, versions 2 and 3, little endian. A file may be cut short or
//! lie: every count, length and offset is held against the bytes that are there before anything
//! is allocated or read. It knows no model; what keys and names mean is `checkpoint::gguf`'s.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};

use crate::error::Error;

/// Where tensors begin is a multiple of this, unless the file says otherwise.
const ALIGNMENT: u64 = 32;
/// A tensor has no more dimensions than this.
const MAX_DIMS: u32 = 4;

/// A mapped file.
pub(crate) struct GgufFile {
    path: PathBuf,
    memory: memmap2::Mmap,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Entry>,
    /// What follows the first of several parts.
    parts: Vec<GgufFile>,
}

/// A value of the metadata; lists stay in the file until they are asked for.
enum Value {
    Whole(i128),
    Real(f64),
    Flag(bool),
    Text(String),
    List { kind: u32, n: usize, at: usize },
}

/// A tensor of the file.
struct Entry {
    /// The slowest dimension first, as everywhere in this library.
    dims: Vec<usize>,
    kind: u32,
    /// From the start of the file.
    at: usize,
}

impl GgufFile {
    /// Maps the file, with its other parts if it is one of several, and reads where everything is.
    ///
    /// Errors: no GGUF file of a known version, cut short, or counts and offsets beyond its end; a
    /// part that is missing or of another file.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let names = part_names(path);
        let mut file = GgufFile::open_alone(names.first().map_or(path, PathBuf::as_path))?;
        let n_parts = file.count("split.count")?.unwrap_or(1);
        if n_parts > 1 && names.len() != n_parts {
            let reason = format!("it is one of {n_parts} parts, but its name does not say so");
            let hint = "give it the name that it was made with, ending in -00001-of-0000N.gguf";
            return Err(Error::Weights { path: file.path, reason, hint: hint.into() });
        }
        if n_parts <= 1 {
            return Ok(file);
        }
        for (i, name) in names.iter().enumerate().skip(1) {
            let part = GgufFile::open_alone(name)?;
            if part.count("split.no")? != Some(i) || part.count("split.count")? != Some(n_parts) {
                return Err(damaged(name, format!("it is not part {} of {n_parts}", i + 1)));
            }
            if let Some(twice) = part.tensor_names().find(|tensor| file.dims(tensor).is_some()) {
                return Err(damaged(name, format!("tensor {twice} is in another part too")));
            }
            file.parts.push(part);
        }
        let (n, expected) = (file.tensor_names().count(), file.count("split.tensors.count")?);
        match expected.filter(|&expected| expected != n) {
            Some(expected) => {
                Err(damaged(path, format!("its parts have {n} tensors, not {expected}")))
            }
            None => Ok(file),
        }
    }

    #[allow(unsafe_code)]
    fn open_alone(path: &Path) -> Result<Self, Error> {
        let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
        // SAFETY: the file is mapped read-only and never written by this program. A change by
        // another program while the model loads is outside what any reader of files can exclude.
        let memory = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        let (metadata, tensors) = parse(&memory).map_err(|reason| damaged(path, reason))?;
        Ok(GgufFile { path: path.to_path_buf(), memory, metadata, tensors, parts: Vec::new() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Those of all its parts.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.all_parts().map(|part| part.path.clone()).collect()
    }

    fn all_parts(&self) -> impl Iterator<Item = &GgufFile> {
        std::iter::once(self).chain(&self.parts)
    }

    fn entry(&self, tensor: &str) -> Option<(&GgufFile, &Entry)> {
        self.all_parts().find_map(|part| Some((part, part.tensors.get(tensor)?)))
    }

    /// The file's own name.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(crate) fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.all_parts().flat_map(|part| part.tensors.keys().map(String::as_str))
    }

    /// The slowest dimension first.
    pub(crate) fn dims(&self, tensor: &str) -> Option<&[usize]> {
        self.entry(tensor).map(|(_, entry)| entry.dims.as_slice())
    }

    /// Reads one tensor as `dtype` on `device`, whatever the file holds it in.
    ///
    /// Errors: no such tensor, or one in a format that this build does not know, by name.
    pub(crate) fn load(
        &self,
        tensor: &str,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, Error> {
        let wrong = |reason: String| damaged(&self.path, format!("tensor {tensor}: {reason}"));
        let (part, entry) = self.entry(tensor).ok_or_else(|| wrong("is not there".into()))?;
        let kind = format(entry.kind).ok_or_else(|| Error::Unsupported {
            key: format!("the format of {tensor} in {}", self.path.display()),
            found: format!("ggml type {}", entry.kind),
            supported: "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K".into(),
        })?;
        // `parse` made sure of the bytes and of their alignment.
        let size = byte_len(&entry.dims, kind).ok_or_else(|| wrong("is no whole rows".into()))?;
        let bytes = &part.memory[entry.at..entry.at + size];
        let read = || {
            let storage = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, kind)?;
            let held = QTensor::new(storage, entry.dims.as_slice())?;
            held.dequantize(&Device::Cpu)?.to_dtype(dtype)?.to_device(device)
        };
        read().map_err(|error| wrong(error.to_string()))
    }

    /// A text; `None` when the key is not there. Errors: another kind of value, as for all.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        self.value(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A count, a size or an id.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>, Error> {
        self.value(key, "a whole number", |value| match value {
            Value::Whole(number) => u32::try_from(*number).ok().map(|number| number as usize),
            _ => None,
        })
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        self.value(key, "a number", |value| match value {
            Value::Real(number) => Some(*number),
            Value::Whole(number) => Some(*number as f64),
            _ => None,
        })
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        self.value(key, "true or false", |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<String>>, Error> {
        self.value(key, "a list of texts", |value| match value {
            Value::List { kind: TEXT, n, at } => {
                let mut rest = Bytes { memory: &self.memory, at: *at };
                (0..*n).map(|_| rest.text().ok()).collect()
            }
            _ => None,
        })
    }

    pub(crate) fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, Error> {
        self.value(key, "a list of numbers", |value| match value {
            Value::List { kind, n, at } => {
                let mut rest = Bytes { memory: &self.memory, at: *at };
                let number = |_| match rest.scalar(*kind).ok()? {
                    Value::Real(number) => Some(number),
                    Value::Whole(number) => Some(number as f64),
                    _ => None,
                };
                (0..*n).map(number).collect()
            }
            _ => None,
        })
    }

    fn value<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        let message = || format!("is not {expected} in {}", self.path.display());
        read(value).map(Some).ok_or_else(|| Error::config(key, message()))
    }
}

/// The names of all parts of a file whose name says that it is one of several, as
/// `model-00002-of-00003.gguf`; else none.
pub(crate) fn part_names(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let parsed = || {
        let (before, n) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, number) = before.rsplit_once('-')?;
        let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        let n: usize = n.parse().ok().filter(|_| is_number(n) && is_number(number))?;
        let part = |i: usize| path.with_file_name(format!("{stem}-{i:05}-of-{n:05}.gguf"));
        Some((1..=n).map(part).collect())
    };
    parsed().unwrap_or_default()
}

/// What is wrong with a GGUF file.
pub(crate) fn damaged(path: &Path, reason: String) -> Error {
    let hint = "download the file again".to_string();
    Error::Weights { path: path.to_path_buf(), reason, hint }
}

type Parsed = (BTreeMap<String, Value>, BTreeMap<String, Entry>);

fn parse(memory: &[u8]) -> Result<Parsed, String> {
    let mut bytes = Bytes { memory, at: 0 };
    if bytes.take(4)? != b"GGUF" {
        return Err("it is not a GGUF file".into());
    }
    match bytes.u32()? {
        2 | 3 => {}
        version if version.swap_bytes() <= 3 => return Err("its numbers are big-endian".into()),
        version => return Err(format!("GGUF version {version} is not known")),
    }
    let (n_tensors, n_keys) = (bytes.u64()?, bytes.u64()?);
    let mut metadata = BTreeMap::new();
    for _ in 0..n_keys {
        let key = bytes.text()?;
        let kind = bytes.u32()?;
        let value = bytes.value(kind).map_err(|reason| format!("{key}: {reason}"))?;
        metadata.insert(key, value);
    }
    let mut listed = Vec::new();
    for _ in 0..n_tensors {
        listed.push(bytes.tensor()?);
    }
    let alignment = match metadata.get("general.alignment") {
        None => ALIGNMENT,
        // Every format's numbers must lie where a processor can read them.
        Some(Value::Whole(n)) => match u64::try_from(*n) {
            Ok(n) if n.is_power_of_two() && (4..=1 << 20).contains(&n) => n,
            _ => return Err(format!("general.alignment is {n}")),
        },
        Some(_) => return Err("general.alignment is no number".into()),
    };
    let first = (bytes.at as u64).next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    for (name, dims, kind, offset) in listed {
        let size = match format(kind) {
            Some(known) => byte_len(&dims, known)
                .ok_or_else(|| format!("tensor {name}: {dims:?} is no whole blocks"))?,
            None => 0, // refused when it is read
        };
        let at = first.checked_add(offset).filter(|at| at % 4 == 0);
        let at = at.ok_or_else(|| format!("tensor {name}: begins at an impossible place"))?;
        let end = at.checked_add(size as u64);
        if end.is_none_or(|end| end > memory.len() as u64) {
            return Err(format!("the file is cut short: tensor {name} lies beyond its end"));
        }
        if tensors.insert(name.clone(), Entry { dims, kind, at: at as usize }).is_some() {
            return Err(format!("tensor {name} is there twice"));
        }
    }
    Ok((metadata, tensors))
}

/// Bytes of a tensor; `None` where its rows are no whole blocks, or more than can be counted.
fn byte_len(dims: &[usize], kind: GgmlDType) -> Option<usize> {
    let row = dims.last().copied().unwrap_or(1);
    let n = dims.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim))?;
    let blocks = row.is_multiple_of(kind.block_size()).then(|| n / kind.block_size())?;
    blocks.checked_mul(kind.type_size())
}

/// `ggml_type` of ggml.h, as far as it is known.
fn format(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

/// The number that was meant: 1e-5, not the 9.9999997e-6 that its f32 is.
fn decimal(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

/// `gguf_metadata_value_type` of text and of a list.
const TEXT: u32 = 8;
const LIST: u32 = 9;

/// Reads from front to back, never beyond the end.
struct Bytes<'a> {
    memory: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    fn take(&mut self, n: u64) -> Result<&'a [u8], String> {
        let rest = &self.memory[self.at..];
        let found = usize::try_from(n).ok().and_then(|n| rest.get(..n));
        let found = found.ok_or("the file is cut short, or gives a length beyond its end")?;
        self.at += found.len();
        Ok(found)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<String, String> {
        let n = self.u64()?;
        Ok(String::from_utf8_lossy(self.take(n)?).into_owned())
    }

    fn scalar(&mut self, kind: u32) -> Result<Value, String> {
        Ok(match kind {
            0 => Value::Whole(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Whole(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Whole(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Whole(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Whole(u32::from_le_bytes(self.array()?).into()),
            5 => Value::Whole(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Real(decimal(f32::from_le_bytes(self.array()?))),
            7 => Value::Flag(self.array::<1>()? != [0]),
            10 => Value::Whole(u64::from_le_bytes(self.array()?).into()),
            11 => Value::Whole(i64::from_le_bytes(self.array()?).into()),
            12 => Value::Real(f64::from_le_bytes(self.array()?)),
            _ => return Err(format!("a value of kind {kind} is not known")),
        })
    }

    fn value(&mut self, kind: u32) -> Result<Value, String> {
        match kind {
            TEXT => Ok(Value::Text(self.text()?)),
            LIST => {
                let (kind, n) = (self.u32()?, self.u64()?);
                let at = self.at;
                // Every element has at least one byte, so a lying count ends at the file's end.
                for _ in 0..n {
                    match kind {
                        TEXT => {
                            let n = self.u64()?;
                            self.take(n)?;
                        }
                        kind => drop(self.scalar(kind)?),
                    }
                }
                Ok(Value::List { kind, n: n as usize, at })
            }
            kind => self.scalar(kind),
        }
    }

    /// Name, dimensions, type and offset.
    fn tensor(&mut self) -> Result<(String, Vec<usize>, u32, u64), String> {
        let name = self.text()?;
        let n_dims = self.u32()?;
        if n_dims > MAX_DIMS {
            return Err(format!("tensor {name} has {n_dims} dimensions"));
        }
        let mut dims = Vec::new();
        for _ in 0..n_dims {
            let dim = usize::try_from(self.u64()?);
            dims.push(dim.map_err(|_| format!("tensor {name} is impossibly large"))?);
        }
        dims.reverse();
        Ok((name, dims, self.u32()?, self.u64()?))
    }
}
