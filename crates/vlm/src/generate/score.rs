//! How likely a model finds an answer that somebody else gave: teacher forcing.
//!
//! The same prompt, cache and pictures as for an answer of its own; only the tokens are given.
//!
//! Shapes: `T` tokens of the answer, `D` hidden size, `V` vocabulary.

use candle_core::{DType, Tensor};
use image::RgbImage;

use super::{Cancel, GenerateOptions, Run, Session, check_context, stop_tokens};
use crate::processor::{Message, Processor};
use crate::{Error, Vlm};

/// What a picture is to the model.
pub struct Look {
    /// Its places in the prompt.
    pub n_tokens: usize,
    /// What fills them, `(tokens, D)`.
    pub embeds: Tensor,
}

impl Session {
    /// How the first of `images` enters the prompt.
    ///
    /// Errors: no picture; `Error::Cancelled`; the model's own.
    pub fn look(
        &mut self,
        (vlm, processor): (&Vlm, &Processor),
        (messages, images): (&[Message], &[RgbImage]),
        cancel: &Cancel,
    ) -> Result<Look, Error> {
        let inputs = processor.prepare(messages, images)?;
        self.pictures.keys(&inputs, images);
        let spans = inputs.image_spans.iter().filter(|span| span.image == 0);
        let n_tokens = spans.map(|span| span.tokens.len()).sum();
        match self.pictures.first(vlm, &inputs, cancel)? {
            Some(embeds) => Ok(Look { n_tokens, embeds }),
            None => Err(Error::ImageTokens { tokens: n_tokens, embeds: 0 }),
        }
    }

    /// The natural logarithm of the probability of each token of `answer`, and of ending after it
    /// where the model knows an end, when it follows the last of `messages`. `images` are the
    /// pictures of their image parts.
    ///
    /// Errors: `Error::Cancelled`; a prompt and answer longer than the context; the model's own.
    pub fn score(
        &mut self,
        (vlm, processor): (&Vlm, &Processor),
        (messages, images): (&[Message], &[RgbImage]),
        answer: &str,
        cancel: &Cancel,
    ) -> Result<Vec<f32>, Error> {
        let inputs = processor.prepare(messages, images)?;
        let said = said_tokens(processor, messages, answer)?;
        check_context(vlm, &inputs, said.len())?;
        let options = &GenerateOptions { evidence: false, ..Default::default() };
        let keys = self.pictures.keys(&inputs, images);
        self.reuse(&keys);
        let embeds = self.embed(vlm, &inputs, cancel)?;
        let mut run = Run::new((vlm, processor), options, cancel, inputs);
        let scored = self.score_said(&mut run, embeds, (&keys, &said));
        // Half-read tokens would be taken for read ones.
        scored.inspect_err(|_| self.clear())
    }

    fn score_said(
        &mut self,
        run: &mut Run<'_>,
        embeds: Tensor,
        (keys, said): (&[u64], &[u32]),
    ) -> Result<Vec<f32>, Error> {
        let mut logits = vec![self.prefill(run, embeds, keys)?.to_vec1::<f32>()?];
        if !said.is_empty() {
            run.cancel.check()?;
            let ids = Tensor::from_slice(said, (1, said.len()), run.vlm.device())?;
            let embeds = run.vlm.embed_tokens(&ids)?; // (1, T, D)
            let hidden = self.forward(run, &embeds, true)?;
            self.keys.extend(said.iter().map(|&id| u64::from(id)));
            let rows = run.vlm.logits(&hidden)?.squeeze(0)?; // (T, V)
            logits.extend(rows.to_dtype(DType::F32)?.to_vec2::<f32>()?);
        }
        let mut stops = stop_tokens(run.vlm, run.processor);
        stops.retain(|&id| (id as usize) < logits[0].len());
        let end = (!stops.is_empty()).then_some(stops.as_slice());
        let wanted = said.iter().map(std::slice::from_ref).chain(end);
        Ok(logits.iter().zip(wanted).map(|(row, ids)| log_probability(row, ids)).collect())
    }
}

/// The tokens of an answer after a prompt.
pub(crate) fn said_tokens(
    processor: &Processor,
    messages: &[Message],
    answer: &str,
) -> Result<Vec<u32>, Error> {
    processor.tokenizer.encode(&as_said(processor, messages, answer)?)
}

/// The answer as the chat template writes it after the prompt, with the space before it.
fn as_said(processor: &Processor, messages: &[Message], answer: &str) -> Result<String, Error> {
    let mut whole = messages.to_vec();
    whole.push(Message::assistant(answer));
    let n_images = whole.iter().map(Message::n_images).sum();
    let plain = |messages: &[Message]| -> Result<String, Error> {
        processor.chat.render(&processor.layout.plain(messages, n_images)?)
    };
    let (asked, answered) = (plain(messages)?, plain(&whole)?);
    let rest = answered.strip_prefix(&asked);
    let said = rest.and_then(|rest| Some(&rest[..rest.find(answer)? + answer.len()]));
    // A template that rewrites what was asked says nothing of the space.
    Ok(said.unwrap_or(answer).to_owned())
}

/// The logarithm of the summed probability of `ids` under `logits (V)`.
pub(crate) fn log_probability(logits: &[f32], ids: &[u32]) -> f32 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|value| f64::from(value - top).exp()).sum()
    };
    let wanted = sum(&mut ids.iter().filter_map(|&id| logits.get(id as usize).copied()));
    (wanted / sum(&mut logits.iter().copied())).ln() as f32
}

#[cfg(test)]
mod tests {
    use super::log_probability;

    #[test]
    fn probabilities_are_those_of_the_softmax() {
        let logits = [2f32.ln(), 0.0, 0.0];
        for (ids, expected) in [(&[0u32][..], 0.5), (&[1], 0.25), (&[1, 2], 0.5), (&[0, 1, 2], 1.0)]
        {
            let found = log_probability(&logits, ids).exp();
            assert!((found - expected).abs() < 1e-6, "{ids:?}: {found}");
        }
        assert!((log_probability(&[1000.0, 0.0], &[0])).abs() < 1e-6, "no overflow");
    }
}
