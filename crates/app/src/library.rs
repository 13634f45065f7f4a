//! [`Library`]: getting models, and keeping those that are there; what a face can do about them.
//!
//! It joins what `hub` knows of servers and files to what `vlm` knows of checkpoints: whether one
//! can be opened, and what it needs. Works without a loaded model.

mod fit;
mod importing;
mod view;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hub::{Catalogue, Client, Connection, Disk, Entry, Pace, Plan, Store};
use vlm::generate::Cancel;

use crate::api::{
    ApiError, BrokenFile, LibraryChange, LibrarySettings, Look, Transfer, TransferPhase, Verified,
};
use crate::application::lock;
use crate::failure::{failure, hub_error};
use crate::models;
use crate::settings::{self, GettingModels};

/// How to get models, where that is not as it is remembered.
#[derive(Debug, Clone, Default)]
pub struct LibraryOptions {
    /// Where the user's choices are remembered; nowhere where absent.
    pub settings: Option<PathBuf>,
    /// The folder that models are kept in.
    pub folder: Option<PathBuf>,
    pub mirror: Option<String>,
    pub proxy: Option<String>,
    pub offline: bool,
    /// How patient the network is.
    pub pace: Option<Pace>,
}

/// The models that can be got and those that are there. Clones share what is going on.
#[derive(Clone, Default)]
pub struct Library {
    options: LibraryOptions,
    running: Arc<Mutex<HashMap<String, Running>>>,
    /// Choices of a program that remembers none.
    chosen: Arc<Mutex<GettingModels>>,
}

/// A job on one model.
struct Running {
    cancel: Cancel,
    last: Transfer,
}

impl Library {
    pub fn open(options: LibraryOptions) -> Library {
        Library { options, ..Default::default() }
    }

    /// How models are got now.
    pub fn settings(&self) -> LibrarySettings {
        let chosen = self.chosen();
        LibrarySettings {
            folder: self.store().root().display().to_string(),
            mirror: chosen.mirror.unwrap_or_default(),
            proxy: chosen.proxy.unwrap_or_default(),
            offline: chosen.offline,
            has_token: chosen.token.is_some() || env("HF_TOKEN").is_some(),
        }
    }

    /// Changes and remembers how models are got. Models stay where they are.
    ///
    /// Errors: a folder that cannot be written, an address that is none; nothing is changed then.
    pub fn set_settings(&self, change: LibraryChange) -> Result<LibrarySettings, ApiError> {
        let mut next = self.chosen();
        let some = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let LibraryChange { folder, mirror, proxy, offline, token } = change;
        if let Some(folder) = folder {
            next.folder = some(folder).map(PathBuf::from);
        }
        if let Some(mirror) = mirror {
            next.mirror = some(mirror);
        }
        if let Some(proxy) = proxy {
            next.proxy = some(proxy);
        }
        if let Some(token) = token {
            next.token = some(token);
        }
        next.offline = offline.unwrap_or(next.offline);
        if let Some(folder) = &next.folder {
            check_folder(folder)?;
        }
        Client::new(&self.connection(&next)).map_err(|error| hub_error(&error))?;
        match &self.options.settings {
            Some(path) => settings::change(path, |settings| settings.models = next),
            None => *lock(&self.chosen) = next,
        }
        Ok(self.settings())
    }

    /// What a download would bring and need; asks the server.
    pub fn look(&self, name: &str, how: vlm::Quantization) -> Result<Look, ApiError> {
        let entry = entry(name)?;
        self.job(&entry.name, &mut |_| true, |_, cancel| {
            let (_, _, look) = self.planned(&entry, how, cancel)?;
            Ok(look)
        })
    }

    /// Downloads a model of the catalogue, or of `owner/name`, at once or on from where it stopped;
    /// blocks until it is there. `on` returns false when nobody listens any more, which stops it:
    /// what has arrived is kept.
    ///
    /// Errors: this version cannot open such a model; what can go wrong with a network and a disk.
    pub fn pull(
        &self,
        name: &str,
        how: vlm::Quantization,
        on: &mut dyn FnMut(&Transfer) -> bool,
    ) -> Result<PathBuf, ApiError> {
        let entry = entry(name)?;
        self.job(&entry.name, on, |tell, cancel| {
            let (client, plan, _) = self.planned(&entry, how, cancel)?;
            let pulled = hub::pull(&client, &Disk::default(), &self.store(), &plan, tell);
            Ok(pulled.map_err(|error| hub_error(&error))?.model().to_path_buf())
        })
    }

