//! Embeds the page and makes every command of ours need a permission in `capabilities/main.json`.

const COMMANDS: &[&str] = &[
    "state",
    "loaded",
    "models",
    "open_model",
    "pick_model",
    "pick_images",
    "attach_paths",
    "attach_bytes",
    "forget_image",
    "new_chat",
    "ask",
    "regenerate",
    "cancel",
];

fn main() {
    let manifest = tauri_build::AppManifest::new().commands(COMMANDS);
    let attributes = tauri_build::Attributes::new().app_manifest(manifest);
    if let Err(error) = tauri_build::try_build(attributes) {
        println!("cargo::error={error:#}");
    }
}
