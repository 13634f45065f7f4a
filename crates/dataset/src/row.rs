//! One row of training data, whatever it was read from.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Picture;

/// Stands in a message's text where a picture is shown, as LLaVA and LLaMA-Factory write it.
pub const MARK: &str = "<image>";

/// A conversation about pictures.
///
/// After import each picture has exactly one [`MARK`], in order, unless the source itself is at
/// odds; pre-flight finds that.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The source's name for it, else its place in the source; need not be unique.
    pub id: String,
    pub pictures: Vec<Picture>,
    pub messages: Vec<Message>,
    /// Makes the row a preference pair: a worse last answer.
    pub rejected: Option<String>,
    /// The side that the source or the user chose; `None` leaves it to [`crate::split`].
    pub split: Option<Split>,
    pub origin: Origin,
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    /// With its marks; no line break touches a mark, since layout is the chat template's.
    pub text: String,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
}

/// What a row is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Learned from.
    Train,
    /// Measured on.
    HeldOut,
}

/// Where a row or a finding comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub file: Arc<PathBuf>,
    pub place: Place,
}

/// Where in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Counted from 1, as editors do.
    Line(usize),
    /// For files without lines, counted from 1.
    Row(usize),
    /// All of it.
    Whole,
}

impl Row {
    /// Marks in all messages.
    pub fn n_marks(&self) -> usize {
        self.messages.iter().map(|message| message.text.matches(MARK).count()).sum()
    }

    /// The last answer; `None` where the row does not end with one.
    pub fn answer(&self) -> Option<&str> {
        let last = self.messages.last().filter(|last| last.role == Role::Assistant);
        last.map(|last| last.text.as_str())
    }
}

impl Message {
    pub fn new(role: Role, text: impl Into<String>) -> Message {
        Message { role, text: text.into() }
    }
}

impl Role {
    /// As chat templates write it.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

impl Split {
    /// As Hugging Face calls it.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::HeldOut => "test",
        }
    }

    /// Whatever word the field has for it.
    pub(crate) fn named(name: &str) -> Option<Split> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "test" | "testing" | "val" | "valid" | "validation" | "dev" | "eval" | "held_out"
            | "held-out" => Some(Split::HeldOut),
            _ => None,
        }
    }
}

impl Origin {
    pub(crate) fn new(file: &Arc<PathBuf>, place: Place) -> Origin {
        Origin { file: file.clone(), place }
    }
}

/// "rows.jsonl:12"
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Line(line) => write!(f, "{}:{line}", self.file.display()),
            Place::Row(row) => write!(f, "{}, row {row}", self.file.display()),
            Place::Whole => write!(f, "{}", self.file.display()),
        }
    }
}
