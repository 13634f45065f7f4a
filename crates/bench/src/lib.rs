//! How fast the engine is, beside the best peers on the same weights and machine.
//!
//! Every engine works in a process of its own, in turns with the others, and the ratio of medians
//! counts. It knows the engine as users know it; it does not know how it is made fast.

pub mod checkpoint;
mod error;
pub mod full_size;
pub mod growth;
pub mod machine;
pub mod peers;
pub mod report;
pub mod work;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use vlm::Quantization;
use vlm::generate::Cancel;

use checkpoint::{Checkpoint, Cut, ModelShape};
use full_size::FullSize;
use growth::{Axis, Growth};
use machine::Machine;
use peers::{Peer, Peers};
use report::{OURS, Report, Run, Samples};
use work::{AnswerOrder, Found, Order, Sample, TrainOrder, Work};

pub use error::Error;

/// Kinds of reports, as their files are called.
const SPEED: &str = "speed";
const GROWTH: &str = "growth";

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    pub shape: ModelShape,
    /// Turns of every engine.
    pub rounds: usize,
    /// Timed repeats of each piece of work in one turn.
    pub repeats: usize,
    /// Whether the peers are measured too.
    pub peers: bool,
    /// The shipped model's folder, whose tokenizer is used.
    pub shipped_model: PathBuf,
    /// Where weights, peers and results are kept.
    pub cache: PathBuf,
}

/// In 8 bits everything is measured, in 4 bits what differs; training has whole weights.
const TURNS: [(Quantization, &[Work]); 3] = [
    (
        Quantization::Q8_0,
        &[
            Work::Load,
            Work::Encode,
            Work::Prefill512,
            Work::Prefill1100,
            Work::Decode,
            Work::DecodeCaptured,
            Work::FirstTokenTile,
            Work::FirstTokenPicture,
            Work::SecondQuestion,
            Work::Memory,
        ],
    ),
    (
        Quantization::Q4_0,
        &[Work::Load, Work::Prefill512, Work::Prefill1100, Work::Decode, Work::Memory],
    ),
    (Quantization::None, &[Work::Train]),
];

/// Measures, and stores the report where the peers were measured too; `progress` hears what is
/// being done, turns done and of all.
///
/// # Errors
/// A disk that refuses, a peer that fails, `Error::Cancelled`.
pub fn measure(
    plan: &Plan,
    program: &Path,
    progress: &mut dyn FnMut(&str, usize, usize),
    cancel: &Cancel,
) -> Result<Report, Error> {
    let begun = Instant::now();
    progress("preparing weights", 0, 1);
    let checkpoint = Checkpoint::open_or_make(plan.shape, &plan.shipped_model, &plan.cache)?;
    let environment = Peers::new(&plan.cache);
    let (found, mut skipped) = match plan.peers {
        true => environment.present()?,
        false => (Vec::new(), vec!["the peers: `--peers` measures them".to_string()]),
    };
    let has_llama = found.iter().any(|(peer, _)| *peer == Peer::LlamaCpp);
    let gguf = if has_llama { environment.convert(&checkpoint)? } else { PathBuf::new() };
    // The packed files are made now, not while the load is timed.
    for quantization in [Quantization::Q8_0, Quantization::Q4_0] {
        our_turn(plan, &checkpoint, program, (quantization, &[Work::Load]))?;
    }
    let machine = Machine::measure();
    let peers: Vec<Peer> = found.iter().map(|(peer, _)| *peer).collect();
    let turns: Vec<Turn> = (0..plan.rounds).flat_map(|round| turns(round, &peers)).collect();
    let mut runs = Vec::new();
    for (done, turn) in turns.iter().enumerate() {
        let &Turn { round, peer, quantization, work } = turn;
        let engine = peer.map_or(OURS, Peer::name).to_string();
        let what = if work == [Work::Train] { "training" } else { quantization.name() };
        progress(&format!("{engine}, {what}"), done, turns.len());
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let samples = match peer {
            None => our_turn(plan, &checkpoint, program, (quantization, work))?,
            Some(peer) => {
                let model = match work {
                    [Work::Train] => &plan.shipped_model,
                    _ => checkpoint.folder(Cut::OneTile),
                };
                let mut samples = Vec::new();
                let mut keep = |sample| samples.push(sample);
                let ordered = (work, plan.repeats);
                let worked =
                    environment.work((peer, quantization), (model, &gguf), ordered, &mut keep);
                // A peer that cannot go on costs its own figures, not those of the others.
                match worked {
                    Err(error @ Error::Process { .. }) => {
                        skipped.push(format!("{engine}, {what}, round {round}: {error}"));
                    }
                    worked => worked?,
                }
                samples
            }
        };
        runs.push(Run { engine, quantization, round, samples });
    }
    let mut report = Samples { shape: plan.shape, machine: &machine, runs: &runs }.report();
    report.peers = found.into_iter().map(|(_, version)| version).collect();
    report.peers.dedup();
    report.skipped = skipped;
    report.date = eval::stored::now();
    report.build = eval::stored::build(&plan.shipped_model);
    report.seconds = begun.elapsed().as_secs_f64();
    if plan.peers {
        keep(&report, plan, SPEED)?;
    }
    Ok(report)
}

