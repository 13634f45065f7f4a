//! The user's own model, checked before it is taken up: settings that this version can open, and
//! weights that are whole and fit them.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::gguf_file;
use hub::Disk;
use vlm::dual_encoder::DualEncoder;

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
        let sole = sole_gguf(path);
        let path = sole.as_deref().unwrap_or(path);
        let is_file = path.is_file();
        let (from, files) = if is_file { gguf(path)? } else { folder(path)? };
        let usual = match is_file {
            true => path.file_stem().map(|stem| stem.to_string_lossy().into_owned()),
            false => Some(models::name_of(path)),
        };
        let name = name.map(str::to_owned).or(usual.map(|name| tidy(&name))).unwrap_or_default();
        self.job(&name, on, |tell, _| {
            let what = (from.as_path(), path, &files[..]);
            let imported = self.store().import(&Disk::default(), &name, what, copy, tell);
            imported.map(|model| model.manifest.name).map_err(|error| hub_error(&error))
        })
    }
}

/// The one language model among the `.gguf` files of a folder that has no `config.json`.
fn sole_gguf(folder: &Path) -> Option<PathBuf> {
    if folder.join("config.json").exists() {
        return None;
    }
    let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let mut models = entries.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        name.ends_with(".gguf") && !name.contains("mmproj")
    });
    models.next().filter(|_| models.next().is_none())
}

/// A name that a folder can have.
fn tidy(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._+".contains(c) { c } else { '-' };
    name.trim_start_matches('.').chars().map(plain).collect()
}

/// A model folder as Hugging Face writes it, and the files in it that make the model.
fn folder(path: &Path) -> Result<(PathBuf, Vec<String>), ApiError> {
    if !path.join("config.json").is_file() {
        return Err(failure(
            "model_missing",
            format!("{} is not a model folder: it has no config.json", path.display()),
            "Choose the folder that holds config.json, tokenizer.json and *.safetensors, or a \
             .gguf file.",
        ));
    }
    check_folder(path).map_err(|error| api_error(&error))?;
    let decides = |name: &str| {
        let ends = [".json", ".jinja", ".safetensors", ".txt", ".md", ".model"];
        ends.iter().any(|end| name.ends_with(end)) && name != "manifest.json"
    };
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let names = files.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| decides(name)).collect();
    names.sort();
    Ok((path.to_path_buf(), names))
}

/// Whether settings, vocabulary and weights are there and fit each other.
fn check_folder(path: &Path) -> Result<(), vlm::Error> {
    match vlm::Config::load(path) {
        Ok(config) => {
            vlm::processor::Processor::load(path, &config)?;
            vlm::Vlm::check(path)
        }
        Err(vlm::Error::DualEncoder { .. }) => DualEncoder::load(path, &Device::Cpu).map(drop),
        Err(error) => Err(error),
    }
}

/// A `.gguf` file and the one companion beside it, where there is exactly one.
fn gguf(path: &Path) -> Result<(PathBuf, Vec<String>), ApiError> {
    check_gguf(path)?;
    let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).to_path_buf();
    let name_of = |path: &Path| {
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let mut files = vec![name_of(path)];
    let is_companion =
        |name: &String| name.to_lowercase().contains("mmproj") && name.ends_with(".gguf");
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let companions: Vec<String> =
        entries.map(|entry| name_of(&entry.path())).filter(is_companion).collect();
    if let [companion] = &companions[..]
        && *companion != files[0]
    {
        check_gguf(&folder.join(companion))?;
        files.push(companion.clone());
    }
    Ok((folder, files))
}

/// Whether its header can be read and every tensor lies inside the file.
fn check_gguf(path: &Path) -> Result<(), ApiError> {
    let wrong = |reason: String| {
        let message = format!("{} is not a whole GGUF file: {reason}", path.display());
        failure("model_weights", message, "Copy or download it again.")
    };
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let length = file.metadata().map_err(|error| wrong(error.to_string()))?.len();
    let content = gguf_file::Content::read(&mut BufReader::new(file));
    let content = content.map_err(|error| wrong(error.to_string()))?;
    for (name, tensor) in &content.tensor_infos {
        let kind = tensor.ggml_dtype;
        let n_blocks = tensor.shape.elem_count() / kind.block_size().max(1);
        let bytes = (n_blocks * kind.type_size()) as u64;
        let end = content.tensor_data_offset.saturating_add(tensor.offset).saturating_add(bytes);
        if end > length {
            return Err(wrong(format!("it ends before its tensor {name}")));
        }
    }
    Ok(())
}
