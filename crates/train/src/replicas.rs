//! Data-parallel copies over shared weights: each works alone on a thread of its own, and what
//! they found comes back in copy order, so that a run gives the same numbers every time.
//!
//! A copy's thread is a pool of one: nothing it calls wakes another thread, which two copies on
//! two cores would only fight over. Stacks are large because a graph's walk is recursive. It
//! knows no optimiser.

use std::collections::BTreeMap;

use candle_core::Tensor;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::Error;
use crate::models::Models;
use crate::objective;
use crate::optimizer::Group;
use crate::recipe::Stage;

const STACK_BYTES: usize = 64 << 20;

/// The threads of the copies.
pub(crate) struct Replicas {
    pools: Vec<ThreadPool>,
}

/// Gradients of each copy by weight name, and the mean of each part of the loss.
pub(crate) struct Step {
    pub(crate) gradients: Vec<BTreeMap<String, Tensor>>,
    pub(crate) parts: Vec<(&'static str, f64)>,
}

impl Replicas {
    /// # Errors
    /// [`Error::Model`] when the system gives no thread.
    pub(crate) fn new(n_copies: usize) -> Result<Self, Error> {
        let pool = |_| {
            let pool = ThreadPoolBuilder::new().num_threads(1).stack_size(STACK_BYTES).build();
            pool.map_err(|e| Error::Model(format!("no thread could be started: {e}")))
        };
        Ok(Self { pools: (0..n_copies.max(1)).map(pool).collect::<Result<_, _>>()? })
    }

    pub(crate) fn len(&self) -> usize {
        self.pools.len()
    }

    /// Calls `work` once for each copy with its number, all at the same time.
    pub(crate) fn each<R: Send>(&self, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
        let work = &work;
        std::thread::scope(|scope| {
            let pools = self.pools.iter().enumerate();
            let threads: Vec<_> =
                pools.map(|(k, pool)| scope.spawn(move || pool.install(|| work(k)))).collect();
            let join = |t: std::thread::ScopedJoinHandle<'_, R>| {
                t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        })
    }

    /// Calls `work` on every job, shared out one by one; results come in job order.
    pub(crate) fn map<J: Sync, R: Send>(
        &self,
        jobs: &[J],
        work: impl Fn(&J) -> Result<R, Error> + Sync,
    ) -> Result<Vec<R>, Error> {
        let parts = self.each(|k| {
            let mine = jobs.iter().enumerate().skip(k).step_by(self.len());
            mine.map(|(i, job)| (i, work(job))).collect::<Vec<_>>()
        });
        let mut results: Vec<_> = parts.into_iter().flatten().collect();
        results.sort_by_key(|(i, _)| *i);
        results.into_iter().map(|(_, result)| result).collect()
    }

    /// Splits `seeds` evenly over the copies and collects what each found.
    pub(crate) fn step(
        &self,
        models: &Models,
        stage: &Stage,
        groups: &BTreeMap<String, Group>,
        seeds: &[u64],
    ) -> Result<Step, Error> {
        let share = seeds.len().div_ceil(self.len()).max(1);
        let shares: Vec<&[u64]> = seeds.chunks(share).collect();
        let copies = self.map(&shares, |seeds| copy(models, stage, groups, seeds))?;
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
        Ok(Step { gradients, parts })
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
    let mut store = losses.total.backward()?;
    let mut gradients = BTreeMap::new();
    for (name, group) in groups {
        if let Some(gradient) = store.remove(group.var.as_tensor()) {
            gradients.insert(name.clone(), gradient);
        }
    }
    Ok(Copy { gradients, parts: losses.parts })
}
