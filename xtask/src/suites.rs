//! `cargo xtask test`: every suite there is, and one plain last line.
//!
//! A suite that cannot run counts as a failure; a test that cannot run here prints its reason.
//! It does not know what is tested.

use crate::cargo_output::{Counts, follow};
use crate::process::{cargo, line, say};
use crate::{bindings, display::VirtualDisplay, licences, packages, ui};
use anyhow::{Context, Result};
use std::io::BufReader;
use std::process::Stdio;
use std::time::Instant;

/// One suite's outcome, a line of the closing table.
struct Suite {
    name: &'static str,
    counts: Counts,
    seconds: f32,
}

/// Runs everything; returns whether all of it passed.
pub fn test() -> Result<bool> {
    packages::ensure(packages::TESTS)?;
    let before = std::fs::read_to_string(bindings::path()).ok();
    let suites = [
        suite("rust", rust_tests),
        suite("bindings", || Ok(one(bindings_are_fresh(before.as_deref())))),
        suite("licences", || Ok(one(licences::are_fresh()?))),
        suite("ui", ui::tests),
        suite("ui types", || Ok(one(ui::types_hold()?))),
        suite("ui/dist", || Ok(one(ui::dist_is_fresh()?))),
    ];
    println!("\n{:<10} {:>7} {:>7} {:>9}", "suite", "passed", "failed", "seconds");
    for Suite { name, counts, seconds } in &suites {
        println!("{name:<10} {:>7} {:>7} {seconds:>9.0}", counts.passed, counts.failed);
    }
    let passed: usize = suites.iter().map(|suite| suite.counts.passed).sum();
    let failed: usize = suites.iter().map(|suite| suite.counts.failed).sum();
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0 && passed > 0)
}

/// Runs one suite; one that cannot run is one failure, with its reason printed.
fn suite(name: &'static str, run: impl FnOnce() -> Result<Counts>) -> Suite {
    say(name);
    let started = Instant::now();
    let counts = run().unwrap_or_else(|error| {
        println!("The suite \"{name}\" could not run: {error:#}");
        Counts { failed: 1, ..Counts::default() }
    });
    Suite { name, counts, seconds: started.elapsed().as_secs_f32() }
}

fn one(holds: bool) -> Counts {
    Counts { passed: holds as usize, failed: !holds as usize, ..Counts::default() }
}

/// `cargo test` over the whole workspace, the real window included, on a virtual display.
fn rust_tests() -> Result<Counts> {
    let display = VirtualDisplay::start();
    let mut tests = cargo(&["test", "--locked", "--release", "--workspace", "--no-fail-fast"]);
    tests.args(["--", "--show-output"]);
    match &display {
        Ok(display) => {
            tests.env("DISPLAY", &display.name).env_remove("WAYLAND_DISPLAY");
        }
        Err(error) if cfg!(target_os = "linux") => println!("No virtual display: {error:#}"),
        Err(_) => {}
    }
    let mut child = tests
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", line(&tests)))?;
    let stdout = child.stdout.take().context("cargo's stdout")?;
    let mut counts = follow(BufReader::new(stdout), |line| println!("{line}"));
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        println!("cargo test failed before or between the tests ({status})");
        counts.failed = 1;
    }
    if counts.ignored > 0 {
        println!("{} tests are ignored; STYLE.md wants none", counts.ignored);
        counts.failed += counts.ignored;
    }
    Ok(counts)
}

/// The app crate's tests write the bindings; a change means that the committed ones were old.
fn bindings_are_fresh(before: Option<&str>) -> bool {
    let after = std::fs::read_to_string(bindings::path()).ok();
    let fresh = before.is_some() && before == after.as_deref();
    if !fresh {
        println!("{} was missing or old; commit the new one", bindings::path().display());
    }
    fresh
}
