//! Takes tensors by name and shape and makes layers of them.
//!
//! The same code that builds a model also lists its parameters: a loader over nothing records
//! every name and shape it is asked for. It knows no architecture.

use candle_core::{DType, Device, Tensor};

use super::nn::{Compute, Embedding, LayerNorm, Linear, RmsNorm};
use crate::error::Error;
use crate::weights::TensorMap;

/// Where layers come from.
pub(crate) struct Loader {
    tensors: Option<TensorMap>,
    /// Every name and shape asked for, in order.
    pub(crate) asked: Vec<(String, Vec<usize>)>,
    pub(crate) compute: Compute,
}

impl Loader {
    pub(crate) fn new(tensors: TensorMap, compute: Compute) -> Self {
        Loader { tensors: Some(tensors), asked: Vec::new(), compute }
    }

    /// A loader that only records; its tensors are stand-ins without memory.
    pub(crate) fn recorder() -> Self {
        Loader { tensors: None, asked: Vec::new(), compute: Compute::default() }
    }

    pub(crate) fn tensor(&mut self, name: &str, dims: &[usize]) -> Result<Tensor, Error> {
        self.asked.push((name.to_string(), dims.to_vec()));
        match &mut self.tensors {
            Some(tensors) => tensors.take(name, dims),
            None => Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(dims)?),
        }
    }

    /// Errors with every missing, unexpected and misshaped tensor.
    pub(crate) fn finish(self) -> Result<(), Error> {
        self.tensors.map_or(Ok(()), TensorMap::finish)
    }

    /// `{name}.weight (out, in)` and, with `bias`, `{name}.bias (out)`.
    pub(crate) fn linear(
        &mut self,
        name: &str,
        (n_out, n_in): (usize, usize),
        bias: bool,
    ) -> Result<Linear, Error> {
        let weight = self.tensor(&format!("{name}.weight"), &[n_out, n_in])?;
        let bias = match bias {
            true => Some(self.tensor(&format!("{name}.bias"), &[n_out])?),
            false => None,
        };
        Ok(Linear { weight, bias, compute: self.compute })
    }

    pub(crate) fn layer_norm(
        &mut self,
        name: &str,
        size: usize,
        eps: f64,
    ) -> Result<LayerNorm, Error> {
        let weight = self.tensor(&format!("{name}.weight"), &[size])?;
        let bias = self.tensor(&format!("{name}.bias"), &[size])?;
        Ok(LayerNorm { weight, bias, eps })
    }

    pub(crate) fn rms_norm(&mut self, name: &str, size: usize, eps: f64) -> Result<RmsNorm, Error> {
        let weight = self.tensor(&format!("{name}.weight"), &[size])?;
        Ok(RmsNorm { weight, eps })
    }

    pub(crate) fn embedding(
        &mut self,
        name: &str,
        rows: usize,
        size: usize,
    ) -> Result<Embedding, Error> {
        Ok(Embedding { weight: self.tensor(&format!("{name}.weight"), &[rows, size])? })
    }
}
