//! `cargo xtask run`: from a checkout to an answered question, in a window or in the terminal.
//!
//! It does not know the model nor the window's content: both binaries do that.

use crate::process::{binaries, binary, cargo, command, root, run as finish, say};
use crate::{display, packages};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// What the terminal asks about the example picture when there is no window to ask in.
const EXAMPLE_QUESTION: &str = "What is in the picture?";
const EXAMPLE_PICTURE: &str = "models/nano/example.png";

/// A window that fails sooner than this never opened.
const OPENING: Duration = Duration::from_secs(10);

/// Another selection of packages would unify features differently and build most of them anew.
const WHOLE: &[&str] = &["--workspace"];

/// Builds what is needed here and starts it with `files` attached.
pub fn run(files: &[String]) -> Result<bool> {
    if display::present() {
        packages::ensure(packages::WINDOW)?;
        build(WHOLE)?;
        if open_window(files)? {
            return Ok(true);
        }
        say("The window did not open. Answering in the terminal instead.");
    } else {
        say("No display here (neither DISPLAY nor WAYLAND_DISPLAY is set).");
        say("Answering the example question in the terminal instead.");
        packages::ensure(packages::TERMINAL)?;
        // Where the window can be built it probably has been, for the tests: build as they do.
        build(if packages::all_present(packages::WINDOW) { WHOLE } else { &[] })?;
    }
    answer_in_terminal(files)?;
    Ok(true)
}

fn build(which: &[&str]) -> Result<()> {
    let fresh = !binary("sightline")?.exists();
    if fresh {
        say("Building (the first time takes some minutes)");
    }
    finish(&mut cargo(&[&["build", "--locked", "--release"], which].concat()))
}

/// Returns false when the program ended at once, as it does when the display refuses it.
fn open_window(files: &[String]) -> Result<bool> {
    say("Opening the window");
    let started = Instant::now();
    let program = binary("sightline-app")?;
    let mut window = command(&program.to_string_lossy(), &[]);
    let paths = files.iter().map(|file| absolute(file));
    let status = window.args(paths).status().context("cannot start sightline-app")?;
    Ok(status.success() || started.elapsed() > OPENING)
}

fn answer_in_terminal(files: &[String]) -> Result<()> {
    let evidence = binaries()?.join("example-evidence.png");
    let pictures = match files {
        [] => vec![root().join(EXAMPLE_PICTURE)],
        some => some.iter().map(|file| absolute(file)).collect(),
    };
    let shown = pictures.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ");
    println!("sightline ask {shown} \"{EXAMPLE_QUESTION}\"");
    let sightline = binary("sightline")?;
    let mut ask = command(&sightline.to_string_lossy(), &["ask"]);
    ask.args(&pictures).arg(EXAMPLE_QUESTION).arg("--evidence").arg(&evidence);
    finish(&mut ask)?;
    println!("\nThe picture with its evidence: {}", evidence.display());
    Ok(())
}

/// Files are named from where the user stands; the programs start in the repository's root.
fn absolute(file: &str) -> std::path::PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.into())
}
