//! `manifest.json`: what a model folder holds and where that came from. It is written last, so that
//! a model which has one was complete and right then.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checksum::Sums;
use crate::files::{is_plain_path, length, read_json, write_json};
use crate::meter::{Meter, Phase};
use crate::{Error, OnProgress};

/// Its name in a model's folder.
pub(crate) const MANIFEST: &str = "manifest.json";

/// What a model folder holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub name: String,
    /// Where it was fetched from; absent for an imported one.
    pub origin: Option<Origin>,
    pub licence: Option<String>,
    /// The user's own folder or file that was registered where it is; absent where the files lie
    /// beside the manifest.
    pub at: Option<PathBuf>,
    pub files: Vec<ListedFile>,
}

/// A commit of a repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub repo: String,
    pub commit: String,
}

/// One file as it was when it was verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedFile {
    pub path: String,
    pub size: u64,
    pub sha256: String,
}

/// A model that is there, with the folder of its manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Installed {
    pub manifest: Manifest,
    pub folder: PathBuf,
}

/// A file that is not as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Broken {
    pub path: String,
    pub fault: Fault,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Missing,
    /// Found bytes.
    Size(u64),
    Content,
}

impl Installed {
    /// The model of this folder; `None` where Sightline did not put it there.
    ///
    /// Errors: a manifest that cannot be read, or that names files outside its folder.
    pub fn read(folder: &Path) -> Result<Option<Installed>, Error> {
        let path = folder.join(MANIFEST);
        let manifest: Option<Manifest> = read_json(&path)?;
        let Some(manifest) = manifest else { return Ok(None) };
        match manifest.files.iter().find(|file| !is_plain_path(&file.path)) {
            None => Ok(Some(Installed { manifest, folder: folder.to_path_buf() })),
            Some(file) => {
                let reason = format!("it names the file `{}`", file.path);
                Err(Error::Manifest { path, reason })
            }
        }
    }

    pub(crate) fn write(&self) -> Result<(), Error> {
        write_json(&self.folder.join(MANIFEST), &self.manifest)
    }

    /// What is to be opened: a folder, or a file that was registered.
    pub fn model(&self) -> &Path {
        self.manifest.at.as_deref().unwrap_or(&self.folder)
    }

    /// Where a listed file lies.
    pub fn path_of(&self, file: &ListedFile) -> PathBuf {
        match &self.manifest.at {
            None => self.folder.join(&file.path),
            Some(at) if at.is_file() => at.with_file_name(&file.path),
            Some(at) => at.join(&file.path),
        }
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.size).sum()
    }

    /// Whether every file is there in its length; as good as no time.
    pub fn is_whole(&self) -> bool {
        self.manifest.files.iter().all(|file| length(&self.path_of(file)) == file.size)
    }

    /// Reads every file and compares.
    pub fn verify(&self, on: OnProgress) -> Result<Vec<Broken>, Error> {
        let mut meter = Meter::new(self.size(), Phase::Verifying, on);
        let (mut broken, mut done) = (Vec::new(), 0);
        for file in &self.manifest.files {
            meter.begin(Phase::Verifying, &file.path, done)?;
            if let Some(fault) = fault(&self.path_of(file), file, &mut meter)? {
                broken.push(Broken { path: file.path.clone(), fault });
            }
            done += file.size;
        }
        Ok(broken)
    }
}

fn fault(path: &Path, file: &ListedFile, meter: &mut Meter) -> Result<Option<Fault>, Error> {
    if !path.is_file() {
        return Ok(Some(Fault::Missing));
    }
    match length(path) {
        size if size != file.size => return Ok(Some(Fault::Size(size))),
        _ => {}
    }
    let sums = Sums::of(path, &mut |n| meter.add(n).is_ok())?;
    Ok((!sums.sha256.eq_ignore_ascii_case(&file.sha256)).then_some(Fault::Content))
}

/// Lists files of a folder with their checksums, reading all of them.
pub(crate) fn list(
    folder: &Path,
    paths: &[String],
    on: OnProgress,
) -> Result<Vec<ListedFile>, Error> {
    let all = paths.iter().map(|path| length(&folder.join(path))).sum();
    let mut meter = Meter::new(all, Phase::Verifying, on);
    let (mut files, mut done) = (Vec::new(), 0);
    for path in paths {
        let full = folder.join(path);
        meter.begin(Phase::Verifying, path, done)?;
        let size = length(&full);
        let sums = Sums::of(&full, &mut |n| meter.add(n).is_ok())?;
        done += size;
        files.push(ListedFile { path: path.clone(), size, sha256: sums.sha256 });
    }
    Ok(files)
}
