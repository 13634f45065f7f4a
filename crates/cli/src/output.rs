//! Files are replaced whole or not at all, and a full disk is said as one.
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::problem::Problem;

/// Writes `bytes` to `path` by way of a temporary file beside it.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Problem> {
    let special = path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
    let result = if special { std::fs::write(path, bytes) } else { replace(path, bytes) };
    result.map_err(|error| unwritable(path, &error))
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().ok_or(ErrorKind::IsADirectory)?.to_os_string();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let written = std::fs::File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&partial, path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// A write that failed, with what to do about it.
pub fn unwritable(path: &Path, error: &std::io::Error) -> Problem {
    let hint = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "The disk is full: free some space, or write to another disk."
        }
        ErrorKind::NotFound => "Create the folder first, or name another.",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "Choose a folder in which you may write."
        }
        _ => "Choose another place to write to.",
    };
    Problem::new(format!("cannot write {}: {error}", path.display()), hint)
}
