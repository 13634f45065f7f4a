//! Claims put to the test in one more pass: the answer again without its picture, and a question
//! about each claim.
//!
//! The picture's keys and values are in the cache already, so that a question costs as many rows
//! as it has words. What the pass finds becomes a probability by the calibration's `checked`; of a
//! model that is not calibrated, it is the model's own yes against its no.
//!
//! Shapes: `V` vocabulary.

use std::ops::Range;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::claims::{Claim, ClaimKind};
use super::logistic::{logit, sigmoid};
use super::{Calibration, Word, certainty, is_content_word};
use crate::generate::{
    Answer, Branch, Cancel, Hidden, Row, Session, log_probability, said_text, said_tokens,
};
use crate::processor::{Message, Part, Processor};
use crate::{Error, Vlm};

/// The features of a claim that was checked, in this order; then 1 for its kind and 0 for others,
/// in the order of [`KINDS`].
pub const CLAIM_FEATURES: [&str; 8] = [
    // Log odds of what a right claim answers to its probe.
    "probe",
    // Over the tokens of its content words: the mean and the most by which the picture makes them
    // likelier, and the mean entropy of what would be said without it, in nats.
    "gain",
    "most_gain",
    "entropy_without",
    // The least log probability of a token, with the picture.
    "least_logprob",
    // Log odds of its words by the answer alone: mean and least; 0 where unknown.
    "seen",
    "least_seen",
    // Log odds of the best region of its words; 0 where no word has one.
    "region",
];

/// The kinds in the order of their features.
pub const KINDS: [ClaimKind; 7] = [
    ClaimKind::Object,
    ClaimKind::Colour,
    ClaimKind::Count,
    ClaimKind::Place,
    ClaimKind::Relation,
    ClaimKind::Text,
    ClaimKind::YesNo,
];

/// How many features a checked claim has.
pub const N_CLAIM_FEATURES: usize = CLAIM_FEATURES.len() + KINDS.len();

/// Without the picture a claim is as likely when it has at least this share of its probability.
const AS_LIKELY: f32 = 0.8;

/// What a check says of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It rests on the picture.
    Seen,
    /// It may be right, but the model would say it anyway or is not sure.
    Guessed,
    /// The model itself does not find it in the picture.
    Unsupported,
}

impl State {
    /// Of a claim that is true with this probability; from `seen_from` on it is seen, unless it
    /// would be said anyway, and below `unsupported_below` it is unsupported.
    pub fn of(
        probability: f32,
        says_anyway: bool,
        (seen_from, unsupported_below): (f32, f32),
    ) -> State {
        match probability {
            p if p < unsupported_below => State::Unsupported,
            p if p >= seen_from && !says_anyway => State::Seen,
            _ => State::Guessed,
        }
    }
}

/// A claim that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    pub claim: Claim,
    pub state: State,
    /// That it is true of the picture.
    pub probability: f32,
    /// Mean probability of the tokens of its content words: with the picture and without.
    pub with: f32,
    pub without: f32,
    /// What the probability was made of, [`N_CLAIM_FEATURES`].
    pub features: Vec<f32>,
}

impl Checked {
    /// Bytes of the answer that go when what is unsupported is struck: of counted things the
    /// number alone.
    pub fn struck(&self) -> Option<&Range<usize>> {
        let goes = self.state == State::Unsupported;
        goes.then(|| self.claim.number.as_ref().unwrap_or(&self.claim.bytes))
    }

    /// Whether it would be said as readily without the picture.
    pub fn says_anyway(&self) -> bool {
        says_anyway(self.with, self.without)
    }
}

fn says_anyway(with: f32, without: f32) -> bool {
    without >= AS_LIKELY * with
}

