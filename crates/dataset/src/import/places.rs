//! From what a row calls its picture to where that is.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use base64::Engine;

use crate::{Picture, Source};

/// Where pictures of one data file are looked for.
pub(crate) struct Places {
    /// The folder of the data file.
    base: PathBuf,
    /// What the user chose; comes first.
    pictures: Option<PathBuf>,
    /// Archives may come from anybody: their rows reach no file outside of these folders.
    closed: bool,
}

impl Places {
    pub fn beside(file: &Path, source: &Source) -> Places {
        let base = file.parent().map(Path::to_path_buf).unwrap_or_default();
        Places { base, pictures: source.pictures.clone(), closed: false }
    }

    pub fn of_archive(file: &Path, source: &Source) -> Places {
        Places { closed: true, ..Places::beside(file, source) }
    }

    /// The picture of this name: the first place that has it, or the one that should.
    ///
    /// Errors: pictures on the network, and paths that lead out of an archive.
    pub fn find(&self, name: &str) -> Result<Picture, String> {
        let name = name.trim();
        if let Some(rest) = name.strip_prefix("data:") {
            return embedded(rest);
        }
        let name = name.strip_prefix("file://").unwrap_or(name);
        if name.contains("://") {
            return Err(format!("the picture {name} is on the network; download it first"));
        }
        if self.closed && !is_inside(name) {
            return Err(format!("the picture {name} lies outside of its archive"));
        }
        let slashed = name.replace('\\', "/");
        let candidates = self.candidates(name).chain(self.candidates(&slashed));
        let found = candidates.into_iter().find(|path| path.is_file());
        let expected = || self.folders().map(|folder| folder.join(name)).next();
        let path = found.or_else(expected).unwrap_or_else(|| PathBuf::from(name));
        Ok(Picture::File(path))
    }

    fn folders(&self) -> impl Iterator<Item = &Path> {
        self.pictures.as_deref().into_iter().chain([self.base.as_path()])
    }

    /// The name as it is, then under `images`, then without its folders: data sets move, and only
    /// their file names stay.
    fn candidates<'a>(&'a self, name: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
        let bare = Path::new(name).file_name().map(PathBuf::from).unwrap_or_default();
        self.folders().flat_map(move |folder| {
            [folder.join(name), folder.join("images").join(name), folder.join(&bare)]
        })
    }
}

/// Whether a relative path stays below the folder it starts from.
pub(crate) fn is_inside(name: &str) -> bool {
    let drive = name.as_bytes().get(1) == Some(&b':');
    let slashed = name.replace('\\', "/");
    let plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
    !drive && !slashed.starts_with('/') && Path::new(&slashed).components().all(plain)
}

/// What stands behind "data:", such as "image/png;base64,iVBO...".
fn embedded(rest: &str) -> Result<Picture, String> {
    let (_, text) = rest.split_once(";base64,").ok_or("a data: picture that is not base64")?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim());
    let bytes = bytes.map_err(|error| format!("the picture's base64 is damaged: {error}"))?;
    Ok(Picture::Bytes(Arc::from(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_stay_inside() {
        for (name, inside) in [
            ("a.jpg", true),
            ("./a/b.jpg", true),
            ("../a.jpg", false),
            ("a/../../b.jpg", false),
            ("/etc/hosts", false),
            ("C:\\a.jpg", false),
            ("..\\a.jpg", false),
        ] {
            assert_eq!(is_inside(name), inside, "{name}");
        }
    }
}
