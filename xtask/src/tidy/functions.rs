//! Checks on functions: how long they are and how many parameters they take.
//!
//! A function ends at the closing brace in its own column, as rustfmt writes it. Where a longer one
//! is the better one, a comment above it says `tidy: allow(length)` or `tidy: allow(parameters)`
//! and why.

use super::File;

const MAX_LENGTH: usize = 70;
const MAX_PARAMETERS: usize = 5;

/// Every function of a Rust file that is too long or takes too much.
pub fn check(file: &File) -> Vec<String> {
    if file.extension() != "rs" {
        return Vec::new();
    }
    let lines: Vec<&str> = file.text.lines().collect();
    let mut problems = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let length = length(&lines[start..]);
        if length > MAX_LENGTH && !allowed(&lines[..start], "length") {
            problems.push(format!("{}:{}: `{name}` has {length} lines", file.path, start + 1));
        }
        let n = n_parameters(&lines[start..]);
        if n > MAX_PARAMETERS && !allowed(&lines[..start], "parameters") {
            problems.push(format!("{}:{}: `{name}` takes {n} parameters", file.path, start + 1));
        }
    }
    problems
}

/// The function that this line begins, if it begins one.
fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    loop {
        let (word, after) = rest.split_once(' ')?;
        let word = word.split('(').next().unwrap_or_default();
        match word {
            "fn" => return after.split(['(', '<']).next(),
            "pub" | "const" | "unsafe" | "async" | "extern" | "\"C\"" => rest = after,
            _ => return None,
        }
    }
}

/// Lines from the signature to the closing brace.
fn length(lines: &[&str]) -> usize {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let column = indent(lines[0]);
    for (index, line) in lines.iter().enumerate() {
        let own_column = indent(line) == column && !line.trim().is_empty();
        let end = line.ends_with('}') || line.ends_with(';') || line.trim_end() == "},";
        if own_column && end {
            return index + 1;
        }
    }
    lines.len()
}

/// Parameters without `self`.
fn n_parameters(lines: &[&str]) -> usize {
    let text = lines.iter().take(40).map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let text = text.replace("->", "  ").replace("=>", "  ");
    let Some(open) = parameters_start(&text) else { return 0 };
    let (mut depth, mut parameters, mut current) = (0, Vec::new(), String::new());
    for c in text[open + 1..].chars() {
        match c {
            ')' if depth == 0 => break,
            '(' | '[' | '<' | '{' => depth += 1,
            ')' | ']' | '>' | '}' => depth -= 1,
            ',' if depth == 0 => parameters.push(std::mem::take(&mut current)),
            _ => current.push(c),
        }
    }
    parameters.push(current);
    let is_self = |p: &str| p.trim().trim_start_matches("mut ").split(':').next() == Some("self");
    let own = |p: &&String| {
        let p = p.trim().trim_start_matches('&').trim();
        let p = if p.starts_with('\'') { p.split_once(' ').map_or(p, |(_, rest)| rest) } else { p };
        !p.is_empty() && !is_self(p)
    };
    parameters.iter().filter(own).count()
}

/// Where the parameter list opens: the first parenthesis outside the generics.
fn parameters_start(text: &str) -> Option<usize> {
    let name = text.find("fn ")?;
    let mut depth = 0;
    for (at, c) in text.char_indices().skip_while(|(at, _)| *at < name) {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            '(' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// Whether the comments and attributes right above say that this is meant.
fn allowed(above: &[&str], rule: &str) -> bool {
    let mark = format!("tidy: allow({rule})");
    let belongs = |line: &&&str| {
        let line = line.trim_start();
        line.starts_with("//") || line.starts_with("#[")
    };
    above.iter().rev().take_while(belongs).any(|line| line.contains(&mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_counted() {
        let rows = [
            ("fn a() {", 0),
            ("pub(crate) fn a(&self, b: usize) -> usize {", 1),
            ("fn a(&'a mut self, b: &[(u8, u8)], c: HashMap<u8, u8>) {", 2),
            ("fn a<F: Fn(u8, u8) -> u8>(f: F, g: impl Fn(u8, u8)) {", 2),
            ("unsafe fn a(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) {", 6),
        ];
        for (line, expected) in rows {
            assert!(function_name(line).is_some(), "{line}");
            assert_eq!(n_parameters(&[line]), expected, "{line}");
        }
        assert_eq!(n_parameters(&["fn a(", "    b: u8,", "    c: u8,", ") {"]), 2);
    }

    #[test]
    fn long_functions_are_seen_and_allowed() {
        let long = format!("fn a() {{\n{}}}\n", "    b();\n".repeat(70));
        let check = |text: String| check(&File { path: "a.rs".into(), text });
        assert_eq!(check(long.clone()), ["a.rs:1: `a` has 72 lines"]);
        assert!(check(format!("// tidy: allow(length): a table.\n{long}")).is_empty());
        assert!(check("fn a() {\n    b();\n}\n".into()).is_empty());
    }
}
