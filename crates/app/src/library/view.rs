//! The models' page: what can be got, what is there, what is going on.

use std::path::Path;

use hub::{Catalogue, Disk, Entry, Installed, Paused};
use serde_json::{Value, json};

use super::{Library, fit};
use crate::api::{LibraryModel, LibraryState, LibraryView};
use crate::application::lock;
use crate::models;

impl Library {
    /// Everything that is known without a network. `current` is the folder of the model that
    /// answers, `how` the way in which weights are held.
    pub fn view(&self, current: Option<&Path>, how: vlm::Quantization) -> LibraryView {
        let store = self.store();
        let (installed, paused) = (store.installed(), store.paused());
        let known = Catalogue::shipped().map(|catalogue| catalogue.entries).unwrap_or_default();
        let mut models: Vec<LibraryModel> =
            known.iter().map(|entry| of_catalogue(entry, how)).collect();
        let index = |models: &mut Vec<LibraryModel>, name: &str| {
            models.iter().position(|model| model.name == name).unwrap_or_else(|| {
                models.push(unknown(name));
                models.len() - 1
            })
        };
        for paused in &paused {
            let idx = index(&mut models, &paused.plan.name);
            half(&mut models[idx], paused);
        }
        for there in &installed {
            let idx = index(&mut models, &there.manifest.name);
            whole(&mut models[idx], there, (current, how));
        }
        for name in store.unreadable() {
            let idx = index(&mut models, &name);
            models[idx].state = unreadable(&store.folder(&name));
        }
        for (name, running) in lock(&self.running).iter() {
            let idx = index(&mut models, name);
            models[idx].state = LibraryState::Busy(running.last.clone());
        }
        LibraryView { models, settings: self.settings(), disk_free: disk_free(store.root()) }
    }
}

fn of_catalogue(entry: &Entry, how: vlm::Quantization) -> LibraryModel {
    let sizes = entry.files.iter().map(|file| file.size).collect::<Option<Vec<u64>>>();
    let bytes = sizes.filter(|sizes| !sizes.is_empty()).map(|sizes| sizes.iter().sum::<u64>());
    let (supported, answers) = what_for(&entry.model_type);
    LibraryModel {
        name: entry.name.clone(),
        repo: Some(entry.repo.clone()),
        family: entry.family.clone(),
        parameters: Some(entry.parameters as f64),
        licence: entry.licence.clone(),
        gated: entry.gated,
        good_at: entry.good_at.clone(),
        bytes: bytes.map(|bytes| bytes as f64),
        supported,
        answers,
        fit: Some(fit::about(entry, answers, how)),
        state: LibraryState::Available,
    }
}

fn unknown(name: &str) -> LibraryModel {
    LibraryModel {
        name: name.into(),
        repo: None,
        family: String::new(),
        parameters: None,
        licence: String::new(),
        gated: false,
        good_at: Vec::new(),
        bytes: None,
        supported: true,
        answers: true,
        fit: None,
        state: LibraryState::Available,
    }
}

/// What can only be removed.
fn unreadable(folder: &Path) -> LibraryState {
    LibraryState::Installed {
        folder: folder.display().to_string(),
        current: false,
        registered: false,
        whole: false,
        repairable: false,
    }
}

fn half(model: &mut LibraryModel, paused: &Paused) {
    model.repo = Some(paused.plan.repo.clone());
    model.bytes = Some(paused.plan.size() as f64);
    let (done, all) = (paused.done as f64, paused.plan.size() as f64);
    model.state = LibraryState::Paused { done, all };
}

fn whole(
    model: &mut LibraryModel,
    there: &Installed,
    (current, how): (Option<&Path>, vlm::Quantization),
) {
    let folder = there.model();
    let files = vlm::Checkpoint::open(folder).ok();
    let read = |name: &str| Some(files.as_ref()?.json(name).ok()??.to_string());
    let (config, preprocessor) = (read("config.json"), read("preprocessor_config.json"));
    if let Ok(exact) = fit::exact(model.parameters, config.as_deref(), preprocessor.as_deref(), how)
    {
        model.fit = Some(exact);
    }
    if let Some(licence) = &there.manifest.licence {
        model.licence = licence.clone();
    }
    if let Some(config) = config.and_then(|text| serde_json::from_str::<Value>(&text).ok()) {
        let model_type = config.get("model_type").and_then(Value::as_str);
        (model.supported, model.answers) = what_for(model_type.unwrap_or_default());
    }
    model.repo = there.manifest.origin.as_ref().map(|origin| origin.repo.clone());
    model.bytes = Some(there.size() as f64);
    let registered = there.manifest.at.is_some();
    model.state = LibraryState::Installed {
        folder: folder.display().to_string(),
        current: current.is_some_and(|current| models::same(current, folder)),
        registered,
        whole: there.is_whole(),
        repairable: there.manifest.origin.is_some() && !registered,
    };
}

/// Whether this version can use such a family, and whether that is for answering. Only its name is
/// asked about: everything else may still be wrong.
fn what_for(model_type: &str) -> (bool, bool) {
    match vlm::Config::from_json(&json!({ "model_type": model_type })) {
        Err(vlm::Error::Unsupported { key, .. }) if key == "model_type" => (false, false),
        Err(vlm::Error::DualEncoder { .. }) => (true, false),
        _ => (true, true),
    }
}

/// Bytes that the disk of a folder, which need not be there yet, has left.
pub(super) fn disk_free(folder: &Path) -> Option<f64> {
    let there = folder.ancestors().find(|folder| folder.is_dir())?;
    (Disk::default().free)(there).ok().map(|free| free as f64)
}
