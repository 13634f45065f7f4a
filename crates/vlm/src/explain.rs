//! What each word of an answer rests on: the attention that the row predicting it pays to the
//! pictures, as a map in pixels, a region and a score.
//!
//! A few heads are evidence; a model that was trained for it names them in `evidence.json`, and
//! for others the middle layers' mean is taken relative to the answer's own mean map. With a
//! calibration, their attention and what image tokens read as become probabilities. It looks
//! only at what `generate` captured, and does not know how it is shown.

mod calibration;
mod check;
mod claims;
mod cover;
mod features;
mod heads;
mod heatmap;
mod knock_out;
mod lens;
pub mod logistic;
mod place;
mod region;
mod rollout;
mod search;
mod words;

pub use calibration::{Calibration, Detector, MAX_HEADS, MapWeights, Mark};
pub use check::{CLAIM_FEATURES, Checked, KINDS, N_CLAIM_FEATURES, State, check, pieces};
pub use claims::{Claim, ClaimKind, claims, verification};
pub use cover::{Tested, cover};
pub(crate) use features::{Captured, certainty};
pub use features::{WORD_FEATURES, n_patch_features};
pub use heads::EvidenceHeads;
pub use heatmap::Heatmap;
pub use knock_out::{Influence, KnockOut, Subject, Watch, knock_out, spot};
pub(crate) use lens::Lens;
pub use place::place;
pub use rollout::Rollout;
pub use search::{WordMap, search_word};
pub(crate) use words::WordFinder;
pub use words::{Word, is_content_word};

/// The region of a picture that a token or word rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Which picture of the conversation.
    pub image: usize,
    /// Pixels of the original: x0, y0, x1, y1; inside the part that the map covers.
    pub bbox: [f32; 4],
    /// 0..=1, absolute: the probability that the region is what the word rests on; of a model that
    /// is not calibrated, the share of the evidence heads' attention that lies in it.
    pub score: f32,
    /// The centre of the strongest cell, px of the original.
    pub peak: (f32, f32),
    pub heatmap: Heatmap,
}
