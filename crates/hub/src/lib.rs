//! Getting models: a catalogue of known checkpoints, and a folder that they are fetched into,
//! verified in, and removed from.
//!
//! The only crate that knows the network. What is fetched stays hidden in the folder `.pulling`
//! until every byte of it is verified; only then does the model appear, in one rename. It knows no
//! tensors: whether a checkpoint can be opened, and what it needs, is its caller's to find out.

mod error;

mod catalogue;
mod client;
mod disk;
mod repository;

mod checksum;
mod fetch;
mod meter;

mod files;
mod manifest;
mod pull;
mod store;

pub use catalogue::{Catalogue, Entry, EntryFile};
pub use checksum::Checksum;
pub use client::{Client, Connection, Pace};
pub use disk::Disk;
pub use error::Error;
pub use manifest::{Broken, Fault, Installed, ListedFile, Manifest, Origin};
pub use meter::{Phase, Progress};
pub use pull::{pull, repair};
pub use repository::{Plan, RemoteFile};
pub use store::{Paused, Store};

/// Hears how far a long job is, at least ten times a second; false stops the job.
pub type OnProgress<'a> = &'a mut dyn FnMut(&Progress) -> bool;
