//! From a conversation to an answer: prefill, decode, stop.
//!
//! A [`Session`] keeps the key/value cache of one conversation and reuses the longest part of it
//! that the next prompt begins with, so that a follow-up question encodes no picture again.
//! It does not know chats, files or faces.
//!
//! Shapes: `N` tiles, `T` tokens of a forward, `D` hidden size, `V` vocabulary.

mod branches;
mod options;
mod pictures;
mod sampler;
mod score;

pub use branches::{Branch, Cell, Told};
pub use options::{Cancel, GenerateOptions, Timings};
pub use score::Look;

use std::time::Instant;

use candle_core::{IndexOp, Tensor};
use image::RgbImage;

use crate::explain::{Evidence, EvidenceHeads, Rollout, Word, WordFinder};
use crate::processor::{Inputs, Message, Processor};
use crate::{Error, KvCache, Mask, Positions, Probe, Rows, Vlm};
use pictures::Pictures;
use sampler::Sampler;

/// Prompt tokens read in one forward pass: cancelling waits at most for one such piece.
const PREFILL_TOKENS: usize = 512;

/// One generated token.
#[derive(Debug, Clone)]
pub struct Step {
    pub token: u32,
    /// The text that became certain with it; empty while a character is incomplete.
    pub text: String,
    /// Natural logarithm of its probability before temperature and the other sampling settings.
    pub logprob: f32,
    /// What it rests on; `None` for tokens that rest on no region or when not asked for.
    pub evidence: Option<Evidence>,
}

/// What is told while an answer is made.
#[derive(Debug, Clone)]
pub enum Event {
    /// The prompt is laid out.
    Started { image_tokens: usize, prompt_tokens: usize, reused_tokens: usize },
    /// A token was chosen.
    Step(Step),
    /// A word is complete; one with a known index replaces the earlier.
    Word(Word),
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The model ended it.
    End,
    /// `max_new_tokens` or the end of the context was reached.
    Length,
    Cancelled,
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub text: String,
    pub steps: Vec<Step>,
    pub words: Vec<Word>,
    pub stop: Stop,
    pub timings: Timings,
    pub image_tokens: usize,
    pub prompt_tokens: usize,
    /// Prompt tokens that were still in the cache.
    pub reused_tokens: usize,
}

/// One conversation's memory: the cache, what is in it, and its encoded pictures.
pub struct Session {
    heads: EvidenceHeads,
    cache: Option<KvCache>,
    /// What each cached position holds: a token id, or a position in a picture's content.
    keys: Vec<u64>,
    pictures: Pictures,
}

impl Session {
    /// An empty session; `heads` say which attention heads are evidence.
    pub fn new(heads: EvidenceHeads) -> Session {
        Session { heads, cache: None, keys: Vec::new(), pictures: Pictures::default() }
    }

