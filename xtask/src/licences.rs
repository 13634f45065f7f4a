//! `cargo xtask licences`: THIRD-PARTY.md, from what cargo says of the locked packages.
//!
//! It lists every package that any platform's build draws in, by licence. It judges none.

use crate::process::{cargo, line, output, root};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;

const HEAD: &str = "\
# Third-party software

Sightline is built from these Rust packages; each carries its licence text in its own source.
The window's page is built with Svelte (MIT) and carries the typeface Inter (OFL-1.1).
`cargo xtask licences` writes this page.
";

fn path() -> PathBuf {
    root().join("THIRD-PARTY.md")
}

/// Writes the page.
pub fn write() -> Result<()> {
    std::fs::write(path(), page()?).context("cannot write THIRD-PARTY.md")
}

/// Whether the committed page is what cargo says now.
pub fn are_fresh() -> Result<bool> {
    let fresh = std::fs::read_to_string(path()).is_ok_and(|text| Ok(text) == page().map_err(drop));
    if !fresh {
        println!("THIRD-PARTY.md is old: run `cargo xtask licences` and commit it");
    }
    Ok(fresh)
}

fn page() -> Result<String> {
    let mut metadata = cargo(&["metadata", "--locked", "--format-version", "1"]);
    let text = output(&mut metadata).with_context(|| format!("`{}` failed", line(&metadata)))?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("no packages in cargo's metadata")?;
    let mut by_licence: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // Packages without a source are our own.
    for package in packages.iter().filter(|package| package["source"].is_string()) {
        let word = |key: &str| package[key].as_str().unwrap_or("not stated").to_owned();
        let licence = word("license").replace('/', " OR ");
        let licence = licence.split_whitespace().collect::<Vec<_>>().join(" ");
        let package = format!("{} {}", word("name"), word("version"));
        by_licence.entry(licence).or_default().push(package);
    }
    let mut page = HEAD.to_owned();
    for (licence, mut names) in by_licence {
        names.sort();
        page += &format!("\n## {licence}\n\n{}.\n", names.join(", "));
    }
    Ok(page)
}
