//! What a face sees of evidence: claims with their states, what was tried on a picture, the raw
//! numbers, and how far a model's marks can be trusted.
//!
//! Probabilities, shares and weights lie in 0..=1, log-probabilities and entropies are in nats,
//! boxes and outlines in px of the upright original.
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{HeatmapView, Measurement};

/// One answer of a chat: their numbers count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct AnswerRef {
    pub chat: u32,
    pub answer: u32,
}

/// A part of an open picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct Region {
    pub image: u32,
    pub bbox: [f32; 4],
}

/// What a word or a claim rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct EvidenceView {
    /// The id of the picture.
    pub image: u32,
    /// The region's box.
    pub bbox: [f32; 4],
    /// Closed outlines of the region along the cells of the map; at least one.
    pub outline: Vec<Vec<[f32; 2]>>,
    /// The outlined part of the picture.
    pub area: f32,
    /// Calibrated probability that it rests there; of a model that is not calibrated the share of
    /// attention in the region. Absolute.
    pub score: f32,
    /// The same in plain words, such as "top left, 18 % of the picture".
    pub words: String,
    pub heatmap: HeatmapView,
}

/// A piece of an answer that can be true or false.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct ClaimView {
    /// Its number in the answer.
    pub index: u32,
    pub kind: ClaimKind,
    pub text: String,
    /// UTF-16 offsets in the whole answer. Claims may lie inside others.
    pub start: u32,
    pub end: u32,
    /// What goes when what is not supported is struck, as offsets: of counted things the number
    /// alone; absent where it stays.
    #[serde(default)]
    pub struck: Option<(u32, u32)>,
    pub state: ClaimState,
    /// Calibrated probability that it is true.
    pub probability: f32,
    /// Mean probability of its tokens with the picture, and without it.
    pub with: f32,
    pub without: f32,
    /// False where marks of this kind and state do no better than chance on this model, so that
    /// none is shown.
    pub trusted: bool,
    /// Absent where no region was found.
    pub evidence: Option<EvidenceView>,
    /// What the mark and the map show, in plain words: "rests on: top left, 18 % of the picture;
    /// 94 % sure".
    pub words: String,
    /// The outcome of the thorough test, once it was made.
    pub tested: Option<CoverView>,
}

/// What kind of thing is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "snake_case")]
pub enum ClaimKind {
    /// A thing with its attributes: "a red car".
    Object,
    Colour,
    Count,
    Place,
    Relation,
    /// Something read.
    Text,
    /// "Yes" or "no".
    YesNo,
}

/// What the probes say about a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "snake_case")]
pub enum ClaimState {
    /// The picture shows it.
    Seen,
    /// Unsure, or said just as readily without the picture. That is not the same as wrong.
    Guessed,
    /// The picture does not support it.
    Unsupported,
}

/// The claims of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct CheckView {
    pub claims: Vec<ClaimView>,
    /// The answer without its unsupported claims.
    pub cleaned: String,
    /// What checking took, milliseconds.
    pub ms: f32,
}

/// Covers a region and asks again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct CoverRequest {
    pub answer: AnswerRef,
    /// The claim whose probability is followed; the whole answer where absent.
    pub claim: Option<u32>,
    pub region: Region,
}

/// What became of an answer when a region was covered, and when another of the same size was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct CoverView {
    pub region: Region,
    /// The control: as large, elsewhere, not overlapping.
    pub control: Region,
    pub before: Said,
    pub covered: Said,
    pub elsewhere: Said,
    /// It changed with this region and only with this region: the badge "tested".
    pub holds: bool,
    /// The outcome in one sentence.
    pub words: String,
}

/// An answer given under some condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct Said {
    pub text: String,
    /// How likely the words in question are under it: the mean probability of their tokens.
    pub probability: f32,
}

/// What is told while something is tried on an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TrialEvent {
    /// How far it is; the time left is absent until it can be told.
    Progress { done: u32, all: u32, seconds_left: Option<f32> },
    /// What is said without the picture, so far.
    Saying { text: String },
    /// What each word rests on as far as it is known; absent where none was found.
    Regions { words: Vec<WordRegion> },
}

/// The region of a word by knock-out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct WordRegion {
    /// The number of the word in the answer.
    pub word: u32,
    pub evidence: Option<EvidenceView>,
}

/// The thorough test of one claim, and what it found for every word on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct TestView {
    /// The claim as it stands now.
    pub claim: ClaimView,
    pub words: Vec<WordRegion>,
}

/// An answer without the picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct WithoutView {
    /// What the model answers when it sees nothing.
    pub text: String,
    /// How likely the words of the real answer are with and without the picture.
    pub words: Vec<WordShift>,
    /// In one sentence.
    pub summary: String,
}

/// A word of the answer under two conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct WordShift {
    /// The number of the word in the answer.
    pub word: u32,
    pub text: String,
    /// Mean probability of its tokens.
    pub with: f32,
    pub without: f32,
}

