//! `cargo xtask bindings`: the TypeScript view of `app::api`, written by the app crate's own test.
//!
//! It does not know the types.

use crate::process::{cargo, root, run};
use anyhow::Result;
use std::path::PathBuf;

/// Where the test writes them.
pub fn path() -> PathBuf {
    root().join("ui/src/backend/bindings.ts")
}

/// Writes them again: the test rewrites stale ones and fails, and holds the second time.
pub fn write() -> Result<()> {
    let test = || run(&mut cargo(&["test", "--release", "--workspace", "--test", "bindings"]));
    test().or_else(|_| test())
}
