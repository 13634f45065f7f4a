//! One step's gradients: each copy draws its own scenes and runs forward and backward alone.
//!
//! It knows no optimiser; it keeps the gradients of the weights that a stage moves.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::Error;
use crate::models::Models;
use crate::objective;
use crate::optimizer::Group;
use crate::recipe::Stage;
use crate::replicas::Replicas;

/// Gradients of each copy by weight name, and the mean of each part of the loss.
pub(crate) struct Step {
    pub(crate) gradients: Vec<BTreeMap<String, Tensor>>,
    pub(crate) parts: Vec<(&'static str, f64)>,
}

impl Step {
    /// Splits `seeds` evenly over the copies and collects what each found.
    pub(crate) fn compute(
        replicas: &Replicas,
        models: &Models,
        stage: &Stage,
        groups: &BTreeMap<String, Group>,
        seeds: &[u64],
    ) -> Result<Self, Error> {
        let share = seeds.len().div_ceil(replicas.len()).max(1);
        let shares: Vec<&[u64]> = seeds.chunks(share).collect();
        let copies = replicas.map(&shares, |seeds| copy(models, stage, groups, seeds))?;
        let mut gradients = Vec::new();
        let mut parts: Vec<(&'static str, f64, usize)> = Vec::new();
        for found in copies {
            gradients.push(found.gradients);
            for (name, value) in found.parts {
                match parts.iter_mut().find(|(known, ..)| *known == name) {
                    Some((_, sum, n)) => (*sum, *n) = (*sum + value, *n + 1),
                    None => parts.push((name, value, 1)),
                }
            }
        }
        let parts = parts.into_iter().map(|(name, sum, n)| (name, sum / n as f64)).collect();
        Ok(Self { gradients, parts })
    }
}

struct Copy {
    gradients: BTreeMap<String, Tensor>,
    parts: Vec<(&'static str, f64)>,
}

fn copy(
    models: &Models,
    stage: &Stage,
    groups: &BTreeMap<String, Group>,
    seeds: &[u64],
) -> Result<Copy, Error> {
    let losses = objective::loss(models, stage, seeds)?;
    if !f64::from(losses.total.to_scalar::<f32>()?).is_finite() {
        return Err(Error::Diverged { step: seeds.first().copied().unwrap_or(0), what: "loss" });
    }
    Ok(Copy { gradients: gradients(&losses.total, groups)?, parts: losses.parts })
}

/// Gradients of a loss, for the weights of `groups` that it depends on.
pub(crate) fn gradients(
    loss: &Tensor,
    groups: &BTreeMap<String, Group>,
) -> Result<BTreeMap<String, Tensor>, Error> {
    let mut store = loss.backward()?;
    let of = |(name, group): (&String, &Group)| {
        Some((name.clone(), store.remove(group.var.as_tensor())?))
    };
    Ok(groups.iter().filter_map(of).collect())
}
