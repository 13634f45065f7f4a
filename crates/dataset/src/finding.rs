//! What is wrong with the data, one by one, and what mends it.

use crate::{Origin, Split};

/// One thing that is wrong, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub severity: Severity,
    pub kind: Kind,
    pub origin: Origin,
    /// Position among the rows that were checked; `None` for what never became a row, and for what
    /// concerns all of them.
    pub row: Option<usize>,
    /// One sentence for people.
    pub message: String,
    /// What one click does about it.
    pub repair: Option<Repair>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The row cannot be trained on.
    Error,
    /// It can, but is likely to teach something else than what was meant.
    Warning,
    /// Good to know.
    Note,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Cannot be read as a row.
    Malformed,
    /// Left out on purpose: video, sound, a data set that is not on this disk.
    Skipped,
    PictureMissing,
    PictureBroken,
    /// Marks and pictures do not match.
    Marks,
    /// Turns out of order, or none.
    Roles,
    NoAnswer,
    EmptyAnswer,
    /// The better and the worse answer of a pair are the same.
    SamePair,
    /// White space around a text.
    Untrimmed,
    TooLong,
    /// The caller could not say how long.
    LengthUnknown,
    Duplicate,
    /// One question about one picture with two short answers.
    Contradiction,
    /// The same picture is trained on and held out.
    PictureOnBothSides,
    /// A held-out question and answer are trained on.
    Leakage,
    /// Most rows have one answer.
    CommonAnswer,
    Imbalance,
}

/// What mends a row; done by [`crate::repair`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// Takes the row out.
    Drop,
    /// Adds marks that lack to the first question, takes away those that are too many at the end.
    FixMarks,
    /// Cuts white space off both ends of every text.
    Trim,
    /// Joins neighbouring turns of one role, and cuts a question at the end that has no answer.
    FixTurns,
    /// Forgets the worse answer.
    DropRejected,
    /// Trains on it or holds it out.
    Move(Split),
    /// Takes the row out; what only it knew (side, worse answer) goes to that earlier row.
    MergeInto(usize),
}