    /// Answers the last of `messages`. `images` are the pictures of their image parts, in order.
    /// `on_event` hears of every token as it is chosen.
    ///
    /// A cancelled answer is `Ok` with `Stop::Cancelled` and what was said so far.
    /// Errors: a prompt longer than the context, and whatever processor and model report.
    pub fn ask(
        &mut self,
        (vlm, processor): (&Vlm, &Processor),
        (messages, images): (&[Message], &[RgbImage]),
        options: &GenerateOptions,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Answer, Error> {
        let begun = Instant::now();
        let inputs = processor.prepare(messages, images)?;
        check_context(vlm, &inputs, 0)?;
        let keys = self.pictures.keys(&inputs, images);
        let reused = self.reuse(&keys);
        let image_tokens = n_image_tokens(vlm, &inputs);
        let prompt_tokens = inputs.input_ids.len();
        on_event(Event::Started { image_tokens, prompt_tokens, reused_tokens: reused });
        let mut run = Run { vlm, processor, options, cancel, inputs, probe: Probe::none() };
        let mut answer = Answer {
            text: String::new(),
            steps: Vec::new(),
            words: Vec::new(),
            stop: Stop::Length,
            timings: Timings::default(),
            image_tokens,
            prompt_tokens,
            reused_tokens: reused,
        };
        let result = self.answer(&mut run, keys, begun, (&mut answer, on_event));
        match result {
            Ok(()) => Ok(answer),
            Err(Error::Cancelled) => {
                answer.stop = Stop::Cancelled;
                Ok(answer)
            }
            Err(error) => {
                self.clear();
                Err(error)
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.cache = None;
        self.keys.clear();
        self.pictures = Pictures::default();
    }

    /// Keeps of the cache what the new prompt begins with; at least one token is left to read.
    fn reuse(&mut self, keys: &[u64]) -> usize {
        let common = self.keys.iter().zip(keys).take_while(|(old, new)| old == new).count();
        let common = common.min(keys.len().saturating_sub(1));
        self.truncate(common);
        common
    }

    fn truncate(&mut self, len: usize) {
        self.keys.truncate(len);
        if let Some(cache) = &mut self.cache {
            cache.truncate(len);
        }
    }

    fn answer(
        &mut self,
        run: &mut Run<'_>,
        keys: Vec<u64>,
        begun: Instant,
        (answer, on_event): (&mut Answer, &mut dyn FnMut(Event)),
    ) -> Result<(), Error> {
        let encoding = Instant::now();
        let embeds = self.embed(run.vlm, &run.inputs, run.cancel)?;
        answer.timings.encode_ms = millis(encoding);
        let prefill = Instant::now();
        let mut logits = self.prefill(run, embeds, &keys)?;
        answer.timings.prefill_ms = millis(prefill);
        let spans = &run.inputs.image_spans;
        let rollout = Rollout::new(spans, self.pictures.patch_attention()?);
        let mut teller = Teller::new(run, &self.heads, rollout);
        let mut sampler = Sampler::new(run.options, &run.inputs.input_ids);
        let stops = stop_tokens(run.vlm, run.processor);
        let room = context_limit(run.vlm).saturating_sub(run.inputs.input_ids.len());
        let decode = Instant::now();
        for idx in 0..run.options.max_new_tokens.min(room) {
            run.cancel.check().inspect_err(|_| teller.finish(answer, on_event))?;
            let (token, logprob) = sampler.next(&logits)?;
            if idx == 0 {
                answer.timings.first_token_ms = millis(begun);
            }
            if stops.contains(&token) {
                answer.stop = Stop::End;
                break;
            }
            let row = self.heads.attention(&run.probe)?;
            teller.token((token, logprob, row), answer, on_event)?;
            logits = self.decode(run, token)?;
        }
        teller.finish(answer, on_event);
        let rest = answer.steps.len().saturating_sub(1) as f32;
        answer.timings.decode_tokens_per_second = rest / (millis(decode) / 1000.0).max(1e-6);
        Ok(())
    }

    /// The embeddings `(1, T, D)` of what is new in the prompt. What cross-attention layers see is
    /// set in the cache.
    fn embed(&mut self, vlm: &Vlm, inputs: &Inputs, cancel: &Cancel) -> Result<Tensor, Error> {
        if vlm.config.text_config.has_cross_attention() {
            let cache = self.cache.get_or_insert_with(KvCache::new);
            self.pictures.look_at(vlm, inputs, cache, cancel)?;
        }
        self.pictures.embed(vlm, inputs, self.keys.len(), cancel)
    }

    /// Reads the new part of the prompt; logits `(V)` for the token after it.
    fn prefill(
        &mut self,
        run: &mut Run<'_>,
        embeds: Tensor,
        keys: &[u64],
    ) -> Result<Tensor, Error> {
        let n_new = embeds.dim(1)?;
        let mut done = 0;
        let mut last = None;
        while done < n_new {
            run.cancel.check()?;
            let n = PREFILL_TOKENS.min(n_new - done);
            let piece = embeds.narrow(1, done, n)?; // (1, T, D)
            done += n;
            last = Some(self.forward(run, &piece, done == n_new)?);
            let from = self.keys.len();
            self.keys.extend_from_slice(&keys[from..from + n]);
        }
        let hidden = last.ok_or(Error::Shape {
            tensor: "input_ids",
            expected: "at least one token".into(),
            found: vec![0],
        })?;
        last_logits(run.vlm, &hidden)
    }

    fn decode(&mut self, run: &mut Run<'_>, token: u32) -> Result<Tensor, Error> {
        let ids = Tensor::from_slice(&[token], (1, 1), run.vlm.device())?;
        let embeds = run.vlm.embed_tokens(&ids)?; // (1, 1, D)
        let hidden = self.forward(run, &embeds, true)?;
        self.keys.push(u64::from(token));
        last_logits(run.vlm, &hidden)
    }

    /// One forward pass after what is cached; the cache is taken back on failure.
    fn forward(&mut self, run: &mut Run<'_>, embeds: &Tensor, last: bool) -> Result<Tensor, Error> {
        let from = self.keys.len();
        run.probe = match last && run.options.evidence && !run.inputs.image_spans.is_empty() {
            true => Probe::attention(self.heads.layers(), Rows::Last),
            false => Probe::none(),
        };
        let ids = run.inputs.positions(from, embeds.dim(1)?)?;
        let positions = ids.as_ref().map_or(Positions::From(from), Positions::Ids);
        let cache = self.cache.get_or_insert_with(KvCache::new);
        run.vlm.forward(embeds, &positions, &Mask::Causal, Some(cache), &mut run.probe)
    }
}

/// What stays the same during one answer.
struct Run<'a> {
    vlm: &'a Vlm,
    processor: &'a Processor,
    options: &'a GenerateOptions,
    cancel: &'a Cancel,
    inputs: Inputs,
    probe: Probe,
}

/// Turns chosen tokens into text, words and evidence.
struct Teller<'a> {
    stream: crate::processor::TextStream<'a>,
    words: WordFinder,
    rollout: Rollout,
    trained: bool,
}

impl<'a> Teller<'a> {
    fn new(run: &Run<'a>, heads: &EvidenceHeads, rollout: Rollout) -> Teller<'a> {
        Teller {
            stream: run.processor.tokenizer.stream(),
            words: WordFinder::new(heads),
            rollout,
            trained: heads.trained,
        }
    }

    fn token(
        &mut self,
        (token, logprob, row): (u32, f32, Option<Vec<f32>>),
        answer: &mut Answer,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        let text = self.stream.push(token)?;
        let row = row.map(|row| self.rollout.row(row));
        let evidence = self.words.look(row, &self.rollout.spans);
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

    /// Gives out what was held back and the last words; averaged heads are judged anew, now
    /// that the answer's own mean map is known.
    fn finish(&mut self, answer: &mut Answer, on_event: &mut dyn FnMut(Event)) {
        let rest = self.stream.finish().unwrap_or_default();
        answer.text.push_str(&rest);
        if let Some(last) = answer.steps.last_mut() {
            last.text.push_str(&rest);
        }
        if !self.trained {
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

/// Logits `(V)` of the last token of `hidden (1, T, D)`.
fn last_logits(vlm: &Vlm, hidden: &Tensor) -> Result<Tensor, Error> {
    let last = hidden.i((0, hidden.dim(1)? - 1))?; // (D)
    let logits = vlm.logits(&last.unsqueeze(0)?.contiguous()?)?; // (1, V)
    Ok(logits.squeeze(0)?.to_dtype(candle_core::DType::F32)?)
}

fn context_limit(vlm: &Vlm) -> usize {
    vlm.config.text_config.max_position_embeddings
}

/// Tokens of the prompt that stand for pictures or parts of them.
fn n_image_tokens(vlm: &Vlm, inputs: &Inputs) -> usize {
    inputs.input_ids.iter().filter(|id| **id == vlm.config.image_token_id).count()
}

/// Whether the prompt, `more` tokens after it and the next one fit.
fn check_context(vlm: &Vlm, inputs: &Inputs, more: usize) -> Result<(), Error> {
    let (tokens, limit) = (inputs.input_ids.len() + more, context_limit(vlm));
    if tokens < limit {
        return Ok(());
    }
    let n_images = n_image_tokens(vlm, inputs);
    let hint = match n_images * 2 > tokens {
        true => format!("{n_images} of them are pictures: ask about fewer, or start a new chat"),
        false => "shorten the question or start a new chat".to_string(),
    };
    Err(Error::ContextOverflow { tokens, limit, hint })
}

/// The ends of text that the checkpoint's generation settings name; without such settings, also
/// its tokenizer's and the usual ends of a turn.
fn stop_tokens(vlm: &Vlm, processor: &Processor) -> Vec<u32> {
    let generation = &vlm.config.generation;
    let mut stops = generation.eos_token_ids.clone();
    if generation.is_written {
        return stops;
    }
    let named = ["<end_of_utterance>", "<|im_end|>"];
    stops.extend(named.iter().filter_map(|token| processor.tokenizer.id(token)));
    let eos = processor.tokenizer.special("eos_token");
    stops.extend(eos.and_then(|token| processor.tokenizer.id(token)));
    stops
}

fn millis(since: Instant) -> f32 {
    since.elapsed().as_secs_f32() * 1000.0
}
