//! A folder with `data.jsonl` in LLaVA's form and `images`, each picture once, named by its
//! content.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Error;
use crate::picture::{extension, fingerprint};
use crate::row::{Role, Row};

use super::Work;

pub(super) fn write(work: &mut Work, folder: &Path) -> Result<(), Error> {
    let images = folder.join("images");
    std::fs::create_dir_all(&images).map_err(Error::write(&images))?;
    let path = folder.join("data.jsonl");
    let mut out = BufWriter::new(File::create(&path).map_err(Error::write(&path))?);
    work.each(|_, row, pictures| {
        let mut names = Vec::new();
        for bytes in pictures {
            let name = name_of(&bytes);
            let path = images.join(&name);
            if !path.exists() {
                std::fs::write(&path, bytes).map_err(Error::write(&path))?;
            }
            names.push(format!("images/{name}"));
        }
        let line = line(row, names);
        writeln!(out, "{line}").map_err(Error::write(&path))
    })?;
    out.flush().map_err(Error::write(&path))
}

/// "3f2a....jpg"
pub(super) fn name_of(bytes: &[u8]) -> String {
    let head: String = fingerprint(bytes)[..16].iter().map(|b| format!("{b:02x}")).collect();
    format!("{head}.{}", extension(bytes))
}

fn line(row: &Row, mut names: Vec<String>) -> Value {
    let mut line = Map::new();
    line.insert("id".into(), row.id.clone().into());
    match names.len() {
        0 => {}
        1 => _ = line.insert("image".into(), names.remove(0).into()),
        _ => _ = line.insert("image".into(), names.into()),
    }
    let turn = |role: Role, text: &str| {
        let from = match role {
            Role::User => "human",
            Role::Assistant => "gpt",
            Role::System => "system",
        };
        json!({ "from": from, "value": text })
    };
    let turns = row.messages.iter().map(|message| turn(message.role, &message.text));
    line.insert("conversations".into(), turns.collect::<Vec<_>>().into());
    if let Some(rejected) = &row.rejected {
        line.insert("rejected".into(), rejected.clone().into());
    }
    if let Some(split) = row.split {
        line.insert("split".into(), split.name().into());
    }
    line.into()
}
