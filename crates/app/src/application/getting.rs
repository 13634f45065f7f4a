//! Getting models beside the one that answers: the library, told which model that is.

use std::path::PathBuf;

use crate::api::{ApiError, LibraryView, Look, Transfer};
use crate::failure::failure;
use crate::library::Library;
use crate::models;

use super::{App, lock};

impl App {
    /// Settings, verification and import, which do not ask what answers now.
    pub fn library(&self) -> &Library {
        &self.shared.library
    }

    /// The models' page, without asking any server.
    pub fn library_view(&self) -> LibraryView {
        let current = self.loaded().map(|loaded| loaded.folder);
        self.shared.library.view(current.as_deref(), self.held())
    }

    /// What a download would bring and need, with weights held as they are held now.
    pub fn look_at_model(&self, name: &str) -> Result<Look, ApiError> {
        self.shared.library.look(name, self.held())
    }

    /// Downloads a model; see [`Library::pull`]. Returns what is to be opened.
    pub fn pull_model(
        &self,
        name: &str,
        on: &mut dyn FnMut(&Transfer) -> bool,
    ) -> Result<PathBuf, ApiError> {
        self.shared.library.pull(name, self.held(), on)
    }

    /// Removes a model that is not the one that answers; see [`Library::remove`].
    pub fn remove_model(&self, name: &str) -> Result<Vec<String>, ApiError> {
        let current = self.loaded().map(|loaded| loaded.folder);
        let there = self.shared.library.store().find(name);
        if let (Some(current), Ok(model)) = (current, there)
            && models::same(&current, model.model())
        {
            let message = format!("{name} is the model that answers now");
            return Err(failure("model_in_use", message, "Open another model first."));
        }
        self.shared.library.remove(name)
    }

    fn held(&self) -> vlm::Quantization {
        lock(&self.shared.model).quantization
    }
}
