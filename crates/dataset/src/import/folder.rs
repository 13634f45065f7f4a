//! Pictures with text files of the same name, or in folders that are named by what they show.
//!
//! `cat.jpg` beside `cat.txt` is a picture with its caption. A picture without one answers
//! "What is this?" with the name of its folder; the folders `train` and `test` are sides.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::picture::is_picture_name;
use crate::row::{Message, Origin, Place, Role};
use crate::{Error, Picture, Split};

use super::intake::{Draft, Fault, Intake};
use super::record::{DESCRIBE, WHAT};
use super::text;

/// Deep enough for what people sort by hand, and an end for links that lead in circles.
const MAX_DEPTH: usize = 8;

/// Reads all pictures of a folder and of those inside it.
pub(crate) fn read(path: &Path, intake: &mut Intake) -> Result<(), Error> {
    let files = walk(path)?;
    let pictures: Vec<&PathBuf> =
        files.iter().filter(|file| file.to_str().is_some_and(is_picture_name)).collect();
    for (idx, picture) in pictures.iter().enumerate() {
        intake.job.step(idx as u64, pictures.len() as u64)?;
        let origin = Origin::new(&Arc::new((*picture).clone()), Place::Whole);
        intake.take(origin, draft(path, picture))?;
    }
    Ok(())
}

/// Every file below a folder that is not hidden, by name.
pub(crate) fn walk(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    descend(path, MAX_DEPTH, &mut found)?;
    found.sort();
    Ok(found)
}

fn descend(path: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in std::fs::read_dir(path).map_err(Error::read(path))?.flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if !path.is_dir() {
            found.push(path);
        } else if depth > 0 {
            descend(&path, depth - 1, found)?;
        }
    }
    Ok(())
}

fn draft(root: &Path, picture: &Path) -> Result<Draft, Fault> {
    let relative = picture.strip_prefix(root).unwrap_or(picture);
    let folders = relative.parent().into_iter().flat_map(Path::iter);
    let mut folders: Vec<String> = folders.map(|f| f.to_string_lossy().into_owned()).collect();
    let split = folders.first().and_then(|first| Split::named(first));
    if split.is_some() {
        folders.remove(0);
    }
    let (question, answer) = match caption(picture)? {
        Some(caption) => (DESCRIBE, caption),
        None => (WHAT, folders.pop().ok_or("no text file of the same name is beside it")?),
    };
    let messages = vec![Message::new(Role::User, question), Message::new(Role::Assistant, answer)];
    let id = Some(relative.to_string_lossy().into_owned());
    let pictures = vec![Picture::File(picture.to_path_buf())];
    Ok(Draft { id, pictures, messages, rejected: None, split })
}

fn caption(picture: &Path) -> Result<Option<String>, Fault> {
    let names = ["txt", "caption"].map(|ending| picture.with_extension(ending));
    let Some(path) = names.into_iter().find(|path| path.is_file()) else { return Ok(None) };
    let bytes = text::read(&path).map_err(|error| error.to_string())?;
    let caption = text::utf8(&bytes).map_err(|reason| format!("{}: {reason}", path.display()))?;
    Ok(Some(caption.trim().to_owned()))
}
