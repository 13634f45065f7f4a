//! One tar: for each row its pictures and a JSON of the same stem.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use tar::{Builder, Header};

use crate::Error;
use crate::picture::extension;
use crate::row::Row;

use super::Work;

pub(super) fn write(work: &mut Work, path: &Path) -> Result<(), Error> {
    let file = File::create(path).map_err(Error::write(path))?;
    let mut tar = Builder::new(BufWriter::new(file));
    work.each(|idx, row, pictures| {
        let mut add = |ending: &str, bytes: &[u8]| {
            let mut header = Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            let added = tar.append_data(&mut header, format!("{idx:08}.{ending}"), bytes);
            added.map_err(Error::write(path))
        };
        let is_one = pictures.len() == 1;
        for (n, bytes) in pictures.iter().enumerate() {
            let ending = extension(bytes);
            let ending = if is_one { ending.to_owned() } else { format!("{n}.{ending}") };
            add(&ending, bytes)?;
        }
        add("json", json(row).to_string().as_bytes())
    })?;
    let mut out = tar.into_inner().map_err(Error::write(path))?;
    out.flush().map_err(Error::write(path))
}

fn json(row: &Row) -> Value {
    let turn =
        |message: &crate::Message| json!({ "role": message.role.name(), "content": message.text });
    let mut fields = Map::new();
    fields.insert("id".into(), row.id.clone().into());
    fields.insert("messages".into(), row.messages.iter().map(turn).collect::<Vec<_>>().into());
    if let Some(rejected) = &row.rejected {
        fields.insert("rejected".into(), rejected.clone().into());
    }
    if let Some(split) = row.split {
        fields.insert("split".into(), split.name().into());
    }
    fields.into()
}
