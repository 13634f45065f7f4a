//! What is timed, done by this engine in this process; the peers do the same in theirs.
//!
//! Every piece of work is what a user waits for. A process measures one model in one
//! quantisation, so that its peak memory is that model's.

use std::path::Path;
use std::time::Instant;

use candle_core::{Device, IndexOp, Tensor};
use image::RgbImage;
use serde::{Deserialize, Serialize};
use vlm::explain::EvidenceHeads;
use vlm::generate::{Answer, Cancel, GenerateOptions, Session};
use vlm::processor::{Message, Part, Processor, Role};
use vlm::{Config, KvCache, Mask, Positions, Probe, Quantization, Vlm};

use crate::Error;
use crate::checkpoint::Cut;
use crate::growth::{self, Axis, Point};
use crate::machine;

/// Tokens decoded after a picture.
pub const DECODED: usize = 128;

/// Pictures of a training step, and tokens with each: as the shipped model was trained.
pub const TRAINED: (usize, usize) = (32, 252);

/// Pieces of work, in the order they are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// From opening the files, which the system has in memory, to a model that can answer.
    Load,
    /// One tile of 512 px through vision tower and projector.
    Encode,
    /// Reading 512 tokens of text.
    #[serde(rename = "prefill_512")]
    Prefill512,
    #[serde(rename = "prefill_1100")]
    Prefill1100,
    /// 128 tokens, one at a time, after a picture and a question.
    Decode,
    /// The same with the attention of every layer kept.
    DecodeCaptured,
    /// From the pixels of a 512-px picture to the first token.
    FirstTokenTile,
    /// From the pixels of a large picture, cut into 17 tiles, to the first token.
    FirstTokenPicture,
    /// From a second question about a tile that was seen before to its first token.
    SecondQuestion,
    /// One step of training the shipped model: [`TRAINED`].
    Train,
    /// Not a time: the process's peak.
    Memory,
}

/// A line of a process's report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Found {
    Point(Point),
    Sample(Sample),
}

/// What one process found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub work: Option<Work>,
    #[serde(default)]
    pub seconds: Vec<f64>,
    /// Peak resident memory.
    #[serde(default)]
    pub peak_mib: Option<f64>,
    /// Resident before the model was loaded: the runtime's own.
    #[serde(default)]
    pub before_mib: Option<f64>,
    /// Prompt tokens, where the work has any.
    #[serde(default)]
    pub tokens: Option<usize>,
}

/// What a process is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Answer(AnswerOrder),
    Train(TrainOrder),
    Grow(AnswerOrder, Axis, Vec<usize>),
}

/// Training steps of a small model, beside the peers that train it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainOrder {
    /// A folder with a recipe.
    pub model: std::path::PathBuf,
    pub threads: usize,
    pub repeats: usize,
}

/// Everything that stands between a picture and an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnswerOrder {
    pub one_tile: std::path::PathBuf,
    pub tiles: std::path::PathBuf,
    pub quantization: Quantization,
    pub cache: std::path::PathBuf,
    pub work: Vec<Work>,
    pub repeats: usize,
}

/// Does what is ordered; `found` hears of each piece as it is done.
///
/// # Errors
/// Whatever the engine reports.
pub fn work(order: &Order, found: &mut dyn FnMut(Found)) -> Result<(), Error> {
    let mut sample = |sample| found(Found::Sample(sample));
    match order {
        Order::Answer(order) => answer(order, &mut sample),
        Order::Train(order) => {
            sample(train(order)?);
            Ok(())
        }
        Order::Grow(order, axis, points) => {
            growth::measure(order, (*axis, points), &mut |point| found(Found::Point(point)))
        }
    }
}

fn train(order: &TrainOrder) -> Result<Sample, Error> {
    let before_mib = memory("VmRSS:");
    let (pictures, tokens) = TRAINED;
    let size =
        train::StepSize { pictures, tokens, threads: order.threads, bf16: machine::has_bf16() };
    let seconds = train::time_steps(&order.model, size, order.repeats)?;
    let (work, peak_mib) = (Some(Work::Train), memory("VmHWM:"));
    Ok(Sample { work, seconds, peak_mib, before_mib, tokens: Some(tokens) })
}

