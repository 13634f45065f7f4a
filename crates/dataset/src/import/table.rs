//! CSV and TSV with a header: `image,question,answer`, `image,text`, `image,label` and what the
//! field calls those columns.

use std::path::Path;
use std::sync::Arc;

use csv::{ByteRecord, ReaderBuilder};
use serde_json::{Map, Value};

use crate::Error;
use crate::row::{Origin, Place};

use super::intake::{Fault, Intake};
use super::keys::Keys;
use super::places::Places;
use super::{record, text};

/// Reads one table.
///
/// Errors: a header without any known column.
pub(crate) fn read(path: &Path, keys: &Keys, intake: &mut Intake) -> Result<(), Error> {
    let bytes = text::read(path)?;
    let mut reader =
        ReaderBuilder::new().flexible(true).delimiter(delimiter(path, &bytes)).from_reader(&*bytes);
    let header = reader.byte_headers().map_err(|error| Error::damaged(path, error))?;
    let header: Vec<String> =
        header.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned()).collect();
    if !header.iter().any(|name| keys.knows(name)) {
        return Err(Error::Unknown {
            path: path.to_path_buf(),
            reason: format!("its first line has the columns {}", header.join(", ")),
            hint: "name them in a first line such as `image,question,answer`",
        });
    }
    let (file, places) = (Arc::new(path.to_path_buf()), Places::beside(path, intake.source));
    let (mut cells, total) = (ByteRecord::new(), bytes.len() as u64);
    loop {
        let read = reader.read_byte_record(&mut cells);
        let line = cells.position().map_or(reader.position().line(), |place| place.line());
        let origin = Origin::new(&file, Place::Line(line as usize));
        intake.job.step(reader.position().byte(), total)?;
        let draft = match read {
            Ok(false) => return Ok(()),
            Ok(true) => cells_of(&header, &cells, keys)
                .and_then(|record| record::read(&record, keys, Vec::new(), &places)),
            Err(error) => {
                intake.fault(origin, Fault::Malformed(error.to_string()));
                return Ok(());
            }
        };
        intake.take(origin, draft)?;
    }
}

/// What the header has most of; spreadsheets of half the world write semicolons.
fn delimiter(path: &Path, bytes: &[u8]) -> u8 {
    if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tsv")) {
        return b'\t';
    }
    let header = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |wanted: u8| header.iter().filter(|byte| **byte == wanted).count();
    [b';', b'\t'].into_iter().fold(
        b',',
        |best, next| {
            if count(next) > count(best) { next } else { best }
        },
    )
}

fn cells_of(
    header: &[String],
    cells: &ByteRecord,
    keys: &Keys,
) -> Result<Map<String, Value>, Fault> {
    let (found, wanted) = (cells.len(), header.len());
    if found != wanted {
        let hint = "is a quote missing?";
        return Err(format!("{found} cells where the header has {wanted}; {hint}").into());
    }
    let mut record = Map::new();
    for (name, cell) in header.iter().zip(cells) {
        let cell = text::utf8(cell)?;
        let is_images = keys.images.iter().any(|own| own.eq_ignore_ascii_case(name));
        let value = match cell {
            list if is_images && list.contains(';') && !list.starts_with("data:") => {
                list.split(';').map(str::trim).collect::<Vec<_>>().into()
            }
            cell => Value::from(cell),
        };
        record.insert(name.clone(), value);
    }
    Ok(record)
}
