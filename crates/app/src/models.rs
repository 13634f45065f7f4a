//! Where models are: those that come with the program, and the user's own.

use std::path::{Path, PathBuf};

use hub::{Installed, Store};

use crate::api::{ApiError, ModelRef};
use crate::failure::failure;

/// How to get a bigger model, in plain words.
pub(crate) fn install_text(folder: &Path) -> String {
    format!(
        "Download one under Get models. A folder that you have already (config.json, \
         tokenizer.json, *.safetensors, or *.gguf) can be put into {}, or opened where it is.",
        folder.display()
    )
}

/// The folder of the shipped model.
///
/// Errors: not found; names the places looked at.
pub fn shipped_model() -> Result<PathBuf, ApiError> {
    let places = shipped_folders();
    let found = places.iter().map(|place| place.join("nano")).find(|folder| is_model(folder));
    found.ok_or_else(|| {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        failure(
            "model_missing",
            format!("the shipped model `nano` is in none of {}", places.join(", ")),
            "Name a model folder, or set SIGHTLINE_MODELS to the folder that holds `nano`.",
        )
    })
}

/// Every model that can be opened, the shipped ones first, then those of the user's folder.
pub(crate) fn find(store: &Store, current: Option<&Path>) -> Vec<ModelRef> {
    let mut found: Vec<ModelRef> = Vec::new();
    let places = shipped_folders().into_iter().map(|place| (place, true));
    for (place, shipped) in places.chain([(store.root().to_path_buf(), false)]) {
        let Ok(entries) = std::fs::read_dir(&place) else { continue };
        let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        folders.sort();
        for folder in folders.iter().filter_map(|folder| opened(folder)) {
            let model = model_ref(&folder, shipped, current);
            if !found.iter().any(|other| same(other.folder.as_ref(), &folder)) {
                found.push(model);
            }
        }
    }
    found
}

/// What is to be opened for a folder among the models: itself, or what its manifest registers;
/// nothing where files of the manifest are missing.
fn opened(folder: &Path) -> Option<PathBuf> {
    if folder.is_file() && name_of(folder).contains("mmproj") {
        return None; // the eyes of the language model beside it
    }
    match Installed::read(folder) {
        Ok(Some(model)) => model.is_whole().then(|| model.model().to_path_buf()),
        Ok(None) => is_model(folder).then(|| folder.to_path_buf()),
        Err(_) => None,
    }
}

/// True for a folder that came with the program.
pub(crate) fn is_shipped(folder: &Path) -> bool {
    let parent = folder.canonicalize().ok().and_then(|path| Some(path.parent()?.to_path_buf()));
    let places = shipped_folders();
    parent.is_some_and(|parent| places.iter().any(|p| p.canonicalize().is_ok_and(|p| p == parent)))
}

/// A folder's own name.
pub(crate) fn name_of(folder: &Path) -> String {
    let path = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| folder.display().to_string())
}

/// Where the user's own models are kept unless another folder was chosen.
pub(crate) fn user_models() -> PathBuf {
    data_folder().join("models")
}

/// The platform's data folder of this program.
pub(crate) fn data_folder() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = var("HOME").or_else(|| var("USERPROFILE")).unwrap_or_default();
    let data = match std::env::consts::OS {
        "windows" => var("APPDATA").unwrap_or_else(|| home.join("AppData").join("Roaming")),
        "macos" => home.join("Library").join("Application Support"),
        _ => var("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local").join("share")),
    };
    data.join("sightline")
}

/// SIGHTLINE_MODELS, then beside the program as it is installed, then the checkout.
fn shipped_folders() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = Vec::new();
    let named = std::env::var_os("SIGHTLINE_MODELS").filter(|value| !value.is_empty());
    places.extend(named.map(PathBuf::from));
    if let Some(dir) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        places.push(dir.join("models"));
        places.push(dir.join("../share/sightline/models"));
        places.push(dir.join("../Resources/models"));
    }
    places.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models"));
    let tidy = |place: PathBuf| place.canonicalize().unwrap_or(place);
    places.into_iter().map(tidy).collect()
}

fn is_model(folder: &Path) -> bool {
    vlm::Checkpoint::is_there(folder)
}

/// Whether two paths lead to the same place.
pub(crate) fn same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    one == other || place(one) == place(other)
}

fn model_ref(folder: &Path, shipped: bool, current: Option<&Path>) -> ModelRef {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|f| f.path());
    let own = folder.is_file().then(|| folder.to_path_buf());
    let holds =
        |path: &PathBuf| path.extension().is_some_and(|ext| ext == "safetensors" || ext == "gguf");
    let weights = files.chain(own).filter(holds);
    let bytes: u64 = weights.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    let is_current = |open: &Path| same(open, folder);
    ModelRef {
        name: name_of(folder),
        folder: folder.display().to_string(),
        shipped,
        current: current.is_some_and(is_current),
        bytes: bytes as f64,
    }
}
