//! LLaMA-Factory's `dataset_info.json`: which file holds which set, and what its columns and
//! roles are called.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::Error;
use crate::row::{Origin, Place, Role};

use super::detect::{self, Format};
use super::intake::{Fault, Intake};
use super::keys::Keys;
use super::scan::Piece;
use super::{conversations, parquet, table, text};

/// Its name; Hugging Face has another kind of file of the same name.
pub(crate) const NAME: &str = "dataset_info.json";

/// One set.
struct Entry {
    name: String,
    line: usize,
    settings: Map<String, Value>,
}

/// Reads the sets that are on this disk, or the one that the source names. Where `path` is a data
/// file, the entry beside it that describes it.
pub(crate) fn read(path: &Path, intake: &mut Intake) -> Result<(), Error> {
    let is_info = path.file_name().is_some_and(|name| name == NAME);
    let info = if is_info { path.to_path_buf() } else { path.with_file_name(NAME) };
    let bytes = text::read(&info)?;
    let folder = info.parent().unwrap_or(Path::new("")).to_path_buf();
    let file = Arc::new(info.clone());
    let wanted = intake.source.name.clone();
    let mut known = Vec::new();
    let mut found = false;
    for entry in entries(&bytes) {
        let data = file_of(&entry, &folder);
        let here = data.as_deref().is_some_and(Path::exists);
        let asked = wanted.as_ref().is_none_or(|name| *name == entry.name)
            && (is_info || data.as_deref() == Some(path));
        if here {
            known.push(entry.name.clone());
        }
        match data {
            Some(data) if here && asked => {
                found = true;
                read_entry(&entry, &data, intake)?;
            }
            _ if asked => {
                let message = format!("the data set `{}` is not on this disk", entry.name);
                let origin = Origin::new(&file, Place::Line(entry.line));
                intake.fault(origin, Fault::Skipped(message));
            }
            _ => {}
        }
    }
    if found || (is_info && wanted.is_none()) {
        return Ok(());
    }
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(Error::NoDataset { path: info, name: wanted.unwrap_or_default(), known })
}

/// Whether this text is LLaMA-Factory's kind.
pub(crate) fn is_info(bytes: &[u8]) -> bool {
    let entries = entries(bytes);
    let is_set = |entry: &Entry| {
        let names = ["file_name", "hf_hub_url", "ms_hub_url", "script_url", "cloud_file_name"];
        names.iter().any(|name| entry.settings.contains_key(*name))
    };
    !entries.is_empty() && entries.iter().all(is_set)
}

/// Whether a `dataset_info.json` beside this file has its columns.
pub(crate) fn describes(path: &Path) -> bool {
    let info = path.with_file_name(NAME);
    let Ok(bytes) = text::read(&info) else { return false };
    let folder = info.parent().unwrap_or(Path::new(""));
    let described = |entry: &Entry| file_of(entry, folder).as_deref() == Some(path);
    is_info(&bytes) && entries(&bytes).iter().any(described)
}

fn entries(bytes: &[u8]) -> Vec<Entry> {
    let members = Piece::whole(bytes).members().into_iter();
    let entry = |(name, piece): (String, Piece)| {
        Some(Entry { name, line: piece.line, settings: piece.parse().ok()? })
    };
    members.filter_map(entry).collect()
}

/// What stands on a hub is not on this disk, whatever else its entry says.
fn file_of(entry: &Entry, folder: &Path) -> Option<PathBuf> {
    Some(folder.join(entry.settings.get("file_name")?.as_str()?))
}

fn read_entry(entry: &Entry, data: &Path, intake: &mut Intake) -> Result<(), Error> {
    let keys = keys(&entry.settings);
    let plan = detect::plan_data(data)?;
    for file in &plan.files {
        match plan.format {
            Format::Parquet => parquet::read(file, &keys, intake)?,
            Format::Table => table::read(file, &keys, intake)?,
            Format::Conversations => conversations::read(file, &keys, intake)?,
            _ => {
                return Err(Error::Unknown {
                    path: file.clone(),
                    reason: format!("`{NAME}` describes rows, and this has none"),
                    hint: "choose the file itself",
                });
            }
        }
    }
    Ok(())
}

/// The field's habits, with what the entry says in their place.
fn keys(settings: &Map<String, Value>) -> Keys {
    let mut keys = Keys::any();
    let text = |group: &str, name: &str| {
        let value = settings.get(group)?.get(name)?.as_str()?;
        Some(vec![value.to_owned()])
    };
    // Without a word, the form is Alpaca's, whose rows have no list of messages.
    let is_sharegpt = settings.get("formatting").and_then(Value::as_str) == Some("sharegpt");
    if is_sharegpt {
        keys.question.clear()
    } else {
        keys.messages.clear()
    }
    let columns: [(&str, &mut Vec<String>); 9] = [
        ("messages", &mut keys.messages),
        ("images", &mut keys.images),
        ("prompt", &mut keys.question),
        ("query", &mut keys.query),
        ("response", &mut keys.answer),
        ("history", &mut keys.history),
        ("system", &mut keys.system),
        ("chosen", &mut keys.chosen),
        ("rejected", &mut keys.rejected),
    ];
    for (name, place) in columns {
        if let Some(column) = text("columns", name) {
            *place = column;
        }
    }
    for (name, place) in [("role_tag", &mut keys.role), ("content_tag", &mut keys.content)] {
        if let Some(tag) = text("tags", name) {
            *place = tag;
        }
    }
    let roles = [
        ("user_tag", "human", Role::User),
        ("assistant_tag", "gpt", Role::Assistant),
        ("system_tag", "system", Role::System),
    ];
    if is_sharegpt && settings.contains_key("tags") {
        let named = |(tag, usual, role): (&str, &str, Role)| {
            let name = text("tags", tag).and_then(|mut names| names.pop());
            (name.unwrap_or_else(|| usual.to_owned()), role)
        };
        keys.roles = roles.into_iter().map(named).collect();
    }
    keys
}