fn answer(order: &AnswerOrder, found: &mut dyn FnMut(Sample)) -> Result<(), Error> {
    let before_mib = memory("VmRSS:");
    let (engine, seconds) = Engine::load(order)?;
    for &work in &order.work {
        let mut sample = Sample { work: Some(work), ..Sample::default() };
        match work {
            Work::Load => sample.seconds.push(seconds),
            Work::Memory => {
                (sample.peak_mib, sample.before_mib) = (memory("VmHWM:"), before_mib);
            }
            _ => {
                // A large picture takes long enough to need neither a warm-up nor repeats.
                let is_long = work == Work::FirstTokenPicture;
                if !is_long {
                    engine.once(work)?;
                }
                for _ in 0..if is_long { 1 } else { order.repeats } {
                    let (seconds, tokens) = engine.once(work)?;
                    sample.seconds.push(seconds);
                    sample.tokens = tokens;
                }
            }
        }
        found(sample);
    }
    Ok(())
}

pub(crate) struct Engine {
    vlm: Vlm,
    processor: Processor,
    tiling: Processor,
    heads: EvidenceHeads,
}

impl Engine {
    pub(crate) fn load(order: &AnswerOrder) -> Result<(Engine, f64), Error> {
        let begun = Instant::now();
        let folder: &Path = &order.one_tile;
        let config = Config::load(folder)?;
        let processor = Processor::load(folder, &config)?;
        let heads = EvidenceHeads::load(folder, &config)?;
        let cache = Some(order.cache.as_path());
        let vlm = Vlm::load_quantized(folder, &Device::Cpu, order.quantization, cache)?;
        let seconds = begun.elapsed().as_secs_f64();
        let tiling = Processor::load(&order.tiles, &config)?;
        Ok((Engine { vlm, processor, tiling, heads }, seconds))
    }

    /// Seconds, and prompt tokens where there is a prompt.
    fn once(&self, work: Work) -> Result<(f64, Option<usize>), Error> {
        match work {
            Work::Load | Work::Memory | Work::Train => Ok((0.0, None)),
            Work::Encode => Ok((self.encode()?, None)),
            Work::Prefill512 => Ok((self.prefill(512)?, Some(512))),
            Work::Prefill1100 => Ok((self.prefill(1100)?, Some(1100))),
            Work::Decode | Work::DecodeCaptured => {
                let evidence = work == Work::DecodeCaptured;
                let ask = Ask { evidence, ..Ask::short(Cut::OneTile, DECODED + 1) };
                let answer = self.ask(&mut self.session(), &ask)?;
                let seconds = DECODED as f64 / f64::from(answer.timings.decode_tokens_per_second);
                Ok((seconds, Some(answer.prompt_tokens)))
            }
            Work::FirstTokenTile => self.first_token(Cut::OneTile),
            Work::SecondQuestion => self.second_question(),
            Work::FirstTokenPicture => self.first_token(Cut::Tiles),
        }
    }

