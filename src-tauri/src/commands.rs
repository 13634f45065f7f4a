//! The commands that the page may call. Each hands over to one function of [`App`] on a thread
//! that may block, and returns its result or its [`ApiError`] as it is.
mod evidence;
mod getting;

use std::path::PathBuf;
use std::sync::Mutex;

use app::App;
use app::api::{
    ApiError, AppState, AskEvent, AskOptions, AskRequest, ImageRef, ModelCard, ModelRef, Progress,
    Quantization, QuantizationCard,
};
use serde::Serialize;
use tauri::ipc::{Channel, Invoke, InvokeBody, Request};
use tauri::{State, WebviewWindow, Wry};

use crate::dialogs;

/// What became of each file of a batch.
#[derive(Debug, Default, Serialize)]
pub struct Attached {
    images: Vec<ImageRef>,
    pub errors: Vec<ApiError>,
}

/// What went wrong with the pictures of the command line, until the page asks.
pub struct Missed(Mutex<Vec<ApiError>>);

impl Missed {
    pub fn new(errors: Vec<ApiError>) -> Missed {
        Missed(Mutex::new(errors))
    }

    /// They are told once.
    fn take(&self) -> Vec<ApiError> {
        self.0.lock().map(|mut errors| std::mem::take(&mut *errors)).unwrap_or_default()
    }
}

/// Everything the page needs to draw itself, and what it should tell the user at the start.
#[derive(Serialize)]
pub struct Start {
    #[serde(flatten)]
    state: AppState,
    notices: Vec<ApiError>,
}

/// All commands; `build.rs` and `capabilities/main.json` list the same names.
pub fn handler() -> impl Fn(Invoke<Wry>) -> bool + Send + Sync + 'static {
    tauri::generate_handler![
        state,
        loaded,
        models,
        open_model,
        pick_model,
        quantization,
        set_quantization,
        measure_quantization,
        cancel_measuring,
        getting::library,
        getting::look_model,
        getting::pull_model,
        getting::stop_model,
        getting::verify_model,
        getting::remove_model,
        getting::pick_import,
        getting::set_library,
        getting::pick_models_folder,
        pick_images,
        attach_paths,
        attach_bytes,
        forget_image,
        new_chat,
        ask,
        regenerate,
        cancel,
        evidence::check,
        evidence::cover,
        evidence::test,
        evidence::without,
        evidence::spot,
        evidence::stop_trial,
        evidence::search_word,
        evidence::expert,
        evidence::raw_map,
        evidence::export_answer,
        evidence::reliability,
        evidence::calibrate,
        evidence::measure_evidence
    ]
}

/// Opens every picture that can be opened and says why the others could not.
pub fn attach(app: &App, paths: &[PathBuf]) -> Attached {
    let mut attached = Attached::default();
    for path in paths {
        match app.attach_path(path) {
            Ok(image) => attached.images.push(image),
            Err(error) => attached.errors.push(error),
        }
    }
    attached
}

#[tauri::command]
async fn state(app: State<'_, App>, missed: State<'_, Missed>) -> Result<Start, ApiError> {
    let notices = missed.take();
    let app = app.inner().clone();
    let state = blocking(move || Ok(app.state())).await?;
    Ok(Start { state, notices })
}

#[tauri::command]
async fn loaded(app: State<'_, App>) -> Result<ModelCard, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.wait_until_loaded()).await
}

#[tauri::command]
async fn models(app: State<'_, App>) -> Result<Vec<ModelRef>, ApiError> {
    let app = app.inner().clone();
    blocking(move || Ok(app.models())).await
}

#[tauri::command]
async fn open_model(app: State<'_, App>, folder: PathBuf) -> Result<ModelCard, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.open_model(&folder)).await
}

#[tauri::command]
async fn pick_model(
    window: WebviewWindow,
    app: State<'_, App>,
    file: bool,
) -> Result<Option<ModelCard>, ApiError> {
    let app = app.inner().clone();
    let picked = match file {
        true => dialogs::model_file(&window).await,
        false => dialogs::model_folder(&window).await,
    };
    let Some(picked) = picked else { return Ok(None) };
    blocking(move || app.open_model(&picked).map(Some)).await
}

