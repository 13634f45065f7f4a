//! A scene and its questions, laid out as one token sequence.
//!
//! The picture comes once; then branches, each an ordinary conversation about it. A branch sees
//! the picture and itself only and its positions continue from the picture, so every branch has
//! exactly the tokens and positions that the chat template would give it alone, while the
//! picture is computed once. It does not know tensors.

use scenes::{Qa, Scene};

use crate::Error;
use crate::grounding::names_in;
use crate::vocabulary::Speech;

/// Boxes that the attention of some heads is to rest on, at one row.
#[derive(Debug)]
pub(crate) struct Ground {
    /// Index in the sequence.
    pub(crate) row: usize,
    pub(crate) side: Side,
    /// Empty: nothing in the picture, so the first token takes the attention.
    pub(crate) boxes: Vec<[u32; 4]>,
    pub(crate) weight: f32,
}

/// Which heads a [`Ground`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A word of the question has just been read.
    Question,
    /// A word of the answer is about to be said.
    Answer,
}

/// One question with its answer in a [`Row`].
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) kind: &'static str,
    pub(crate) answer: String,
    /// Part of [`Row::supervised`] that holds the answer's tokens and its end.
    pub(crate) supervised: std::ops::Range<usize>,
}

/// One scene's sequence.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) ids: Vec<u32>,
    /// 0 for the opening, then the branch's number.
    pub(crate) segments: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    /// Row and the token that it is to predict.
    pub(crate) supervised: Vec<(usize, u32)>,
    pub(crate) grounds: Vec<Ground>,
    pub(crate) replies: Vec<Reply>,
    /// Columns that the rows after the picture do not see.
    pub(crate) hidden: Vec<usize>,
    /// The first row after the picture.
    pub(crate) after_picture: usize,
}

/// How much an attention row that should rest on nothing counts.
const FUNCTION_WORD_WEIGHT: f32 = 0.2;

impl Row {
    /// Lays out the branches after the picture; each branch is one conversation. Turns that would
    /// make the row longer than `limit` tokens are left out (0: no limit), but never all.
    pub(crate) fn new(
        speech: &Speech,
        scene: &Scene,
        branches: &[Vec<Qa>],
        limit: usize,
    ) -> Result<Self, Error> {
        let mut row = Self::default();
        for &id in &speech.opening {
            row.push(id, 0, row.ids.len());
        }
        let start = speech.opening.len();
        for (index, turns) in branches.iter().enumerate() {
            let segment = index as u32 + 1;
            let first = row.ids.len();
            let mut writer = Writer { row: &mut row, speech, scene, segment, first, start };
            let mut opens = true;
            for qa in turns {
                let before = writer.row.lengths();
                writer.turn(qa, opens)?;
                if limit > 0 && writer.row.ids.len() > limit && before.replies > 0 {
                    writer.row.cut(&before);
                } else {
                    opens = false;
                }
            }
        }
        Ok(row)
    }

    /// Hides image tokens from every word, the first at column `start`; without a picture nothing
    /// is looked at.
    pub(crate) fn hide(&mut self, hidden: &[bool], start: usize) {
        let columns = hidden.iter().enumerate().filter(|(_, hidden)| **hidden);
        self.hidden = columns.map(|(i, _)| start + i).collect();
        self.after_picture = start + hidden.len();
        if !hidden.is_empty() && hidden.iter().all(|&hidden| hidden) {
            self.grounds.clear();
        }
    }

    fn lengths(&self) -> Lengths {
        Lengths {
            ids: self.ids.len(),
            supervised: self.supervised.len(),
            grounds: self.grounds.len(),
            replies: self.replies.len(),
        }
    }

    /// Takes back what was written since.
    fn cut(&mut self, to: &Lengths) {
        self.ids.truncate(to.ids);
        self.segments.truncate(to.ids);
        self.positions.truncate(to.ids);
        self.supervised.truncate(to.supervised);
        self.grounds.truncate(to.grounds);
        self.replies.truncate(to.replies);
    }

    fn push(&mut self, id: u32, segment: u32, position: usize) {
        self.ids.push(id);
        self.segments.push(segment);
        self.positions.push(position as u32);
    }
}

/// How much of a row is written.
struct Lengths {
    ids: usize,
    supervised: usize,
    grounds: usize,
    replies: usize,
}

/// Writes one branch.
struct Writer<'a> {
    row: &'a mut Row,
    speech: &'a Speech,
    scene: &'a Scene,
    segment: u32,
    first: usize,
    start: usize,
}

impl Writer<'_> {
    fn push(&mut self, id: u32) {
        let position = self.start + self.row.ids.len() - self.first;
        self.row.push(id, self.segment, position);
    }

    fn turn(&mut self, qa: &Qa, opens: bool) -> Result<(), Error> {
        let speech = self.speech;
        if !opens {
            speech.next.iter().for_each(|&id| self.push(id));
        }
        let lead = if opens { "" } else { " " };
        self.question(&format!("{lead}{}", qa.question))?;
        speech.reply.iter().for_each(|&id| self.push(id));
        self.answer(qa)
    }

    /// Whether any of the boxes is that of a thing whose maps are not trained.
    fn is_held_out(&self, boxes: &[[u32; 4]]) -> bool {
        let mut kept = self.scene.objects.iter().filter(|o| scenes::is_held_out(o.class, o.colour));
        kept.any(|object| boxes.contains(&object.bbox))
    }

    fn question(&mut self, question: &str) -> Result<(), Error> {
        let tokens = self.speech.encode_spans(question)?;
        let first = self.row.ids.len();
        for named in names_in(question) {
            let last = tokens.iter().rposition(|(_, span)| span.start < named.span.end);
            let boxes = named.boxes(self.scene);
            if self.is_held_out(&boxes) || scenes::is_held_out(named.class, named.colour) {
                continue;
            }
            let row = first + last.unwrap_or(0);
            self.row.grounds.push(Ground { row, side: Side::Question, boxes, weight: 1.0 });
        }
        tokens.iter().for_each(|&(id, _)| self.push(id));
        Ok(())
    }

    fn answer(&mut self, qa: &Qa) -> Result<(), Error> {
        let tokens = self.speech.encode_spans(&format!(" {}", qa.answer))?;
        let begin = self.row.supervised.len();
        for (id, span) in tokens.iter().cloned().chain([(self.speech.end, 0..0)]) {
            let row = self.row.ids.len() - 1;
            // The encoded text has one leading space that the answer's byte spans do not count.
            let touches =
                |m: &&scenes::Mention| m.span.start + 1 < span.end && span.start < m.span.end + 1;
            let boxes: Vec<_> = qa.mentions.iter().filter(touches).map(|m| m.bbox).collect();
            let sure = !boxes.is_empty() || qa.answer == "No.";
            let weight = if sure { 1.0 } else { FUNCTION_WORD_WEIGHT };
            if !self.is_held_out(&boxes) {
                self.row.grounds.push(Ground { row, side: Side::Answer, boxes, weight });
            }
            self.row.supervised.push((row, id));
            self.push(id);
        }
        let supervised = begin..self.row.supervised.len();
        let (kind, answer) = (qa.kind.name(), qa.answer.clone());
        self.row.replies.push(Reply { kind, answer, supervised });
        Ok(())
    }
}
