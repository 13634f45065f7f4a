//! `cargo xtask tidy`: what STYLE.md and ARCHITECTURE.md ask for and a machine can see.
//!
//! Fast (it reads text, it builds nothing) and run as a test too. It does not judge names or prose.

mod edges;
mod functions;
mod source;

use crate::process::{command, output, root};
use anyhow::{Context, Result, bail};
use std::path::Path;

/// A text file of the repository.
pub struct File {
    /// Path from the root, with forward slashes.
    pub path: String,
    /// The whole content.
    pub text: String,
}

impl File {
    /// The name's last extension: "rs" of "src/lib.rs".
    pub fn extension(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(_, extension)| extension)
    }
}

/// Prints every breach; returns whether there was none.
pub fn tidy() -> Result<bool> {
    let problems = problems()?;
    for problem in &problems {
        println!("{problem}");
    }
    println!("tidy: {} to mend", problems.len());
    Ok(problems.is_empty())
}

fn problems() -> Result<Vec<String>> {
    let files = files()?;
    if files.is_empty() {
        bail!("found no file to check below {}", root().display());
    }
    let mut problems: Vec<String> = files.iter().flat_map(source::check).collect();
    problems.extend(files.iter().flat_map(functions::check));
    problems.extend(edges::check(&files));
    problems.sort();
    Ok(problems)
}

/// Endings of files that people write.
const TEXT: &[&str] = &["rs", "md", "toml", "py", "ts", "svelte", "css", "html", "sh", "json"];

/// Every written text file: those git tracks, or in an unpacked archive those that lie there.
fn files() -> Result<Vec<File>> {
    let root = root();
    let tracked = match root.join(".git").exists() {
        true => output(&mut command("git", &["ls-files", "-z"])),
        false => None,
    };
    let paths = match tracked {
        Some(list) => list.split('\0').map(str::to_owned).collect(),
        None => walk(&root)?,
    };
    let text = |path: &String| TEXT.contains(&path.rsplit_once('.').map_or("", |(_, end)| end));
    let written = paths.into_iter().filter(|path| text(path) && !generated(path));
    let read = |path: String| {
        // A file deleted but not yet committed is no breach; a file that is no text is none either.
        let text = std::fs::read_to_string(root.join(&path)).ok()?;
        Some(File { path, text })
    };
    Ok(written.filter_map(read).collect())
}

/// Files that a program wrote.
fn generated(path: &str) -> bool {
    let data = path.ends_with(".json") && !path.starts_with("src-tauri/");
    let written = path == "ui/src/backend/bindings.ts" || path.ends_with("Cargo.lock");
    data || written || path.starts_with("ui/dist/") || path.contains("/gen/")
}

fn walk(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let skipped = matches!(name.as_str(), "target" | "node_modules" | ".git");
            if path.is_dir() && !skipped {
                open.push(path);
            } else if path.is_file() {
                found.push(path.strip_prefix(root)?.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        let problems = super::problems().expect("the repository can be read");
        assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
    }
}
