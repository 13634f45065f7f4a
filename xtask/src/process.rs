//! Starting other programs: where the repository is, what is on the PATH, one way to fail.
//!
//! It does not know which programs are called or why.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the checkout this xtask was built from.
pub fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// The folder that holds xtask and, after a build, every other binary.
pub fn binaries() -> Result<PathBuf> {
    let me = std::env::current_exe().context("where this program lies")?;
    Ok(me.parent().context("the folder this program lies in")?.to_path_buf())
}

/// A binary of this workspace, built or not.
pub fn binary(name: &str) -> Result<PathBuf> {
    Ok(binaries()?.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

/// Announces a step on stderr, before it is taken.
pub fn say(text: &str) {
    eprintln!("==> {text}");
}

/// Whether a program of this name is on the PATH.
pub fn has(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    let names = [program.to_owned(), format!("{program}{}", std::env::consts::EXE_SUFFIX)];
    std::env::split_paths(&path).any(|dir| names.iter().any(|name| dir.join(name).is_file()))
}

/// A command that starts in the repository's root.
pub fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// The cargo that called us, or the one on the PATH.
pub fn cargo(args: &[&str]) -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    command(&cargo, args)
}

/// Runs to the end with the terminal attached; an error names the command that failed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", line(command));
    }
    Ok(())
}

/// Runs to the end and returns what it printed on stdout, or None when it failed.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
