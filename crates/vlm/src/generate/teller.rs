//! Chosen tokens -> text, words and evidence.

use super::{Answer, Event, Run, Session, Step};
use crate::Error;
use crate::explain::{Captured, Rollout, Word, WordFinder, certainty};
use crate::processor::TextStream;

/// What the model looked at when it predicted a token.
#[derive(Default)]
pub(super) struct Glance {
    /// Mean over the heads, over all positions.
    row: Option<Vec<f32>>,
    /// That of each head, where more than the mean is kept.
    heads: Vec<Vec<f32>>,
    /// See `Lens::log_probabilities`; empty without.
    lens: Vec<f32>,
}

/// Turns chosen tokens into text, words and evidence.
pub(super) struct Teller<'a> {
    stream: TextStream<'a>,
    pub words: WordFinder,
    pub rollout: Rollout,
    /// Places of the image tokens among what the evidence layers look at, `(N)`.
    positions: Vec<usize>,
    null_token: usize,
    /// Whether features are kept.
    captures: bool,
}

impl Session {
    /// For the answer to a prompt that was read.
    pub(super) fn teller<'a>(&self, run: &Run<'a>) -> Result<Teller<'a>, Error> {
        let rollout = Rollout::new(&run.inputs.image_spans, self.pictures.patch_attention()?);
        let spans = rollout.spans.iter();
        let positions: Vec<usize> = spans.flat_map(|span| span.tokens.clone()).collect();
        let mut sinks = vec![false; positions.len()];
        if let (Some(lens), true) = (&self.lens, self.calibration.mask_sinks) {
            sinks = lens.sinks(&positions);
        }
        Ok(Teller {
            stream: run.processor.tokenizer.stream(),
            words: WordFinder::new(&self.calibration, sinks),
            rollout,
            positions,
            null_token: self.calibration.heads.null_token,
            captures: self.calibration.wants_features(),
        })
    }

    /// What the model looked at when it predicted `token`: at the captured row of that number,
    /// the last where none is named.
    pub(super) fn glance(
        &self,
        run: &Run,
        (token, row): (u32, Option<usize>),
        teller: &Teller,
    ) -> Result<Glance, Error> {
        let heads = &self.calibration.heads;
        if !teller.captures {
            return Ok(Glance { row: heads.attention(&run.probe)?, ..Glance::default() });
        }
        let heads = heads.rows(&run.probe, row)?;
        let lens = match &self.lens {
            Some(lens) if !heads.is_empty() && !run.image_tokens.is_empty() => {
                lens.log_probabilities(run.vlm, token, &teller.positions)?.unwrap_or_default()
            }
            _ => Vec::new(),
        };
        Ok(Glance { row: mean(&heads), heads, lens })
    }
}

impl Teller<'_> {
    /// Keeps features whether or not the calibration needs them.
    pub fn capturing(mut self) -> Self {
        self.captures = true;
        self
    }

    /// Takes the next token, chosen from `logits (V)`.
    pub fn token(
        &mut self,
        (token, logits): (u32, &[f32]),
        glance: Glance,
        answer: &mut Answer,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        let text = self.stream.push(token)?;
        let chosen = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let logprob = chosen - kernels::loss::log_sum_exp(logits);
        let captured = (self.captures && glance.row.is_some()).then(|| {
            let rows = glance.heads.into_iter().map(|row| self.rollout.row(row));
            let rows: Vec<Vec<f32>> = rows.collect();
            let captured = Captured::new(&rows, &self.positions, self.null_token);
            let (entropy, margin) = certainty(logits);
            Captured { logprob, entropy, margin, lens: glance.lens, ..captured }
        });
        let row = glance.row.map(|row| self.rollout.row(row));
        let evidence = self.words.look((row, captured), &self.rollout.spans);
        answer.text.push_str(&text);
        let step = Step { token, text, logprob, evidence };
        answer.steps.push(step.clone());
        on_event(Event::Step(step));
        for word in self.words.complete(&answer.text, &answer.steps, false) {
            keep(answer, &word);
            on_event(Event::Word(word));
        }
        Ok(())
    }

    /// Gives out what was held back and the last words; where the answer's own mean map or its
    /// function words count, all are judged anew, now that they are known.
    pub fn finish(&mut self, answer: &mut Answer, on_event: &mut dyn FnMut(Event)) {
        let rest = self.stream.finish().unwrap_or_default();
        answer.text.push_str(&rest);
        if let Some(last) = answer.steps.last_mut() {
            last.text.push_str(&rest);
        }
        if self.words.learns() {
            self.words.judge_again(&mut answer.steps, &self.rollout.spans);
            answer.words.clear();
        }
        for word in self.words.complete(&answer.text, &answer.steps, true) {
            keep(answer, &word);
            on_event(Event::Word(word));
        }
    }
}

fn keep(answer: &mut Answer, word: &Word) {
    answer.words.truncate(word.index);
    answer.words.push(word.clone());
}

/// `None` of no rows.
fn mean(rows: &[Vec<f32>]) -> Option<Vec<f32>> {
    let mut mean = vec![0.0; rows.first()?.len()];
    for row in rows {
        mean.iter_mut().zip(row).for_each(|(sum, share)| *sum += share);
    }
    mean.iter_mut().for_each(|sum| *sum /= rows.len() as f32);
    Some(mean)
}