    fn encode(&self) -> Result<f64, Error> {
        let side = Cut::OneTile.side();
        let pixels = picture(side, 0).into_raw();
        let pixels: Vec<f32> = pixels.into_iter().map(|v| f32::from(v) / 127.5 - 1.0).collect();
        let side = side as usize;
        let pixels = Tensor::from_vec(pixels, (1, 3, side, side), &Device::Cpu)?;
        let begun = Instant::now();
        self.vlm.encode_images(&pixels)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    fn prefill(&self, n_tokens: usize) -> Result<f64, Error> {
        let ids: Vec<u32> = (0..n_tokens as u32).map(|i| 20 + i * 7919 % 1400).collect();
        let begun = Instant::now();
        let ids = Tensor::from_vec(ids, (1, n_tokens), &Device::Cpu)?;
        let embeds = self.vlm.embed_tokens(&ids)?;
        let mut cache = KvCache::new();
        let mut probe = Probe::none();
        let from = Positions::From(0);
        let hidden =
            self.vlm.forward(&embeds, &from, &Mask::Causal, Some(&mut cache), &mut probe)?;
        let last = hidden.i((0, n_tokens - 1))?.unsqueeze(0)?;
        self.vlm.logits(&last)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    fn first_token(&self, cut: Cut) -> Result<(f64, Option<usize>), Error> {
        let answer = self.ask(&mut self.session(), &Ask::short(cut, 1))?;
        Ok((f64::from(answer.timings.first_token_ms) / 1000.0, Some(answer.prompt_tokens)))
    }

    fn second_question(&self) -> Result<(f64, Option<usize>), Error> {
        let (mut session, first) = (self.session(), Ask::short(Cut::OneTile, 1));
        self.ask(&mut session, &first)?;
        let begun = Instant::now();
        let answer = self.ask(&mut session, &Ask { turns: 2, ..first })?;
        Ok((begun.elapsed().as_secs_f64(), Some(answer.prompt_tokens - answer.reused_tokens)))
    }

    /// A chat in which nothing was said yet.
    pub(crate) fn session(&self) -> Session {
        Session::new(self.heads.clone())
    }

    pub(crate) fn ask(&self, session: &mut Session, ask: &Ask) -> Result<Answer, Error> {
        let processor = match ask.cut {
            Cut::OneTile => &self.processor,
            Cut::Tiles => &self.tiling,
        };
        let Ask { max_new_tokens, evidence, .. } = *ask;
        let options = GenerateOptions { max_new_tokens, evidence, ..GenerateOptions::default() };
        let answer = session.ask(
            (&self.vlm, processor),
            (&ask.messages(), &ask.pictures),
            &options,
            &Cancel::new(),
            &mut |_| {},
        )?;
        Ok(answer)
    }
}

/// A question, and what was said before it.
pub(crate) struct Ask {
    pub(crate) cut: Cut,
    pub(crate) pictures: Vec<RgbImage>,
    /// Questions in all. The pictures stand before the first, or one before each.
    pub(crate) turns: usize,
    /// Words of filling in the question.
    pub(crate) words: usize,
    pub(crate) max_new_tokens: usize,
    pub(crate) evidence: bool,
}

impl Ask {
    /// One short question about one picture, with evidence.
    pub(crate) fn short(cut: Cut, max_new_tokens: usize) -> Ask {
        let pictures = vec![picture(cut.side(), 0)];
        Ask { cut, pictures, turns: 1, words: 0, max_new_tokens, evidence: true }
    }

    fn messages(&self) -> Vec<Message> {
        let say = |role, content| Message { role, content };
        let mut messages = Vec::new();
        for turn in 0..self.turns {
            let n_pictures = match self.pictures.len() == self.turns {
                true => 1,
                false if turn == 0 => self.pictures.len(),
                false => 0,
            };
            let mut content = vec![Part::Image; n_pictures];
            let filling = " red".repeat(self.words);
            content.push(Part::Text(format!("What can be seen in this picture?{filling}")));
            messages.push(say(Role::User, content));
            if turn + 1 < self.turns {
                messages.push(say(Role::Assistant, vec![Part::Text("A red car.".into())]));
            }
        }
        messages
    }
}

/// Colours that change everywhere, other ones for each `seed`.
pub(crate) fn picture(side: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| {
        let noise = x.wrapping_mul(73_856_093) ^ (y + seed).wrapping_mul(19_349_663);
        image::Rgb([(x / 8 % 256) as u8, (y / 8 % 256) as u8, (noise >> 8 & 255) as u8])
    })
}

/// A figure of this process's memory in MiB, where the system tells.
pub(crate) fn memory(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_room_for_the_shipped_model_s_pictures() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano");
        let size = train::StepSize { pictures: 2, tokens: TRAINED.1, threads: 1, bf16: false };
        let seconds = train::time_steps(&model, size, 1).expect("a step");
        assert_eq!(seconds.len(), 1);
    }
}
