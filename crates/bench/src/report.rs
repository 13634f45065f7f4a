//! Samples of all engines to ratios: ours ÷ the best peer.

use std::fmt;

use serde::{Deserialize, Serialize};
use vlm::Quantization;

use crate::checkpoint::ModelShape;
use crate::growth::Growth;
use crate::machine::Machine;
use crate::work::{DECODED, Sample, TRAINED, Work};

/// The engine of this program, among the peers' names.
pub const OURS: &str = "sightline";

/// One engine's samples in one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub engine: String,
    pub quantization: Quantization,
    pub round: usize,
    pub samples: Vec<Sample>,
}

/// One demanded figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// None where it was not measured; `note` says why.
    pub value: Option<f64>,
    /// Timed repeats of ours behind it.
    pub n: usize,
    /// Smallest and largest of the single rounds.
    pub interval: Option<[f64; 2]>,
    /// The best peer's figure (1 for ratios of times and memory), and what it is.
    pub baseline: f64,
    pub demand: f64,
    pub holds: Option<bool>,
    /// The peer or the limit it is held against, and the figures behind it.
    pub note: String,
}

/// What was measured, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub encode_ratio: Figure,
    pub prefill_q8_ratio: Figure,
    pub prefill_q4_ratio: Figure,
    pub decode_q8_ratio: Figure,
    pub decode_q4_ratio: Figure,
    pub decode_share_of_bandwidth: Figure,
    pub first_token_ratio: Figure,
    pub memory_ratio: Figure,
    pub train_nano_ratio: Figure,
    pub load_ratio: Figure,
    pub attention_captured_share: Figure,
    /// First token for a picture that was seen before, beside a peer that sees it.
    pub second_question_ratio: Figure,
    pub shape: String,
    pub machine: Machine,
    pub peers: Vec<String>,
    /// What was left out and why.
    pub skipped: Vec<String>,
    pub date: String,
    pub build: String,
    pub seconds: f64,
    pub stored: bool,
    pub runs: Vec<Run>,
    /// How cost grows, where that was measured.
    #[serde(default)]
    pub growth: Option<Growth>,
}

/// Whether a larger ratio is the better one.
#[derive(Clone, Copy, PartialEq)]
enum Better {
    Larger,
    Smaller,
}

/// Everything that was measured.
pub struct Samples<'a> {
    pub shape: ModelShape,
    pub machine: &'a Machine,
    pub runs: &'a [Run],
}

