//! How a model is loaded, and what is laid over its checkpoint's weights meanwhile.

use std::path::Path;

use candle_core::{Device, Tensor};

use super::nn::Compute;
use crate::lora::Lora;
use crate::weights::TensorMap;
use crate::weights::packed::Quantization;

/// How a model is loaded.
pub struct LoadOptions<'a> {
    pub device: &'a Device,
    /// On the CPU only.
    pub quantization: Quantization,
    /// Where the packed form is kept; without one it is made in memory.
    pub cache: Option<&'a Path>,
    pub compute: Compute,
    pub overlay: &'a Overlay<'a>,
}

impl<'a> LoadOptions<'a> {
    /// As the checkpoint has it, in f32.
    pub fn on(device: &'a Device) -> Self {
        const NOTHING: &Overlay = &Overlay { adapters: Vec::new(), tensors: Vec::new() };
        let (quantization, compute) = (Quantization::None, Compute::F32);
        LoadOptions { device, quantization, cache: None, compute, overlay: NOTHING }
    }
}

/// What is laid over a checkpoint's weights.
#[derive(Default)]
pub struct Overlay<'a> {
    /// Each with how strongly it counts: 1 as it was trained.
    pub adapters: Vec<(&'a Lora, f64)>,
    /// Instead of the checkpoint's own, by the engine's names; variables stay linked.
    pub tensors: Vec<(String, Tensor)>,
}

impl Overlay<'_> {
    pub(super) fn lay_over(&self, tensors: &mut TensorMap) {
        for (i, (adapter, _)) in self.adapters.iter().enumerate() {
            tensors.insert(adapter.named(&i.to_string()));
        }
        tensors.insert(self.tensors.iter().cloned());
    }

    /// What the adapters' tensors are called after, and what each is multiplied by.
    pub(super) fn scales(&self) -> Vec<(String, f64)> {
        let adapters = self.adapters.iter().enumerate();
        adapters.map(|(i, (adapter, by))| (i.to_string(), adapter.scale * by)).collect()
    }
}