/// What one engine does in one round; without a peer it is ours.
struct Turn {
    round: usize,
    peer: Option<Peer>,
    quantization: Quantization,
    work: &'static [Work],
}

/// Every engine's turns of a round.
fn turns(round: usize, peers: &[Peer]) -> Vec<Turn> {
    let mut turns = Vec::new();
    for (quantization, work) in TURNS {
        let able = peers.iter().filter(|peer| peer.can(quantization, work));
        let engines = [None].into_iter().chain(able.map(|peer| Some(*peer)));
        turns.extend(engines.map(|peer| Turn { round, peer, quantization, work }));
    }
    turns
}

fn our_turn(
    plan: &Plan,
    checkpoint: &Checkpoint,
    program: &Path,
    (quantization, work): (Quantization, &[Work]),
) -> Result<Vec<Sample>, Error> {
    let threads = rayon::current_num_threads();
    let order = match work {
        [Work::Train] => Order::Train(TrainOrder {
            model: plan.shipped_model.clone(),
            threads,
            repeats: plan.repeats,
        }),
        _ => Order::Answer(AnswerOrder {
            work: work.to_vec(),
            ..answers(plan, checkpoint, quantization)
        }),
    };
    let mut samples = Vec::new();
    start(program, (&order, threads), &mut |found| {
        if let Found::Sample(sample) = found {
            samples.push(sample);
        }
    })?;
    Ok(samples)
}

fn answers(plan: &Plan, checkpoint: &Checkpoint, quantization: Quantization) -> AnswerOrder {
    AnswerOrder {
        one_tile: checkpoint.folder(Cut::OneTile).into(),
        tiles: checkpoint.folder(Cut::Tiles).into(),
        quantization,
        cache: plan.cache.clone(),
        work: Vec::new(),
        repeats: plan.repeats,
    }
}

