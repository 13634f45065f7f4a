//! Fine-tuning: a model that is there learns from conversations about pictures, by low-rank
//! adapters beside its frozen weights or by moving some of them.
//!
//! What is trained is the `Vlm` that answers, and a lesson's prompt is that of an answer, so what
//! is learned is what is asked. Examples come by number from whoever has them. It knows no file
//! formats of data and no command lines.

mod examples;
mod gather;
mod lesson;
mod recipe;
mod run;
mod sources;
mod weights;

pub use examples::{Example, Examples};
pub use gather::{Checked, FromFile, Gathered, Lessons, Source, check, gather};
pub use lesson::logits;
pub use recipe::{FineTune, Part};
pub use run::{Event, Held, run};
pub use sources::{Drawn, Subject};
pub use weights::{Base, Learned};
