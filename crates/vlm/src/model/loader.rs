//! Takes tensors by name and shape and makes layers of them.
//!
//! The same code that builds a model also lists its parameters and plans what is packed: a loader
//! that only looks records every name and shape it is asked for. It knows no architecture.

use std::collections::HashSet;

use candle_core::{DType, Device, Tensor};
use kernels::quant::{Format, GROUP};

use super::nn::{
    Adapter, Compute, Embedding, LayerNorm, Linear, Norm, PackedWeight, Projections, RmsNorm,
    Weight,
};
use crate::error::{Context, Error};
use crate::lora;
use crate::weights::TensorMap;
use crate::weights::packed::{Matrix, PackedFile, Quantization};

/// Where layers come from.
pub(crate) struct Loader {
    tensors: Option<TensorMap>,
    /// Every name and shape asked for, in order.
    pub(crate) asked: Vec<(String, Vec<usize>)>,
    /// Every matrix that is or would be packed, in order.
    pub(crate) matrices: Vec<Matrix>,
    pub(crate) compute: Compute,
    quantization: Quantization,
    packed: Option<PackedFile>,
    /// What the tensors of adapters are called after, and what each is scaled by.
    adapters: Vec<(String, f64)>,
    in_decoder: bool,
}

impl Loader {
    pub(crate) fn new(tensors: TensorMap, compute: Compute) -> Self {
        Loader { tensors: Some(tensors), compute, ..Self::recorder() }
    }

    /// A loader that only records; its tensors are stand-ins without memory.
    pub(crate) fn recorder() -> Self {
        Loader {
            tensors: None,
            asked: Vec::new(),
            matrices: Vec::new(),
            compute: Compute::default(),
            quantization: Quantization::None,
            packed: None,
            adapters: Vec::new(),
            in_decoder: false,
        }
    }

    /// With the adapters of these names laid over the layers that they have tensors for.
    pub(crate) fn adapted(self, adapters: Vec<(String, f64)>) -> Self {
        Loader { adapters, ..self }
    }

    /// Matrices as `quantization` has them: from `packed`, or only recorded without one.
    pub(crate) fn quantized(self, quantization: Quantization, packed: Option<PackedFile>) -> Self {
        Loader { quantization, packed, ..self }
    }

    /// What `load` takes belongs to the decoder's layers, which may be stored in fewer bits.
    pub(crate) fn decoder<T>(&mut self, load: impl FnOnce(&mut Self) -> T) -> T {
        self.in_decoder = true;
        let loaded = load(self);
        self.in_decoder = false;
        loaded
    }

