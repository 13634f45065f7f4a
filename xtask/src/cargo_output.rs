//! Reads what `cargo test -- --show-output` prints: counts, failures, reasons for skipping.
//!
//! It turns thousands of lines into the few a person wants, and does not know which crate prints.

use std::io::BufRead;

/// How many tests there were in a suite.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that did not run; STYLE.md wants none.
    pub ignored: usize,
    /// How many test binaries reported a result.
    pub n_results: usize,
}

/// Follows the output to its end. `print` receives the lines worth showing.
pub fn follow(output: impl BufRead, mut print: impl FnMut(&str)) -> Counts {
    let mut counts = Counts::default();
    let mut showing = false;
    for line in output.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if let Some(result) = line.strip_prefix("test result: ") {
            add(&mut counts, result);
            showing = false;
        } else if line == "failures:" {
            showing = true;
        } else if line == "successes:" {
            showing = false;
        }
        let failed = line.starts_with("test ") && line.ends_with("FAILED");
        if showing || failed || is_reason(&line) {
            print(&line);
        }
    }
    counts
}

/// A test that could not run here prints why, on a line that starts with "skip".
fn is_reason(line: &str) -> bool {
    line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("skip"))
}

/// Adds "ok. 3 passed; 0 failed; 0 ignored; ..." to the counts.
fn add(counts: &mut Counts, result: &str) {
    counts.n_results += 1;
    let words: Vec<&str> = result.split([' ', ';']).filter(|word| !word.is_empty()).collect();
    for pair in words.windows(2) {
        let Ok(number) = pair[0].parse::<usize>() else { continue };
        match pair[1] {
            "passed" => counts.passed += number,
            "failed" => counts.failed += number,
            "ignored" => counts.ignored += number,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test a ... ok
test b ... FAILED
test c ... ok

successes:

---- c stdout ----
skipped: no ../shared/material here
noise

successes:
    a
    c

failures:

---- b stdout ----
thread 'b' panicked at src/lib.rs:1:1:

failures:
    b

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s

running 1 test
test d ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn counts_are_summed_and_only_the_telling_lines_are_shown() {
        let mut shown = Vec::new();
        let counts = follow(OUTPUT.as_bytes(), |line| shown.push(line.to_owned()));
        assert_eq!(counts, Counts { passed: 3, failed: 1, ignored: 0, n_results: 2 });
        assert!(shown.contains(&"test b ... FAILED".to_owned()));
        assert!(shown.contains(&"skipped: no ../shared/material here".to_owned()));
        assert!(shown.iter().any(|line| line.contains("panicked")));
        assert!(!shown.iter().any(|line| line == "noise" || line == "test a ... ok"));
    }
}
