//! `sightline bench` and `sightline eval speed`: speeds beside the peers'.
use std::io::Write;
use std::path::{Path, PathBuf};

use ::bench::checkpoint::ModelShape;
use ::bench::peers::Peers;
use ::bench::report::Report;
use ::bench::work::Order;
use ::bench::{Error, Plan};
use vlm::generate::Cancel;

use crate::measure::{show, watched};
use crate::problem::Problem;

/// Measure how fast models run here, beside llama.cpp and PyTorch on the same weights.
#[derive(clap::Args)]
pub struct Bench {
    /// Measure the peers too, in turns.
    #[arg(long)]
    peers: bool,
    /// Install the peers into the cache folder first: needs Python 3 and a compiler.
    #[arg(long)]
    install_peers: bool,
    /// Measure how cost grows instead: with image tokens, context, pictures, questions, threads.
    #[arg(long, conflicts_with_all = ["peers", "install_peers", "rounds", "repeats"])]
    growth: bool,
    /// Load and ask full-size models instead: whether they answer and what memory they take.
    #[arg(long, conflicts_with_all = ["peers", "install_peers", "growth", "rounds", "shape"])]
    full_size: bool,
    /// smolvlm-256m or smolvlm-500m.
    #[arg(long, default_value = "smolvlm-500m", value_parser = shape)]
    shape: ModelShape,
    /// Turns of every engine.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Timed repeats in one turn.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Do one order, given as JSON, and print what was found: what this program tells itself.
    #[arg(long, hide = true)]
    worker: Option<String>,
}

/// How fast models run here: the stored figures, measured on the first call.
#[derive(clap::Args)]
pub struct Speed {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Measure again even where a stored result is there.
    #[arg(long)]
    fresh: bool,
}

impl Bench {
    pub fn run(self) -> Result<(), Problem> {
        if let Some(order) = &self.worker {
            return work(order);
        }
        let cache = cache()?;
        if self.install_peers {
            Peers::new(&cache).install().map_err(problem)?;
        }
        let plan = Plan {
            shape: self.shape,
            rounds: self.rounds as usize,
            repeats: self.repeats as usize,
            peers: self.peers || self.install_peers,
            shipped_model: app::shipped_model()?,
            cache,
        };
        if self.full_size {
            let plan = Plan { repeats: 1, ..plan };
            return show(&with_progress(&plan, "models", ::bench::full_size)?, self.json);
        }
        match self.growth {
            true => show(&with_progress(&plan, "axes", ::bench::grow)?, self.json),
            false => show(&measure(&plan)?, self.json),
        }
    }
}

impl Speed {
    pub fn run(self) -> Result<(), Problem> {
        let cache = cache()?;
        let shape = ModelShape::SmolVlm500M;
        if let Some(report) = ::bench::stored(&cache, shape).filter(|_| !self.fresh) {
            return show(&report, self.json);
        }
        let shipped_model = app::shipped_model()?;
        let plan = Plan { shape, rounds: 3, repeats: 2, peers: true, shipped_model, cache };
        show(&measure(&plan)?, self.json)
    }
}

fn measure(plan: &Plan) -> Result<Report, Problem> {
    with_progress(plan, "turns", ::bench::measure)
}

/// What is measured, how it tells of its progress, and how it is stopped.
type Measure<R> = fn(&Plan, &Path, &mut dyn FnMut(&str, usize, usize), &Cancel) -> Result<R, Error>;

fn with_progress<R>(plan: &Plan, unit: &str, measure: Measure<R>) -> Result<R, Problem> {
    let program = std::env::current_exe();
    let program = program.map_err(|error| Problem::new(error.to_string(), ""))?;
    let report = watched(unit, |bar, cancel| {
        let mut progress = |what: &str, done: usize, all: usize| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
            bar.set_message(format!(": {what}"));
        };
        measure(plan, &program, &mut progress, cancel)
    });
    report.map_err(problem)
}

fn work(order: &str) -> Result<(), Problem> {
    let order: Order = serde_json::from_str(order)
        .map_err(|error| Problem::usage(format!("the order: {error}"), ""))?;
    let mut stdout = std::io::stdout();
    let mut tell = |sample| {
        // Nobody listens any more when this fails; the process then ends by itself.
        let _ = serde_json::to_string(&sample).map(|line| writeln!(stdout, "{line}"));
    };
    ::bench::work::work(&order, &mut tell).map_err(problem)
}

fn problem(error: Error) -> Problem {
    match error {
        Error::Vlm(error) => Problem::from(error),
        error => {
            Problem::new(error.to_string(), "Run it again; `--install-peers` mends the peers.")
        }
    }
}

fn cache() -> Result<PathBuf, Problem> {
    let hint = "Set HOME, or XDG_CACHE_HOME to a folder in which you may write.";
    vlm::cache_folder().ok_or_else(|| Problem::new("there is no folder for caches", hint))
}

fn shape(name: &str) -> Result<ModelShape, String> {
    let found = ModelShape::PEERED.into_iter().find(|shape| shape.name() == name);
    found.ok_or_else(|| {
        format!("the shapes are {}", ModelShape::PEERED.map(ModelShape::name).join(", "))
    })
}
