//! From a conversation to an answer: prefill, decode, stop.
//!
//! A [`Session`] keeps the key/value cache of one conversation and reuses the longest part of it
//! that the next prompt begins with, so that a follow-up question encodes no picture again.
//! It does not know chats, files or faces.
//!
//! Shapes: `N` tiles, `T` tokens of a forward, `D` hidden size, `V` vocabulary.

mod branches;
mod features;
mod options;
mod pictures;
mod sampler;
mod score;
mod teller;

pub(crate) use branches::Row;
pub use branches::{Branch, Cell, Hidden, Told};
pub use features::{Features, TokenFeatures, WordFeatures};
pub use options::{Cancel, GenerateOptions, Timings};
pub use score::Look;
pub(crate) use score::{log_probability, said_text, said_tokens};

use std::time::Instant;

use candle_core::{IndexOp, Tensor};
use image::RgbImage;

use crate::explain::{Calibration, Evidence, Lens, Word};
use crate::processor::{ImageSpan, Inputs, Message, Packing, Processor};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stop {
    /// The model ended it.
    End,
    /// `max_new_tokens` or the end of the context was reached.
    #[default]
    Length,
    Cancelled,
}

/// A complete answer.
#[derive(Debug, Clone, Default)]
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
    calibration: Calibration,
    /// What is kept of the cached image tokens, where the calibration asks for it.
    lens: Option<Lens>,
    cache: Option<KvCache>,
    /// What each cached position holds: a token id, or a position in a picture's content.
    keys: Vec<u64>,
    pictures: Pictures,
}

impl Session {
    /// An empty session; `calibration` says how evidence is read: that of a model folder, or
    /// `EvidenceHeads` alone.
    pub fn new(calibration: impl Into<Calibration>) -> Session {
        let calibration = calibration.into();
        let lens = calibration.lens_layer.map(Lens::new);
        Session { calibration, lens, cache: None, keys: Vec::new(), pictures: Pictures::default() }
    }

    /// How it reads evidence.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
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
        let mut run = Run::new((vlm, processor), options, cancel, inputs);
        let mut answer =
            Answer { image_tokens, prompt_tokens, reused_tokens: reused, ..Answer::default() };
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
        self.truncate(0);
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
        if let Some(lens) = &mut self.lens {
            lens.truncate(len);
        }
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
        let mut teller = self.teller(run)?;
        let mut sampler = Sampler::new(run.options, &run.inputs.input_ids);
        let stops = stop_tokens(run.vlm, run.processor);
        let room = context_limit(run.vlm).saturating_sub(run.inputs.input_ids.len());
        let decode = Instant::now();
        for idx in 0..run.options.max_new_tokens.min(room) {
            run.cancel.check().inspect_err(|_| teller.finish(answer, on_event))?;
            let (token, values) = sampler.next(&logits)?;
            if idx == 0 {
                answer.timings.first_token_ms = millis(begun);
            }
            if stops.contains(&token) {
                answer.stop = Stop::End;
                break;
            }
            let glance = self.glance(run, (token, None), &teller)?;
            teller.token((token, &values), glance, answer, on_event)?;
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
        let (from, n) = (self.keys.len(), embeds.dim(1)?);
        run.probe = match last && run.options.evidence && !run.inputs.image_spans.is_empty() {
            true => Probe::attention(self.calibration.heads.layers(), Rows::Last),
            false => Probe::none(),
        };
        let is_new = run.image_tokens.last().is_some_and(|&last| last >= from);
        let lens = self.lens.as_mut().filter(|_| is_new);
        if let Some(layer) = lens.as_ref().and_then(|lens| lens.probed_layer()) {
            run.probe = std::mem::take(&mut run.probe).hidden([layer]);
        }
        let ids = run.inputs.positions(from, n)?;
        let positions = ids.as_ref().map_or(Positions::From(from), Positions::Ids);
        let cache = self.cache.get_or_insert_with(KvCache::new);
        let hidden =
            run.vlm.forward(embeds, &positions, &Mask::Causal, Some(cache), &mut run.probe)?;
        if let Some(lens) = lens {
            let states = run.probe.hidden.first().map_or(embeds, |(_, states)| states);
            lens.read(run.vlm, (states, from), &run.image_tokens)?;
        }
        Ok(hidden)
    }
}

/// What stays the same during one answer.
struct Run<'a> {
    vlm: &'a Vlm,
    processor: &'a Processor,
    options: &'a GenerateOptions,
    cancel: &'a Cancel,
    inputs: Inputs,
    /// See the function of that name.
    image_tokens: Vec<usize>,
    probe: Probe,
}

impl<'a> Run<'a> {
    fn new(
        (vlm, processor): (&'a Vlm, &'a Processor),
        options: &'a GenerateOptions,
        cancel: &'a Cancel,
        inputs: Inputs,
    ) -> Run<'a> {
        let image_tokens = image_tokens(&inputs);
        Run { vlm, processor, options, cancel, inputs, image_tokens, probe: Probe::none() }
    }
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

/// Positions of the tokens that show a part of a picture or end a row of it.
fn image_tokens(inputs: &Inputs) -> Vec<usize> {
    let placed = |span: &&ImageSpan| span.is_in_prompt() && span.packing != Packing::Queries;
    let spans = inputs.image_spans.iter().filter(placed);
    spans.flat_map(|span| span.tokens.clone()).collect()
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