/// Has a process of its own, of so many threads, do what is ordered.
fn start(
    program: &Path,
    (order, threads): (&Order, usize),
    on_found: &mut dyn FnMut(Found),
) -> Result<(), Error> {
    let failed = |reason: String| Error::Process { command: OURS.into(), reason };
    let order = serde_json::to_string(order).map_err(|e| failed(e.to_string()))?;
    let mut command = Command::new(program);
    command.args(["bench", "--worker", &order]).env("RAYON_NUM_THREADS", threads.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    peers::lines(command, &mut |line| {
        if let Ok(found) = serde_json::from_str(line) {
            on_found(found);
        }
    })
}

/// Measures how cost grows and stores it; `progress` hears what is done, axes done and of all.
///
/// # Errors
/// A disk that refuses, `Error::Cancelled`.
pub fn grow(
    plan: &Plan,
    program: &Path,
    progress: &mut dyn FnMut(&str, usize, usize),
    cancel: &Cancel,
) -> Result<Growth, Error> {
    let begun = Instant::now();
    progress("preparing weights", 0, 1);
    let checkpoint = Checkpoint::open_or_make(plan.shape, &plan.shipped_model, &plan.cache)?;
    let threads = rayon::current_num_threads();
    let mut points = Vec::new();
    let mut measure = |axis: Axis, at: Vec<usize>, threads: usize| {
        let order = answers(plan, &checkpoint, Quantization::Q8_0);
        start(program, (&Order::Grow(order, axis, at), threads), &mut |found| {
            if let Found::Point(point) = found {
                points.push(point);
            }
        })
    };
    for (done, axis) in Axis::ALL.into_iter().enumerate() {
        progress(axis.title(), done, Axis::ALL.len());
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let at = axis.points(threads);
        match axis {
            Axis::Threads => at.into_iter().try_for_each(|n| measure(axis, vec![n], n))?,
            _ => measure(axis, at, threads)?,
        }
    }
    let growth = Growth {
        shape: plan.shape.name().into(),
        processor: machine::processor(),
        points,
        date: eval::stored::now(),
        build: eval::stored::build(&plan.shipped_model),
        seconds: begun.elapsed().as_secs_f64(),
    };
    keep(&growth, plan, GROWTH)?;
    Ok(growth)
}

/// Loads and asks each full-size model, in 8 and in 4 bits; `progress` hears what is done.
///
/// # Errors
/// A disk that refuses, `Error::Cancelled`.
pub fn full_size(
    plan: &Plan,
    program: &Path,
    progress: &mut dyn FnMut(&str, usize, usize),
    cancel: &Cancel,
) -> Result<FullSize, Error> {
    let begun = Instant::now();
    let formats = [Quantization::Q8_0, Quantization::Q4_0];
    let runs = ModelShape::FULL_SIZE.into_iter().flat_map(|shape| formats.map(|q| (shape, q)));
    let runs: Vec<(ModelShape, Quantization)> = runs.collect();
    let mut rows = Vec::new();
    for (done, &(shape, quantization)) in runs.iter().enumerate() {
        progress(&format!("{}, {}", shape.name(), quantization.name()), done, runs.len());
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        rows.push(full_size_row(&Plan { shape, ..plan.clone() }, program, quantization)?);
    }
    Ok(FullSize {
        rows,
        processor: machine::processor(),
        date: eval::stored::now(),
        build: eval::stored::build(&plan.shipped_model),
        seconds: begun.elapsed().as_secs_f64(),
    })
}

fn full_size_row(
    plan: &Plan,
    program: &Path,
    quantization: Quantization,
) -> Result<full_size::Row, Error> {
    let checkpoint = Checkpoint::open_or_make(plan.shape, &plan.shipped_model, &plan.cache)?;
    let config = vlm::Config::load(checkpoint.folder(Cut::OneTile))?;
    let shapes = vlm::Vlm::parameter_shapes(&config)?;
    let parameters: usize = shapes.iter().map(|(_, dims)| dims.iter().product::<usize>()).sum();
    let available_gib = machine::available_gib();
    let timed = |work: &[Work]| our_turn(plan, &checkpoint, program, (quantization, work));
    let seconds = |samples: &[Sample], work: Work| {
        let sample = samples.iter().find(|sample| sample.work == Some(work));
        sample.and_then(|sample| sample.seconds.first().copied()).unwrap_or(f64::NAN)
    };
    let first = timed(&[Work::Load])?;
    let then = timed(&[Work::Load, Work::FirstTokenTile, Work::Decode, Work::Memory])?;
    let gib = |bytes: usize| bytes as f64 / (1u64 << 30) as f64;
    Ok(full_size::Row {
        shape: plan.shape.name().into(),
        parameters: parameters as u64,
        checkpoint_gib: gib(2 * parameters),
        quantization,
        weights_gib: gib(vlm::Vlm::weight_bytes(&config, quantization)?),
        first_load_seconds: seconds(&first, Work::Load),
        load_seconds: seconds(&then, Work::Load),
        prompt_tokens: then.iter().find_map(|sample| sample.tokens).unwrap_or_default(),
        first_token_seconds: seconds(&then, Work::FirstTokenTile),
        decode_tokens_per_second: work::DECODED as f64 / seconds(&then, Work::Decode),
        peak_gib: then.iter().find_map(|sample| sample.peak_mib).map(|mib| mib / 1024.0),
        available_gib,
    })
}

/// Where a kind of report is kept.
fn file(cache: &Path, shape: ModelShape, kind: &str) -> PathBuf {
    cache.join("eval").join(format!("{kind}-{}.json", shape.name()))
}

fn keep(report: &impl Serialize, plan: &Plan, kind: &str) -> Result<(), Error> {
    let path = file(&plan.cache, plan.shape, kind);
    eval::stored::write(&path, report).map_err(|source| Error::File { path, source })
}

fn kept<R: DeserializeOwned>(cache: &Path, shape: ModelShape, kind: &str) -> Option<R> {
    serde_json::from_slice(&std::fs::read(file(cache, shape, kind)).ok()?).ok()
}

/// The report of an earlier run beside the peers, marked as stored, with how cost grows where that
/// was measured.
pub fn stored(cache: &Path, shape: ModelShape) -> Option<Report> {
    let report: Report = kept(cache, shape, SPEED)?;
    Some(Report { stored: true, growth: kept(cache, shape, GROWTH), ..report })
}
