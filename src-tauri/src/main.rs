//! The window: a thin shell over the headless application. It opens the page, hands its calls to
//! [`app::App`] and serves pictures. Knows nothing of models.
#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

mod arguments;
mod commands;
mod dialogs;
mod media;

use app::App;
use arguments::Arguments;
use tauri::plugin::{Builder as PluginBuilder, TauriPlugin};

fn main() -> std::process::ExitCode {
    app::claim_cores();
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => return complain(&message, 2),
    };
    if let Err(message) = prepare_display() {
        return complain(&message, 1);
    }
    match run(arguments) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => complain(&format!("the window could not be opened: {error}"), 1),
    }
}

fn run(arguments: Arguments) -> tauri::Result<()> {
    let settings = Some(app::settings_file());
    let app = App::open(app::OpenOptions { settings, ..arguments.open });
    let missed = commands::attach(&app, &arguments.pictures).errors;
    let context = tauri::generate_context!();
    let window = tauri::Builder::default()
        .plugin(stay_at_home())
        .manage(app.clone())
        .manage(commands::Missed::new(missed))
        .register_asynchronous_uri_scheme_protocol("media", media::answer)
        .invoke_handler(commands::handler())
        .build(context)?;
    window.run(move |_, event| {
        // Closing the window ends the answer that is being written; nothing waits for it.
        if let tauri::RunEvent::Exit = event {
            app.cancel_all();
        }
    });
    Ok(())
}

/// A content policy does not stop a page from leading itself, and its query string, elsewhere.
fn stay_at_home() -> TauriPlugin<tauri::Wry> {
    PluginBuilder::new("stay-at-home")
        .on_navigation(|_, url| {
            let live_reload =
                cfg!(dev) && url.host_str() == Some("127.0.0.1") && url.port() == Some(1420);
            url.scheme() == "tauri"
                || url.host_str() == Some("tauri.localhost")
                || url.as_str() == "about:blank"
                || live_reload
        })
        .build()
}

/// Asks for a display before anything else does, since its absence would end in a panic.
#[cfg(target_os = "linux")]
fn prepare_display() -> Result<(), String> {
    const RENDERER: &str = "WEBKIT_DISABLE_DMABUF_RENDERER";
    if std::env::var_os(RENDERER).is_none() {
        return restart_with(RENDERER, "1");
    }
    gtk::init().map_err(|_| {
        "there is no display to open a window on. Ask in the terminal instead: \
         sightline ask PICTURE \"What is this?\""
            .to_owned()
    })
}

#[cfg(not(target_os = "linux"))]
fn prepare_display() -> Result<(), String> {
    Ok(())
}

/// WebKit's shared-buffer renderer shows a blank window with some graphics drivers. Variables of a
/// running process cannot be set safely, so the program starts over in its own place with it set.
#[cfg(target_os = "linux")]
fn restart_with(name: &str, value: &str) -> Result<(), String> {
    use std::os::unix::process::CommandExt;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut again = std::process::Command::new(program);
    let error = again.args(std::env::args_os().skip(1)).env(name, value).exec();
    Err(format!("the program could not start itself: {error}"))
}

fn complain(message: &str, code: u8) -> std::process::ExitCode {
    eprintln!("sightline-app: {message}");
    std::process::ExitCode::from(code)
}
