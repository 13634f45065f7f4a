//! The face's own checks: its tests, its types, and whether the committed ui/dist is its sources.
//!
//! Node is needed for these alone: who only builds or runs Sightline uses ui/dist as committed.

use crate::cargo_output::Counts;
use crate::process::{binaries, command, has, output, root, run, say};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest Node that the UI's tools accept.
const NODE: u32 = 20;
/// What is fetched where the system has none or an old one.
const NODE_RELEASE: &str = "v22.12.0";

/// Runs vitest and counts.
pub fn tests() -> Result<Counts> {
    let report = binaries()?.join("ui-tests.json");
    let _ = std::fs::remove_file(&report);
    let file = format!("--outputFile.json={}", report.display());
    let status = tool("vitest", &["run", "--reporter=default", "--reporter=json", &file])?
        .status()
        .context("cannot start vitest")?;
    let text = std::fs::read_to_string(&report).context("vitest wrote no report")?;
    let number = |key| number_after(&text, key).with_context(|| format!("no {key} in its report"));
    let mut counts = Counts {
        passed: number("numPassedTests")?,
        failed: number("numFailedTests")?,
        ..Counts::default()
    };
    if !status.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(counts)
}

/// Whether the compiler accepts every type.
pub fn types_hold() -> Result<bool> {
    Ok(npm(&["run", "--silent", "check"])?.status().context("cannot start npm")?.success())
}

/// Builds the UI aside and compares it with what is committed, byte for byte.
pub fn dist_is_fresh() -> Result<bool> {
    let fresh = binaries()?.join("ui-dist");
    let _ = std::fs::remove_dir_all(&fresh);
    build_into(&fresh)?;
    let (built, committed) = (files(&fresh)?, files(&root().join("ui/dist"))?);
    if built != committed {
        println!("ui/dist is not what its sources build: run `cargo xtask ui` and commit it");
    }
    Ok(built == committed)
}

/// Builds ui/dist again.
pub fn build() -> Result<()> {
    build_into(&root().join("ui/dist"))
}

fn build_into(folder: &Path) -> Result<()> {
    let folder = folder.to_string_lossy();
    run(&mut tool("vite", &["build", "--logLevel=warn", "--outDir", &folder, "--emptyOutDir"])?)
}

/// One of the UI's own tools, from its node_modules.
fn tool(name: &str, args: &[&str]) -> Result<Command> {
    npm(&[&["exec", "--no", "--", name], args].concat())
}

/// npm in ui/, with a fitting Node first on the PATH and the locked packages installed.
fn npm(args: &[&str]) -> Result<Command> {
    let path = node()?;
    let folder = root().join("ui");
    let npm = || {
        let mut npm = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
        npm.current_dir(&folder).env("PATH", &path).env("CI", "true");
        npm
    };
    let (lock, installed) = ("package-lock.json", "node_modules/.package-lock.json");
    let age = |file| std::fs::metadata(folder.join(file)).and_then(|meta| meta.modified()).ok();
    if age(installed).is_none() || age(installed) < age(lock) {
        say("Installing the UI's packages (npm ci)");
        run(npm().args(["ci", "--no-audit", "--no-fund"]))?;
    }
    let mut npm = npm();
    npm.args(args);
    Ok(npm)
}

/// A PATH on which `node` is new enough; fetches Node into the build folder where there is none.
fn node() -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if node_version("node").is_some_and(|version| version >= NODE) && has("npm") {
        return Ok(path);
    }
    let (os, cpu) = (std::env::consts::OS, std::env::consts::ARCH);
    let os = if os == "macos" { "darwin" } else { os };
    let cpu = if cpu == "aarch64" { "arm64" } else { "x64" };
    if cfg!(windows) {
        bail!("Node {NODE} or newer is needed: winget install OpenJS.NodeJS.LTS");
    }
    let name = format!("node-{NODE_RELEASE}-{os}-{cpu}");
    let folder = binaries()?.join(&name);
    if node_version(&folder.join("bin/node").to_string_lossy()).is_none() {
        fetch_node(&name)?;
    }
    let before = std::iter::once(folder.join("bin"));
    Ok(std::env::join_paths(before.chain(std::env::split_paths(&path)))?)
}

fn node_version(node: &str) -> Option<u32> {
    let text = output(&mut command(node, &["--version"]))?;
    text.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

fn fetch_node(name: &str) -> Result<()> {
    let base = format!("https://nodejs.org/dist/{NODE_RELEASE}");
    let folder = binaries()?;
    say(&format!("Node {NODE} or newer is missing: fetching {base}/{name}.tar.gz"));
    let script = format!(
        "set -e; curl -sSfLO {base}/{name}.tar.gz; curl -sSfLO {base}/SHASUMS256.txt; \
         grep ' {name}.tar.gz$' SHASUMS256.txt | (sha256sum -c || shasum -a 256 -c); \
         tar xzf {name}.tar.gz; rm {name}.tar.gz SHASUMS256.txt"
    );
    run(command("sh", &["-c", &script]).current_dir(folder))
        .context("install Node 20 or newer by hand (https://nodejs.org)")
}

/// Every file below a folder with its content, by its path inside.
fn files(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(dir) = open.pop() {
        let entries =
            std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(folder)?.to_path_buf(), std::fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

/// The number after `"key":` in a JSON text.
fn number_after(text: &str, key: &str) -> Option<usize> {
    let after = text.split_once(&format!("\"{key}\":"))?.1.trim_start();
    let end = after.find(|c: char| !c.is_ascii_digit())?;
    after[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_by_its_key() {
        let text = r#"{"numTotalTests":12,"numPassedTests": 11,"numFailedTests":1}"#;
        assert_eq!(number_after(text, "numPassedTests"), Some(11));
        assert_eq!(number_after(text, "numFailedTests"), Some(1));
        assert_eq!(number_after(text, "other"), None);
    }
}
