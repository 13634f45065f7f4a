//! Small files written whole or not at all, and names that stay inside their folder.

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// True for a name that is one part of a path and means the same on every system.
pub(crate) fn is_plain(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(known)
}

/// The same for a path of few such names with slashes between.
pub(crate) fn is_plain_path(path: &str) -> bool {
    path.split('/').count() <= 3 && path.split('/').all(is_plain)
}

pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if is_plain(name) { Ok(()) } else { Err(Error::Name { name: name.into() }) }
}

/// Writes JSON beside `path`, brings it to the disk, and renames it.
pub(crate) fn write_json(path: &Path, content: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(content).map_err(|e| Error::write(path)(e.into()))?;
    let part = path.with_extension("json.part");
    let written = std::fs::File::create(&part)
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&part);
    }
    written.map_err(Error::write(path))
}

/// `None` where there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::read(path)(error)),
    };
    let wrong = |error: serde_json::Error| Error::Manifest {
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    serde_json::from_slice(&text).map(Some).map_err(wrong)
}

/// Length of a file; 0 where there is none.
pub(crate) fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |about| about.len())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_stays_inside_its_folder() {
        for (name, plain) in [
            ("model.safetensors", true),
            ("SmolVLM-256M_x+1", true),
            ("", false),
            ("..", false),
            (".hidden", false),
            ("a/b", false),
            ("a\\b", false),
            ("C:x", false),
            ("é", false),
        ] {
            assert_eq!(super::is_plain(name), plain, "{name}");
        }
    }
}
