//! One Parquet file: `id`, `images` as a list of `struct { bytes, path }`, `messages` as a list of
//! `struct { role, content }`, `rejected`, `split`; with a note for Hugging Face's `datasets` that
//! `images` are pictures.
//!
//! Columns are written with their levels by hand, which Arrow would do with a hundred times the
//! code: a list's level says whether a value begins a row (0) or goes on in it (1).

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use serde_json::json;

use crate::row::Row;
use crate::{Error, Message};

use super::Work;
use super::llava::name_of;

const SCHEMA: &str = "message rows {
    required binary id (UTF8);
    optional group images (LIST) { repeated group list { optional group element {
        optional binary bytes;
        optional binary path (UTF8);
    } } }
    optional group messages (LIST) { repeated group list { optional group element {
        optional binary role (UTF8);
        optional binary content (UTF8);
    } } }
    optional binary rejected (UTF8);
    optional binary split (UTF8);
}";

/// Bytes and rows after which a group is written: what stays in memory.
const GROUP_BYTES: usize = 64 << 20;
const GROUP_ROWS: usize = 1000;

pub(super) fn write(work: &mut Work, path: &Path) -> Result<(), Error> {
    let failed = |error: ParquetError| Error::write(path)(std::io::Error::other(error));
    let file = BufWriter::new(File::create(path).map_err(Error::write(path))?);
    let schema = Arc::new(parse_message_type(SCHEMA).map_err(failed)?);
    let mut writer = SerializedFileWriter::new(file, schema, properties()).map_err(failed)?;
    let mut group = Group::default();
    work.each(|_, row, pictures| {
        group.add(row, pictures);
        if group.n_bytes < GROUP_BYTES && group.n_rows < GROUP_ROWS {
            return Ok(());
        }
        std::mem::take(&mut group).write(&mut writer).map_err(failed)
    })?;
    if group.n_rows > 0 {
        group.write(&mut writer).map_err(failed)?;
    }
    writer.close().map_err(failed)?;
    Ok(())
}

fn properties() -> Arc<WriterProperties> {
    let text = json!({ "dtype": "string", "_type": "Value" });
    let features = json!({ "info": { "features": {
        "id": text,
        "images": [{ "_type": "Image" }],
        "messages": [{ "role": text, "content": text }],
        "rejected": text,
        "split": text,
    } } });
    let note = KeyValue::new("huggingface".to_owned(), features.to_string());
    let bytes = ["images", "list", "element", "bytes"].map(str::to_owned);
    let bytes = ColumnPath::new(bytes.to_vec());
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_column_dictionary_enabled(bytes.clone(), false)
        .set_column_statistics_enabled(bytes, EnabledStatistics::None)
        .set_key_value_metadata(Some(vec![note]));
    Arc::new(properties.build())
}

/// Values of one column with the levels that say where they belong.
#[derive(Default)]
struct Column {
    values: Vec<ByteArray>,
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

/// Rows that are written together.
#[derive(Default)]
struct Group {
    n_rows: usize,
    n_bytes: usize,
    /// In the order of the schema.
    columns: [Column; 7],
}

impl Group {
    fn add(&mut self, row: &Row, pictures: Vec<Vec<u8>>) {
        let [id, bytes, path, role, content, rejected, split] = &mut self.columns;
        self.n_rows += 1;
        self.n_bytes += pictures.iter().map(Vec::len).sum::<usize>();
        id.values.push(row.id.as_str().into());
        path.list(pictures.iter().map(|bytes| name_of(bytes).as_str().into()));
        bytes.list(pictures.into_iter().map(ByteArray::from));
        role.list(row.messages.iter().map(|message| message.role.name().into()));
        content.list(row.messages.iter().map(|message: &Message| message.text.as_str().into()));
        rejected.option(row.rejected.as_deref());
        split.option(row.split.map(|side| side.name()));
    }

    fn write(self, writer: &mut SerializedFileWriter<BufWriter<File>>) -> Result<(), ParquetError> {
        let mut rows = writer.next_row_group()?;
        for column in self.columns {
            let Some(mut out) = rows.next_column()? else { break };
            let levels = |levels: Vec<i16>| (!levels.is_empty()).then_some(levels);
            let (definition, repetition) = (levels(column.definition), levels(column.repetition));
            out.typed::<ByteArrayType>().write_batch(
                &column.values,
                definition.as_deref(),
                repetition.as_deref(),
            )?;
            out.close()?;
        }
        rows.close()?;
        Ok(())
    }
}

impl Column {
    /// A list of structs, each with a value: levels 1 to 4 are the list, an element of it, its
    /// struct and the value in that.
    fn list(&mut self, values: impl Iterator<Item = ByteArray>) {
        let before = self.values.len();
        self.values.extend(values);
        let n = self.values.len() - before;
        self.definition.extend(if n == 0 { vec![1] } else { vec![4; n] });
        self.repetition.extend((0..n.max(1)).map(|idx| i16::from(idx > 0)));
    }

    fn option(&mut self, value: Option<&str>) {
        self.definition.push(i16::from(value.is_some()));
        self.values.extend(value.map(ByteArray::from));
    }
}
