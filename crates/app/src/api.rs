//! Everything a face of the application (window, terminal, server) may see: plain data that goes
//! over a bridge as camelCase JSON and into `ui/src/backend/bindings.ts` as TypeScript.
//!
//! Knows no tensors and no window. Pixels are those of the upright original picture, boxes are
//! `[x0, y0, x1, y1]`, times are milliseconds, scores and masses lie in 0..=1.
mod evidence;
mod library;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

pub use evidence::{
    AnswerRef, CheckView, ClaimKind, ClaimState, ClaimView, CoverRequest, CoverView,
    EvidenceFigure, EvidenceView, ExpertView, ExportFormat, LongProgress, MapRequest,
    MarkReliability, RawMap, Region, Reliability, Said, SpotView, TestView, TrialEvent,
    WithoutView, WordNumbers, WordRegion, WordSearch, WordShift, WordWeight,
};
pub use library::{
    BrokenFile, Fit, LibraryChange, LibraryModel, LibrarySettings, LibraryState, LibraryView, Look,
    Transfer, TransferPhase, Verdict, Verified,
};

/// Something went wrong, said for people: what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct ApiError {
    /// A stable word for programs, such as `image_unreadable` or `prompt_too_long`.
    pub code: String,
    /// One sentence that names the thing.
    pub message: String,
    /// What to do next; empty where nothing can be done.
    pub hint: String,
}

/// The whole state a face needs when it starts or comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct AppState {
    /// The version of the program.
    pub version: String,
    /// Where the model runs, in words, such as "CPU, 8 threads".
    pub device: String,
    pub model: ModelState,
    /// Every picture that is open, in the order of opening.
    pub images: Vec<ImageRef>,
    /// Every chat, oldest first. There is always at least one.
    pub chats: Vec<Chat>,
    /// How to get a bigger model, in plain words.
    pub install: String,
    /// The folder in which the user's own models are looked for.
    pub models_folder: String,
}

/// What the engine is doing about its model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ModelState {
    /// A model is being read. Questions wait for it.
    Loading {
        name: String,
    },
    Ready(ModelCard),
    Failed(ApiError),
}

/// What the user should know about the model that answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct ModelCard {
    pub name: String,
    /// The folder it was read from.
    pub folder: String,
    pub quantization: Quantization,
    /// Such as "SmolVLM" or "LLaVA".
    pub family: String,
    /// Number of weights.
    pub parameters: f64,
    /// Prompt and answer together, in tokens.
    pub context_tokens: u32,
    /// True for the model that comes with the program.
    pub shipped: bool,
    /// One sentence.
    pub summary: String,
    /// What it can do, one short sentence each.
    pub abilities: Vec<String>,
    /// What it cannot do, one short sentence each; to be shown where the answer is read.
    pub limits: Vec<String>,
    /// Questions worth trying on the example picture.
    pub examples: Vec<String>,
    /// How far the regions can be trusted, in one sentence.
    pub evidence: String,
    pub sight: SightCard,
}

/// What the check found that every load ends with: whether the model sees at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct SightCard {
    pub verdict: SightVerdict,
    /// What it told apart or missed, without a capital or a full stop.
    pub reason: String,
}

/// Whether a model may speak about pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "snake_case")]
pub enum SightVerdict {
    /// It named what was drawn for it.
    Sees,
    /// Too little language to be asked.
    Unproven,
    /// It answers without looking, and is refused pictures.
    Blind,
}

impl From<&eval::Sight> for SightCard {
    fn from(sight: &eval::Sight) -> SightCard {
        let verdict = match sight.verdict {
            eval::Verdict::Sees => SightVerdict::Sees,
            eval::Verdict::Unproven => SightVerdict::Unproven,
            eval::Verdict::Blind => SightVerdict::Blind,
        };
        SightCard { verdict, reason: sight.reason.clone() }
    }
}

/// How the weights are held in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    /// As exact as the checkpoint.
    #[default]
    None,
    /// About 8 bits a weight.
    Q8_0,
    /// About 4 bits a weight.
    Q4_0,
}

/// What each way of holding the weights takes and costs, for the loaded model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct QuantizationCard {
    /// False where the device holds weights in its own precision only.
    pub choosable: bool,
    /// The unquantised one first.
    pub formats: Vec<FormatCard>,
    /// Absent until somebody has measured this very model.
    pub measured: Option<Measurement>,
    /// What to type in a terminal to measure it.
    pub command: String,
}

/// One way of holding the weights. Figures are absent until they are measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct FormatCard {
    pub quantization: Quantization,
    /// What the weights take in memory.
    pub bytes: f64,
    /// How much the true answers surprise it; at least 1, smaller is better.
    pub perplexity: Option<FormatFigure>,
    /// "Is there ...?": F1 of yes, 0..=1.
    pub existence: Option<FormatFigure>,
    /// Words whose strongest evidence lies in the right box, 0..=1.
    pub evidence: Option<FormatFigure>,
    /// Answers that are word for word the unquantised ones, 0..=1.
    pub same_answer: Option<FormatFigure>,
}

/// One figure of one format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct FormatFigure {
    pub value: f64,
    /// Tokens, questions, words or answers judged.
    pub n: u32,
    /// Absent for the unquantised model itself.
    pub loss: Option<Loss>,
}

/// What a format lost against the unquantised model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// Of a share the points, 0..=1; of the perplexity the share by which it grew. Below 0 is
    /// better.
    pub lost: f64,
    /// 95 % interval, over the same scenes in both formats.
    pub interval: [f64; 2],
    /// Whether it is no more than may be lost.
    pub holds: bool,
}

