//! The user's own model, checked before it is taken up: settings that this version can open, and
//! weights that are whole and fit them.

use std::path::Path;

use candle_core::Device;
use hub::Disk;
use vlm::{Checkpoint, DualEncoder};

use super::Library;
use crate::api::{ApiError, Transfer};
use crate::failure::{api_error, failure, hub_error};
use crate::models;

impl Library {
    /// Takes up a model folder, or a `.gguf` file with its `mmproj` companion beside it: registered
    /// where it is, or copied. Blocks until every file was read once. Returns its name.
    ///
    /// Errors: not a model, or not whole; the name is taken.
    pub fn import(
        &self,
        path: &Path,
        name: Option<&str>,
        copy: bool,
        on: &mut dyn FnMut(&Transfer) -> bool,
    ) -> Result<String, ApiError> {
        if !Checkpoint::is_there(path) {
            return Err(failure(
                "model_missing",
                format!("{} is no model: it has no config.json and no *.gguf", path.display()),
                "Choose the folder that holds config.json, tokenizer.json and *.safetensors, or a \
                 .gguf file.",
            ));
        }
        let files = check(path).map_err(|error| api_error(&error))?;
        let (from, usual) = match path.is_file() {
            true => (path.parent().filter(|dir| !dir.as_os_str().is_empty()), path.file_stem()),
            false => (Some(path), None),
        };
        let from = from.unwrap_or(Path::new("."));
        let usual = usual.map(|stem| stem.to_string_lossy().into_owned());
        let usual = Some(usual.unwrap_or_else(|| models::name_of(path)));
        let name = name.map(str::to_owned).or(usual.map(|name| tidy(&name))).unwrap_or_default();
        self.job(&name, on, |tell, _| {
            let what = (from, path, &files[..]);
            let imported = self.store().import(&Disk::default(), &name, what, copy, tell);
            imported.map(|model| model.manifest.name).map_err(|error| hub_error(&error))
        })
    }
}

/// A name that a folder can have.
fn tidy(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._+".contains(c) { c } else { '-' };
    name.trim_start_matches('.').chars().map(plain).collect()
}

/// Checks that settings, vocabulary and weights are there and fit each other; returns the files
/// that make the model.
fn check(path: &Path) -> Result<Vec<String>, vlm::Error> {
    match vlm::Config::load(path) {
        Ok(config) => {
            vlm::processor::Processor::load(path, &config)?;
            vlm::Vlm::check(path)?;
        }
        Err(vlm::Error::DualEncoder { .. }) => drop(DualEncoder::load(path, &Device::Cpu)?),
        Err(error) => return Err(error),
    }
    let gguf = Checkpoint::open(path)?.gguf_files();
    if !gguf.is_empty() {
        let names = gguf.iter().filter_map(|path| path.file_name());
        return Ok(names.map(|name| name.to_string_lossy().into_owned()).collect());
    }
    let mut names = deciding(path, "");
    // A second tokenizer (InstructBLIP's) and the region encoder of the shipped model lie below.
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && (name.ends_with("tokenizer") || name == "region") {
            names.extend(deciding(&entry.path(), &format!("{name}/")));
        }
    }
    names.sort();
    Ok(names)
}

/// The files of one folder that make a model, below `prefix`.
fn deciding(folder: &Path, prefix: &str) -> Vec<String> {
    let decides = |name: &String| {
        let ends = [".json", ".jinja", ".safetensors", ".txt", ".md", ".model"];
        ends.iter().any(|end| name.ends_with(end)) && name != "manifest.json"
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let names = files.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(decides).map(|name| format!("{prefix}{name}")).collect()
}
