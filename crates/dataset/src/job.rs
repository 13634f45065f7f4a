//! A long job's two lines to its caller: how far it is, and whether to stop.

use crate::Error;

/// Given to everything that reads or writes many rows.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Asked once for each row or file; true ends the job with [`Error::Cancelled`].
    pub cancelled: &'a dyn Fn() -> bool,
    /// Hears (done, of how many), in rows or bytes; the two have the same unit.
    pub progress: &'a dyn Fn(u64, u64),
}

impl Job<'static> {
    /// Never stops and tells nobody.
    pub fn quiet() -> Job<'static> {
        Job { cancelled: &|| false, progress: &|_, _| {} }
    }
}

impl Job<'_> {
    pub(crate) fn step(&self, done: u64, total: u64) -> Result<(), Error> {
        (self.progress)(done, total);
        if (self.cancelled)() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