impl Samples<'_> {
    fn of(&self, engine: &str, quantization: Quantization, work: Work) -> Vec<(usize, f64)> {
        let runs = self.runs.iter().filter(|run| run.engine == engine);
        // PyTorch has no such formats: its only one stands beside each.
        let runs = runs.filter(|run| run.quantization == quantization || engine.contains("torch"));
        let of = |run: &Run| {
            let samples = run.samples.iter().filter(|sample| sample.work == Some(work));
            let values = samples.flat_map(|sample| match work {
                Work::Memory => sample.peak_mib.into_iter().collect(),
                _ => sample.seconds.clone(),
            });
            values.map(|value| (run.round, value)).collect::<Vec<_>>()
        };
        runs.flat_map(of).collect()
    }

    fn median(&self, engine: &str, quantization: Quantization, work: Work) -> Option<f64> {
        median(self.of(engine, quantization, work).into_iter().map(|(_, value)| value).collect())
    }

    /// The peer with the smallest median.
    fn best_peer(&self, quantization: Quantization, work: Work) -> Option<(&str, f64)> {
        let peers = self.runs.iter().map(|run| run.engine.as_str()).filter(|name| *name != OURS);
        let medians = peers.filter_map(|peer| Some((peer, self.median(peer, quantization, work)?)));
        medians.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Peer's seconds ÷ ours, the worst of `works`.
    fn speed(&self, quantization: Quantization, works: &[Work]) -> Figure {
        let ratios = works.iter().map(|&work| self.ratio(quantization, work, Better::Larger, 1.0));
        let worst = ratios.reduce(|a, b| match (a.value, b.value) {
            (Some(x), Some(y)) if y < x => b,
            (None, Some(_)) => b,
            _ => a,
        });
        worst.unwrap_or_else(|| absent(1.0, "nothing was measured"))
    }

    fn ratio(&self, quantization: Quantization, work: Work, better: Better, demand: f64) -> Figure {
        let ours = self.of(OURS, quantization, work);
        let median_of_ours = self.median(OURS, quantization, work);
        let Some((peer, theirs)) = self.best_peer(quantization, work) else {
            return absent(demand, "no peer was measured");
        };
        let Some(median_of_ours) = median_of_ours else {
            return absent(demand, "not measured here");
        };
        let of = |ours: f64, theirs: f64| match better {
            Better::Larger => theirs / ours,
            Better::Smaller => ours / theirs,
        };
        let theirs_by_round = self.of(peer, quantization, work);
        let single = |of: &[(usize, f64)], round: usize| {
            median(of.iter().filter(|(r, _)| *r == round).map(|(_, v)| *v).collect())
        };
        let rounds = ours.iter().map(|(round, _)| *round).max().unwrap_or(0);
        let by_round = (0..=rounds)
            .filter_map(|round| Some(of(single(&ours, round)?, single(&theirs_by_round, round)?)));
        let note = match work {
            Work::Memory => format!("{median_of_ours:.0} MiB; {peer} {theirs:.0} MiB"),
            _ => format!("{}; {peer} {}", shown(work, median_of_ours), shown(work, theirs)),
        };
        let figure = (of(median_of_ours, theirs), ours.len(), by_round.collect());
        finish(figure, (1.0, demand), better, note)
    }

    fn share_of_bandwidth(&self) -> Figure {
        let shares = [Quantization::Q8_0, Quantization::Q4_0].map(|quantization| {
            let bytes = self.shape.decode_bytes(quantization) as f64;
            let share = |seconds: f64| {
                bytes * DECODED as f64 / seconds / 1e9 / self.machine.read_gb_per_second
            };
            let ours = self.of(OURS, quantization, Work::Decode);
            let Some(seconds) = self.median(OURS, quantization, Work::Decode) else {
                return absent(0.75, "not measured");
            };
            let all = ours.iter().map(|(_, seconds)| share(*seconds)).collect();
            let note = format!(
                "{}: {:.0} MB a token, {:.1} GB/s can be read",
                quantization.name(),
                bytes / 1e6,
                self.machine.read_gb_per_second
            );
            finish((share(seconds), ours.len(), all), (1.0, 0.75), Better::Larger, note)
        });
        let [a, b] = shares;
        if b.value < a.value { b } else { a }
    }

    fn captured(&self) -> Figure {
        let plain = self.median(OURS, Quantization::Q8_0, Work::Decode);
        let with = self.median(OURS, Quantization::Q8_0, Work::DecodeCaptured);
        let n = self.of(OURS, Quantization::Q8_0, Work::DecodeCaptured).len();
        let Some((plain, with)) = plain.zip(with) else { return absent(0.95, "not measured") };
        let share = plain / with;
        let note = "tokens/s with every layer's attention kept ÷ without".to_string();
        finish((share, n, vec![share]), (1.0, 0.95), Better::Larger, note)
    }

    fn second_question(&self) -> Figure {
        let ours = self.of(OURS, Quantization::Q8_0, Work::SecondQuestion);
        let peer = self.best_peer(Quantization::Q8_0, Work::FirstTokenTile);
        let median_of_ours = self.median(OURS, Quantization::Q8_0, Work::SecondQuestion);
        let Some(((peer, theirs), median)) = peer.zip(median_of_ours) else {
            return absent(5.0, "not measured");
        };
        let all = ours.iter().map(|(_, seconds)| theirs / seconds).collect();
        let note = format!("{median:.2} s, the picture is kept; {peer} sees it in {theirs:.2} s");
        finish((theirs / median, ours.len(), all), (1.0, 5.0), Better::Larger, note)
    }

    /// The figures; what is not known here is filled in by the caller.
    pub fn report(&self) -> Report {
        let (q8, q4) = (Quantization::Q8_0, Quantization::Q4_0);
        let prefill = [Work::Prefill512, Work::Prefill1100];
        let first = [Work::FirstTokenTile, Work::FirstTokenPicture];
        Report {
            encode_ratio: self.speed(q8, &[Work::Encode]),
            prefill_q8_ratio: self.speed(q8, &prefill),
            prefill_q4_ratio: self.speed(q4, &prefill),
            decode_q8_ratio: self.speed(q8, &[Work::Decode]),
            decode_q4_ratio: self.speed(q4, &[Work::Decode]),
            decode_share_of_bandwidth: self.share_of_bandwidth(),
            first_token_ratio: self.speed(q8, &first),
            memory_ratio: self.ratio(q8, Work::Memory, Better::Smaller, 1.0),
            train_nano_ratio: self.speed(Quantization::None, &[Work::Train]),
            load_ratio: self.ratio(q8, Work::Load, Better::Smaller, 1.0),
            attention_captured_share: self.captured(),
            second_question_ratio: self.second_question(),
            shape: self.shape.name().into(),
            machine: self.machine.clone(),
            peers: Vec::new(),
            skipped: Vec::new(),
            date: String::new(),
            build: String::new(),
            seconds: 0.0,
            stored: false,
            runs: self.runs.to_vec(),
            growth: None,
        }
    }
}

