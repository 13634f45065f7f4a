//! The lessons of a recipe: rows of files and pictures of the drawn world, each on its side.
//!
//! Rows of files are checked before the first step; what cannot be learned from is left out and
//! told, with its line.

use std::path::{Path, PathBuf};

use dataset::{Finding, Job, MARK, Row, Severity, Split};
use serde::{Deserialize, Serialize};
use vlm::Config;
use vlm::processor::{Message, Part, Processor, Role, image as pictures};

use super::examples::{Example, Examples};
use super::recipe::FineTune;
use super::sources::{Drawn, one};
use crate::Error;

/// Where lessons come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Source {
    Drawn(Drawn),
    File(FromFile),
}

/// Rows of a file or folder of any format that `dataset` reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromFile {
    /// In a recipe, relative to it.
    pub file: PathBuf,
    /// Where its pictures are looked for first; beside it otherwise.
    #[serde(default)]
    pub pictures: Option<PathBuf>,
    /// Share of the rows that is only measured on, where the file itself names no sides.
    #[serde(default = "tenth")]
    pub held_out: f64,
    /// How often each is taken while others are taken once.
    #[serde(default = "one")]
    pub repeat: usize,
}

fn tenth() -> f64 {
    0.1
}

/// What is learned from, what is only measured on, and what was found wrong with the rows.
pub struct Gathered {
    pub train: Lessons,
    pub held_out: Lessons,
    pub findings: Vec<Finding>,
    /// Rows that were left out.
    pub n_left_out: usize,
}

/// Lessons of several sources, one after the other.
#[derive(Default)]
pub struct Lessons(Vec<Share>);

enum Share {
    Drawn(Drawn),
    Rows { rows: Vec<Row>, repeat: usize },
}

impl Lessons {
    fn add_rows(&mut self, rows: Vec<Row>, repeat: usize) {
        if !rows.is_empty() {
            self.0.push(Share::Rows { rows, repeat });
        }
    }
}

impl Share {
    fn len(&self) -> usize {
        match self {
            Share::Drawn(drawn) => drawn.pictures * drawn.repeat,
            Share::Rows { rows, repeat } => rows.len() * repeat,
        }
    }
}

impl Examples for Lessons {
    fn len(&self) -> usize {
        self.0.iter().map(Share::len).sum()
    }

    fn get(&self, idx: usize) -> Result<Example, Error> {
        let mut rest = idx;
        for share in &self.0 {
            if rest >= share.len() {
                rest -= share.len();
                continue;
            }
            return match share {
                Share::Drawn(drawn) => Ok(drawn.example(rest)),
                Share::Rows { rows, .. } => example(&rows[rest % rows.len()]),
            };
        }
        Err(Error::Model(format!("example {idx} of {}", self.len())))
    }
}

/// Reads and checks all of a recipe's sources.
///
/// # Errors
/// A file that cannot be read as a whole; a model that cannot be opened; the caller's wish to stop.
pub fn gather(recipe: &FineTune, job: Job) -> Result<Gathered, Error> {
    let (mut train, mut held_out) = (Lessons::default(), Lessons::default());
    let (mut findings, mut n_left_out) = (Vec::new(), 0);
    for source in &recipe.data {
        match source {
            Source::Drawn(drawn) => train.0.push(Share::Drawn(drawn.clone())),
            Source::File(from) => {
                let checked = check(&recipe.model, from, recipe.seed, job)?;
                n_left_out += checked.n_left_out;
                findings.extend(checked.findings);
                let sides = checked.rows.into_iter().zip(checked.sides);
                let (taught, held): (Vec<_>, Vec<_>) =
                    sides.partition(|(_, side)| *side == Split::Train);
                let rows = |of: Vec<(Row, Split)>| of.into_iter().map(|(row, _)| row).collect();
                train.add_rows(rows(taught), from.repeat);
                held_out.add_rows(rows(held), 1);
            }
        }
    }
    for source in &recipe.held_out {
        match source {
            Source::Drawn(drawn) => held_out.0.push(Share::Drawn(drawn.clone())),
            Source::File(from) => {
                let checked = check(&recipe.model, from, recipe.seed, job)?;
                n_left_out += checked.n_left_out;
                findings.extend(checked.findings);
                held_out.add_rows(checked.rows, 1);
            }
        }
    }
    Ok(Gathered { train, held_out, findings, n_left_out })
}

/// The rows of a file that can be learned from, their sides, and what was found.
pub struct Checked {
    pub rows: Vec<Row>,
    pub sides: Vec<Split>,
    pub findings: Vec<Finding>,
    pub n_left_out: usize,
}

/// Reads a file and looks at every row as the model will see it.
///
/// # Errors
/// As [`gather`].
pub fn check(model: &Path, from: &FromFile, seed: u64, job: Job) -> Result<Checked, Error> {
    let config = Config::load(model)?;
    let processor = Processor::load(model, &config)?;
    let limit = config.text_config.max_position_embeddings;
    let pictures = from.pictures.clone();
    let source = dataset::Source { pictures, ..dataset::Source::new(&from.file) };
    let dataset::Imported { rows, mut findings, .. } = dataset::import(&source, job)?;
    let sides = dataset::split(&rows, from.held_out, seed, job)?;
    let n_tokens = |row: &Row| {
        let example = example(row).map_err(|error| error.to_string())?;
        let lesson = processor.prepare_lesson(&example.messages, &example.images);
        lesson.map(|lesson| lesson.inputs.input_ids.len()).map_err(|error| error.to_string())
    };
    let check = dataset::Check { splits: &sides, n_tokens: &n_tokens, limit };
    let wrong = dataset::preflight(&rows, &check, job)?;
    let is_wrong =
        |at: usize| wrong.iter().any(|f| f.row == Some(at) && f.severity == Severity::Error);
    let n_rows = rows.len();
    let kept = rows.into_iter().zip(sides).enumerate().filter(|(at, _)| !is_wrong(*at));
    let (rows, sides): (Vec<_>, Vec<_>) = kept.map(|(_, both)| both).unzip();
    let n_left_out = n_rows - rows.len();
    findings.extend(wrong);
    Ok(Checked { rows, sides, findings, n_left_out })
}

/// A row with its pictures open.
fn example(row: &Row) -> Result<Example, Error> {
    let open = |picture: &dataset::Picture| {
        let bytes = picture.read()?;
        Ok(pictures::decode(&picture.to_string(), &bytes)?)
    };
    let images = row.pictures.iter().map(open).collect::<Result<_, Error>>()?;
    let message = |said: &dataset::Message| {
        let mut content = Vec::new();
        for (i, text) in said.text.split(MARK).enumerate() {
            if i > 0 {
                content.push(Part::Image);
            }
            if !text.is_empty() {
                content.push(Part::Text(text.to_owned()));
            }
        }
        let role = match said.role {
            dataset::Role::System => Role::System,
            dataset::Role::User => Role::User,
            dataset::Role::Assistant => Role::Assistant,
        };
        Message { role, content }
    };
    Ok(Example { images, messages: row.messages.iter().map(message).collect() })
}
