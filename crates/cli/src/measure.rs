//! `sightline eval nano`, `evidence`, `calibrate`, `quantization`: a model's figures, printed.
use std::fmt::Display;
use std::ops::Range;
use std::path::PathBuf;

use clap::builder::TypedValueParser;
use eval::quantization::N_SCENES;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use vlm::generate::Cancel;

use crate::problem::Problem;

/// Of which model a kept report is wanted, and how it is shown.
#[derive(clap::Args)]
struct Stored {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Measure again even where a stored result is there.
    #[arg(long)]
    fresh: bool,
    /// The model's folder; the shipped model otherwise.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// Measure the shipped model on scenes it has never seen.
#[derive(clap::Args)]
pub struct Nano {
    /// Seeds of the scenes, the last one not included; the held-out two thousand otherwise.
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Option<Range<u64>>,
    /// Draw the scenes in a style that no training scene shows.
    #[arg(long)]
    held_out_style: bool,
    #[command(flatten)]
    report: Stored,
}

/// Measure whether what a model shows under its words is true.
#[derive(clap::Args)]
pub struct Evidence {
    /// How many drawn scenes to ask about; what is costly is measured on a part of them.
    #[arg(
        long,
        value_name = "N",
        default_value_t = eval::evidence::N_SCENES,
        value_parser = count()
    )]
    scenes: u64,
    /// none, q8_0 or q4_0: how the weights are held.
    #[arg(long, default_value = "none")]
    quantization: app::Quantization,
    #[command(flatten)]
    report: Stored,
}

/// Learn on drawn scenes how to read a model's evidence.
#[derive(clap::Args)]
pub struct Calibrate {
    /// How many drawn scenes to look at.
    #[arg(
        long,
        value_name = "N",
        default_value_t = eval::evidence::N_CALIBRATION_SCENES,
        value_parser = count()
    )]
    scenes: u64,
    /// none, q8_0 or q4_0: how the weights are held.
    #[arg(long, default_value = "none")]
    quantization: app::Quantization,
    /// Write `evidence.json` beside the model; the cache folder otherwise.
    #[arg(long)]
    write: bool,
    /// The model's folder; the shipped model otherwise.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// Measure what holding the weights in 8 or 4 bits costs a model.
#[derive(clap::Args)]
pub struct Quantization {
    /// How many drawn scenes to ask about, each in every format.
    #[arg(long, value_name = "N", default_value_t = N_SCENES, value_parser = count())]
    scenes: u64,
    /// Seed of the first scene; the first that no training has seen otherwise.
    #[arg(long, value_name = "S", default_value_t = eval::HELD_OUT.start, value_parser = first())]
    seed: u64,
    #[command(flatten)]
    report: Stored,
}

