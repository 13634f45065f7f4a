//! Native dialogs, opened by the shell and not by the page: the page needs no permission for them
//! and never chooses a path by itself. Knows nothing of what is picked.
use std::path::PathBuf;

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
