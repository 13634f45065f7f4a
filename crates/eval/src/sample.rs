//! Which scenes are measured on, and going through them.
//!
//! Seeds from [`HELD_OUT`] are used for nothing else; training stays below them.
//! It does not know what is done with a scene.

use crate::Error;
use scenes::{Options, Scene};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use vlm::generate::Cancel;

/// The scenes that no training sees.
pub const HELD_OUT: Range<u64> = 10_000_000..10_002_000;

/// Scenes are asked in this many threads; a small model leaves cores idle in one.
const N_THREADS: usize = 2;

/// What to measure on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Seeds of the scenes.
    pub seeds: Range<u64>,
    /// Draw everything in the style that no training scene shows.
    pub held_out_style: bool,
}

impl Sample {
    /// How many scenes there are, at least one.
    pub(crate) fn len(&self) -> Result<u64, Error> {
        let Range { start, end } = self.seeds;
        if self.seeds.is_empty() { Err(Error::NoScenes { start, end }) } else { Ok(end - start) }
    }

    /// What `work` makes of each scene, in the order of the seeds whichever thread did it.
    /// `progress` hears of scenes done.
    ///
    /// Errors: those of `work`; `Error::Cancelled` when the user stops.
    pub(crate) fn each<T: Send>(
        &self,
        work: impl Fn(&Scene) -> Result<T, Error> + Sync,
        progress: &(dyn Fn(u64) + Sync),
        cancel: &Cancel,
    ) -> Result<Vec<T>, Error> {
        let options = Options { held_out_style: self.held_out_style, ..Default::default() };
        each((&self.seeds, &options), work, progress, cancel)
    }
}

/// As [`Sample::each`], on scenes drawn as `options` say.
pub(crate) fn each<T: Send>(
    (seeds, options): (&Range<u64>, &Options),
    work: impl Fn(&Scene) -> Result<T, Error> + Sync,
    progress: &(dyn Fn(u64) + Sync),
    cancel: &Cancel,
) -> Result<Vec<T>, Error> {
    let (next, done) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let results = Mutex::new(BTreeMap::new());
    let work = || -> Result<(), Error> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(());
            }
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let result = work(&scenes::scene(seed, options))?;
            if let Ok(mut results) = results.lock() {
                results.insert(seed, result);
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    let outcomes: Vec<Result<(), Error>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..N_THREADS).map(|_| scope.spawn(work)).collect();
        let panicked = |_| std::panic::panic_any("a measuring thread panicked");
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    outcomes.into_iter().collect::<Result<(), Error>>()?;
    let results = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    Ok(results.into_values().collect())
}
