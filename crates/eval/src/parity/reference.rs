//! What the reference computed, and how far ours is from it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use crate::Error;

/// The tensors of a case's `expected.safetensors`.
pub struct Reference {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

/// How far two tensors are apart.
#[derive(Clone, Copy, Debug)]
pub struct Apart {
    /// max|a-b| / max|b|
    pub relative: f64,
    /// max|a-b|
    pub absolute: f32,
}

impl Reference {
    /// # Errors
    /// [`Error::Case`] where the file is missing or damaged.
    pub fn load(dir: &Path) -> Result<Reference, Error> {
        let path = dir.join("expected.safetensors");
        match candle_core::safetensors::load(&path, &Device::Cpu) {
            Ok(tensors) => Ok(Reference { path, tensors }),
            Err(error) => Err(Error::Case { path, reason: error.to_string() }),
        }
    }

    fn tensor(&self, name: &str) -> Result<&Tensor, Error> {
        let reason = format!("it has no {name}");
        self.tensors.get(name).ok_or(Error::Case { path: self.path.clone(), reason })
    }

    /// What the reference computed, as f32.
    ///
    /// # Errors
    /// [`Error::Case`] when it is not there.
    pub fn floats(&self, name: &str) -> Result<Tensor, Error> {
        Ok(self.tensor(name)?.to_dtype(DType::F32)?)
    }

    /// Token ids that the reference computed, or other whole numbers.
    ///
    /// # Errors
    /// [`Error::Case`] when they are not there.
    pub fn ids(&self, name: &str) -> Result<Vec<u32>, Error> {
        let ids: Vec<i64> = self.tensor(name)?.to_dtype(DType::I64)?.to_vec1()?;
        Ok(ids.into_iter().map(|id| id as u32).collect())
    }

    /// How far `ours` is from what the reference computed.
    ///
    /// # Errors
    /// [`Error::Case`] when the shapes differ.
    pub fn apart(&self, name: &str, ours: &Tensor) -> Result<Apart, Error> {
        let reference = self.floats(name)?;
        if ours.dims() != reference.dims() {
            let reason = format!("{name} is {:?}, ours {:?}", reference.dims(), ours.dims());
            return Err(Error::Case { path: self.path.clone(), reason });
        }
        let flat = |tensor: &Tensor| -> Result<Vec<f32>, Error> {
            Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
        };
        let (ours, reference) = (flat(ours)?, flat(&reference)?);
        let largest = reference.iter().fold(0f32, |max, b| max.max(b.abs()));
        let apart = ours.iter().zip(&reference).map(|(a, b)| (a - b).abs());
        // NaN is further apart than anything.
        let absolute = apart.fold(0f32, |max, d| if d > max || d.is_nan() { d } else { max });
        let absolute = if absolute.is_nan() { f32::MAX } else { absolute };
        let relative = f64::from(absolute) / f64::from(largest).max(f64::MIN_POSITIVE);
        Ok(Apart { relative, absolute })
    }
}
