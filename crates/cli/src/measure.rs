//! `sightline eval nano`: the shipped model's figures, printed.
use std::ops::Range;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use crate::problem::Problem;

/// Measure the shipped model on scenes it has never seen.
#[derive(clap::Args)]
pub struct Nano {
    /// Seeds of the scenes, the last one not included; the held-out thousand otherwise.
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Option<Range<u64>>,
    /// Draw the scenes in a style that no training scene shows.
    #[arg(long)]
    held_out_style: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Measure again even where a stored result is there.
    #[arg(long)]
    fresh: bool,
    /// Another folder in the same layout.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

impl Nano {
    pub fn run(self) -> Result<(), Problem> {
        let folder = self.model.map_or_else(app::shipped_model, Ok)?;
        let seeds = self.seeds.unwrap_or(eval::HELD_OUT);
        let cancel = vlm::generate::Cancel::new();
        let stop = cancel.clone();
        // Without the handler Ctrl-C simply ends the program.
        let _ = ctrlc::set_handler(move || stop.cancel());
        let bar = ProgressBar::new(seeds.end.saturating_sub(seeds.start));
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} scenes, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let progress = |done: u64, _all: u64| bar.set_position(done);
        let sample = eval::Sample { seeds, held_out_style: self.held_out_style };
        let report = eval::nano(&folder, &sample, self.fresh, &progress, &cancel);
        bar.finish_and_clear();
        let report = report.map_err(|error| match error {
            eval::Error::Vlm(error) => Problem::from(error),
            error => Problem::new(error.to_string(), "Run it again with --fresh."),
        })?;
        let text = match self.json {
            true => serde_json::to_string_pretty(&report)
                .map_err(|error| Problem::new(format!("the report: {error}"), ""))?,
            false => report.to_string().trim_end().to_string(),
        };
        crate::ask::print(&format!("{text}\n"))
    }
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(from, to)| {
        Some(from.trim().parse::<u64>().ok()?..to.trim().parse::<u64>().ok()?)
    });
    let seeds = parsed.filter(|seeds| !seeds.is_empty());
    seeds.ok_or("give two numbers with two dots between, such as 10000000..10001000".into())
}
