//! What lies at a path: by content where a file can be told by it, else by name.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::picture::is_picture_name;
use crate::{Error, Split};

pub(crate) use super::Format;
use super::scan::{Piece, Scanner};
use super::{llama_factory, text, vqa};

const CHOOSE: &str = "choose a JSON, JSONL, CSV, Parquet or tar file, or a folder of pictures";

/// A format with the files to read, in order.
pub(crate) struct Plan {
    pub format: Format,
    pub files: Vec<PathBuf>,
}

/// What [`crate::import`] would take this file or folder for.
///
/// Errors: nothing that is known, with the reason.
pub fn detect(path: &Path) -> Result<Format, Error> {
    plan(path).map(|plan| plan.format)
}

/// What to read, and as what.
pub(crate) fn plan(path: &Path) -> Result<Plan, Error> {
    let plan = plan_data(path)?;
    let rows = matches!(plan.format, Format::Conversations | Format::Table | Format::Parquet);
    match plan.files.as_slice() {
        [file] if rows && llama_factory::describes(file) => {
            Ok(Plan { format: Format::LlamaFactory, files: vec![file.clone()] })
        }
        _ => Ok(plan),
    }
}

/// The same, with no regard to a `dataset_info.json` that describes the file.
pub(crate) fn plan_data(path: &Path) -> Result<Plan, Error> {
    let kind = std::fs::metadata(path).map_err(Error::read(path))?;
    if kind.is_dir() {
        return folder(path);
    }
    Ok(Plan { format: file(path)?, files: vec![path.to_path_buf()] })
}

/// The side that a shard's name begins with: "test-00000-of-00002.parquet".
pub(crate) fn side_of(file: &Path) -> Option<Split> {
    let stem = file.file_name()?.to_str()?;
    Split::named(stem.split(|c: char| !c.is_alphabetic()).next()?)
}

fn unknown(path: &Path, reason: impl Into<String>, hint: &'static str) -> Error {
    Error::Unknown { path: path.to_path_buf(), reason: reason.into(), hint }
}

fn file(path: &Path) -> Result<Format, Error> {
    let mut head = Vec::new();
    let opened = File::open(path).map_err(Error::read(path))?;
    opened.take(512).read_to_end(&mut head).map_err(Error::read(path))?;
    if head.starts_with(b"PAR1") {
        return Ok(Format::Parquet);
    }
    let ending = ending(path);
    if head.get(257..262) == Some(b"ustar".as_slice()) || ending == "tar" {
        return Ok(Format::WebDataset);
    }
    if head.starts_with(b"\x1f\x8b") || head.starts_with(b"PK\x03\x04") || ending == "zst" {
        return Err(unknown(path, "it is packed", "unpack it and choose what was inside"));
    }
    match ending.as_str() {
        "parquet" => Err(Error::damaged(path, "it does not begin as Parquet does")),
        "csv" | "tsv" => Ok(Format::Table),
        "arrow" => Err(unknown(path, "it is an Arrow file", "save it as Parquet")),
        _ if head.is_empty() => Err(unknown(path, "it has 0 bytes", "get the file again")),
        _ => json(path),
    }
}

fn ending(path: &Path) -> String {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.unwrap_or_default().to_ascii_lowercase()
}

