//! What the user chose, remembered between starts in a file of the program's data folder.
//!
//! Kept here and not by a face: a model must be loaded as it was chosen before any face is there.
//! A file that cannot be read counts as none; a disk that refuses costs only the remembering.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::models;

/// The choices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    pub quantization: vlm::Quantization,
    pub models: GettingModels,
}

/// How models are got; what is absent is as the environment has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct GettingModels {
    pub folder: Option<PathBuf>,
    /// Address of a mirror of the Hub.
    pub mirror: Option<String>,
    pub proxy: Option<String>,
    /// For repositories whose terms must be accepted.
    pub token: Option<String>,
    pub offline: bool,
}

/// Where the window keeps its choices.
pub fn settings_file() -> PathBuf {
    models::data_folder().join("settings.json")
}

pub(crate) fn read(path: &Path) -> Settings {
    let text = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Changes what is in the file and leaves the rest of it.
pub(crate) fn change(path: &Path, change: impl FnOnce(&mut Settings)) {
    let mut settings = read(path);
    change(&mut settings);
    let _ = eval::stored::write(path, &settings);
    if settings.models.token.is_some() {
        keep_private(path);
    }
}

/// A token is nobody else's.
#[cfg(unix)]
fn keep_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
}

/// The data folder is the user's own there.
#[cfg(not(unix))]
fn keep_private(_: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_written_and_nonsense_counts_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new").join("settings.json");
        assert_eq!(read(&path), Settings::default());
        change(&path, |settings| settings.quantization = vlm::Quantization::Q4_0);
        change(&path, |settings| settings.models.offline = true);
        let both = read(&path);
        assert!(both.quantization == vlm::Quantization::Q4_0 && both.models.offline);
        for nonsense in ["", "[]", "{\"quantization\": \"q5\"}"] {
            std::fs::write(&path, nonsense).expect("a file");
            assert_eq!(read(&path), Settings::default(), "{nonsense}");
        }
        std::fs::write(&path, "{\"later\": 1, \"quantization\": \"q8_0\"}").expect("a file");
        assert_eq!(read(&path).quantization, vlm::Quantization::Q8_0);
    }
}