    /// Stops what is being done with a model; what has arrived is kept. Harmless where nothing is.
    pub fn stop(&self, name: &str) {
        if let Some(running) = lock(&self.running).get(name) {
            running.cancel.cancel();
        }
    }

    /// Stops everything: the window is closing.
    pub fn stop_all(&self) {
        lock(&self.running).values().for_each(|running| running.cancel.cancel());
    }

    /// Compares every file with what it was when it was fetched, and with `repair` fetches again
    /// what is broken.
    pub fn verify(
        &self,
        name: &str,
        repair: bool,
        on: &mut dyn FnMut(&Transfer) -> bool,
    ) -> Result<Verified, ApiError> {
        let store = self.store();
        self.job(name, on, |tell, _| {
            let mut found = || {
                let model = store.find(name)?;
                let broken = model.verify(&mut *tell)?;
                let repaired = repair && !broken.is_empty();
                if repaired {
                    let client = Client::new(&self.connection(&self.chosen()))?;
                    let both = (&model, &broken[..]);
                    hub::repair(&client, &Disk::default(), &store, both, &mut *tell)?;
                }
                let n_files = model.manifest.files.len() as u32;
                let broken = broken.iter().map(broken_file).collect();
                Ok(Verified { n_files, broken, repaired })
            };
            found().map_err(|error: hub::Error| hub_error(&error))
        })
    }

    /// Whether there is something of this name that `remove` would remove. Errors: there is not.
    pub fn check_there(&self, name: &str) -> Result<(), ApiError> {
        self.store().check_there(name).map_err(|error| hub_error(&error))
    }

    /// Removes a model, or what has arrived of it: the files that Sightline put there and no
    /// others. Returns those that stayed.
    pub fn remove(&self, name: &str) -> Result<Vec<String>, ApiError> {
        self.job(name, &mut |_| true, |_, _| {
            self.store().remove(name).map_err(|error| hub_error(&error))
        })
    }

    pub(crate) fn store(&self) -> Store {
        let folder = self.options.folder.clone().or(self.chosen().folder);
        Store::new(folder.unwrap_or_else(models::user_models))
    }

    fn chosen(&self) -> GettingModels {
        let remembered = self.options.settings.as_deref().map(|path| settings::read(path).models);
        remembered.unwrap_or_else(|| lock(&self.chosen).clone())
    }

    /// What is said goes before what is remembered, and that before the environment.
    fn connection(&self, chosen: &GettingModels) -> Connection {
        let said = &self.options;
        let switch = env("HF_HUB_OFFLINE").is_some_and(|value| is_on(&value));
        let or_env = |said: &Option<String>, chosen: &Option<String>, name: &str| {
            said.clone().or_else(|| chosen.clone()).or_else(|| env(name))
        };
        Connection {
            endpoint: or_env(&said.mirror, &chosen.mirror, "HF_ENDPOINT"),
            proxy: said.proxy.clone().or_else(|| chosen.proxy.clone()),
            token: or_env(&None, &chosen.token, "HF_TOKEN"),
            offline: said.offline || chosen.offline || switch,
            pace: said.pace.unwrap_or_default(),
        }
    }