fn json(path: &Path) -> Result<Format, Error> {
    let bytes = text::read(path)?;
    let whole = Piece::whole(&bytes);
    if Scanner::open(whole, b'[').is_some() {
        return Ok(Format::Conversations);
    }
    if Scanner::open(whole, b'{').is_none() {
        return Err(unknown(path, "it is neither JSON nor JSONL", CHOOSE));
    }
    let members = whole.members();
    let get = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, piece)| *piece);
    let first = |name: &str| get(name).and_then(|piece| piece.elements().next());
    let has = |piece: Option<Piece>, name: &str| {
        piece.is_some_and(|piece| piece.members().iter().any(|(key, _)| key == name))
    };
    let note = first("annotations");
    if get("questions").is_some() || has(note, "question_id") {
        return Ok(Format::Vqa);
    }
    if get("images").is_some() && has(note, "caption") {
        return Ok(Format::CocoCaptions);
    }
    if get("images").is_some() && (has(note, "bbox") || get("categories").is_some()) {
        return Ok(Format::CocoBoxes);
    }
    if path.file_name().is_some_and(|name| name == llama_factory::NAME)
        && llama_factory::is_info(&bytes)
    {
        return Ok(Format::LlamaFactory);
    }
    let keys = super::Keys::any();
    if members.iter().any(|(key, _)| keys.knows(key)) || ending(path) == "jsonl" {
        return Ok(Format::Conversations);
    }
    let names: Vec<&str> = members.iter().take(12).map(|(key, _)| key.as_str()).collect();
    let reason = format!("its JSON has the keys {}", names.join(", "));
    Err(unknown(path, reason, "choose a file of rows, or of COCO or VQA annotations"))
}

fn folder(path: &Path) -> Result<Plan, Error> {
    let files = files_in(path)?;
    let info = path.join(llama_factory::NAME);
    if info.is_file() && text::read(&info).is_ok_and(|bytes| llama_factory::is_info(&bytes)) {
        return Ok(Plan { format: Format::LlamaFactory, files: vec![info] });
    }
    let with = |files: &[PathBuf], endings: &[&str]| -> Vec<PathBuf> {
        let fits = |file: &&PathBuf| endings.contains(&ending(file).as_str());
        files.iter().filter(fits).cloned().collect()
    };
    let inner = path.join("data");
    let inner = if inner.is_dir() { files_in(&inner)? } else { Vec::new() };
    for files in [&files, &inner] {
        for (endings, format) in [("parquet", Format::Parquet), ("tar", Format::WebDataset)] {
            let files = with(files, &[endings]);
            if !files.is_empty() {
                return Ok(Plan { format, files });
            }
        }
    }
    let mut data = with(&files, &["json", "jsonl", "csv", "tsv"]);
    data.retain(|file| file.file_name().is_some_and(|name| name != llama_factory::NAME));
    match data.as_slice() {
        [] => pictures(path),
        [one] => Ok(Plan { format: file(one)?, files: data }),
        [one, ..] => several(path, file(one)?, data),
    }
}

/// Many data files go together as sides of one set, or as the two halves of VQA.
fn several(path: &Path, format: Format, data: Vec<PathBuf>) -> Result<Plan, Error> {
    if format == Format::Vqa && data.iter().all(|one| file(one).is_ok_and(|f| f == Format::Vqa)) {
        let files = data.into_iter().filter(|file| vqa::is_questions(file)).collect();
        return Ok(Plan { format, files });
    }
    if data.iter().all(|one| side_of(one).is_some() && file(one).is_ok_and(|f| f == format)) {
        return Ok(Plan { format, files: data });
    }
    let names: Vec<_> = data.iter().take(8).filter_map(|file| file.file_name()?.to_str()).collect();
    let reason = format!("it has several data files ({})", names.join(", "));
    Err(unknown(path, reason, "choose one of them"))
}

fn pictures(path: &Path) -> Result<Plan, Error> {
    let any =
        super::folder::walk(path)?.iter().any(|file| file.to_str().is_some_and(is_picture_name));
    if any {
        return Ok(Plan { format: Format::Folder, files: vec![path.to_path_buf()] });
    }
    Err(unknown(path, "the folder has no data file and no pictures", CHOOSE))
}

/// Files of one folder without the hidden ones, by name.
fn files_in(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = std::fs::read_dir(path).map_err(Error::read(path))?;
    let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    let shown = |path: &PathBuf| {
        !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
    };
    let mut files: Vec<PathBuf> = files.filter(shown).collect();
    files.sort();
    Ok(files)
}
