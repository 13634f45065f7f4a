//! What a face sees of the models that can be got and those that are there.
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{ApiError, Quantization};

/// The models' page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct LibraryView {
    /// Known ones in the order of the catalogue, then what else is there.
    pub models: Vec<LibraryModel>,
    pub settings: LibrarySettings,
    /// Bytes that the disk of the models' folder has left; absent where it does not say.
    pub disk_free: Option<f64>,
}

/// One model that can be got, or is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct LibraryModel {
    pub name: String,
    /// `owner/name`; absent for an imported one.
    pub repo: Option<String>,
    /// Such as "SmolVLM"; empty where it is not known.
    pub family: String,
    /// Number of weights, rounded.
    pub parameters: Option<f64>,
    pub licence: String,
    /// Its terms must be accepted on its page, and a token set.
    pub gated: bool,
    /// What it is good at, one short phrase each.
    pub good_at: Vec<String>,
    /// Bytes of its files, where they are known.
    pub bytes: Option<f64>,
    /// Whether this version can use it.
    pub supported: bool,
    /// It answers questions; others compare pictures with words.
    pub answers: bool,
    /// Whether it fits into memory, where its size is known.
    pub fit: Option<Fit>,
    pub state: LibraryState,
}

/// Where a model stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum LibraryState {
    Available,
    /// Something is being done with it.
    Busy(Transfer),
    /// A part has arrived, bytes.
    Paused {
        done: f64,
        all: f64,
    },
    Installed {
        /// What is to be opened.
        folder: String,
        /// It answers now.
        current: bool,
        /// The user's own folder, which stays where it is.
        registered: bool,
        /// Every file is there in its length.
        whole: bool,
        /// It can be mended from where it came from.
        repairable: bool,
    },
}

/// Whether a model fits into this machine's memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct Fit {
    /// Bytes with a picture of 512 x 512 pixels: weights as they are held now, vision tower, image
    /// tokens and the cache they fill.
    pub needs: f64,
    /// Bytes free on this machine.
    pub free: f64,
    pub verdict: Verdict,
    /// How its weights would be held.
    pub quantization: Quantization,
    /// From the checkpoint's own settings, not only from its number of weights.
    pub exact: bool,
    /// Tokens that the picture becomes, where that is known.
    pub image_tokens: Option<u32>,
    /// All of it in one sentence.
    pub words: String,
}

/// How a need and a machine go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    Fits,
    /// Only with little else running.
    Tight,
    TooBig,
}

/// What a download would be, asked of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct Look {
    pub name: String,
    pub repo: String,
    /// Bytes of all files, and of those that are there already.
    pub bytes: f64,
    pub done: f64,
    pub n_files: u32,
    pub licence: String,
    pub fit: Fit,
    /// Bytes that the disk has left; absent where it does not say.
    pub disk_free: Option<f64>,
}

/// How far a download, a copy or a verification is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    pub phase: TransferPhase,
    /// The file at hand.
    pub file: String,
    /// Bytes done and to do.
    pub done: f64,
    pub all: f64,
    pub bytes_per_second: f64,
    pub seconds_left: Option<f64>,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub enum TransferPhase {
    /// The server is asked what there is.
    Asking,
    Downloading,
    /// The connection broke or stalled; it is tried again soon.
    Waiting,
    Verifying,
    Copying,
}

/// A file that is not as it was when it was fetched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct BrokenFile {
    pub path: String,
    /// Such as "is missing".
    pub what: String,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    pub n_files: u32,
    /// What was broken; mended by now where that was asked for.
    pub broken: Vec<BrokenFile>,
    pub repaired: bool,
}

/// How models are got. What is empty is as the environment has it, else as usual.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase", default)]
pub struct LibrarySettings {
    /// The folder that models are kept in.
    pub folder: String,
    /// Address of a mirror of the Hub.
    pub mirror: String,
    /// Address of a proxy.
    pub proxy: String,
    pub offline: bool,
    /// An access token is set; it is never shown.
    pub has_token: bool,
}

/// Changes to them; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts", optional_fields)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LibraryChange {
    /// Empty for the usual one.
    pub folder: Option<String>,
    pub mirror: Option<String>,
    pub proxy: Option<String>,
    pub offline: Option<bool>,
    /// Empty to forget it.
    pub token: Option<String>,
}

pub(super) fn export_all(config: &ts_rs::Config) -> Result<(), ts_rs::ExportError> {
    LibraryView::export_all(config)?;
    Look::export_all(config)?;
    Verified::export_all(config)?;
    LibraryChange::export_all(config)?;
    ApiError::export_all(config)
}
