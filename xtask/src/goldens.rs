//! `cargo xtask goldens`: makes the parity fixtures again with the pinned Python reference.
//!
//! Only who changes a fixture needs this: tests read the committed results.

use crate::process::{command, root, run, say};
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Makes a virtual environment with the pinned versions (once), then runs the committed script.
pub fn make() -> Result<()> {
    let folder = root().join("tests/parity");
    let pins = folder.join("requirements.txt");
    let wanted = std::fs::read_to_string(&pins)
        .with_context(|| format!("cannot read {}", pins.display()))?;
    let environment = crate::process::binaries()?.join("goldens-python");
    let stamp = environment.join("installed.txt");
    let python = environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if std::fs::read_to_string(&stamp).ok().as_deref() != Some(&wanted) {
        install(&environment, &python, &pins)?;
        std::fs::write(&stamp, &wanted)?;
    }
    run(command(&text(&python), &[]).arg(folder.join("make.py")))
}

fn install(environment: &Path, python: &Path, pins: &Path) -> Result<()> {
    say(&format!("Installing the reference's Python packages into {}", environment.display()));
    let Some(base) = ["python3", "python"].into_iter().find(|name| crate::process::has(name))
    else {
        bail!("Python 3 is needed to make the fixtures: install it, then run this again.");
    };
    run(&mut command(base, &["-m", "venv", &text(environment)]))?;
    run(&mut command(&text(python), &["-m", "pip", "install", "-r", &text(pins)]))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
