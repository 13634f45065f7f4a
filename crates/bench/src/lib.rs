//! How fast the engine is, beside the best peers on the same weights and machine.
//!
//! Every engine works in a process of its own, in turns with the others, and the ratio of medians
//! counts. It knows the engine and the trainer as users know them; it does not know how either is
//! made fast.

pub mod checkpoint;
mod error;
pub mod machine;
pub mod work;

pub use error::Error;
