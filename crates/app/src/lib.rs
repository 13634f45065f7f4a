//! The application without a face: what a user can do, as functions of [`App`].
//!
//! The window, the terminal and any later face see only this crate, and of it only [`App`] and
//! the plain types of [`api`]. One thread owns the model; everyone else sends it requests.
pub mod api;
mod application;
mod failure;

mod card;
mod library;
mod models;
mod settings;

mod chats;
mod pictures;

mod engine;
mod evidence;
mod outline;
mod telling;

pub use application::{App, OpenOptions};
pub use failure::{api_error, failure};
pub use hub::Pace;
pub use library::{Library, LibraryOptions};
pub use models::shipped_model;
pub use settings::settings_file;
pub use vlm::{Quantization, claim_cores};
