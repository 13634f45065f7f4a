//! The commands about the evidence of an answer, and about what a model's marks are worth.
use app::App;
use app::api::{
    AnswerRef, ApiError, CheckView, CoverRequest, CoverView, ExpertView, ExportFormat,
    LongProgress, MapRequest, RawMap, Reliability, SpotView, TestView, TrialEvent, WithoutView,
    WordSearch,
};
use tauri::ipc::Channel;
use tauri::{State, WebviewWindow};

use super::blocking;
use crate::dialogs;

#[tauri::command]
pub async fn check(app: State<'_, App>, answer: AnswerRef) -> Result<CheckView, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.check(answer)).await
}

#[tauri::command]
pub async fn cover(
    app: State<'_, App>,
    request: CoverRequest,
    on_event: Channel<TrialEvent>,
) -> Result<CoverView, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.cover(request, move |event| on_event.send(event).is_ok())).await
}

#[tauri::command]
pub async fn test(
    app: State<'_, App>,
    answer: AnswerRef,
    claim: u32,
    on_event: Channel<TrialEvent>,
) -> Result<TestView, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.test(answer, claim, move |event| on_event.send(event).is_ok())).await
}

#[tauri::command]
pub async fn without(
    app: State<'_, App>,
    answer: AnswerRef,
    on_event: Channel<TrialEvent>,
) -> Result<WithoutView, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.without(answer, move |event| on_event.send(event).is_ok())).await
}

#[tauri::command]
pub async fn spot(
    app: State<'_, App>,
    answer: AnswerRef,
    image: u32,
    at: [f32; 2],
) -> Result<SpotView, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.spot(answer, image, at)).await
}

#[tauri::command]
pub fn stop_trial(app: State<'_, App>) {
    app.stop_trial();
}

#[tauri::command]
pub async fn search_word(
    app: State<'_, App>,
    chat: u32,
    image: u32,
    query: String,
) -> Result<WordSearch, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.search_word(chat, image, &query)).await
}

#[tauri::command]
pub async fn expert(app: State<'_, App>, answer: AnswerRef) -> Result<ExpertView, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.expert(answer)).await
}

#[tauri::command]
pub async fn raw_map(app: State<'_, App>, request: MapRequest) -> Result<RawMap, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.raw_map(request)).await
}

#[tauri::command]
pub async fn export_answer(
    window: WebviewWindow,
    app: State<'_, App>,
    answer: AnswerRef,
    format: ExportFormat,
) -> Result<Option<String>, ApiError> {
    let app = app.inner().clone();
    let Some(path) = dialogs::report(&window, format).await else { return Ok(None) };
    let shown = path.display().to_string();
    blocking(move || app.export(answer, format, &path).map(|()| Some(shown))).await
}

#[tauri::command]
pub async fn reliability(app: State<'_, App>) -> Result<Reliability, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.reliability()).await
}

#[tauri::command]
pub async fn calibrate(
    app: State<'_, App>,
    on_event: Channel<LongProgress>,
) -> Result<Reliability, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.calibrate(|progress| on_event.send(progress).is_ok())).await
}

#[tauri::command]
pub async fn measure_evidence(
    app: State<'_, App>,
    on_event: Channel<LongProgress>,
) -> Result<Reliability, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.measure_evidence(|progress| on_event.send(progress).is_ok())).await
}
