//! The folder of the user's models: what is there, what is half there, what goes.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::fetch::{forget, part_of};
use crate::files::{check_name, length, read_json};
use crate::manifest::{self, Installed, MANIFEST, Manifest};
use crate::meter::{Meter, Phase};
use crate::pull::{PLAN, arrived};
use crate::{Disk, Error, OnProgress, Plan};

/// What has not arrived as a whole is here and nowhere else.
const HIDDEN: &str = ".pulling";

/// A folder of models.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    root: PathBuf,
}

/// A model of which a part has arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Paused {
    pub plan: Plan,
    /// Bytes that are there.
    pub done: u64,
}

impl Store {
    /// The store in this folder, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Store {
        Store { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a model of this name is once it is complete.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn pulling(&self, name: &str) -> PathBuf {
        self.root.join(HIDDEN).join(name)
    }

    /// Every model with a manifest, by name.
    pub fn installed(&self) -> Vec<Installed> {
        let read = |folder: &PathBuf| Installed::read(folder).ok().flatten();
        folders(&self.root).iter().filter_map(read).collect()
    }

    /// The names of models whose manifest cannot be read.
    pub fn unreadable(&self) -> Vec<String> {
        let broken = |folder: &PathBuf| Installed::read(folder).is_err();
        let folders = folders(&self.root).into_iter().filter(broken);
        folders.filter_map(|f| Some(f.file_name()?.to_string_lossy().into_owned())).collect()
    }

    /// Every model of which a part has arrived, by name.
    pub fn paused(&self) -> Vec<Paused> {
        let read = |folder: PathBuf| {
            let plan: Plan = read_json(&folder.join(PLAN)).ok()??;
            let done = arrived(&folder, &plan.files);
            Some(Paused { plan, done })
        };
        folders(&self.root.join(HIDDEN)).into_iter().filter_map(read).collect()
    }

    /// The model of this name. Errors: there is none that Sightline put there.
    pub fn find(&self, name: &str) -> Result<Installed, Error> {
        check_name(name)?;
        let missing = || Error::NoModel { name: name.into(), folder: self.root.clone() };
        Installed::read(&self.folder(name))?.ok_or_else(missing)
    }

    /// Whether there is something of this name that can be removed: a model, whole or not.
    ///
    /// Errors: there is not.
    pub fn check_there(&self, name: &str) -> Result<(), Error> {
        match self.find(name) {
            Err(error @ Error::Name { .. }) => Err(error),
            Err(error @ Error::NoModel { .. }) if !self.pulling(name).is_dir() => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes up the user's own folder, or the `.gguf` files of a folder, under `name`: registers
    /// it where it is, or copies `files`, paths below `from`. The caller has checked that they are
    /// a model. `opens` is what is to be opened: `from`, or a file in it.
    ///
    /// Errors: the name is taken; the disk is too small; cancelled.
    pub fn import(
        &self,
        disk: &Disk,
        name: &str,
        (from, opens, files): (&Path, &Path, &[String]),
        copy: bool,
        on: OnProgress,
    ) -> Result<Installed, Error> {
        check_name(name)?;
        let _alone = self.lock(name)?;
        let folder = self.folder(name);
        if folder.exists() {
            return Err(taken(&folder, "a model of this name", "choose another name"));
        }
        let listed = manifest::list(from, files, &mut *on)?;
        let at = std::path::absolute(opens).map_err(Error::read(opens))?;
        let hidden = self.pulling(name);
        std::fs::create_dir_all(&hidden).map_err(Error::write(&hidden))?;
        let all = listed.iter().map(|file| file.size).sum();
        if copy {
            let free = (disk.free)(&hidden).unwrap_or(u64::MAX);
            if free < all {
                return Err(Error::DiskTooSmall { folder: self.root.clone(), needs: all, free });
            }
            let mut meter = Meter::new(all, Phase::Copying, on);
            let mut done = 0;
            for file in &listed {
                meter.begin(Phase::Copying, &file.path, done)?;
                copy_file(disk, (&from.join(&file.path), &hidden.join(&file.path)), &mut meter)?;
                done += file.size;
            }
        }
        let manifest = Manifest {
            name: name.into(),
            origin: None,
            licence: None,
            at: (!copy).then_some(at),
            files: listed,
        };
        let model = Installed { manifest, folder: hidden.clone() };
        model.write()?;
        std::fs::rename(&hidden, &folder).map_err(Error::write(&folder))?;
        Ok(Installed { folder, ..model })
    }

    /// Removes a model: the files its manifest lists and nothing else; of a registered one only the
    /// manifest. Of one whose manifest cannot be read those that are named as a model's. Also what
    /// has arrived of one that is not complete. Returns what stayed in its folder because somebody
    /// else put it there.
    ///
    /// Errors: no such model; it is being fetched.
    pub fn remove(&self, name: &str) -> Result<Vec<String>, Error> {
        check_name(name)?;
        let _alone = self.lock(name)?;
        let hidden = self.pulling(name);
        let half = hidden.is_dir();
        if half {
            std::fs::remove_dir_all(&hidden).map_err(Error::write(&hidden))?;
        }
        let folder = self.folder(name);
        let listed = match self.find(name) {
            Ok(model) if model.manifest.at.is_some() => Vec::new(),
            Ok(model) => {
                let paths = model.manifest.files.iter();
                let both = paths.map(|f| [model.path_of(f), part_of(&model.folder, &f.path)]);
                both.flatten().collect()
            }
            Err(Error::NoModel { .. }) if half => return Ok(Vec::new()),
            Err(Error::Manifest { .. } | Error::Read { .. }) => named_as_a_models(&folder),
            Err(error) => return Err(error),
        };
        // First of all it stops being a model.
        forget(&folder.join(MANIFEST))?;
        listed.iter().try_for_each(|path| forget(path))?;
        sweep(&folder);
        let left = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        Ok(left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }

    /// `Some` where the plan's model is complete already; an error where something else is there.
    pub(crate) fn free_for(&self, plan: &Plan) -> Result<Option<Installed>, Error> {
        let folder = self.folder(&plan.name);
        let there = Installed::read(&folder)?;
        let Some(there) = there else {
            if folder.exists() {
                let what = "Sightline did not put it there";
                return Err(taken(&folder, what, "rename or import it, then try again"));
            }
            return Ok(None);
        };
        match &there.manifest.origin {
            Some(origin) if origin.repo == plan.repo && origin.commit == plan.commit => {
                match there.is_whole() {
                    true => Ok(Some(there)),
                    false => Err(taken(&folder, "it is damaged", "verify and repair it")),
                }
            }
            Some(origin) => {
                let commit = origin.commit.get(..8).unwrap_or(&origin.commit);
                let what = format!("{} at {commit}", origin.repo);
                Err(taken(&folder, &what, "remove it first to get this one"))
            }
            None => Err(taken(&folder, "an imported model", "remove it first to get this one")),
        }
    }

    /// Keeps others from the same model for as long as the result lives.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock, Error> {
        let hidden = self.root.join(HIDDEN);
        let path = hidden.join(format!("{name}.lock"));
        for _ in 0..LOCK_TRIES {
            std::fs::create_dir_all(&hidden).map_err(Error::write(&hidden))?;
            let file = File::options().create(true).append(true).open(&path);
            let file = file.map_err(Error::write(&path))?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => break,
                // A disk that knows no locks is used without.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            // Whoever held it may have removed it after it was opened here.
            if is_still_at(&file, &path) {
                return Ok(Lock { path, _file: file });
            }
        }
        Err(Error::Busy { name: name.into() })
    }
}

/// How often a lock is tried that others remove meanwhile.
const LOCK_TRIES: usize = 16;

/// A lock that is held, and leaves no file behind.
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still held, so that nobody else's file goes. One that stays does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(unix)]
fn is_still_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |about: std::fs::Metadata| (about.dev(), about.ino());
    let (own, there) = (file.metadata().ok().map(place), std::fs::metadata(path).ok().map(place));
    own.is_some() && own == there
}

#[cfg(not(unix))]
fn is_still_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Files of a folder and those in it that are named as a model's.
fn named_as_a_models(folder: &Path) -> Vec<PathBuf> {
    const ENDS: [&str; 6] = [".json", ".jinja", ".safetensors", ".gguf", ".model", ".part"];
    const NAMES: [&str; 6] =
        ["merges.txt", "vocab.txt", "README.md", "LICENSE", "LICENSE.txt", "NOTICE"];
    let is_one = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_file() && (NAMES.contains(&&*name) || ENDS.iter().any(|end| name.ends_with(end)))
    };
    let inside = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let inner = folders(folder).into_iter().flat_map(|folder| inside(&folder));
    inside(folder).into_iter().chain(inner).filter(is_one).collect()
}

fn taken(folder: &Path, what: &str, hint: &str) -> Error {
    Error::Taken { folder: folder.to_path_buf(), what: what.into(), hint: hint.into() }
}

fn copy_file(disk: &Disk, (from, to): (&Path, &Path), meter: &mut Meter) -> Result<(), Error> {
    use std::io::Read;
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(Error::write(parent))?;
    }
    forget(to)?;
    let mut source = File::open(from).map_err(Error::read(from))?;
    let mut out = (disk.append)(to).map_err(Error::write(to))?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        match source.read(&mut chunk).map_err(Error::read(from))? {
            0 => break,
            n => {
                out.write_all(&chunk[..n]).map_err(Error::write(to))?;
                meter.add(n as u64)?;
            }
        }
    }
    out.flush().map_err(Error::write(to))?;
    match length(from) == length(to) {
        true => Ok(()),
        false => Err(Error::Damaged {
            file: to.display().to_string(),
            kind: "size",
            expected: length(from).to_string(),
            found: length(to).to_string(),
        }),
    }
}

/// Removes a folder and those in it, as far as they are empty.
fn sweep(folder: &Path) {
    for inner in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if inner.path().is_dir() {
            sweep(&inner.path());
        }
    }
    // Refused where something is in it, which is what is wanted.
    let _ = std::fs::remove_dir(folder);
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    folders
}
