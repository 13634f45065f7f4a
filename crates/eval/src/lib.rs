//! Measures a model on scenes whose truth is known.
//!
//! Everything is asked the way a user asks: the shipped processor, free greedy generation, the
//! evidence that the window shows. This crate knows the engine and the drawn world; it does not
//! know how the model was trained, nor the face that prints the table.

pub mod error;
pub mod metric;
pub mod nano;

pub use error::Error;
pub use metric::{Metric, Tally};
pub use nano::report::{Measured, Report};
pub use nano::stored;
pub use nano::{HELD_OUT, Sample, nano};
