//! Whether fine-tuning does what it says: the same as `peft` with PyTorch on the same lessons, a
//! thing learned that was unknown while nothing is forgotten, an alarm where a model need not look,
//! and a stopped run that goes on as if it had not been stopped.

mod peft;
mod report;
mod resume;
mod robot;
mod shortcut;

use std::path::Path;
use std::time::Instant;

use train::fine_tune::{Event, Examples, FineTune, Learned};
use vlm::generate::Cancel;

use crate::Error;

pub use peft::Held;
pub use report::Report;

/// What is measured, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The model that is taught; the shipped one is meant.
    pub model: &'a Path,
    /// What it is taught by.
    pub recipe: &'a Path,
    /// Folder of cases as `tests/parity/fine_tuning.py` makes them, beside `fixtures`.
    pub cases: &'a Path,
}

/// What `progress` counts to, and where each part of the work begins.
const WHOLE: u64 = 1000;
const RESUME: u64 = 100;
const SHORTCUT: u64 = 130;
const ROBOT: u64 = 300;

/// Measures all of it; `progress` hears of work done and of all.
///
/// # Errors
/// The engine's and the trainer's; cases or a recipe that cannot be read; [`Error::Cancelled`].
pub fn fine_tuning(
    wanted: Wanted,
    progress: &(dyn Fn(u64, u64) + Sync),
    cancel: &Cancel,
) -> Result<Report, Error> {
    let begun = Instant::now();
    let folder = room()?;
    let work = Work { folder: folder.path(), cancel };
    let held =
        beside_peft(wanted.cases, &|done, all| progress(RESUME * done / all, WHOLE), cancel)?;
    progress(RESUME, WHOLE);
    let resumed = resumed(wanted.cases, cancel)?;
    progress(SHORTCUT, WHOLE);
    let shortcut = shortcut::alarms(wanted.model, &work)?;
    let part = |part: f64| ROBOT + ((WHOLE - ROBOT) as f64 * part) as u64;
    let robot = robot::teach(&wanted, &work, &|done| progress(part(done), WHOLE))?;
    Ok(Report::new(held, resumed, shortcut, robot, begun))
}

/// Every case trained and held against what `peft` and PyTorch made of it.
///
/// # Errors
/// As [`fine_tuning`].
pub fn beside_peft(
    cases: &Path,
    progress: &dyn Fn(u64, u64),
    cancel: &Cancel,
) -> Result<Vec<Held>, Error> {
    let folder = room()?;
    let work = Work { folder: folder.path(), cancel };
    let cases = peft::cases(cases)?;
    let hold = |(i, case): (usize, &peft::Case)| {
        progress(i as u64, cases.len() as u64);
        peft::hold(case, &work)
    };
    cases.iter().enumerate().map(hold).collect()
}

/// How far a run that was stopped and went on is from one that never stopped, in its losses and in
/// what it learned; 0 when they are equal to the bit.
///
/// # Errors
/// As [`fine_tuning`].
pub fn resumed(cases: &Path, cancel: &Cancel) -> Result<f64, Error> {
    let folder = room()?;
    let work = Work { folder: folder.path(), cancel };
    let cases = peft::cases(cases)?;
    resume::differs(&cases[0], &work)
}

/// A folder that is gone afterwards.
fn room() -> Result<tempfile::TempDir, Error> {
    tempfile::tempdir().map_err(|source| Error::Read { path: std::env::temp_dir(), source })
}

/// Where runs lie, and whether to stop.
struct Work<'a> {
    folder: &'a Path,
    cancel: &'a Cancel,
}

impl Work<'_> {
    /// Carries out a recipe in the folder `name`; stops it when the user wants that.
    fn train(
        &self,
        recipe: &FineTune,
        lessons: (&dyn Examples, &dyn Examples),
        name: &str,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<Learned, Error> {
        let stop = train::Cancel::default();
        let mut heed = |event: Event<'_>| {
            on_event(&event);
            if self.cancel.is_cancelled() {
                stop.cancel();
            }
        };
        let folder = self.folder.join(name);
        let (learned, _) =
            train::fine_tune::run(recipe, lessons, (&folder, None), &stop, &mut heed)?;
        if self.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(learned) }
    }
}
