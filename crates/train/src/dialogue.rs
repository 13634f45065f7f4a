//! A scene and its questions, laid out as one token sequence.
//!
//! The picture comes once; then branches, each an ordinary conversation about it. A branch sees
//! the picture and itself only and its positions continue from the picture, so every branch has
//! exactly the tokens and positions that the chat template would give it alone, while the
//! picture is computed once. It does not know tensors.

use std::ops::Range;

use scenes::{Mention, Qa, Scene, TextItem};

use crate::Error;
use crate::grounding::{names_in, printed_in};
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
    pub(crate) supervised: Range<usize>,
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

    /// What a token of an answer rests on: of a printed word only the letters that it spells.
    /// `span` counts the space before the answer.
    fn part(&self, mention: &Mention, qa: &Qa, span: &Range<usize>) -> [u32; 4] {
        let said = &qa.answer[mention.span.clone()];
        let is_printed = |text: &&TextItem| text.bbox == mention.bbox && text.text == said;
        let Some(text) = self.scene.texts.iter().find(is_printed) else { return mention.bbox };
        let letter = |byte: usize| {
            let byte = byte.saturating_sub(mention.span.start + 1);
            said.char_indices().take_while(|(at, _)| *at < byte).count()
        };
        text.part(letter(span.start)..letter(span.end))
    }

    fn question(&mut self, question: &str) -> Result<(), Error> {
        let tokens = self.speech.encode_spans(question)?;
        let first = self.row.ids.len();
        let printed = printed_in(question, self.scene);
        let named = names_in(question).into_iter().filter_map(|named| {
            let boxes = named.boxes(self.scene);
            let is_held_out =
                self.is_held_out(&boxes) || scenes::is_held_out(named.class, named.colour);
            let is_read = printed.iter().any(|(span, _)| span.start == named.span.start);
            (!is_held_out && !is_read).then_some((named.span, boxes))
        });
        let named: Vec<_> = named.collect();
        for (span, boxes) in named.into_iter().chain(printed) {
            let last = tokens.iter().rposition(|(_, token)| token.start < span.end);
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
            let touched = qa.mentions.iter().filter(touches);
            let boxes: Vec<_> = touched.map(|m| self.part(m, qa, &span)).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_letter_of_a_printed_word_rests_on_itself() {
        let nano = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano");
        let speech = Speech::load(&nano, 4).expect("the shipped tokenizer");
        let kinds = scenes::Mix::only(scenes::SceneKind::Document);
        let scene = scenes::scene(3, &scenes::Options { kinds, ..Default::default() });
        let total = scenes::questions(&scene, 3);
        let qa = total.iter().find(|qa| qa.kind == scenes::QaKind::DocumentField).expect("one");
        let row = Row::new(&speech, &scene, &[vec![qa.clone()]], 0).expect("a row");
        let text = scene.texts.iter().find(|text| text.bbox == qa.mentions[0].bbox).expect("it");
        let looked = row.grounds.iter().filter(|ground| ground.side == Side::Answer);
        let boxes: Vec<_> = looked.flat_map(|ground| ground.boxes.clone()).collect();
        let n = text.letters.len();
        assert!(boxes.len() > 1 && boxes.len() <= n, "digits are tokens of their own");
        assert_eq!(boxes[0], text.part(0..1));
        assert_eq!(boxes[boxes.len() - 1], text.part(n - 1..n));
    }
}
