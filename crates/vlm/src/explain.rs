//! What each word of an answer rests on: the attention that the row predicting it pays to the
//! pictures, as a map in pixels, a region and a score.
//!
//! A few heads are evidence; a model that was trained for it names them in `evidence.json`, and
//! for others the middle layers' mean is taken relative to the answer's own mean map. It looks
//! only at attention rows that `generate` captured, and does not know how they are shown.

mod heads;
mod heatmap;
mod place;
mod region;
mod rollout;
mod words;

pub use heads::EvidenceHeads;
pub use heatmap::Heatmap;
pub use place::place;
pub use rollout::Rollout;
pub use words::{Word, WordFinder, is_content_word};

/// The region of a picture that a token or word rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Which picture of the conversation.
    pub image: usize,
    /// Pixels of the original: x0, y0, x1, y1; inside the part that the map covers.
    pub bbox: [f32; 4],
    /// Share of the evidence heads' attention that lies in the region: 0..=1, absolute.
    pub score: f32,
    /// The centre of the strongest cell, px of the original.
    pub peak: (f32, f32),
    pub heatmap: Heatmap,
}
