//! Cross entropy of logits.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use kernels::uninit;

use super::fused::{elements, is_fusable, shaped_like, with_elements};

/// Mean over rows of −log softmax(logits)\[target\]: `logits (N, V)`, `targets (N)` of u32 → ().
///
/// # Errors
/// When the row counts differ, N is 0 or a target is not below V.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (n, vocab) = logits.dims2()?;
    if n == 0 || targets.dims1()? != n {
        bail!("cross entropy of logits {:?} and targets {:?}", logits.dims(), targets.dims());
    }
    if is_fusable(&[logits]) {
        let targets = targets.to_vec1::<u32>()?;
        if let Some(target) = targets.iter().find(|&&target| target as usize >= vocab) {
            bail!("target {target} is not below the {vocab} logits");
        }
        return logits.contiguous()?.apply_op1(Fused { targets });
    }
    let top = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&top)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let chosen = shifted.gather(&targets.unsqueeze(1)?, 1)?;
    (log_sum - chosen)?.mean_all()
}

struct Fused {
    targets: Vec<u32>,
}

impl CustomOp1 for Fused {
    fn name(&self) -> &'static str {
        "cross entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (loss, _) = kernels::loss::cross_entropy(elements(logits, layout)?, &self.targets);
        Ok((CpuStorage::F32(vec![loss]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.to_scalar::<f32>()?;
        let mut d = uninit(logits.elem_count());
        with_elements(logits, |logits| {
            kernels::loss::cross_entropy_backward(&mut d, logits, &self.targets, grad);
        })?;
        Ok(Some(shaped_like(d, logits)?))
    }
}
