//! Fetching a whole model, and mending one that is there.

use std::path::Path;

use crate::fetch::{Fetch, part_of};
use crate::files::{length, read_json, write_json};
use crate::manifest::{Installed, ListedFile, Manifest, Origin};
use crate::meter::{Meter, Phase};
use crate::store::Store;
use crate::{Broken, Checksum, Client, Disk, Error, OnProgress, Plan, RemoteFile};

/// What is being fetched, in the hidden folder; also how a fetch knows what it left there.
pub(crate) const PLAN: &str = "plan.json";
/// What a disk should have left afterwards.
const MARGIN: u64 = 64 << 20;

/// Fetches every file of a plan that is not there yet; the model appears when all are verified.
///
/// Errors: the disk is too small (nothing is fetched), and as one file's. What has arrived stays
/// hidden, and the next call goes on with it.
pub fn pull(
    client: &Client,
    disk: &Disk,
    store: &Store,
    plan: &Plan,
    on: OnProgress,
) -> Result<Installed, Error> {
    crate::files::check_name(&plan.name)?;
    let _alone = store.lock(&plan.name)?;
    if let Some(there) = store.free_for(plan)? {
        return Ok(there);
    }
    let folder = store.pulling(&plan.name);
    std::fs::create_dir_all(&folder).map_err(Error::write(&folder))?;
    keep_what_is_the_same(&folder, plan)?;
    check_space(disk, &folder, plan.size().saturating_sub(arrived(&folder, &plan.files)))?;
    let (repo, commit) = (plan.repo.as_str(), plan.commit.as_str());
    let fetch = Fetch { client, disk, repo, commit, folder: &folder };
    let mut meter = Meter::new(plan.size(), Phase::Downloading, on);
    let (mut files, mut done) = (Vec::new(), 0);
    for file in in_order(&plan.files) {
        meter.begin(Phase::Downloading, &file.path, done)?;
        let sha256 = fetch.file(file, &mut meter)?;
        done += file.size;
        files.push(ListedFile { path: file.path.clone(), size: file.size, sha256 });
    }
    let manifest = Manifest {
        name: plan.name.clone(),
        origin: Some(Origin { repo: repo.into(), commit: commit.into() }),
        licence: plan.licence.clone(),
        at: None,
        files,
    };
    let hidden = Installed { manifest, folder: folder.clone() };
    hidden.write()?;
    crate::fetch::forget(&folder.join(PLAN))?;
    let shown = store.folder(&plan.name);
    std::fs::rename(&folder, &shown).map_err(Error::write(&shown))?;
    Ok(Installed { folder: shown, ..hidden })
}

/// Fetches the broken files of a model again, each replaced only when the new one is verified.
///
/// Errors: the model was imported, and as one file's.
pub fn repair(
    client: &Client,
    disk: &Disk,
    store: &Store,
    (model, broken): (&Installed, &[Broken]),
    on: OnProgress,
) -> Result<(), Error> {
    let name = &model.manifest.name;
    let _alone = store.lock(name)?;
    let origin = match (&model.manifest.origin, &model.manifest.at) {
        (Some(origin), None) => origin,
        _ => return Err(Error::NoOrigin { name: name.clone() }),
    };
    let listed = |broken: &Broken| model.manifest.files.iter().find(|f| f.path == broken.path);
    let files: Vec<RemoteFile> = broken.iter().filter_map(listed).map(remote).collect();
    let size: u64 = files.iter().map(|file| file.size).sum();
    check_space(disk, &model.folder, size.saturating_sub(arrived(&model.folder, &files)))?;
    let (repo, commit, folder) = (&origin.repo, &origin.commit, &model.folder);
    let fetch = Fetch { client, disk, repo, commit, folder };
    let mut meter = Meter::new(size, Phase::Downloading, on);
    let mut done = 0;
    for file in &files {
        meter.begin(Phase::Downloading, &file.path, done)?;
        fetch.file(file, &mut meter)?;
        done += file.size;
    }
    Ok(())
}

fn remote(file: &ListedFile) -> RemoteFile {
    let checksum = Checksum::Sha256(file.sha256.clone());
    RemoteFile { path: file.path.clone(), size: file.size, checksum }
}

/// The small files first: what is wrong with them shows before hours have gone by.
fn in_order(files: &[RemoteFile]) -> Vec<&RemoteFile> {
    let mut ordered: Vec<&RemoteFile> = files.iter().collect();
    ordered.sort_by_key(|file| file.size >= 64 << 20);
    ordered
}

/// Parts of an earlier plan stay where the file is still the same one.
fn keep_what_is_the_same(folder: &Path, plan: &Plan) -> Result<(), Error> {
    let before: Option<Plan> = read_json(&folder.join(PLAN)).unwrap_or_default();
    for file in before.iter().flat_map(|before| &before.files) {
        if !plan.files.contains(file) && crate::files::is_plain_path(&file.path) {
            crate::fetch::forget(&part_of(folder, &file.path))?;
            crate::fetch::forget(&folder.join(&file.path))?;
        }
    }
    write_json(&folder.join(PLAN), plan)
}

/// Bytes of these files that are in a folder, whole or in part.
pub(crate) fn arrived(folder: &Path, files: &[RemoteFile]) -> u64 {
    let of = |file: &RemoteFile| match length(&folder.join(&file.path)) {
        size if size == file.size => size,
        _ => length(&part_of(folder, &file.path)).min(file.size),
    };
    files.iter().map(of).sum()
}

fn check_space(disk: &Disk, folder: &Path, needs: u64) -> Result<(), Error> {
    // A disk that does not say is tried.
    match (disk.free)(folder) {
        Ok(free) if free < needs.saturating_add(MARGIN) => {
            Err(Error::DiskTooSmall { folder: folder.to_path_buf(), needs, free })
        }
        _ => Ok(()),
    }
}