fn absent(demand: f64, reason: &str) -> Figure {
    let (value, interval, holds) = (None, None, None);
    Figure { value, n: 0, interval, baseline: 1.0, demand, holds, note: reason.into() }
}

fn finish(
    (value, n, all): (f64, usize, Vec<f64>),
    (baseline, demand): (f64, f64),
    better: Better,
    note: String,
) -> Figure {
    let low = all.iter().copied().fold(value, f64::min);
    let high = all.iter().copied().fold(value, f64::max);
    let holds = match better {
        Better::Larger => value >= demand,
        Better::Smaller => value <= demand,
    };
    let interval = Some([low, high]);
    Figure { value: Some(value), n, interval, baseline, demand, holds: Some(holds), note }
}

fn shown(work: Work, seconds: f64) -> String {
    let speed = |tokens: usize| format!("{:.0} tokens/s", tokens as f64 / seconds);
    match work {
        Work::Prefill512 => speed(512),
        Work::Prefill1100 => speed(1100),
        Work::Decode | Work::DecodeCaptured => speed(DECODED),
        Work::Train => format!("{:.1} pictures/s", TRAINED.0 as f64 / seconds),
        _ => format!("{seconds:.2} s"),
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => None,
        n if n % 2 == 1 => Some(values[n / 2]),
        _ => Some((values[n / 2 - 1] + values[n / 2]) / 2.0),
    }
}

