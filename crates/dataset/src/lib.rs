//! Training data as people have it: read into one form, checked before the first step, written
//! back.
//!
//! Why: fine-tuning a model that sees fails in its data, and silently. So every row is looked at
//! first, a bad row becomes a [`Finding`] with its line and a [`Repair`], and it never stops the
//! rest. What the crate does not know: models, tokens, tensors; who calls says how long a row is.

mod error;
mod finding;
mod job;
mod marks;
mod picture;
mod row;

mod import;

mod split;

mod preflight;
mod repair;

mod export;

pub use error::Error;
pub use export::{Target, export};
pub use finding::{Finding, Kind, Repair, Severity};
pub use import::{DESCRIBE, Format, Imported, Source, WHAT, detect, import};
pub use job::Job;
pub use picture::Picture;
pub use preflight::{Check, preflight};
pub use repair::repair;
pub use row::{MARK, Message, Origin, Place, Role, Row, Split};
pub use split::split;