/// Puts the claims of `answer` to the last of `messages` to the test, in their order. Of an answer
/// of which only the text is known, `words` may be empty.
///
/// Without pictures nothing can be checked, and no claim comes back.
///
/// Errors: as [`Session::tell`].
pub fn check(
    session: &mut Session,
    (vlm, processor): (&Vlm, &Processor),
    (messages, images): (&[Message], &[RgbImage]),
    (answer, claims): (&Answer, &[Claim]),
    cancel: &Cancel,
) -> Result<Vec<Checked>, Error> {
    if images.is_empty() || claims.is_empty() {
        return Ok(Vec::new());
    }
    let said = answer.text.trim();
    let probes: Vec<Vec<Message>> =
        claims.iter().map(|claim| about_the_picture(messages, &claim.probe)).collect();
    let yes_no = YesNo::new(processor, &probes[0])?;
    let answer_of_probe = yes_no.said();
    let branches = probes.iter().map(|messages| Branch {
        messages,
        answer: answer_of_probe,
        hidden: Hidden::Nothing,
    });
    let mut branches: Vec<Branch> = branches.collect();
    let tokens = said_tokens(processor, messages, said)?;
    let known = logprobs_of(answer, &tokens);
    if known.is_none() {
        branches.push(Branch { messages, answer: said, hidden: Hidden::Nothing });
    }
    branches.push(Branch { messages, answer: said, hidden: Hidden::Everything });
    let blind = branches.len() - 1;
    let mut found = Found { with: known.unwrap_or_default(), ..Found::default() };
    let mut odds = vec![0.0; claims.len()];
    session.tell_each((vlm, processor), images, (&branches, cancel), &mut |row| match (
        odds.get_mut(row.branch),
        row.token,
    ) {
        (Some(odds), _) => yes_no.read(&row, odds),
        (None, Some(token)) => {
            let logprob = log_probability(row.logits, &[token]);
            match row.branch == blind {
                false => found.with.push(logprob),
                true => {
                    found.without.push(logprob);
                    found.entropies.push(certainty(row.logits).0);
                }
            }
        }
        (None, None) => {}
    })?;
    let pieces = pieces(processor, &tokens, &answer.text)?;
    let calibration = session.calibration();
    let checked = claims.iter().zip(odds).map(|(claim, odds)| {
        let of_claim = Case {
            claim,
            tokens: content_tokens(claim, &answer.text, &pieces),
            odds,
            words: answer.words.get(claim.words.0..=claim.words.1).unwrap_or_default(),
        };
        of_claim.judge(calibration, &found)
    });
    Ok(checked.collect())
}

/// What was found of each token of the answer.
#[derive(Default)]
struct Found {
    /// Log probabilities: with the picture and without.
    with: Vec<f32>,
    without: Vec<f32>,
    /// Nats, without the picture.
    entropies: Vec<f32>,
}

/// What the model found of each token when it said the answer itself, in these very tokens.
fn logprobs_of(answer: &Answer, tokens: &[u32]) -> Option<Vec<f32>> {
    let said = answer.steps.iter().map(|step| step.token);
    said.eq(tokens.iter().copied()).then(|| answer.steps.iter().map(|step| step.logprob).collect())
}

/// The messages up to the last with a picture, which then asks `question`.
pub(super) fn about_the_picture(messages: &[Message], question: &str) -> Vec<Message> {
    let last = messages.iter().rposition(|message| message.n_images() > 0).unwrap_or(0);
    let mut asked: Vec<Message> = messages.iter().take(last + 1).cloned().collect();
    if let Some(message) = asked.last_mut() {
        let image = message.content.iter().rposition(|part| *part == Part::Image);
        message.content.truncate(image.map_or(0, |at| at + 1));
        message.content.push(Part::Text(question.to_string()));
    }
    asked
}

/// The tokens that say yes and no after a prompt.
struct YesNo {
    /// The answer's token in which they differ first.
    at: usize,
    yes: Vec<u32>,
    no: Vec<u32>,
}

impl YesNo {
    fn new(processor: &Processor, messages: &[Message]) -> Result<YesNo, Error> {
        // The space before an answer is the same whatever is said.
        let said = said_text(processor, messages, "Yes")?;
        let before = said.strip_suffix("Yes").unwrap_or_default();
        let encode = |word: &str| processor.tokenizer.encode(&format!("{before}{word}"));
        let (yes, no) = (encode("Yes")?, encode("No")?);
        let at = yes.iter().zip(&no).take_while(|(yes, no)| yes == no).count();
        let variants = |words: [&str; 3]| -> Result<Vec<u32>, Error> {
            let mut ids: Vec<u32> = Vec::new();
            for word in words {
                let said = encode(word)?;
                let same = said.get(..at) == yes.get(..at);
                ids.extend(said.get(at).copied().filter(|id| same && !ids.contains(id)));
            }
            Ok(ids)
        };
        let (yes_ids, no_ids) = (variants(["Yes", "yes", "YES"])?, variants(["No", "no", "NO"])?);
        let both = |id: &u32| yes_ids.contains(id) && no_ids.contains(id);
        let only = |ids: &[u32]| ids.iter().copied().filter(|id| !both(id)).collect();
        Ok(YesNo { at, yes: only(&yes_ids), no: only(&no_ids) })
    }

    /// What is said after a probe up to the row that decides.
    fn said(&self) -> &'static str {
        if self.at == 0 { "" } else { "Yes" }
    }

    /// Sets `odds`, log p(yes) - log p(no), if this is the row that decides.
    fn read(&self, row: &Row, odds: &mut f32) {
        if row.idx == self.at {
            let of = |ids: &[u32]| log_probability(row.logits, ids);
            *odds = (of(&self.yes) - of(&self.no)).clamp(-20.0, 20.0);
        }
    }
}

