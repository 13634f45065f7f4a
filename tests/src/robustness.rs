//! Bad input: whatever a user drops on the program gives a picture or a model, or one clear
//! sentence that names the thing; nothing panics, hangs or eats the memory.
//!
//! The rows that need the test material beside the checkout say why they are skipped without it.

mod gguf;
mod images;
mod models;
mod sight;
mod weights;
