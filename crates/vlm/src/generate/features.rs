//! The raw numbers behind the evidence of an answer, for whoever fits a calibration to them.

use image::RgbImage;

use super::branches::{Branch, Cell, Hidden, cells, plans};
use super::{Answer, Cancel, GenerateOptions, Run, Session, image_tokens};
use crate::explain::Word;
use crate::processor::{ImageSpan, Inputs, Message, Processor};
use crate::{Error, Probe, Rows, Vlm};

/// What an answer's evidence is made of. `N` image tokens, `F` features of a patch.
pub struct Features {
    /// What each image token shows, `(N)`.
    pub cells: Vec<Cell>,
    /// The answer as if the model had said it: its text, steps and words with their evidence, as
    /// `explain::check` and `explain::knock_out` take it.
    pub answer: Answer,
    pub tokens: Vec<TokenFeatures>,
    pub words: Vec<WordFeatures>,
}

/// Those of a token of the answer.
pub struct TokenFeatures {
    pub token: u32,
    pub text: String,
    /// `(N · F)`: see `explain::n_patch_features`. Empty without pictures.
    pub patches: Vec<f32>,
}

/// Those of a word of the answer.
pub struct WordFeatures {
    pub word: Word,
    /// As `explain::WORD_FEATURES` names them; empty without pictures.
    pub features: Vec<f32>,
}

impl Features {
    /// The features of image token `cell` for token `token`, `(F)`.
    pub fn patch(&self, token: usize, cell: usize) -> Option<&[f32]> {
        let patches = &self.tokens.get(token)?.patches;
        let width = patches.len() / self.cells.len().max(1);
        patches.get(cell * width..(cell + 1) * width)
    }
}

impl Session {
    /// The features of `answer` after the last of `messages`, as if the model had said it: of its
    /// own answers and of those that somebody else gave. The conversation in the cache stays.
    ///
    /// Errors: as [`Session::tell`].
    pub fn features(
        &mut self,
        (vlm, processor): (&Vlm, &Processor),
        (messages, images): (&[Message], &[RgbImage]),
        answer: &str,
        cancel: &Cancel,
    ) -> Result<Features, Error> {
        let branch = Branch { messages, answer, hidden: Hidden::Nothing };
        let plans = plans((vlm, processor), images, std::slice::from_ref(&branch))?;
        let options = GenerateOptions::default();
        let inputs = Inputs::clone(&plans[0].inputs);
        let read = self.read_prefix((vlm, processor), images, &plans[0], cancel);
        read.inspect_err(|_| self.clear())?;
        let mut run = Run::new((vlm, processor), &options, cancel, inputs);
        if !run.inputs.image_spans.is_empty() {
            run.probe = Probe::attention(self.calibration.heads.layers(), Rows::All);
        }
        let mut rows: Vec<(u32, Vec<f32>)> = Vec::new();
        self.tell_packed(vlm, &plans, &mut run.probe, &mut |row| {
            rows.extend(row.token.map(|token| (token, row.logits.to_vec())));
        })?;
        let mut teller = self.teller(&run)?.capturing();
        let mut said = Answer::default();
        for (i, (token, logits)) in rows.iter().enumerate() {
            let row = Some(plans[0].predicts_first() + i);
            let glance = self.glance(&run, (*token, row), &teller)?;
            teller.token((*token, logits), glance, &mut said, &mut |_| {})?;
        }
        teller.finish(&mut said, &mut |_| {});
        as_given(&mut said, answer);
        let token = |(idx, step): (usize, &super::Step)| TokenFeatures {
            token: step.token,
            text: step.text.clone(),
            patches: teller.words.patch_features(idx).unwrap_or_default(),
        };
        let word = |word: &Word| WordFeatures {
            word: word.clone(),
            features: teller.words.word_features(word, &said.text).unwrap_or_default(),
        };
        Ok(Features {
            cells: cells(&teller.rollout.spans),
            tokens: said.steps.iter().enumerate().map(token).collect(),
            words: said.words.iter().map(word).collect(),
            answer: said,
        })
    }

    /// The probability of any of `words` at each position of the prompt that holds an image token,
    /// and what those show; `None` where pictures are no tokens with a place of their own.
    pub(crate) fn read_image_tokens(
        &mut self,
        (vlm, processor): (&Vlm, &Processor),
        (messages, images): (&[Message], &[RgbImage]),
        words: &[u32],
        cancel: &Cancel,
    ) -> Result<Option<(Vec<ImageSpan>, Vec<f32>)>, Error> {
        let model = (vlm, processor);
        if self.lens.is_none() {
            // In a session of its own, as this one has kept no states.
            let mut calibration = self.calibration.clone();
            calibration.lens_layer = Some(vlm.config.text_config.num_hidden_layers);
            let mut other = Session::new(calibration);
            return other.read_image_tokens(model, (messages, images), words, cancel);
        }
        let branch = Branch { messages, answer: "", hidden: Hidden::Nothing };
        let plans = plans(model, images, std::slice::from_ref(&branch))?;
        let read = self.read_prefix(model, images, &plans[0], cancel);
        read.inspect_err(|_| self.clear())?;
        let spans = plans[0].inputs.image_spans.clone();
        let positions = image_tokens(&plans[0].inputs);
        let mut values = vec![0.0; spans.last().map_or(0, |span| span.tokens.end)];
        let Some(lens) = self.lens.as_ref().filter(|_| !positions.is_empty()) else {
            return Ok(None);
        };
        for &word in words {
            let Some(read) = lens.log_probabilities(vlm, word, &positions)? else {
                return Ok(None);
            };
            for (&position, logprob) in positions.iter().zip(read) {
                values[position] = (values[position] + logprob.exp()).min(1.0);
            }
        }
        Ok(Some((spans, values)))
    }
}

/// Brings the text and its words to the spaces that the answer was given with.
fn as_given(said: &mut Answer, given: &str) {
    if said.text.trim() != given.trim() {
        return;
    }
    let space = |text: &str| text.len() - text.trim_start().len();
    let (have, want) = (space(&said.text), space(given));
    for word in &mut said.words {
        word.bytes = word.bytes.start + want - have..word.bytes.end + want - have;
    }
    said.text = given.to_string();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_where_the_given_answer_has_them() {
        for (said, given) in [(" a dog", "a dog"), ("a dog", "  a dog "), ("a dog", "a dog")] {
            let at = said.find("dog").expect("a dog");
            let word = Word {
                index: 1,
                tokens: (1, 1),
                bytes: at..at + 3,
                text: "dog".into(),
                evidence: None,
                probability: None,
            };
            let mut answer = Answer { text: said.into(), words: vec![word], ..Answer::default() };
            as_given(&mut answer, given);
            assert_eq!(answer.text, given);
            assert_eq!(&answer.text[answer.words[0].bytes.clone()], "dog");
        }
    }
}
