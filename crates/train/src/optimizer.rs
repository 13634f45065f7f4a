//! AdamW and Muon with the moments kept in f32 and open to checkpoints, gradient clipping by the
//! global norm, and the learning-rate schedule.
//!
//! Gradients arrive as one list for each data-parallel copy and are summed in copy order, so a
//! run gives the same numbers every time. It does not know where gradients come from.

mod muon;

use std::collections::BTreeMap;

use candle_core::{CpuStorage, Device, InplaceOp2, Layout, Tensor, Var};

use crate::Error;
use crate::recipe::Stage;
use crate::replicas::Replicas;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.95;
const EPS: f32 = 1e-8;

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
            let moments = &self.moments[*name];
            let (weight, scale) = (group.var.as_tensor(), scale as f32);
            if group.rule == Rule::Muon {
                let decay = rate * group.factor * group.decay;
                return muon::step(
                    weight,
                    moments,
                    (gradient, scale),
                    (rate * group.factor, decay),
                );
            }
            moments.inplace_op2(gradient, &Gather { scale })?;
            Ok(weight.inplace_op2(moments, &self.apply(group, rate))?)
        })?;
        Ok(norm)
    }

    fn apply(&self, group: &Group, rate: f64) -> Apply {
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let rate = rate * group.factor;
        Apply {
            rate: (rate / (1.0 - f64::from(BETA1).powi(steps))) as f32,
            keep: (1.0 - rate * group.decay) as f32,
            correction: (1.0 / (1.0 - f64::from(BETA2).powi(steps))).sqrt() as f32,
        }
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

/// The moments' half of an update: `self` moments (2n), then the gradient (n).
struct Gather {
    scale: f32,
}

impl InplaceOp2 for Gather {
    fn name(&self) -> &'static str {
        "adamw-moments"
    }

    fn cpu_fwd(
        &self,
        moments: &mut CpuStorage,
        _: &Layout,
        gradient: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<()> {
        let CpuStorage::F32(moments) = moments else { candle_core::bail!("moments are f32") };
        let gradient = values(gradient, layout)?;
        let (first, second) = moments.split_at_mut(gradient.len());
        for ((m, v), &g) in first.iter_mut().zip(second).zip(gradient) {
            let g = g * self.scale;
            *m = BETA1 * *m + (1.0 - BETA1) * g;
            *v = BETA2 * *v + (1.0 - BETA2) * g * g;
        }
        Ok(())
    }
}

/// The weight's half of an update, bias corrections folded into the factors.
struct Apply {
    rate: f32,
    keep: f32,
    correction: f32,
}

impl InplaceOp2 for Apply {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        layout: &Layout,
        moments: &CpuStorage,
        moments_layout: &Layout,
    ) -> candle_core::Result<()> {
        let weight = weights(weight, layout)?;
        let (first, second) = values(moments, moments_layout)?.split_at(weight.len());
        for ((w, &m), &v) in weight.iter_mut().zip(first).zip(second) {
            *w = *w * self.keep - self.rate * m / (v.sqrt() * self.correction + EPS);
        }
        Ok(())
    }
}

fn weights<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> candle_core::Result<&'a mut [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("a trained weight must be contiguous")
    };
    let CpuStorage::F32(weight) = storage else { candle_core::bail!("weights are f32") };
    Ok(&mut weight[start..end])
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("gradients must be contiguous")
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}