/// Where in a picture a word is read that nobody said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct WordSearch {
    pub query: String,
    /// Absent where no part of the picture reads as the word.
    pub evidence: Option<EvidenceView>,
    /// In plain words.
    pub words: String,
}

/// Which words depend on a spot of the picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct SpotView {
    /// The part that was hidden: the spot and what is around it.
    pub region: Region,
    /// Content words, in order.
    pub words: Vec<WordWeight>,
    /// In plain words.
    pub summary: String,
}

/// How much a word depends on something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct WordWeight {
    /// The number of the word in the answer.
    pub word: u32,
    pub text: String,
    /// The share of its probability that is lost without it.
    pub weight: f32,
}

/// The raw numbers of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct ExpertView {
    /// The layers that look at pictures.
    pub layers: Vec<u32>,
    /// Heads of each.
    pub heads: u32,
    /// Layer and head of those that evidence is read from.
    pub chosen: Vec<[u32; 2]>,
    pub words: Vec<WordNumbers>,
}

/// The raw numbers of one word. Of its tokens the sum of log-probabilities and the means of the
/// others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct WordNumbers {
    pub word: u32,
    pub text: String,
    pub logprob: f32,
    /// The same when nothing is seen.
    pub logprob_without: f32,
    /// Of the distribution that each token was chosen from.
    pub entropy: f32,
    /// Attention of the evidence heads on image tokens.
    pub image_mass: f32,
    /// Their attention on the place that takes it where a word rests on nothing.
    pub null_mass: f32,
}

/// Which raw map to show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct MapRequest {
    pub answer: AnswerRef,
    /// The number of the word.
    pub word: u32,
    /// Layer and head; the mean of the evidence heads where absent.
    pub head: Option<[u32; 2]>,
    /// Keep what attracts attention whatever is said (sinks); otherwise it is taken out.
    pub sinks: bool,
}

/// The raw attention of the row that predicts a word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct RawMap {
    /// The picture with the most attention.
    pub image: u32,
    pub heatmap: HeatmapView,
    /// Attention on image tokens, by layer and head, layer by layer.
    pub image_mass: Vec<f32>,
    /// How many image tokens are sinks.
    pub sinks: u32,
    /// In plain words.
    pub words: String,
}

/// How far the marks of the loaded model can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct Reliability {
    /// False: its marks are off, since nobody knows what they would be worth.
    pub calibrated: bool,
    /// False: it was measured, and its regions do not agree with what its words depend on. They are
    /// shown only once a test has confirmed them.
    pub maps: bool,
    /// About how long calibrating takes here.
    pub minutes: f32,
    /// By state and kind; empty where it is not calibrated.
    pub marks: Vec<MarkReliability>,
    /// The table of `sightline eval evidence`; empty until it is measured.
    pub figures: Vec<EvidenceFigure>,
    pub measured: Option<Measurement>,
    /// What to type in a terminal to measure it.
    pub command: String,
}

/// What one mark was worth on drawn pictures with known truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct MarkReliability {
    pub state: ClaimState,
    /// All kinds together where absent.
    pub kind: Option<ClaimKind>,
    /// Claims that were tested.
    pub n: u32,
    /// The share of them that was wrong.
    pub wrong: f32,
    /// False: it does no better than chance and is not shown.
    pub beats_chance: bool,
    /// "Words marked like this were wrong 8 times in 10, of 412 tested."
    pub words: String,
}

/// One row of the evidence table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct EvidenceFigure {
    /// Its key, such as `pointing_tier0`.
    pub name: String,
    /// What it is, in words.
    pub title: String,
    /// In its own unit; absent where it could not be measured.
    pub value: Option<f64>,
    pub n: u32,
    /// 95 % interval.
    pub interval: Option<[f64; 2]>,
    pub baseline: Option<f64>,
    pub demand: Option<f64>,
    pub holds: Option<bool>,
}

/// How an answer with its evidence is written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    Json,
    /// One page with the pictures in it, for any browser, without a script.
    Html,
}

/// What a calibration or a measurement is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct LongProgress {
    /// What is done now, in words.
    pub step: String,
    pub done: u32,
    pub all: u32,
    pub seconds_left: Option<f32>,
}

pub(super) fn export_all(config: &ts_rs::Config) -> Result<(), ts_rs::ExportError> {
    CoverRequest::export_all(config)?;
    CheckView::export_all(config)?;
    TrialEvent::export_all(config)?;
    TestView::export_all(config)?;
    WithoutView::export_all(config)?;
    WordSearch::export_all(config)?;
    SpotView::export_all(config)?;
    ExpertView::export_all(config)?;
    MapRequest::export_all(config)?;
    RawMap::export_all(config)?;
    Reliability::export_all(config)?;
    ExportFormat::export_all(config)?;
    LongProgress::export_all(config)
}
