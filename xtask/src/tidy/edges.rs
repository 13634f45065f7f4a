//! Who may depend on whom: the table of ARCHITECTURE.md, held against every Cargo.toml.
//!
//! It reads manifests as text and does not know what a crate does.

use super::File;

/// A crate with those it may use. Everything not here may use nothing of ours.
const EDGES: &[(&str, &[&str])] = &[
    ("kernels", &[]),
    ("vlm", &["kernels"]),
    ("scenes", &[]),
    ("train", &["kernels", "vlm", "scenes", "dataset"]),
    ("eval", &["vlm", "scenes", "dataset", "train"]),
    ("bench", &["kernels", "vlm", "train", "eval"]),
    ("hub", &[]),
    ("dataset", &[]),
    ("app", &["vlm", "scenes", "train", "eval", "hub"]),
    ("sightline", &["app", "vlm", "scenes", "dataset", "train", "eval", "bench"]),
    ("sightline-app", &["app"]),
    ("tests", &["kernels", "vlm", "scenes", "dataset", "train", "eval", "app"]),
    ("xtask", &[]),
];

/// Packages that only some crates may name.
const RESERVED: &[(&str, &[&str])] = &[
    ("tauri", &["sightline-app"]),
    ("rfd", &["sightline-app"]),
    ("tokio", &["sightline-app", "sightline"]),
    ("ureq", &["hub"]),
    ("anyhow", &["sightline", "xtask", "tests"]),
];

/// Every edge that the table does not allow.
pub fn check(files: &[File]) -> Vec<String> {
    let manifests = files.iter().filter(|file| file.path.ends_with("/Cargo.toml"));
    manifests.flat_map(check_manifest).collect()
}

fn check_manifest(manifest: &File) -> Vec<String> {
    let Some(name) = package_name(&manifest.text) else { return Vec::new() };
    let ours: Vec<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
        return vec![format!("{}: `{name}` is not in the table of edges", manifest.path)];
    };
    let refused = |(dependency, dev): &(&str, bool)| {
        let foreign = ours.contains(dependency) && !allowed.contains(dependency);
        let reserved = RESERVED
            .iter()
            .any(|(package, users)| package == dependency && !users.contains(&name) && !dev);
        foreign || reserved
    };
    let refused = dependencies(&manifest.text).into_iter().filter(refused);
    refused.map(|(to, _)| format!("{}: `{name}` may not use `{to}`", manifest.path)).collect()
}

fn package_name(manifest: &str) -> Option<&str> {
    let line = manifest.lines().find(|line| line.starts_with("name = "))?;
    line.split('"').nth(1)
}

/// Every dependency with whether it is one of tests only.
fn dependencies(manifest: &str) -> Vec<(&str, bool)> {
    let (mut found, mut section) = (Vec::new(), "");
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
        } else if section.ends_with("dependencies") && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default().trim_matches('"');
            if !name.is_empty() {
                found.push((name, section.ends_with("dev-dependencies")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_is_not_in_the_table_is_named() {
        let check =
            |text: &str| check(&[File { path: "crates/x/Cargo.toml".into(), text: text.into() }]);
        let head = "[package]\nname = \"vlm\"\n";
        assert!(check(&format!("{head}[dependencies]\nkernels.workspace = true\n")).is_empty());
        let found = check(&format!("{head}[dependencies]\napp.workspace = true\n"));
        assert_eq!(found, ["crates/x/Cargo.toml: `vlm` may not use `app`"]);
        let found = check(&format!("{head}[target.'cfg(unix)'.dependencies]\ntauri = \"2\"\n"));
        assert_eq!(found, ["crates/x/Cargo.toml: `vlm` may not use `tauri`"]);
        assert!(check(&format!("{head}[dev-dependencies]\nanyhow = \"1\"\n")).is_empty());
    }
}
