//! `sightline data`: what is wrong with training data, row by row, before a step is taken.
use std::path::PathBuf;

use dataset::{Finding, Job, Severity, Target};
use train::fine_tune::{self, FineTune, FromFile, Gathered};

use crate::measure::watched;
use crate::problem::Problem;
use crate::training::problem;

/// Findings that are printed one by one.
const MOST_SHOWN: usize = 50;

#[derive(clap::Subcommand)]
pub enum Data {
    Check(Check),
    Convert(Convert),
}

/// Look at every row as a model will see it, and name what is wrong with its line.
#[derive(clap::Args)]
pub struct Check {
    /// A file or folder: LLaVA, ShareGPT, LLaMA-Factory, COCO, VQA, CSV, WebDataset, Parquet,
    /// pictures with text files.
    data: PathBuf,
    /// Where its pictures are; beside it otherwise.
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
    /// The model that is to learn from it; the shipped model otherwise.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// Write training data in another format, mended where that is asked for.
#[derive(clap::Args)]
pub struct Convert {
    /// A file or folder of any known format.
    data: PathBuf,
    /// What is written; it must not be there yet.
    out: PathBuf,
    /// llava (a folder), webdataset (one tar) or parquet (one file).
    #[arg(long, default_value = "llava", value_parser = target)]
    to: Target,
    /// Where its pictures are; beside it otherwise.
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
    /// Do what mends each row, and leave out those that cannot be mended.
    #[arg(long)]
    repair: bool,
}

fn target(name: &str) -> Result<Target, String> {
    match name {
        "llava" => Ok(Target::Llava),
        "webdataset" => Ok(Target::WebDataset),
        "parquet" => Ok(Target::Parquet),
        _ => Err("give llava, webdataset or parquet".into()),
    }
}

impl Data {
    pub fn run(self) -> Result<(), Problem> {
        match self {
            Data::Check(check) => check.run(),
            Data::Convert(convert) => convert.run(),
        }
    }
}

impl Check {
    fn run(self) -> Result<(), Problem> {
        let model = self.model.map_or_else(app::shipped_model, Ok)?;
        let from = FromFile { file: self.data, pictures: self.pictures, held_out: 0.1, repeat: 1 };
        let checked = in_job(|job| fine_tune::check(&model, &from, 0, job).map_err(problem))?;
        let held = checked.sides.iter().filter(|side| **side == dataset::Split::HeldOut).count();
        let mut said = told(&checked.findings);
        said += &format!(
            "{} rows to learn from, {held} held out, {} left out\n",
            checked.rows.len() - held,
            checked.n_left_out
        );
        crate::ask::print(&said)
    }
}

impl Convert {
    fn run(self) -> Result<(), Problem> {
        let source =
            dataset::Source { pictures: self.pictures, ..dataset::Source::new(&self.data) };
        let found = in_job(|job| {
            let dataset::Imported { mut rows, mut findings, .. } =
                dataset::import(&source, job).map_err(wrong)?;
            if self.repair {
                let splits = dataset::split(&rows, 0.0, 0, job).map_err(wrong)?;
                // How long a row is depends on a model, and none is named here.
                let check = dataset::Check { splits: &splits, n_tokens: &|_| Ok(0), limit: 1 };
                let found = dataset::preflight(&rows, &check, job).map_err(wrong)?;
                dataset::repair(&mut rows, &found);
                findings.extend(found.into_iter().filter(|finding| finding.repair.is_some()));
            }
            findings.extend(dataset::export(&rows, &self.out, self.to, job).map_err(wrong)?);
            Ok((rows.len(), findings))
        });
        let (n, findings) = found?;
        let said = told(&findings);
        crate::ask::print(&format!("{said}{n} rows written to {}\n", self.out.display()))
    }
}

/// The lessons of a recipe; what is wrong with their rows is printed before the first step.
pub fn gathered(recipe: &FineTune, cancel: &train::Cancel) -> Result<Gathered, Problem> {
    let cancelled = || cancel.is_cancelled();
    let job = Job { cancelled: &cancelled, progress: &|_, _| {} };
    let gathered = fine_tune::gather(recipe, job).map_err(problem)?;
    if !gathered.findings.is_empty() {
        let n = gathered.n_left_out;
        crate::ask::print(&format!("{}{n} rows left out\n", told(&gathered.findings)))?;
    }
    Ok(gathered)
}

/// Does something long with a bar in the terminal; Ctrl-C stops it.
fn in_job<T>(work: impl FnOnce(Job) -> Result<T, Problem>) -> Result<T, Problem> {
    watched("rows", |bar, cancel| {
        let cancelled = || cancel.is_cancelled();
        let progress = |done: u64, all: u64| {
            bar.set_length(all);
            bar.set_position(done);
        };
        work(Job { cancelled: &cancelled, progress: &progress })
    })
}

fn wrong(error: dataset::Error) -> Problem {
    problem(error.into())
}

/// One line for each finding, the worst first.
fn told(findings: &[Finding]) -> String {
    let mut findings: Vec<&Finding> = findings.iter().collect();
    findings.sort_by_key(|finding| finding.severity);
    let line = |finding: &&Finding| {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        format!("{}: {severity}: {}\n", finding.origin, finding.message)
    };
    let mut text: String = findings.iter().take(MOST_SHOWN).map(line).collect();
    if findings.len() > MOST_SHOWN {
        text += &format!("and {} more\n", findings.len() - MOST_SHOWN);
    }
    text
}