    /// Asks the server what a model consists of, and whether it can be opened and fits.
    fn planned(
        &self,
        entry: &Entry,
        how: vlm::Quantization,
        cancel: &Cancel,
    ) -> Result<(Client, Plan, Look), ApiError> {
        let mut wait = || !cancel.is_cancelled();
        let client = Client::new(&self.connection(&self.chosen())).map_err(|e| hub_error(&e))?;
        let plan = Plan::of(&client, entry, &mut wait).map_err(|error| hub_error(&error))?;
        let mut read = |path| {
            let text = plan.read(&client, path, &mut wait).map_err(|error| hub_error(&error))?;
            Ok::<_, ApiError>(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
        };
        let config = read("config.json")?;
        let preprocessor = read("preprocessor_config.json")?;
        let parameters = Some(entry.parameters as f64).filter(|n| *n > 0.0);
        let fit = fit::exact(parameters, config.as_deref(), preprocessor.as_deref(), how)?;
        let store = self.store();
        let paused = store.paused().into_iter().find(|paused| paused.plan.name == plan.name);
        let look = Look {
            name: plan.name.clone(),
            repo: plan.repo.clone(),
            bytes: plan.size() as f64,
            done: paused.map_or(0.0, |paused| paused.done as f64),
            n_files: plan.files.len() as u32,
            licence: plan.licence.clone().unwrap_or_else(|| entry.licence.clone()),
            fit,
            disk_free: view::disk_free(store.root()),
        };
        Ok((client, plan, look))
    }

    /// Runs a job on one model, so that it can be seen and stopped; a second one is refused.
    fn job<T>(
        &self,
        name: &str,
        on: &mut dyn FnMut(&Transfer) -> bool,
        work: impl FnOnce(hub::OnProgress, &Cancel) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let cancel = Cancel::new();
        {
            let mut running = lock(&self.running);
            if running.contains_key(name) {
                return Err(hub_error(&hub::Error::Busy { name: name.into() }));
            }
            let job = Running { cancel: cancel.clone(), last: asking() };
            running.insert(name.into(), job);
        }
        let mut tell = |progress: &hub::Progress| {
            let transfer = transfer(progress);
            let heard = on(&transfer);
            if let Some(running) = lock(&self.running).get_mut(name) {
                running.last = transfer;
            }
            heard && !cancel.is_cancelled()
        };
        let result = work(&mut tell, &cancel);
        lock(&self.running).remove(name);
        result
    }
}

/// The catalogue's entry of this name, or a repository of the Hub.
fn entry(name: &str) -> Result<Entry, ApiError> {
    let catalogue = Catalogue::shipped().map_err(|error| hub_error(&error))?;
    if let Some(entry) = catalogue.find(name) {
        return Ok(entry.clone());
    }
    if name.contains('/') {
        return Entry::of_repo(name).map_err(|error| hub_error(&error));
    }
    Err(failure(
        "model_unknown",
        format!("the catalogue has no model `{name}`"),
        "Take a name of `sightline models list`, or a repository as OWNER/NAME.",
    ))
}

fn asking() -> Transfer {
    Transfer {
        phase: TransferPhase::Asking,
        file: String::new(),
        done: 0.0,
        all: 0.0,
        bytes_per_second: 0.0,
        seconds_left: None,
    }
}

fn transfer(progress: &hub::Progress) -> Transfer {
    let phase = match progress.phase {
        hub::Phase::Downloading => TransferPhase::Downloading,
        hub::Phase::Waiting => TransferPhase::Waiting,
        hub::Phase::Verifying => TransferPhase::Verifying,
        hub::Phase::Copying => TransferPhase::Copying,
    };
    Transfer {
        phase,
        file: progress.file.clone(),
        done: progress.done as f64,
        all: progress.all as f64,
        bytes_per_second: progress.bytes_per_second,
        seconds_left: progress.seconds_left,
    }
}

fn broken_file(broken: &hub::Broken) -> BrokenFile {
    let what = match broken.fault {
        hub::Fault::Missing => "is missing".to_owned(),
        hub::Fault::Size(bytes) => format!("is {bytes} bytes long, which is not its length"),
        hub::Fault::Content => "has another content".to_owned(),
    };
    BrokenFile { path: broken.path.clone(), what }
}

/// A folder that can be written, made where it is missing.
fn check_folder(folder: &Path) -> Result<(), ApiError> {
    let probe = folder.join(format!(".sightline-{}", std::process::id()));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&probe, b""));
    let _ = std::fs::remove_file(&probe);
    written.map_err(|error| {
        let message = format!("{} cannot hold models: {error}", folder.display());
        failure("folder_unwritable", message, "Choose a folder in which you may write.")
    })
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// A switch as the environment has it: what `huggingface_hub` takes for true.
fn is_on(value: &str) -> bool {
    ["1", "true", "yes", "on"].iter().any(|on| value.trim().eq_ignore_ascii_case(on))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_switch_of_the_environment_is_on_only_when_it_says_so() {
        for (value, on) in [
            ("1", true),
            ("true", true),
            ("YES", true),
            ("On", true),
            (" 1 ", true),
            ("0", false),
            ("false", false),
            ("no", false),
            ("off", false),
            ("", false),
            ("2", false),
        ] {
            assert_eq!(super::is_on(value), on, "{value}");
        }
    }
}
