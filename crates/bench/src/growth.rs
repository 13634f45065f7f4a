//! How cost grows: with image tokens, with context, with pictures in a chat, with questions about
//! one picture, and with threads. Ours alone, in 8 bits.

use std::fmt;

use serde::{Deserialize, Serialize};
use vlm::generate::Session;

use crate::Error;
use crate::checkpoint::Cut;
use crate::work::{AnswerOrder, Ask, Engine, memory, picture};

/// Tokens decoded at each point.
const DECODED: usize = 32;
/// Prompt tokens of a short question about a picture of one tile.
const SHORT: usize = 84;
/// Image tokens of a picture of one tile.
const PER_PICTURE: usize = 64;

/// What grows while all else stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Image tokens of one question: pictures of 64 each.
    ImageTokens,
    /// Tokens of a prompt with one picture.
    Context,
    /// The n-th turn of a chat, each with another picture.
    Pictures,
    /// The n-th question about one picture.
    Questions,
    /// Threads, for one question about one picture.
    Threads,
}

impl Axis {
    pub const ALL: [Axis; 5] =
        [Axis::ImageTokens, Axis::Context, Axis::Pictures, Axis::Questions, Axis::Threads];

    /// Where it is measured, on a machine of so many threads.
    pub fn points(self, threads: usize) -> Vec<usize> {
        match self {
            Axis::ImageTokens => vec![64, 256, 1024, 4096],
            Axis::Context => vec![128, 512, 2048, 8000],
            Axis::Pictures | Axis::Questions => vec![1, 2, 3, 4],
            Axis::Threads => {
                let doubled = std::iter::successors(Some(1), |n| Some(n * 2));
                doubled.take_while(|n| *n < threads).chain([threads]).collect()
            }
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Axis::ImageTokens => "image tokens",
            Axis::Context => "prompt tokens",
            Axis::Pictures => "pictures in the chat",
            Axis::Questions => "question about one picture",
            Axis::Threads => "threads",
        }
    }
}

/// What one question cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub axis: Axis,
    pub at: usize,
    pub prompt_tokens: usize,
    /// Prompt tokens whose keys and values were still there.
    pub reused_tokens: usize,
    /// Looking at pictures, seconds.
    pub encode_seconds: f64,
    /// From the question to the first token, pictures and all.
    pub first_token_seconds: f64,
    pub decode_tokens_per_second: f64,
    /// Resident memory afterwards.
    pub resident_mib: Option<f64>,
}

/// Measures one axis in this process, at `points`; `found` hears of each.
///
/// # Errors
/// Whatever the engine reports.
pub fn measure(
    order: &AnswerOrder,
    (axis, points): (Axis, &[usize]),
    found: &mut dyn FnMut(Point),
) -> Result<(), Error> {
    let (engine, _) = Engine::load(order)?;
    engine.ask(&mut engine.session(), &Ask::short(Cut::OneTile, 2))?; // warm-up
    let mut session = engine.session();
    for &at in points {
        let is_chat = matches!(axis, Axis::Pictures | Axis::Questions);
        if !is_chat {
            session = engine.session();
        }
        found(point(&engine, &mut session, (axis, at))?);
    }
    Ok(())
}

fn point(
    engine: &Engine,
    session: &mut Session,
    (axis, at): (Axis, usize),
) -> Result<Point, Error> {
    let side = Cut::OneTile.side();
    let mut ask = Ask::short(Cut::OneTile, DECODED + 1);
    match axis {
        Axis::Threads => {}
        Axis::ImageTokens => {
            ask.pictures = (0..at / PER_PICTURE).map(|i| picture(side, i as u32)).collect();
        }
        // The shipped tokenizer has each of these words as one token.
        Axis::Context => ask.words = at.saturating_sub(SHORT),
        Axis::Pictures => {
            ask.pictures = (0..at).map(|i| picture(side, i as u32)).collect();
            ask.turns = at;
        }
        Axis::Questions => ask.turns = at,
    }
    let answer = engine.ask(session, &ask)?;
    let seconds = |ms: f32| f64::from(ms) / 1000.0;
    Ok(Point {
        axis,
        at,
        prompt_tokens: answer.prompt_tokens,
        reused_tokens: answer.reused_tokens,
        encode_seconds: seconds(answer.timings.encode_ms),
        first_token_seconds: seconds(answer.timings.first_token_ms),
        decode_tokens_per_second: f64::from(answer.timings.decode_tokens_per_second),
        resident_mib: memory("VmRSS:"),
    })
}

/// All points of all axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    pub shape: String,
    pub processor: String,
    pub points: Vec<Point>,
    pub date: String,
    pub build: String,
    pub seconds: f64,
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for axis in Axis::ALL {
            writeln!(
                f,
                "{:<28} {:>7} {:>7} {:>10} {:>14} {:>9} {:>9}",
                axis.title(),
                "tokens",
                "kept",
                "encode s",
                "first token s",
                "tokens/s",
                "MiB"
            )?;
            for point in self.points.iter().filter(|point| point.axis == axis) {
                writeln!(
                    f,
                    "{:<28} {:>7} {:>7} {:>10.2} {:>14.2} {:>9.1} {:>9}",
                    point.at,
                    point.prompt_tokens,
                    point.reused_tokens,
                    point.encode_seconds,
                    point.first_token_seconds,
                    point.decode_tokens_per_second,
                    point.resident_mib.map_or("-".into(), |mib| format!("{mib:.0}"))
                )?;
            }
            writeln!(f)?;
        }
        let Growth { shape, processor, date, build, seconds, .. } = self;
        write!(
            f,
            "{processor}, random weights in the shape of {shape} in 8 bits. Measured {date}, \
             build {build}, {seconds:.0} s"
        )
    }
}