/// What was found of one claim.
struct Case<'a> {
    claim: &'a Claim,
    /// Of its content words.
    tokens: Vec<usize>,
    /// Log odds of yes.
    odds: f32,
    words: &'a [Word],
}

impl Case<'_> {
    fn judge(&self, calibration: &Calibration, found: &Found) -> Checked {
        let odds = if self.claim.expects_yes { self.odds } else { -self.odds };
        let of = |values: &[f32]| -> Vec<f32> {
            self.tokens.iter().filter_map(|&token| values.get(token).copied()).collect()
        };
        let [with, without] = [of(&found.with), of(&found.without)];
        let gains: Vec<f32> =
            with.iter().zip(&without).map(|(a, b)| (a - b).clamp(-20.0, 20.0)).collect();
        let seen: Vec<f32> = self.words.iter().filter_map(|w| w.probability).map(logit).collect();
        let regions = self.words.iter().filter_map(|word| Some(word.evidence.as_ref()?.score));
        let region = regions.map(logit).reduce(f32::max).unwrap_or(0.0);
        let mut features = vec![
            odds,
            mean(&gains),
            gains.iter().copied().reduce(f32::max).unwrap_or(0.0),
            mean(&of(&found.entropies)),
            with.iter().copied().reduce(f32::min).unwrap_or(0.0).max(-30.0),
            mean(&seen),
            seen.iter().copied().reduce(f32::min).unwrap_or(0.0),
            region,
        ];
        let kind = self.claim.kind;
        features.extend(KINDS.iter().map(|known| f32::from(u8::from(*known == kind))));
        let detector = calibration.checked.as_ref();
        let probability = match detector {
            Some(detector) => detector.probability(&features),
            None => sigmoid(odds),
        };
        let likely = |values: &[f32]| {
            let all: Vec<f32> = values.iter().map(|logprob| logprob.exp()).collect();
            mean(&all)
        };
        let (with, without) = (likely(&with), likely(&without));
        let from = detector.map_or((0.9, 0.3), |d| (d.seen_from, d.below(kind)));
        let state = State::of(probability, says_anyway(with, without), from);
        Checked { claim: self.claim.clone(), state, probability, with, without, features }
    }
}

/// What bytes of `text` each token of its trimmed form says.
///
/// Errors: the tokenizer's.
pub fn pieces(
    processor: &Processor,
    tokens: &[u32],
    text: &str,
) -> Result<Vec<Range<usize>>, Error> {
    let mut stream = processor.tokenizer.stream();
    let mut said = String::new();
    let mut ends = Vec::with_capacity(tokens.len());
    for &token in tokens {
        said.push_str(&stream.push(token)?);
        ends.push(said.len());
    }
    said.push_str(&stream.finish().unwrap_or_default());
    let space = |text: &str| text.len() - text.trim_start().len();
    let (have, want) = (space(&said), space(text));
    let place = |end: usize| (want + end.saturating_sub(have)).min(text.len());
    let mut start = 0;
    let piece = |end: usize| {
        let piece = place(start)..place(end);
        start = end;
        piece
    };
    Ok(ends.into_iter().map(piece).collect())
}

/// The tokens that say the content words of a claim; all of its tokens where it has none.
fn content_tokens(claim: &Claim, text: &str, pieces: &[Range<usize>]) -> Vec<usize> {
    let of = |bytes: &Range<usize>| {
        let meets = |piece: &Range<usize>| piece.start < bytes.end && piece.end > bytes.start;
        let all = pieces.iter().enumerate();
        all.filter(|(_, piece)| meets(piece)).map(|(idx, _)| idx).collect::<Vec<_>>()
    };
    let inside = super::words::split(&text[claim.bytes.clone()]).into_iter();
    let inside = inside.map(|word| claim.bytes.start + word.start..claim.bytes.start + word.end);
    let content = inside.filter(|bytes| is_content_word(&text[bytes.clone()]));
    let mut tokens: Vec<usize> = content.flat_map(|bytes| of(&bytes)).collect();
    if tokens.is_empty() {
        tokens = of(&claim.bytes);
    }
    tokens.dedup();
    tokens
}

/// 0 of nothing.
fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_put_where_the_picture_was() {
        let mut messages = vec![
            Message { role: crate::processor::Role::System, content: vec![Part::Text("s".into())] },
            Message::user(2, "what is this"),
            Message::assistant("a dog"),
            Message::user(0, "and where"),
        ];
        let asked = about_the_picture(&messages, "Is there a dog?");
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[1], Message::user(2, "Is there a dog?"));
        messages[1].content.insert(1, Part::Text("between".into()));
        let asked = about_the_picture(&messages, "Is there a dog?");
        assert_eq!(asked[1].content[1], Part::Text("between".into()), "what stands before stays");
        assert_eq!(asked[1].content.len(), 4);
    }
}