impl Report {
    /// The figures with their keys, in the order of the table.
    pub fn rows(&self) -> [(&'static str, &Figure); 12] {
        [
            ("encode_ratio", &self.encode_ratio),
            ("prefill_q8_ratio", &self.prefill_q8_ratio),
            ("prefill_q4_ratio", &self.prefill_q4_ratio),
            ("decode_q8_ratio", &self.decode_q8_ratio),
            ("decode_q4_ratio", &self.decode_q4_ratio),
            ("decode_share_of_bandwidth", &self.decode_share_of_bandwidth),
            ("first_token_ratio", &self.first_token_ratio),
            ("memory_ratio", &self.memory_ratio),
            ("train_nano_ratio", &self.train_nano_ratio),
            ("load_ratio", &self.load_ratio),
            ("attention_captured_share", &self.attention_captured_share),
            ("second_question_ratio", &self.second_question_ratio),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<26} {:>6}  {:<13} {:>2} {:>8}",
            "figure", "value", "rounds", "n", "demand"
        )?;
        for (name, figure) in self.rows() {
            let value = figure.value.map_or("-".into(), |value| format!("{value:.2}"));
            let range = figure.interval.map(|[low, high]| format!("{low:.2} to {high:.2}"));
            let smaller = ["memory_ratio", "load_ratio"].contains(&name);
            let demand = format!("{} {:.2}", if smaller { "≤" } else { "≥" }, figure.demand);
            let holds = match figure.holds {
                Some(true) => "holds",
                Some(false) => "MISSED",
                None => "not measured",
            };
            writeln!(
                f,
                "{name:<26} {value:>6}  {:<13} {:>2} {demand:>8}  {holds:<12} {}",
                range.unwrap_or_default(),
                figure.n,
                figure.note
            )?;
        }
        let Machine { processor, level, threads, read_gb_per_second, .. } = &self.machine;
        let Machine { f32_gflop_per_second, q8_gflop_per_second, .. } = &self.machine;
        writeln!(
            f,
            "\n{processor} ({level}), {threads} threads: reads {read_gb_per_second:.1} GB/s, \
             multiplies {f32_gflop_per_second:.0} GFLOP/s in f32, {q8_gflop_per_second:.0} with \
             8-bit and {:.0} with 4-bit weights",
            self.machine.q4_gflop_per_second
        )?;
        writeln!(f, "random weights in the shape of {}; {}", self.shape, self.peers.join("; "))?;
        for skipped in &self.skipped {
            writeln!(f, "skipped: {skipped}")?;
        }
        let how = if self.stored { "Stored" } else { "Measured now" };
        write!(f, "{how}: {}, build {}, {:.0} s", self.date, self.build, self.seconds)?;
        match &self.growth {
            Some(growth) => write!(f, "\n\n{growth}"),
            None => write!(f, "\nHow cost grows: `sightline bench --growth`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(engine: &str, round: usize, samples: &[(Work, f64)]) -> Run {
        let sample = |&(work, value): &(Work, f64)| match work {
            Work::Memory => Sample { work: Some(work), peak_mib: Some(value), ..Sample::default() },
            _ => Sample { work: Some(work), seconds: vec![value], ..Sample::default() },
        };
        let samples = samples.iter().map(sample).collect();
        Run { engine: engine.into(), quantization: Quantization::Q8_0, round, samples }
    }

    #[test]
    fn a_ratio_is_taken_with_the_best_peer_and_the_worst_length() {
        let machine = Machine {
            processor: "test".into(),
            level: "Portable".into(),
            threads: 2,
            read_gb_per_second: 10.0,
            f32_gflop_per_second: 1.0,
            q8_gflop_per_second: 1.0,
            q4_gflop_per_second: 1.0,
        };
        let ours = [(Work::Prefill512, 1.0), (Work::Prefill1100, 4.0), (Work::Memory, 500.0)];
        let slow = [(Work::Prefill512, 3.0), (Work::Prefill1100, 9.0), (Work::Memory, 1000.0)];
        let fast = [(Work::Prefill512, 2.0), (Work::Prefill1100, 6.0), (Work::Memory, 2000.0)];
        let runs = [run(OURS, 0, &ours), run("llama.cpp", 0, &slow), run("torch-f32", 0, &fast)];
        let shape = ModelShape::SmolVlm500M;
        let report = Samples { shape, machine: &machine, runs: &runs }.report();
        assert_eq!(report.prefill_q8_ratio.value, Some(1.5));
        assert_eq!(report.prefill_q8_ratio.holds, Some(true));
        assert_eq!(report.memory_ratio.value, Some(0.5));
        assert_eq!(report.encode_ratio.value, None);
        assert!(report.to_string().contains("not measured"));
        // Ours in 4 bits was not measured, so nothing is claimed.
        assert_eq!(report.prefill_q4_ratio.value, None);
    }

    #[test]
    fn the_bytes_of_a_token_are_those_of_the_layers_and_the_head() {
        let bytes = ModelShape::SmolVlm500M.decode_bytes(Quantization::Q8_0) as f64;
        assert!((bytes / 385e6 - 1.0).abs() < 0.02, "{bytes}");
    }
}
