//! The loss curve: one CSV line for each few steps, written as it goes.
//!
//! After a resume the lines past the checkpoint are dropped, so the file reads as if the run had
//! never stopped. It does not know what the columns mean.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Error;

const HEADER: &str = "step,images,stage,rate,gradient_norm,images_per_second,seconds,losses";

/// An open curve.
pub(crate) struct Curve {
    path: PathBuf,
    file: File,
}

impl Curve {
    /// Opens the curve of a run that goes on after `step`.
    pub(crate) fn open(path: &Path, step: u64) -> Result<Self, Error> {
        let old = std::fs::read_to_string(path).unwrap_or_default();
        let known = |line: &&str| {
            line.split(',').next().and_then(|s| s.parse::<u64>().ok()).is_some_and(|s| s <= step)
        };
        let mut text = format!("{HEADER}\n");
        for line in old.lines().skip(1).filter(known) {
            text.push_str(line);
            text.push('\n');
        }
        std::fs::write(path, text).map_err(Error::writing(path))?;
        let file = OpenOptions::new().append(true).open(path).map_err(Error::writing(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends one line.
    pub(crate) fn push(&mut self, line: &str) -> Result<(), Error> {
        writeln!(self.file, "{line}").map_err(Error::writing(&self.path))
    }
}
