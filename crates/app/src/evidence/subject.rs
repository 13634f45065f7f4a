//! An answer and everything that led to it: what trials ask again and probes look at.
//!
//! It does not know the engine; it lays out messages, pictures and where words lie.

use std::ops::Range;
use std::sync::Arc;

use image::RgbImage;
use vlm::explain::{Evidence, Word, is_content_word};
use vlm::generate::Answer;
use vlm::processor::Message;

use crate::api::{ApiError, EvidenceView};
use crate::engine::Seat;
use crate::failure::failure;
use crate::telling::{Shown, seen_in};

/// An answer with its question and pictures.
#[derive(Clone)]
pub(crate) struct Subject {
    pub seat: Seat,
    /// Up to and with the question.
    pub messages: Vec<Message>,
    pub images: Vec<Arc<RgbImage>>,
    pub shown: Vec<Shown>,
    pub question: String,
    pub answer: Arc<Answer>,
    /// Whether regions may be shown that no test has confirmed.
    pub maps: bool,
}

impl Subject {
    /// The pictures as the engine takes them.
    pub fn pixels(&self) -> Vec<RgbImage> {
        self.images.iter().map(|image| (**image).clone()).collect()
    }

    /// An error where no picture was shown.
    pub fn sees(&self) -> Result<(), ApiError> {
        match self.images.is_empty() {
            true => Err(failure(
                "no_picture",
                "this answer was given without a picture",
                "Open a picture and ask again.",
            )),
            false => Ok(()),
        }
    }

    /// Which of the pictures shows picture `id`.
    pub fn picture(&self, id: u32) -> Result<usize, ApiError> {
        self.shown.iter().position(|shown| shown.id == id).ok_or_else(|| {
            let hint = "Choose a picture that the question was about.";
            failure("no_such_image", format!("the answer is not about picture {id}"), hint)
        })
    }

    /// Evidence in pixels of the picture that it was found in.
    pub fn view(&self, evidence: &Evidence) -> Option<EvidenceView> {
        self.shown.get(evidence.image).map(|&shown| seen_in(shown, evidence))
    }

    /// The words that can rest on something.
    pub fn content(&self) -> impl Iterator<Item = &Word> {
        self.answer.words.iter().filter(|word| is_content_word(&word.text))
    }

    /// UTF-16 offset of a byte of the answer, as a page counts.
    pub fn utf16(&self, byte: usize) -> u32 {
        let before = self.answer.text.get(..byte).unwrap_or(&self.answer.text);
        before.encode_utf16().count() as u32
    }
}

/// The values of the tokens that `bytes` touches.
pub(super) fn inside<T: Copy>(
    values: &[T],
    tokens: &[Range<usize>],
    bytes: &Range<usize>,
) -> Vec<T> {
    let touches = |token: &Range<usize>| token.start < bytes.end && token.end > bytes.start;
    let values = tokens.iter().zip(values).filter(|(token, _)| touches(token));
    values.map(|(_, value)| *value).collect()
}

/// 0 of nothing.
pub(super) fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_tokens_touched() {
        let tokens = [0..1, 1..4, 4..6];
        let values = [1.0, 2.0, 3.0];
        for (bytes, expected) in [(1..3, vec![2.0]), (2..6, vec![2.0, 3.0]), (6..6, vec![])] {
            assert_eq!(inside(&values, &tokens, &bytes), expected, "{bytes:?}");
        }
        assert_eq!(mean(&[]), 0.0);
    }
}
