//! Pictures: files -> RGB pixels -> the tiles and values a vision encoder receives.
//!
//! Why: what the model sees decides what it can answer, so every step follows the reference
//! processors exactly and keeps its geometry: each tile knows which part of the original picture it
//! shows. Does not know tokens or prompts.
//!
//! Legend: `N` tiles, `C` channels (3), `S` the tile's side in pixels.

mod any_resolution;
mod canvas;
mod decode;
mod dynamic;
mod jpeg;
mod patches;
mod prepare;
mod resample;
mod settings;
#[cfg(test)]
mod tests;

pub use decode::{MAX_FILE_BYTES, MAX_PIXELS, MAX_SIDE, decode, open};
pub use dynamic::PatchSettings;
pub use patches::Patches;
pub use prepare::{ImageProcessor, Tile, Tiles};
pub use resample::{Filter, resize};
pub use settings::{ImageSettings, Kind, Size};
