//! Writing: rows in a form that other programs read, and that reads back as the same rows.
//!
//! Everything is written beside its target under a hidden name and appears in one rename.

mod llava;
mod parquet;
mod web_dataset;

use std::path::{Path, PathBuf};

use crate::{Error, Finding, Job, Kind, Row, Severity};

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A folder with `data.jsonl` and `images`.
    Llava,
    /// One tar.
    WebDataset,
    /// One file with the pictures in it, as Hugging Face's `datasets` reads it.
    Parquet,
}

/// Writes all rows. A row with a picture that cannot be read is left out and told.
///
/// Errors: a folder that is there already and has something in it; a disk that cannot be written.
/// A file that is there is replaced.
pub fn export(rows: &[Row], path: &Path, target: Target, job: Job) -> Result<Vec<Finding>, Error> {
    let is_empty = |path: &Path| std::fs::read_dir(path).is_ok_and(|mut dir| dir.next().is_none());
    if path.is_dir() && !(target == Target::Llava && is_empty(path))
        || path.is_file() && target == Target::Llava
    {
        return Err(Error::Taken { path: path.to_path_buf() });
    }
    let part = part_of(path);
    remove(&part)?;
    let mut work = Work { rows, job, findings: Vec::new() };
    let written = match target {
        Target::Llava => llava::write(&mut work, &part),
        Target::WebDataset => web_dataset::write(&mut work, &part),
        Target::Parquet => parquet::write(&mut work, &part),
    };
    if let Err(error) = written {
        // What stopped the work is the thing to tell, not whether its rest could be cleared away.
        _ = remove(&part);
        return Err(error);
    }
    std::fs::rename(&part, path).map_err(Error::write(path))?;
    Ok(work.findings)
}

/// `.NAME.part`
fn part_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

/// Takes away what a killed run left.
fn remove(part: &Path) -> Result<(), Error> {
    if part.is_dir() {
        std::fs::remove_dir_all(part).map_err(Error::write(part))
    } else if part.exists() {
        std::fs::remove_file(part).map_err(Error::write(part))
    } else {
        Ok(())
    }
}

/// Rows on their way out.
struct Work<'a> {
    rows: &'a [Row],
    job: Job<'a>,
    findings: Vec<Finding>,
}

impl Work<'_> {
    /// Hands each row with the bytes of its pictures to `write`.
    fn each(
        &mut self,
        mut write: impl FnMut(usize, &Row, Vec<Vec<u8>>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for (idx, row) in self.rows.iter().enumerate() {
            self.job.step(idx as u64, self.rows.len() as u64)?;
            let pictures: Result<Vec<Vec<u8>>, Error> =
                row.pictures.iter().map(|picture| picture.read()).collect();
            match pictures {
                Ok(pictures) => write(idx, row, pictures)?,
                Err(error) => self.findings.push(Finding {
                    severity: Severity::Error,
                    kind: Kind::PictureMissing,
                    origin: row.origin.clone(),
                    row: Some(idx),
                    message: format!("the row was left out: {error}"),
                    repair: None,
                }),
            }
        }
        Ok(())
    }
}
