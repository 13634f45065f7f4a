//! Checks on one file: its opening, its size, its name, and words that belong elsewhere.
//!
//! It reads lines, not syntax: a rule that needs more than that is not here.

use super::File;

const MAX_LINES: usize = 500;
const MAX_COLUMNS: usize = 100;
const CODE: &[&str] = &["rs", "ts", "svelte", "py"];
/// Markup is not code: a drawing's path data is one long line by nature.
const NARROW: &[&str] = &["rs", "ts", "py"];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "misc", "types", "mod"];

/// Crates that compute and nothing else, with what they must not reach for.
const PURE: &[&str] =
    &["crates/vlm/", "crates/scenes/", "crates/dataset/", "crates/train/", "crates/eval/"];
const IMPURE: &[&str] =
    &["async fn", "async move", ".await", "tokio::", "std::net", "process::Command"];

/// Candle's fused ops: they stop gradients silently and hide attention.
const FUSED: &[&str] =
    &["softmax_last_dim", "rotary_emb::", "ops::rms_norm", "ops::layer_norm", "ops::sdpa"];

/// Every breach in one file, as "path:line: what is wrong".
pub fn check(file: &File) -> Vec<String> {
    let mut problems = Vec::new();
    let mut say = |line: usize, what: &str| problems.push(format!("{}:{line}: {what}", file.path));
    let code = CODE.contains(&file.extension());
    let stem = file.path.rsplit('/').next().unwrap_or_default().split('.').next().unwrap_or("");
    if code && EMPTY_NAMES.contains(&stem) {
        say(1, "the name says nothing about the content");
    }
    if file.extension() == "rs" && !file.text.starts_with("//!") {
        say(1, "a file opens with //! (what it is, why it exists, what it does not know)");
    }
    if file.extension() == "py" && !file.text.trim_start_matches(hash_line).starts_with("\"\"\"") {
        say(1, "a script opens with a docstring");
    }
    let n_lines = file.text.lines().count();
    if code && n_lines > MAX_LINES {
        say(n_lines, "longer than 500 lines");
    }
    for (index, line) in file.text.lines().enumerate() {
        if NARROW.contains(&file.extension()) && line.chars().count() > MAX_COLUMNS {
            say(index + 1, "wider than 100 columns");
        }
        for what in breaches(file, line) {
            say(index + 1, &what);
        }
    }
    problems
}

/// A pattern for the "#!/usr/bin/env python3" line and its end.
fn hash_line(c: char) -> bool {
    c != '"'
}

/// What one line does that its file must not.
fn breaches(file: &File, line: &str) -> Vec<String> {
    let path = file.path.as_str();
    let mut found = Vec::new();
    for place in [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/")] {
        if mentions_place(line, place) {
            found.push(format!("names a place on one machine ({place})"));
        }
    }
    if path.starts_with("ui/") && line.contains("@tauri-apps") && is_import(line) {
        let shell = path.starts_with("ui/src/backend/tauri");
        if !shell {
            found.push("only ui/src/backend/tauri.ts imports Tauri's packages".into());
        }
    }
    if file.extension() != "rs" || path.starts_with("xtask/src/tidy") {
        return found;
    }
    let line = line.split("//").next().unwrap_or_default();
    let mut refuse = |words: &[&str], why: &str| {
        let hits = words.iter().filter(|word| line.contains(**word));
        found.extend(hits.map(|word| format!("`{word}`: {why}")));
    };
    if PURE.iter().any(|pure| path.starts_with(pure)) {
        refuse(IMPURE, "this crate computes; faces do the rest");
    }
    if !path.starts_with("crates/vlm/src/model/nn") && !path.starts_with("tests/") {
        refuse(FUSED, "only model/nn names candle's fused ops");
    }
    if !path.starts_with("crates/kernels/") && !path.starts_with("crates/vlm/src/weights") {
        let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait"];
        refuse(&words, "unsafe code lives in kernels and in one memory map of vlm::weights");
    }
    refuse(&["#[ignore"], "a test runs or is not there");
    found
}

fn is_import(line: &str) -> bool {
    line.contains("import") || line.contains("from ")
}

/// Whether a path that starts with `place` stands in the line (not ".../place" nor "xplace").
fn mentions_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-})~*".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> String {
        check(&File { path: path.into(), text: text.into() }).join("\n")
    }

    #[test]
    fn each_rule_is_seen() {
        let long = format!("//! x\n{}", "y".repeat(101));
        let many = format!("//! x\n{}", "\n".repeat(500));
        let place = concat!("//! x\n// see /ro", "ot/x");
        let rows: &[(&str, &str, &str)] = &[
            ("crates/vlm/src/a.rs", "//! x\n", ""),
            ("crates/vlm/src/a.rs", "fn a() {}", "opens with //!"),
            ("crates/vlm/src/a.rs", &long, "100 columns"),
            ("crates/vlm/src/a.rs", &many, "500 lines"),
            ("crates/vlm/src/mod.rs", "//! x\n", "says nothing"),
            ("ui/src/utils.ts", "// x\n", "says nothing"),
            ("crates/vlm/src/a.rs", "//! x\nunsafe { a() }", "unsafe"),
            ("crates/kernels/src/a.rs", "//! x\nunsafe { a() }", ""),
            ("crates/eval/src/a.rs", "//! x\nuse std::net::TcpStream;", "computes"),
            ("crates/eval/src/a.rs", "//! x\n// no std::net here", ""),
            ("crates/train/src/a.rs", "//! x\nops::rms_norm(x)", "fused"),
            ("ui/src/a.ts", "import { x } from \"@tauri-apps/api\";", "imports Tauri"),
            ("ui/src/backend/tauri.ts", "import { x } from \"@tauri-apps/api\";", ""),
            ("README.md", place, "one machine"),
            ("tests/parity/make.py", "import x", "docstring"),
            ("tests/parity/make.py", "#!/usr/bin/env python3\n\"\"\"What.\"\"\"", ""),
        ];
        for (path, text, expected) in rows {
            let found = found(path, text);
            assert!(found.contains(expected), "{path}: {found}");
            assert_eq!(found.is_empty(), expected.is_empty(), "{path}: {found}");
        }
    }
}