/// Hold the engine against the reference on checkpoints that it left its results beside.
#[derive(clap::Args)]
pub struct Parity {
    /// Folder of cases as `tests/parity/make.py` makes them; those of this repository otherwise.
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Measure whether fine-tuning does what it says: beside peft, and on the shipped model.
#[derive(clap::Args)]
pub struct FineTuning {
    /// Folder of cases as `tests/parity/fine_tuning.py` makes them; those of this repository
    /// otherwise.
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// What the model is taught by; `recipes/teach-a-class.toml` otherwise.
    #[arg(long, value_name = "FILE.toml")]
    recipe: Option<PathBuf>,
    /// The model's folder; the shipped model otherwise.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl FineTuning {
    pub fn run(self) -> Result<(), Problem> {
        let shipped = app::shipped_model()?;
        let own = |path: &str| shipped.join("../..").join(path);
        let model = self.model.unwrap_or_else(|| shipped.clone());
        let cases = self.cases.unwrap_or_else(|| own("tests/parity/fine_tuning"));
        let recipe = self.recipe.unwrap_or_else(|| own("recipes/teach-a-class.toml"));
        let wanted = eval::fine_tuning::Wanted { model: &model, recipe: &recipe, cases: &cases };
        let measure =
            |progress: &Progress, cancel: &Cancel| eval::fine_tuning(wanted, progress, cancel);
        show(&evaluated("per mille", measure)?, self.json)
    }
}

/// Show a model a few drawn things and see whether it tells them apart.
#[derive(clap::Args)]
pub struct Sight {
    /// The model's folder; the shipped model otherwise.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// none, q8_0 or q4_0: how the weights are held.
    #[arg(long, default_value = "none")]
    quantization: app::Quantization,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Sight {
    pub fn run(self) -> Result<(), Problem> {
        let folder = self.model.map_or_else(app::shipped_model, Ok)?;
        let measure = |_: &Progress, cancel: &Cancel| {
            let model = eval::Model::load(&folder, self.quantization)?;
            eval::sight::check((&model.vlm, &model.processor), &model.calibration.heads, cancel)
        };
        show(&evaluated("checks", measure)?, self.json)
    }
}

impl Parity {
    pub fn run(self) -> Result<(), Problem> {
        let folder = match self.cases {
            Some(folder) => folder,
            None => app::shipped_model()?.join("../../tests/parity/fixtures"),
        };
        let measure =
            |progress: &Progress, cancel: &Cancel| eval::parity(&folder, progress, cancel);
        show(&evaluated("cases", measure)?, self.json)
    }
}

impl Nano {
    pub fn run(self) -> Result<(), Problem> {
        let folder = self.report.model.map_or_else(app::shipped_model, Ok)?;
        let seeds = self.seeds.unwrap_or(eval::HELD_OUT);
        let sample = eval::Sample { seeds, held_out_style: self.held_out_style };
        let measure = |progress: &Progress, cancel: &Cancel| {
            eval::nano(&folder, &sample, self.report.fresh, progress, cancel)
        };
        show(&evaluated("scenes", measure)?, self.report.json)
    }
}

impl Evidence {
    pub fn run(self) -> Result<(), Problem> {
        let folder = self.report.model.map_or_else(app::shipped_model, Ok)?;
        let wanted = eval::evidence::Wanted {
            n_scenes: self.scenes,
            quantization: self.quantization,
            fresh: self.report.fresh,
        };
        let measure = |progress: &Progress, cancel: &Cancel| {
            eval::evidence(&folder, wanted, progress, cancel)
        };
        show(&evaluated("scenes", measure)?, self.report.json)
    }
}

impl Calibrate {
    pub fn run(self) -> Result<(), Problem> {
        let folder = self.model.map_or_else(app::shipped_model, Ok)?;
        let how = (self.scenes, self.quantization);
        let measure = |progress: &Progress, cancel: &Cancel| {
            let calibration = eval::calibrate(&folder, how, progress, cancel)?;
            let text = calibration.to_json()?;
            let cached = eval::evidence::cached_at(&folder, self.quantization)?;
            Ok((calibration, text, cached))
        };
        let (calibration, text, cached) = evaluated("scenes", measure)?;
        let path = match (self.write, cached) {
            (false, Some(cached)) => cached,
            _ => folder.join("evidence.json"),
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| crate::output::unwritable(&path, &e))?;
        }
        crate::output::write(&path, text.as_bytes())?;
        let heads = &calibration.heads.heads;
        let mut said = format!("{} heads: {heads:?}\n", heads.len());
        for mark in &calibration.reliability {
            let vlm::explain::Mark { kind, state, n, wrong, beats_chance } = mark;
            let note = if *beats_chance { "" } else { ", no more than chance" };
            said += &format!("{kind} {state}: {:.1} % of {n} wrong{note}\n", 100.0 * wrong);
        }
        crate::ask::print(&format!("{said}Written to {}\n", path.display()))
    }
}

impl Quantization {
    pub fn run(self) -> Result<(), Problem> {
        let folder = self.report.model.map_or_else(app::shipped_model, Ok)?;
        let seeds = self.seed..self.seed + self.scenes;
        let measure = |progress: &Progress, cancel: &Cancel| {
            eval::quantization(&folder, seeds, self.report.fresh, progress, cancel)
        };
        show(&evaluated("scenes", measure)?, self.report.json)
    }
}

type Progress = dyn Fn(u64, u64) + Sync;

fn evaluated<T>(
    unit: &str,
    measure: impl FnOnce(&Progress, &Cancel) -> Result<T, eval::Error>,
) -> Result<T, Problem> {
    let result = watched(unit, |bar, cancel| {
        let progress = move |done: u64, all: u64| {
            bar.set_length(all);
            bar.set_position(done);
        };
        measure(&progress, cancel)
    });
    result.map_err(|error| match error {
        eval::Error::Vlm(error) => Problem::from(error),
        error => Problem::new(error.to_string(), "Run it again with --fresh."),
    })
}

/// Measures with a bar in the terminal that counts `unit`; Ctrl-C stops it.
pub fn watched<T>(unit: &str, measure: impl FnOnce(ProgressBar, &Cancel) -> T) -> T {
    let cancel = Cancel::new();
    let stop = cancel.clone();
    // Without the handler Ctrl-C simply ends the program.
    let _ = ctrlc::set_handler(move || stop.cancel());
    let bar = ProgressBar::new(1);
    let template = format!("{{bar:30}} {{pos}}/{{len}} {unit}, {{eta}} left{{msg}}");
    let style = ProgressStyle::with_template(&template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let result = measure(bar.clone(), &cancel);
    bar.finish_and_clear();
    result
}

/// Prints a report as a table, or as one JSON object.
pub fn show(report: &(impl Serialize + Display), json: bool) -> Result<(), Problem> {
    let text = match json {
        true => serde_json::to_string_pretty(report)
            .map_err(|error| Problem::new(format!("the report: {error}"), ""))?,
        false => report.to_string(),
    };
    crate::ask::print(&format!("{}\n", text.trim_end()))
}

fn count() -> impl TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(1..=1_000_000)
}

fn first() -> impl TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(..u64::MAX / 2)
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(from, to)| {
        Some(from.trim().parse::<u64>().ok()?..to.trim().parse::<u64>().ok()?)
    });
    let seeds = parsed.filter(|seeds| !seeds.is_empty());
    seeds.ok_or("give two numbers with two dots between, such as 10000000..10001000".into())
}
