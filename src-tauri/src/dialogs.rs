//! Native dialogs, opened by the shell and not by the page: the page needs no permission for them
//! and never chooses a path by itself. Knows nothing of what is picked.
use std::path::PathBuf;

use app::api::ExportFormat;
use rfd::{AsyncFileDialog, FileHandle};
use tauri::WebviewWindow;
use tokio::sync::oneshot;

/// What the application can open as a picture.
const PICTURES: &[&str] = &["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"];

/// The pictures that the user picks; none when the dialog is closed.
pub async fn pictures(window: &WebviewWindow) -> Vec<PathBuf> {
    let dialog = AsyncFileDialog::new().set_title("Open pictures");
    let dialog = dialog.add_filter("Pictures", PICTURES).set_parent(window);
    let picked = shown(window, || dialog.pick_files()).await.flatten();
    picked.unwrap_or_default().iter().map(path).collect()
}

/// The folder that the user picks as a model.
pub async fn model_folder(window: &WebviewWindow) -> Option<PathBuf> {
    let dialog = AsyncFileDialog::new().set_title("Open a model folder").set_parent(window);
    shown(window, || dialog.pick_folder()).await.flatten().as_ref().map(path)
}

/// The GGUF file that the user picks as a model.
pub async fn model_file(window: &WebviewWindow) -> Option<PathBuf> {
    let dialog = AsyncFileDialog::new().set_title("Open a GGUF model");
    let dialog = dialog.add_filter("GGUF models", &["gguf"]).set_parent(window);
    shown(window, || dialog.pick_file()).await.flatten().as_ref().map(path)
}

/// The folder that the user picks for models to be kept in.
pub async fn models_folder(window: &WebviewWindow) -> Option<PathBuf> {
    let dialog = AsyncFileDialog::new().set_title("Keep models in this folder").set_parent(window);
    shown(window, || dialog.pick_folder()).await.flatten().as_ref().map(path)
}

/// Where the user wants an answer with its evidence to be written.
pub async fn report(window: &WebviewWindow, format: ExportFormat) -> Option<PathBuf> {
    let (name, kind, ending) = match format {
        ExportFormat::Json => ("answer.json", "JSON", "json"),
        ExportFormat::Html => ("answer.html", "Web pages", "html"),
    };
    let dialog = AsyncFileDialog::new().set_title("Save the answer").set_file_name(name);
    let dialog = dialog.add_filter(kind, &[ending]).set_parent(window);
    shown(window, || dialog.save_file()).await.flatten().as_ref().map(path)
}

fn path(file: &FileHandle) -> PathBuf {
    file.path().to_owned()
}

/// Platforms want a dialog to be made on the window's own thread; its answer may be awaited
/// anywhere. `None` when the window is closing.
async fn shown<T, F: Future<Output = T> + Send + 'static>(
    window: &WebviewWindow,
    open: impl FnOnce() -> F + Send + 'static,
) -> Option<T> {
    let (give, take) = oneshot::channel();
    // A receiver that is gone belongs to a command that was dropped with its window.
    let opened = window.run_on_main_thread(move || drop(give.send(open())));
    opened.ok()?;
    Some(take.await.ok()?.await)
}