#[tauri::command]
async fn quantization(app: State<'_, App>) -> Result<QuantizationCard, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.quantization()).await
}

#[tauri::command]
async fn set_quantization(
    app: State<'_, App>,
    quantization: Quantization,
) -> Result<ModelCard, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.set_quantization(quantization)).await
}

#[tauri::command]
async fn measure_quantization(
    app: State<'_, App>,
    on_event: Channel<Progress>,
) -> Result<QuantizationCard, ApiError> {
    let app = app.inner().clone();
    blocking(move || app.measure_quantization(|progress| on_event.send(progress).is_ok())).await
}

#[tauri::command]
fn cancel_measuring(app: State<'_, App>) {
    app.cancel_measuring();
}

#[tauri::command]
async fn pick_images(window: WebviewWindow, app: State<'_, App>) -> Result<Attached, ApiError> {
    let app = app.inner().clone();
    let paths = dialogs::pictures(&window).await;
    blocking(move || Ok(attach(&app, &paths))).await
}

#[tauri::command]
async fn attach_paths(app: State<'_, App>, paths: Vec<PathBuf>) -> Result<Attached, ApiError> {
    let app = app.inner().clone();
    blocking(move || Ok(attach(&app, &paths))).await
}

/// The body is the file itself, not JSON: a paste or a file of the page.
#[tauri::command]
async fn attach_bytes(app: State<'_, App>, request: Request<'_>) -> Result<ImageRef, ApiError> {
    let InvokeBody::Raw(bytes) = request.body() else {
        return Err(unexpected("the picture did not arrive as bytes"));
    };
    let name = request.headers().get("x-name").and_then(|name| name.to_str().ok());
    let name = decoded(name.unwrap_or("pasted.png"));
    let (app, bytes) = (app.inner().clone(), bytes.clone());
    blocking(move || app.attach_bytes(&name, &bytes)).await
}

#[tauri::command]
async fn forget_image(app: State<'_, App>, id: u32) -> Result<(), ApiError> {
    let app = app.inner().clone();
    blocking(move || app.forget_image(id)).await
}

#[tauri::command]
async fn new_chat(app: State<'_, App>) -> Result<u32, ApiError> {
    let app = app.inner().clone();
    blocking(move || Ok(app.new_chat())).await
}

#[tauri::command]
async fn ask(
    app: State<'_, App>,
    request: AskRequest,
    on_event: Channel<AskEvent>,
) -> Result<(), ApiError> {
    let app = app.inner().clone();
    blocking(move || app.ask(request, move |event| on_event.send(event).is_ok())).await
}

#[tauri::command]
async fn regenerate(
    app: State<'_, App>,
    chat: u32,
    on_event: Channel<AskEvent>,
) -> Result<(), ApiError> {
    let app = app.inner().clone();
    let hear = move |event| on_event.send(event).is_ok();
    blocking(move || app.regenerate(chat, AskOptions::default(), hear)).await
}

#[tauri::command]
fn cancel(app: State<'_, App>, chat: u32) {
    app.cancel(chat);
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(unexpected(&error.to_string())),
    }
}

fn unexpected(what: &str) -> ApiError {
    ApiError {
        code: "unexpected".into(),
        message: format!("Something unexpected happened: {what}"),
        hint: "Try it again; if it stays, start the program anew.".into(),
    }
}

/// Undoes `encodeURIComponent`: a header carries ASCII only.
fn decoded(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| name.get(at + 1..at + 3)).flatten();
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_survive_the_header() {
        for (coded, name) in
            [("a%20b.png", "a b.png"), ("%C3%A9.jpg", "é.jpg"), ("100%.png", "100%.png"), ("", "")]
        {
            assert_eq!(super::decoded(coded), name);
        }
    }
}
