//! How to answer, how to stop it from outside, and how long it took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Error;
use crate::config::GenerationConfig;

/// How to choose tokens and when to end.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    pub max_new_tokens: usize,
    /// 0 takes the likeliest token each time.
    pub temperature: f64,
    pub top_k: Option<usize>,
    pub top_p: Option<f64>,
    /// 1 is none; as `transformers` applies it, over prompt and answer.
    pub repetition_penalty: f32,
    pub seed: u64,
    /// Whether to look at what each token rests on.
    pub evidence: bool,
}

impl Default for GenerateOptions {
    /// Greedy, with evidence.
    fn default() -> Self {
        GenerateOptions {
            max_new_tokens: 256,
            temperature: 0.0,
            top_k: None,
            top_p: None,
            repetition_penalty: 1.0,
            seed: 0,
            evidence: true,
        }
    }
}

impl GenerateOptions {
    /// What the model's makers recommend, greedy where they say nothing.
    pub fn recommended(config: &GenerationConfig) -> Self {
        let sample = config.do_sample.unwrap_or(false);
        let default = GenerateOptions::default();
        GenerateOptions {
            max_new_tokens: config.max_new_tokens.unwrap_or(default.max_new_tokens),
            temperature: if sample { config.temperature.unwrap_or(1.0) } else { 0.0 },
            top_k: config.top_k.filter(|&k| k > 0),
            top_p: config.top_p,
            repetition_penalty: config.repetition_penalty.unwrap_or(1.0) as f32,
            ..default
        }
    }
}

/// A flag that asks a running answer to stop; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Not cancelled.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Asks to stop at the next token.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// How long the parts of an answer took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// The vision encoder and the projector, for pictures not seen before.
    pub encode_ms: f32,
    /// The new part of the prompt through the decoder.
    pub prefill_ms: f32,
    /// From the call to the first token.
    pub first_token_ms: f32,
    pub decode_tokens_per_second: f32,
}