/// When and on what figures were measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// UTC, as "2026-01-31T12:00:00Z".
    pub date: String,
    /// Drawn scenes asked about, the same in every format.
    pub scenes: u32,
    /// Program version and machine.
    pub build: String,
}

/// How far a measurement is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    pub done: u32,
    pub all: u32,
}

/// A model folder that can be opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct ModelRef {
    pub name: String,
    pub folder: String,
    pub shipped: bool,
    /// The one that is loaded now.
    pub current: bool,
    /// Size of its weights on disk.
    pub bytes: f64,
}

/// An open picture. Its pixels come from `image_png(id)` and `seen_png(id)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct ImageRef {
    pub id: u32,
    /// File name, or a given name for pasted pictures.
    pub name: String,
    /// Of the upright original, px. Boxes refer to these even when the display copy is smaller.
    pub width: u32,
    pub height: u32,
    /// The pieces that the model receives; empty while no model is loaded.
    pub tiles: Vec<Tile>,
    /// True for the picture that comes with the program.
    pub example: bool,
}

/// One piece of a picture as the model receives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct Tile {
    /// The part of the original that it shows, px; may reach outside where it is padded.
    pub bbox: [f32; 4],
    /// Where it stands in the picture of `seen_png(id)`, px of that picture.
    pub seen: [u32; 4],
}

/// How to answer. What is left out is decided by the model's own settings, else greedy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts", optional_fields)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AskOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u32>,
    /// 0 takes the likeliest token each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// 1 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
}

/// A question in a chat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct AskRequest {
    pub chat: u32,
    pub question: String,
    /// Pictures that come with this message; those of earlier messages are remembered.
    pub images: Vec<u32>,
    /// Asks about this part alone: the model gets it cut out and is asked nothing before it.
    #[serde(default)]
    pub region: Option<Region>,
    #[serde(default)]
    #[ts(optional, as = "Option<AskOptions>")]
    pub options: AskOptions,
}

/// What happens while a question is answered, in this order: `started`, then `token`s with a
/// `word` whenever one is complete, and at last exactly one of `finished` and `failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AskEvent {
    /// The prompt is ready and is being read by the model.
    Started {
        image_tokens: u32,
        prompt_tokens: u32,
        /// How many of them were still known from the question before.
        reused_tokens: u32,
    },
    /// One token. `text` may be empty while a character is incomplete.
    Token {
        index: u32,
        text: String,
        logprob: f32,
        evidence: Option<EvidenceView>,
    },
    /// A word is complete. One with an index that was sent before replaces it.
    Word(Word),
    Finished {
        /// Its number among the answers of the chat.
        answer: u32,
        /// The whole answer.
        text: String,
        timings: Timings,
        tokens: u32,
        cancelled: bool,
        /// True when it ended because the allowed length was reached.
        cut: bool,
    },
    Failed(ApiError),
}

/// A word of an answer: the unit that is hovered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct Word {
    /// Its number in the answer, from 0.
    pub index: u32,
    /// The first and the last token that belong to it.
    pub first_token: u32,
    pub last_token: u32,
    /// Without the spaces around it.
    pub text: String,
    /// UTF-16 offsets of the word in the whole answer, as JavaScript counts.
    pub start: u32,
    pub end: u32,
    /// Only for words that carry content and rest on some region.
    pub evidence: Option<EvidenceView>,
    /// Calibrated probability that it is seen and not made up, while it is written; absent
    /// for a model that is not calibrated.
    pub probability: Option<f32>,
}

/// The attention over one picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct HeatmapView {
    pub rows: u32,
    pub cols: u32,
    /// Row by row, share of the attention in each cell, 0..=1; their sum is at most 1.
    pub values: Vec<f32>,
    /// The part of the original that the grid covers, px; may reach outside.
    pub source: [f32; 4],
}

/// How long things took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    /// Reading the model, once.
    pub load_ms: f32,
    /// Looking at the new pictures.
    pub encode_ms: f32,
    /// Reading the prompt.
    pub prefill_ms: f32,
    /// From the question to the first token.
    pub first_token_ms: f32,
    pub decode_tokens_per_second: f32,
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct Chat {
    pub id: u32,
    /// The first question, shortened; empty for a new chat.
    pub title: String,
    pub messages: Vec<ChatMessage>,
    /// An answer is being written.
    pub busy: bool,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub struct ChatMessage {
    pub role: ChatRole,
    pub text: String,
    /// Pictures that came with it.
    pub images: Vec<u32>,
    /// The question was about this part alone.
    pub region: Option<Region>,
    /// The words of an answer with what they rest on; empty for a question.
    pub words: Vec<Word>,
    /// Its claims, once they were checked.
    pub check: Option<CheckView>,
    /// The answer was stopped by the user.
    pub cancelled: bool,
}

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export_to = "bindings.ts")]
#[serde(rename_all = "camelCase")]
pub enum ChatRole {
    User,
    Assistant,
}

/// Writes every type of this module into `<dir>/bindings.ts`.
pub fn export_bindings(dir: &std::path::Path) -> Result<(), ApiError> {
    let config = ts_rs::Config::new().with_out_dir(dir);
    let all = [
        AppState::export_all(&config),
        ModelRef::export_all(&config),
        QuantizationCard::export_all(&config),
        Progress::export_all(&config),
        AskRequest::export_all(&config),
        AskEvent::export_all(&config),
        library::export_all(&config),
        evidence::export_all(&config),
    ];
    all.into_iter().collect::<Result<(), _>>().map_err(|error| ApiError {
        code: "bindings".into(),
        message: format!("the TypeScript types could not be written to {}: {error}", dir.display()),
        hint: "Check that the folder exists and can be written.".into(),
    })
}
