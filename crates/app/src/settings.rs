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
}

/// Where the window keeps its choices.
pub fn settings_file() -> PathBuf {
    models::data_folder().join("settings.json")
}

pub(crate) fn read(path: &Path) -> Settings {
    let text = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

pub(crate) fn write(path: &Path, settings: &Settings) {
    let _ = eval::stored::write(path, settings);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_written_and_nonsense_counts_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new").join("settings.json");
        assert_eq!(read(&path), Settings::default());
        let settings = Settings { quantization: vlm::Quantization::Q4_0 };
        write(&path, &settings);
        assert_eq!(read(&path), settings);
        for nonsense in ["", "[]", "{\"quantization\": \"q5\"}"] {
            std::fs::write(&path, nonsense).expect("a file");
            assert_eq!(read(&path), Settings::default(), "{nonsense}");
        }
        std::fs::write(&path, "{\"later\": 1, \"quantization\": \"q8_0\"}").expect("a file");
        assert_eq!(read(&path).quantization, vlm::Quantization::Q8_0);
    }
}
