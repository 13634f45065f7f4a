//! The disk, as far as fetching needs it: how much is free, and files to write into.
//!
//! A value and not calls, so that a test can have a disk that becomes full.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

type Free = dyn Fn(&Path) -> io::Result<u64> + Send + Sync;
type Append = dyn Fn(&Path) -> io::Result<Box<dyn Write + Send>> + Send + Sync;

/// Where bytes go.
#[derive(Clone)]
pub struct Disk {
    /// Bytes that may still be written below an existing folder.
    pub free: Arc<Free>,
    /// Opens a file for writing at its end; makes it where it is missing.
    pub append: Arc<Append>,
}

impl Default for Disk {
    /// The real one.
    fn default() -> Disk {
        let append = |path: &Path| -> io::Result<Box<dyn Write + Send>> {
            Ok(Box::new(std::fs::File::options().create(true).append(true).open(path)?))
        };
        Disk { free: Arc::new(|folder| fs4::available_space(folder)), append: Arc::new(append) }
    }
}
