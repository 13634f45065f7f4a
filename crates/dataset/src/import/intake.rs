//! Where every reader leaves what it found: rows, and findings for what is none.

use std::path::PathBuf;
use std::sync::Arc;

use crate::picture::{extension, fingerprint};
use crate::row::{Message, Origin, Place, Row, Split};
use crate::{Error, Finding, Job, Kind, Picture, Severity, Source, marks};

/// More than this of one sort are only counted.
const MAX_FINDINGS: usize = 1000;

/// A row without its place.
#[derive(Debug, Default, Clone)]
pub(crate) struct Draft {
    pub id: Option<String>,
    pub pictures: Vec<Picture>,
    pub messages: Vec<Message>,
    pub rejected: Option<String>,
    pub split: Option<Split>,
}

/// Why something is no row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    Malformed(String),
    Skipped(String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Fault {
        Fault::Malformed(reason)
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Fault {
        Fault::Malformed(reason.to_owned())
    }
}

/// What was read so far.
pub(crate) struct Intake<'a> {
    pub source: &'a Source,
    pub job: Job<'a>,
    /// The side of every row of this file that names none itself.
    pub side: Option<Split>,
    rows: Vec<Row>,
    findings: Vec<Finding>,
    n_untold: usize,
}

impl<'a> Intake<'a> {
    pub fn new(source: &'a Source, job: Job<'a>) -> Intake<'a> {
        let (rows, findings) = (Vec::new(), Vec::new());
        Intake { source, job, side: None, rows, findings, n_untold: 0 }
    }

    /// Whether so much is wrong that more of the same file would only repeat it.
    pub fn is_hopeless(&self) -> bool {
        self.n_untold > MAX_FINDINGS && self.rows.is_empty()
    }

    /// Takes a row, or why it is none.
    ///
    /// Errors: the folder for embedded pictures cannot be written.
    pub fn take(&mut self, origin: Origin, draft: Result<Draft, Fault>) -> Result<(), Error> {
        match draft {
            Ok(draft) => self.row(origin, draft),
            Err(fault) => {
                self.fault(origin, fault);
                Ok(())
            }
        }
    }

    pub fn fault(&mut self, origin: Origin, fault: Fault) {
        if self.findings.len() >= MAX_FINDINGS {
            self.n_untold += 1;
            return;
        }
        let (severity, kind, message) = match fault {
            Fault::Malformed(message) => (Severity::Error, Kind::Malformed, message),
            Fault::Skipped(message) => (Severity::Note, Kind::Skipped, message),
        };
        self.findings.push(Finding { severity, kind, origin, row: None, message, repair: None });
    }

    pub fn finish(mut self) -> (Vec<Row>, Vec<Finding>) {
        if self.n_untold > 0 {
            self.findings.push(Finding {
                severity: Severity::Error,
                kind: Kind::Malformed,
                origin: Origin { file: Arc::new(self.source.path.clone()), place: Place::Whole },
                row: None,
                message: format!("{} more rows cannot be read", self.n_untold),
                repair: None,
            });
        }
        (self.rows, self.findings)
    }

    fn row(&mut self, origin: Origin, draft: Draft) -> Result<(), Error> {
        let Draft { id, mut pictures, mut messages, rejected, split } = draft;
        marks::normalise(&mut messages, pictures.len());
        if let Some(folder) = &self.source.unpack {
            for picture in &mut pictures {
                unpack(picture, folder)?;
            }
        }
        let id = id.unwrap_or_else(|| self.rows.len().to_string());
        let split = split.or(self.side);
        self.rows.push(Row { id, pictures, messages, rejected, split, origin });
        Ok(())
    }
}

/// Writes an embedded picture under the name of its content.
fn unpack(picture: &mut Picture, folder: &PathBuf) -> Result<(), Error> {
    let Picture::Bytes(bytes) = &*picture else { return Ok(()) };
    let name: String = fingerprint(bytes)[..16].iter().map(|b| format!("{b:02x}")).collect();
    let path = folder.join(format!("{name}.{}", extension(bytes)));
    if !path.is_file() {
        std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
        let part = path.with_extension("part");
        std::fs::write(&part, bytes).map_err(Error::write(&part))?;
        std::fs::rename(&part, &path).map_err(Error::write(&path))?;
    }
    *picture = Picture::File(path);
    Ok(())
}
