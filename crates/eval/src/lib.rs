//! Measures a model on scenes whose truth is known.
//!
//! Everything is asked the way a user asks: the shipped processor, free greedy generation, the
//! evidence that the window shows. This crate knows the engine and the drawn world; it does not
//! know how the model was trained, nor the face that prints the table.

pub mod error;
pub mod metric;
mod sample;
pub mod stored;
mod table;

mod ask;
mod judge;
mod mentions;
mod region;

pub mod evidence;
pub mod fine_tuning;
pub mod nano;
pub mod parity;
pub mod quantization;
pub mod sight;

pub use ask::{Model, calibration};
pub use error::Error;
pub use evidence::{calibrate, evidence};
pub use fine_tuning::fine_tuning;
pub use metric::{Bound, Demand, Metric, Statistic, Tally};
pub use nano::nano;
pub use nano::report::Report;
pub use parity::parity;
pub use quantization::quantization;
pub use sample::{HELD_OUT, Sample};
pub use sight::{Sight, Verdict};
