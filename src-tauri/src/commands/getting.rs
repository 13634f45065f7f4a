//! The commands about models that can be got and those that are there.
use app::App;
use app::api::{ApiError, LibraryChange, LibrarySettings, LibraryView, Look, Transfer, Verified};
use tauri::ipc::Channel;
use tauri::{State, WebviewWindow};

use super::blocking;
use crate::dialogs;

#[tauri::command]
pub async fn library(app: State<'_, App>) -> Result<LibraryView, ApiError> {
    let app = app.inner().clone();
    blocking(move || Ok(app.library_view())).await
}

#[tauri::command]
pub async fn look_model(app: State<'_, App>, name: String) -> Result<Look, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.look_at_model(&name)).await
}

#[tauri::command]
pub async fn pull_model(
    app: State<'_, App>,
    name: String,
    on_event: Channel<Transfer>,
) -> Result<String, ApiError> {
    let app = app.inner().clone();
    let mut hear = move |transfer: &Transfer| on_event.send(transfer.clone()).is_ok();
    blocking(move || Ok(app.pull_model(&name, &mut hear)?.display().to_string())).await
}

#[tauri::command]
pub fn stop_model(app: State<'_, App>, name: String) {
    app.library().stop(&name);
}

#[tauri::command]
pub async fn verify_model(
    app: State<'_, App>,
    name: String,
    repair: bool,
    on_event: Channel<Transfer>,
) -> Result<Verified, ApiError> {
    let app = app.inner().clone();
    let mut hear = move |transfer: &Transfer| on_event.send(transfer.clone()).is_ok();
    blocking(move || app.library().verify(&name, repair, &mut hear)).await
}

#[tauri::command]
pub async fn remove_model(app: State<'_, App>, name: String) -> Result<Vec<String>, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.remove_model(&name)).await
}

#[tauri::command]
pub async fn pick_import(
    window: WebviewWindow,
    app: State<'_, App>,
    copy: bool,
) -> Result<Option<String>, ApiError> {
    let app = app.inner().clone();
    let Some(folder) = dialogs::model_folder(&window).await else { return Ok(None) };
    blocking(move || app.library().import(&folder, None, copy, &mut |_| true).map(Some)).await
}

#[tauri::command]
pub async fn set_library(
    app: State<'_, App>,
    change: LibraryChange,
) -> Result<LibrarySettings, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.library().set_settings(change)).await
}

#[tauri::command]
pub async fn pick_models_folder(
    window: WebviewWindow,
    app: State<'_, App>,
) -> Result<Option<LibrarySettings>, ApiError> {
    let app = app.inner().clone();
    let Some(folder) = dialogs::models_folder(&window).await else { return Ok(None) };
    let folder = Some(folder.display().to_string());
    let change = LibraryChange { folder, ..Default::default() };
    blocking(move || app.library().set_settings(change).map(Some)).await
}
