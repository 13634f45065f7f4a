//! Access to the CPU memory of tensors, for the ops that run kernels on it.

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, bail};

/// Whether an op on these tensors may run its CPU kernel.
pub(super) fn is_fusable(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
}

/// The elements of a dense operand of a custom op.
pub(super) fn elements<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((first, end)) => Ok(&all[first..end]),
        None => bail!("a fused op needs a dense operand, not strides {:?}", layout.stride()),
    }
}

/// Everything from the first element of an operand whose strides the op knows.
pub(super) fn from_start<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    Ok(&storage.as_slice::<f32>()?[layout.start_offset()..])
}

/// Calls `f` with the elements of `tensor` in row-major order.
pub(super) fn with_elements<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(f(elements(storage, layout)?)),
        _ => bail!("a fused op was given a tensor that is not on the CPU"),
    }
}

/// A new f32 tensor of the shape of `like`.
pub(super) fn shaped_like(values: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), like.device())
}