    pub(crate) fn tensor(&mut self, name: &str, dims: &[usize]) -> Result<Tensor, Error> {
        self.asked.push((name.to_string(), dims.to_vec()));
        match &mut self.tensors {
            Some(tensors) => tensors.take(name, dims),
            None => Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(dims)?),
        }
    }

    /// What was asked for as it is held: the matrices packed, all else in f32.
    pub(crate) fn bytes(&self) -> usize {
        let parts = self.matrices.iter().flat_map(|matrix| &matrix.parts);
        let packed: HashSet<&str> = parts.map(|(name, _)| name.as_str()).collect();
        let dense = self.asked.iter().filter(|(name, _)| !packed.contains(name.as_str()));
        let dense = dense.map(|(_, dims)| 4 * dims.iter().product::<usize>());
        dense.sum::<usize>() + self.matrices.iter().map(Matrix::len).sum::<usize>()
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
        let weight = self.weight(&[(name, n_out)], n_in)?;
        let bias = match bias {
            true => Some(self.tensor(&format!("{name}.bias"), &[n_out])?),
            false => None,
        };
        let adapters = self.adapters_of(name, (n_out, n_in))?;
        Ok(Linear { weight, bias, compute: self.compute, adapters })
    }

    /// The adapters of a layer, in their order.
    fn adapters_of(&mut self, name: &str, size: (usize, usize)) -> Result<Vec<Adapter>, Error> {
        let Some(tensors) = &mut self.tensors else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for (adapter, scale) in &self.adapters {
            let [down, up, magnitude] = lora::tensors_of(name, adapter);
            let Some(rank) = tensors.dims(&down)?.and_then(|dims| dims.first().copied()) else {
                continue;
            };
            let down = tensors.take(&down, &[rank, size.1])?;
            let up = tensors.take(&up, &[size.0, rank])?;
            let magnitude = match tensors.contains(&magnitude) {
                true => Some(tensors.take(&magnitude, &[size.0])?),
                false => None,
            };
            found.push(Adapter { down, up, scale: *scale, magnitude });
        }
        Ok(found)
    }

    /// Linear layers `{prefix}.{name}` of one input, each with its number of outputs.
    pub(crate) fn projections<const N: usize>(
        &mut self,
        prefix: &str,
        layers: [(&str, usize); N],
        (n_in, bias): (usize, bool),
    ) -> Result<Projections<N>, Error> {
        let names = layers.map(|(name, n_out)| (format!("{prefix}.{name}"), n_out));
        let whole = names.iter().all(|(_, n_out)| n_out.is_multiple_of(GROUP));
        if self.quantization == Quantization::None || !whole {
            let layers = names.iter().map(|(name, n_out)| self.linear(name, (*n_out, n_in), bias));
            let layers: Vec<Linear> = layers.collect::<Result<_, Error>>()?;
            let layers = <[Linear; N]>::try_from(layers);
            return Ok(Projections::Each(layers.unwrap_or_else(|_| unreachable!("N layers"))));
        }
        let parts: Vec<(&str, usize)> = names.iter().map(|(n, rows)| (n.as_str(), *rows)).collect();
        let weight = self.weight(&parts, n_in)?;
        let bias = match bias {
            true => {
                let biases =
                    names.iter().map(|(n, rows)| self.tensor(&format!("{n}.bias"), &[*rows]));
                Some(Tensor::cat(&biases.collect::<Result<Vec<_>, Error>>()?, 0)?)
            }
            false => None,
        };
        let all = Linear { weight, bias, compute: self.compute, adapters: Vec::new() };
        let mut adapters = [const { Vec::new() }; N];
        for (adapters, (name, n_out)) in adapters.iter_mut().zip(&names) {
            *adapters = self.adapters_of(name, (*n_out, n_in))?;
        }
        Ok(Projections::Together { all, widths: layers.map(|(_, n_out)| n_out), adapters })
    }

    /// The same where the checkpoint has one layer `name` for all of them.
    pub(crate) fn fused_projections<const N: usize>(
        &mut self,
        name: &str,
        widths: [usize; N],
        (n_in, bias): (usize, bool),
    ) -> Result<Projections<N>, Error> {
        let all = self.linear(name, (widths.iter().sum(), n_in), bias)?;
        Ok(Projections::Together { all, widths, adapters: [const { Vec::new() }; N] })
    }

    /// A norm with a bias, or with `rms` one without.
    pub(crate) fn norm(
        &mut self,
        name: &str,
        size: usize,
        (rms, eps): (bool, f64),
    ) -> Result<Norm, Error> {
        Ok(match rms {
            true => Norm::Rms(self.rms_norm(name, size, eps)?),
            false => Norm::Layer(self.layer_norm(name, size, eps)?),
        })
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

    /// A table that is small or indexed otherwise than by row, so never packed.
    pub(crate) fn embedding(
        &mut self,
        name: &str,
        rows: usize,
        size: usize,
    ) -> Result<Embedding, Error> {
        let weight = self.tensor(&format!("{name}.weight"), &[rows, size])?;
        Ok(Embedding { weight: Weight::Dense(weight) })
    }

    /// The table of the vocabulary.
    pub(crate) fn token_embedding(
        &mut self,
        name: &str,
        rows: usize,
        size: usize,
    ) -> Result<Embedding, Error> {
        Ok(Embedding { weight: self.weight(&[(name, rows)], size)? })
    }

    /// `{name}.weight (rows, n_in)` of each part, one under the other; several only when packed.
    fn weight(&mut self, parts: &[(&str, usize)], n_in: usize) -> Result<Weight, Error> {
        let Some(format) = self.format() else {
            let (name, rows) = parts[0];
            return Ok(Weight::Dense(self.tensor(&format!("{name}.weight"), &[rows, n_in])?));
        };
        let parts: Vec<(String, usize)> =
            parts.iter().map(|(name, rows)| (format!("{name}.weight"), *rows)).collect();
        for (name, rows) in &parts {
            self.asked.push((name.clone(), vec![*rows, n_in]));
            if let Some(tensors) = &mut self.tensors {
                tensors.check(name, &[*rows, n_in])?;
            }
        }
        let matrix = Matrix { parts, cols: n_in, format };
        let dims = (matrix.rows(), n_in);
        let weight = match &self.packed {
            Some(packed) => {
                let packed = PackedWeight::new(format, dims, packed.bytes(&matrix)?);
                Weight::Packed(packed.context("packed weights")?)
            }
            None => Weight::Dense(Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(dims)?),
        };
        self.matrices.push(matrix);
        Ok(weight)
    }

    fn format(&self) -> Option<Format> {
        match (self.quantization, self.in_decoder) {
            (Quantization::None, _) => None,
            (Quantization::Q4_0, true) => Some(Format::Q4_0),
            (Quantization::Q8_0 | Quantization::Q4_0, _) => Some(Format::Q8_0),
        }
    }
}
