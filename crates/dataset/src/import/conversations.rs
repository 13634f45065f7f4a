//! JSON and JSONL of rows in any dialect. Each row is parsed alone and keeps its line.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::Error;
use crate::row::{Origin, Place};

use super::intake::{Fault, Intake};
use super::keys::Keys;
use super::places::Places;
use super::scan::{Piece, Scanner};
use super::{record, text};

/// Reads one file.
pub(crate) fn read(path: &Path, keys: &Keys, intake: &mut Intake) -> Result<(), Error> {
    let bytes = text::read(path)?;
    let file = Arc::new(path.to_path_buf());
    let places = Places::beside(path, intake.source);
    let total = bytes.len() as u64;
    let start = bytes.as_ptr() as usize;
    let row = |piece: Piece, intake: &mut Intake| {
        intake.job.step((piece.bytes.as_ptr() as usize - start) as u64, total)?;
        let record = piece.parse::<Map<String, Value>>().map_err(Fault::Malformed);
        let draft = record.and_then(|record| record::read(&record, keys, Vec::new(), &places));
        intake.take(Origin::new(&file, Place::Line(piece.line)), draft)
    };
    let Some(mut array) = Scanner::open(Piece::whole(&bytes), b'[') else {
        for piece in lines(&bytes) {
            row(piece, intake)?;
            if intake.is_hopeless() {
                break;
            }
        }
        return Ok(());
    };
    while let Some(piece) = array.element() {
        row(piece, intake)?;
    }
    if !array.closed {
        let message = "the file ends without its `]`; rows at its end may be missing";
        intake.fault(whole(&file), Fault::Skipped(message.into()));
    }
    Ok(())
}

fn whole(file: &Arc<PathBuf>) -> Origin {
    Origin::new(file, Place::Whole)
}

/// Every line that holds something.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let pieces = lines.map(|(idx, line)| Piece { line: idx + 1, bytes: line.trim_ascii() });
    pieces.filter(|piece| !piece.bytes.is_empty())
}
