//! Parquet as Hugging Face's hub has it: a record for each row, pictures embedded as
//! `struct { bytes, path }` or as plain bytes.
//!
//! Only columns that say something are read, record by record.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row as Record};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use crate::row::{Origin, Place};
use crate::{Error, Picture};

use super::intake::{Fault, Intake};
use super::keys::Keys;
use super::places::Places;
use super::record;

/// Values of a column that are decoded at once; pictures are large.
const BATCH: usize = 16;
/// A footer may promise more rows than there are, and the reader makes empty ones of them.
const MAX_EMPTY: usize = 1000;

/// Reads one file.
///
/// Errors: a damaged footer, or no column that is known.
pub(crate) fn read(path: &Path, keys: &Keys, intake: &mut Intake) -> Result<(), Error> {
    let opened = File::open(path).map_err(Error::read(path))?;
    // The reader panics on some damaged files; here that is one more way to be damaged.
    let reader = guarded(|| SerializedFileReader::new(opened));
    let reader = reader.map_err(|reason| Error::damaged(path, reason))?;
    let wanted = wanted(reader.metadata().file_metadata().schema(), keys);
    let wanted = wanted.map_err(|reason| Error::Unknown {
        path: path.to_path_buf(),
        reason,
        hint: "name its columns `image`, `question` and `answer`, or `messages`",
    })?;
    let total = reader.metadata().file_metadata().num_rows().max(0) as u64;
    let records = guarded(|| RowIter::from_file(Some(wanted), &reader));
    let mut records =
        records.map_err(|reason| Error::damaged(path, reason))?.with_batch_size(BATCH);
    let (file, places) = (Arc::new(path.to_path_buf()), Places::of_archive(path, intake.source));
    let mut n_empty = 0;
    for n in 1.. {
        intake.job.step(n as u64, total)?;
        let origin = Origin::new(&file, Place::Row(n));
        match guarded(|| records.next().transpose()) {
            Ok(None) => break,
            Ok(Some(record)) => {
                let mut taking = Taking { places: &places, pictures: Vec::new() };
                let draft = taking
                    .object(record)
                    .and_then(|record| record::read(&record, keys, taking.pictures, &places));
                n_empty = if matches!(draft, Err(Fault::Malformed(_))) { n_empty + 1 } else { 0 };
                intake.take(origin, draft)?;
            }
            Err(reason) => {
                let message = format!("the file is damaged from here on: {reason}");
                intake.fault(origin, Fault::Malformed(message));
                break;
            }
        }
        if n_empty > MAX_EMPTY {
            break;
        }
    }
    Ok(())
}

fn guarded<T>(work: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("its reader gave up".to_owned()),
    }
}

/// The schema without the columns that nobody asks for.
fn wanted(schema: &Type, keys: &Keys) -> Result<Type, String> {
    let fields = schema.get_fields();
    if !fields.iter().any(|field| keys.knows(field.name())) {
        let names: Vec<&str> = fields.iter().take(12).map(|field| field.name()).collect();
        return Err(format!("it has the columns {}", names.join(", ")));
    }
    let fields = fields.iter().filter(|field| keys.wants(field.name())).cloned().collect();
    let schema = Type::group_type_builder(schema.name()).with_fields(fields).build();
    schema.map_err(|error| error.to_string())
}

/// A record on its way to JSON; the pictures in it are taken out.
struct Taking<'a> {
    places: &'a Places,
    pictures: Vec<Picture>,
}

impl Taking<'_> {
    fn object(&mut self, record: Record) -> Result<Map<String, Value>, Fault> {
        let columns = record.into_columns().into_iter();
        columns.map(|(name, field)| Ok((name, self.value(field)?))).collect()
    }

    fn value(&mut self, field: Field) -> Result<Value, Fault> {
        Ok(match field {
            Field::Bool(yes) => yes.into(),
            Field::Str(text) => text.into(),
            Field::Bytes(bytes) => self.picture_or_text(bytes.data()),
            Field::Group(record) if is_picture(&record) => self.picture(record)?,
            Field::Group(record) => self.object(record)?.into(),
            Field::ListInternal(list) => {
                let items = list.elements().iter().cloned().map(|item| self.value(item));
                items.collect::<Result<Vec<Value>, Fault>>()?.into()
            }
            Field::Byte(number) => number.into(),
            Field::Short(number) => number.into(),
            Field::Int(number) => number.into(),
            Field::Long(number) => number.into(),
            Field::UByte(number) => number.into(),
            Field::UShort(number) => number.into(),
            Field::UInt(number) => number.into(),
            Field::ULong(number) => number.into(),
            Field::Float(number) => f64::from(number).into(),
            Field::Double(number) => number.into(),
            _ => Value::Null,
        })
    }

    /// Embedded bytes, or the path of a picture that was not embedded.
    fn picture(&mut self, record: Record) -> Result<Value, Fault> {
        let mut path = None;
        for (name, field) in record.into_columns() {
            match (name.as_str(), field) {
                ("bytes", Field::Bytes(bytes)) => {
                    self.pictures.push(Picture::Bytes(Arc::from(bytes.data())));
                    return Ok(Value::Null);
                }
                ("path", Field::Str(text)) => path = Some(text),
                _ => {}
            }
        }
        if let Some(path) = path {
            self.pictures.push(self.places.find(&path)?);
        }
        Ok(Value::Null)
    }

    /// Bytes that are a picture become one; others may be text whose column does not say so.
    fn picture_or_text(&mut self, bytes: &[u8]) -> Value {
        match std::str::from_utf8(bytes) {
            Ok(text) if image::guess_format(bytes).is_err() => text.into(),
            _ => {
                self.pictures.push(Picture::Bytes(Arc::from(bytes)));
                Value::Null
            }
        }
    }
}

/// `struct { bytes, path }`
fn is_picture(record: &Record) -> bool {
    record.get_column_iter().any(|(name, _)| name == "bytes")
}
