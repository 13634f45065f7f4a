//! The crate from outside: every format in, every format out, everything that can be wrong, and
//! bad input of every kind.

mod formats;
mod hub;
mod preflight;
mod real;
mod robustness;
mod round_trip;
mod split;

use std::io::Cursor;
use std::path::{Path, PathBuf};

use dataset::{Error, Imported, Job, Picture, Row, Source, import};
use image::{ImageFormat, Rgb, RgbImage};
use tempfile::TempDir;

/// A small picture of its own for each number.
fn png(number: u8) -> Vec<u8> {
    let picture = RgbImage::from_fn(6, 4, |x, y| Rgb([number, x as u8 * 9, y as u8 * 7]));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).expect("a picture");
    bytes.into_inner()
}

/// A folder with these files; folders in names are made.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    }
    folder
}

fn read(path: &Path) -> Result<Imported, Error> {
    import(&Source::new(path), Job::quiet())
}

/// One line for a row: "id [cat.png] user: <image>Who? | assistant: A cat."
fn show(row: &Row) -> String {
    let name = |picture: &Picture| match picture {
        Picture::File(path) => name_of(path),
        Picture::Slice { length, .. } => format!("{length} bytes"),
        Picture::Bytes(bytes) => format!("{} bytes", bytes.len()),
    };
    let names: Vec<String> = row.pictures.iter().map(name).collect();
    let turn = |m: &dataset::Message| format!("{}: {}", m.role.name(), m.text);
    let turns: Vec<String> = row.messages.iter().map(turn).collect();
    let mut line = format!("{} [{}] {}", row.id, names.join(" "), turns.join(" | "));
    if let Some(rejected) = &row.rejected {
        line += &format!(" | not: {rejected}");
    }
    if let Some(side) = row.split {
        line += &format!(" | {}", side.name());
    }
    line
}

fn name_of(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

/// A folder of real material, or `None` with the reason printed.
fn material(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/material");
    let path = root.join(name);
    if !path.exists() {
        println!("skipped: ../shared/material/{name} is not on this machine");
        return None;
    }
    Some(path)
}
