//! AdamW and Muon with the moments kept in f32 and open to checkpoints, gradient clipping by the
//! global norm, and the learning-rate schedule.
//!
//! Gradients arrive as one list for each data-parallel copy and are summed in copy order, so a
//! run gives the same numbers every time. It does not know where gradients come from.

mod adamw;
mod muon;

use std::collections::BTreeMap;

use candle_core::{CpuStorage, Device, InplaceOp2, Layout, Tensor, Var};

use crate::Error;
use crate::recipe::Stage;
use crate::replicas::Replicas;

/// How a weight is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// By gradient and its square, element by element (Loshchilov and Hutter, arXiv 1711.05101).
    AdamW,
    /// By the nearest orthogonal matrix to the momentum (Jordan et al. 2024).
    Muon,
}

/// Rate after `images` of a stage: linear warm-up, then a cosine down to `final_rate`.
#[must_use]
pub fn learning_rate(stage: &Stage, images: u64) -> f64 {
    let (done, warmup) = (images as f64, stage.warmup_images as f64);
    if done < warmup {
        return stage.learning_rate * (done + stage.batch as f64).min(warmup) / warmup;
    }
    let rest = (stage.images as f64 - warmup).max(1.0);
    let part = ((done - warmup) / rest).clamp(0.0, 1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * part).cos());
    stage.learning_rate * (stage.final_rate + (1.0 - stage.final_rate) * cosine)
}

/// One weight to be moved: its variable, how, the stage's factor for it, and its decay.
pub(crate) struct Group {
    pub(crate) var: Var,
    pub(crate) rule: Rule,
    pub(crate) factor: f64,
    pub(crate) decay: f64,
}

/// The optimiser's state for each weight by name.
#[derive(Default)]
pub struct Optimizer {
    /// Weight name to a flat tensor: of twice its size for AdamW (first moments, then second), of
    /// its size for Muon.
    pub moments: BTreeMap<String, Tensor>,
    /// Steps taken since the moments were zero.
    pub steps: u64,
}

impl Optimizer {
    /// Moves every group by its summed gradient; returns the gradient norm before clipping.
    ///
    /// `gradients[copy][name]`; the update uses the mean over copies.
    ///
    /// # Errors
    /// [`Error::Tensor`] when shapes differ.
    pub(crate) fn step(
        &mut self,
        groups: &BTreeMap<String, Group>,
        gradients: Vec<BTreeMap<String, Tensor>>,
        (rate, clip): (f64, f64),
        replicas: &Replicas,
    ) -> Result<f64, Error> {
        self.steps += 1;
        let sums = sum(groups, &gradients, replicas)?;
        drop(gradients);
        let norm = sums.values().map(|(_, squares)| squares).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return Err(Error::Diverged { step: self.steps, what: "gradient" });
        }
        for (name, (gradient, _)) in &sums {
            if !self.moments.contains_key(name) {
                let n = match groups.get(name).map(|group| group.rule) {
                    Some(Rule::Muon) => gradient.elem_count(),
                    _ => 2 * gradient.elem_count(),
                };
                let zeros = Tensor::zeros(n, candle_core::DType::F32, &Device::Cpu)?;
                self.moments.insert(name.clone(), zeros);
            }
        }
        let scale = (clip / (norm + 1e-12)).min(1.0);
        let jobs: Vec<_> = sums.iter().map(|(name, (g, _))| (name, g)).collect();
        replicas.map(&jobs, |(name, gradient)| {
            let Some(group) = groups.get(*name) else { return Ok(()) };
            let (weight, moments) = (group.var.as_tensor(), &self.moments[*name]);
            let gradient = (*gradient, scale as f32);
            let rate = rate * group.factor;
            let pace = (rate, rate * group.decay);
            match group.rule {
                Rule::AdamW => adamw::step(weight, moments, gradient, pace, self.steps),
                Rule::Muon => muon::step(weight, moments, gradient, pace),
            }
        })?;
        Ok(norm)
    }
}

/// Name to mean gradient over the copies and its sum of squares.
type Sums = BTreeMap<String, (Tensor, f64)>;

fn sum(
    groups: &BTreeMap<String, Group>,
    gradients: &[BTreeMap<String, Tensor>],
    replicas: &Replicas,
) -> Result<Sums, Error> {
    let names: Vec<&String> = groups.keys().collect();
    let parts = replicas.map(&names, |name| {
        let mut found = gradients.iter().filter_map(|copy| copy.get(*name));
        let Some(first) = found.next() else { return Ok(None) };
        let mut total = first.to_owned();
        for other in found {
            total = (total + other)?;
        }
        if gradients.len() > 1 {
            total = (total * (1.0 / gradients.len() as f64))?;
        }
        let total = total.contiguous()?;
        let squares = f64::from(total.sqr()?.sum_all()?.to_scalar::<f32>()?);
        Ok(Some(((*name).clone(), (total, squares))))
    })?;
    Ok(parts.into_iter().flatten().collect())
}

/// Applies `rule` to a tensor's own values, in place, and to those of the tensor it is changed by.
fn change(tensor: &Tensor, by: &Tensor, rule: impl Fn(&mut [f32], &[f32])) -> Result<(), Error> {
    Ok(tensor.inplace_op2(by, &Change(rule))?)
}

struct Change<F>(F);

impl<F: Fn(&mut [f32], &[f32])> InplaceOp2 for Change<F> {
    fn name(&self) -> &'static str {
        "optimizer"
    }

    fn cpu_fwd(
        &self,
        changed: &mut CpuStorage,
        layout: &Layout,
        by: &CpuStorage,
        by_layout: &Layout,
    ) -> candle_core::Result<()> {
        let ranges = (layout.contiguous_offsets(), by_layout.contiguous_offsets());
        let (Some((start, end)), Some((by_start, by_end))) = ranges else {
            candle_core::bail!("weights, moments and gradients must be contiguous")
        };
        let CpuStorage::F32(changed) = changed else {
            candle_core::bail!("weights and moments are f32")
        };
        (self.0)(&mut changed[start..end], &by.as_slice::<f32>()?[by_start..by_end]);
        Ok(())
    }
}
