//! Data-parallel copies over shared weights: each works alone on a thread of its own, and what
//! they found comes back in copy order, so that a run gives the same numbers every time.
//!
//! A copy's thread is a pool of one: nothing it calls wakes another thread, which two copies on
//! two cores would only fight over. Stacks are large because a graph's walk is recursive. It
//! does not know what the copies work on.

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::Error;

const STACK_BYTES: usize = 64 << 20;

/// The threads of the copies.
pub(crate) struct Replicas {
    pools: Vec<ThreadPool>,
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
}
