//! One step's gradients from several data-parallel copies, one thread each, over shared weights.
//!
//! Each copy draws its own scenes and runs forward and backward alone; the copies never talk.
//! Threads get large stacks because a graph's walk is recursive. It knows no optimiser.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::Error;
use crate::models::Models;
use crate::objective;
use crate::optimizer::Group;
use crate::recipe::Stage;

const STACK_BYTES: usize = 64 << 20;

/// Gradients of each copy by weight name, and the mean of each part of the loss.
pub(crate) struct Step {
    pub(crate) gradients: Vec<BTreeMap<String, Tensor>>,
    pub(crate) parts: Vec<(&'static str, f64)>,
}

/// Splits `seeds` evenly over `n_copies` threads and collects what each found, in copy order.
pub(crate) fn step(
    models: &Models,
    stage: &Stage,
    groups: &BTreeMap<String, Group>,
    seeds: &[u64],
    n_copies: usize,
) -> Result<Step, Error> {
    let share = seeds.len().div_ceil(n_copies.max(1)).max(1);
    let copies: Vec<Result<Copy, Error>> = std::thread::scope(|scope| {
        let start = |part: &'_ [u64]| {
            let part = part.to_vec();
            std::thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, move || copy(models, stage, groups, &part))
                .map_err(|e| Error::Model(format!("no thread could be started: {e}")))
        };
        let threads: Vec<_> = seeds.chunks(share).map(start).collect();
        threads.into_iter().map(|thread| join(thread?)).collect()
    });
    let mut gradients = Vec::new();
    let mut parts: Vec<(&'static str, f64, usize)> = Vec::new();
    for found in copies {
        let found = found?;
        gradients.push(found.gradients);
        for (name, value) in found.parts {
            match parts.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, sum, n)) => (*sum, *n) = (*sum + value, *n + 1),
                None => parts.push((name, value, 1)),
            }
        }
    }
    let parts = parts.into_iter().map(|(name, sum, n)| (name, sum / n as f64)).collect();
    Ok(Step { gradients, parts })
}

struct Copy {
    gradients: BTreeMap<String, Tensor>,
    parts: Vec<(&'static str, f64)>,
}

fn join(thread: std::thread::ScopedJoinHandle<'_, Result<Copy, Error>>) -> Result<Copy, Error> {
    thread.join().unwrap_or_else(|_| Err(Error::Model("a training thread panicked".into())))
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
    let mut store = losses.total.backward()?;
    let mut gradients = BTreeMap::new();
    for (name, group) in groups {
        if let Some(gradient) = store.remove(group.var.as_tensor()) {
            gradients.insert(name.clone(), gradient);
        }
    }
    Ok(Copy { gradients, parts: losses.parts })
}
