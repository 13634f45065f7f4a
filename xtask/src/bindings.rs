//! `cargo xtask bindings`: the TypeScript view of `app::api`, written by the app crate's own tests.
//!
//! It does not know the types.

use crate::process::{cargo, root, run};
use anyhow::Result;
use std::path::PathBuf;

/// Where .cargo/config.toml sends them.
pub fn path() -> PathBuf {
    root().join("ui/src/backend/bindings.ts")
}

/// Writes them again.
pub fn write() -> Result<()> {
    run(&mut cargo(&["test", "--release", "--workspace", "--lib", "--", "export_bindings"]))
}
