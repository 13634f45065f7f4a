//! Reading: a file or folder in any of the field's formats becomes rows, and what cannot be a row
//! becomes findings.
//!
//! Three layers: `detect` says what lies there, a file for each format takes it apart into
//! records, and [`record`] makes a row of any record, whatever dialect its keys speak.

mod detect;
mod intake;
mod keys;
mod places;
mod record;
mod scan;
mod text;

mod conversations;
mod llama_factory;

mod coco;
mod vqa;

mod folder;
mod parquet;
mod table;
mod web_dataset;

use std::path::{Path, PathBuf};

pub use detect::detect;
pub use record::{DESCRIBE, WHAT};

use crate::{Error, Finding, Job, Row};
use intake::Intake;
use keys::Keys;

/// What is to be read, with what its files do not say.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// A file, or a folder.
    pub path: PathBuf,
    /// Where pictures are looked for first; beside the data file otherwise.
    pub pictures: Option<PathBuf>,
    /// Which of the sets in `dataset_info.json`; all that are on this disk otherwise.
    pub name: Option<String>,
    /// A folder for embedded pictures; without one they stay in memory.
    pub unpack: Option<PathBuf>,
}

/// What was read.
#[derive(Debug)]
pub struct Imported {
    pub format: Format,
    pub rows: Vec<Row>,
    /// What did not become a row; at most 1,000 are told one by one.
    pub findings: Vec<Finding>,
}

/// What a file or folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON or JSONL, each row in any dialect: LLaVA, ShareGPT, OpenAI, Qwen's demo, Alpaca,
    /// question and answer, caption.
    Conversations,
    /// `dataset_info.json`, or a file that one beside it describes.
    LlamaFactory,
    CocoCaptions,
    /// COCO's boxes: "Where is the dog?" with its box in thousandths of the picture.
    CocoBoxes,
    /// VQA v2: a file of questions and a file of annotations.
    Vqa,
    /// CSV or TSV with a header.
    Table,
    /// Pictures with text files of the same name, or in folders named by what they show.
    Folder,
    WebDataset,
    Parquet,
}

impl Source {
    /// All defaults.
    pub fn new(path: impl AsRef<Path>) -> Source {
        Source { path: path.as_ref().to_path_buf(), ..Source::default() }
    }
}

/// Reads a file or folder, whichever format it has.
///
/// Errors: what cannot be opened or recognised as a whole; the rows have findings instead.
pub fn import(source: &Source, job: Job) -> Result<Imported, Error> {
    let plan = detect::plan(&source.path)?;
    let mut intake = Intake::new(source, job);
    let several = plan.files.len() > 1;
    for file in &plan.files {
        intake.side = if several { detect::side_of(file) } else { None };
        read_file(plan.format, file, &mut intake)?;
    }
    let (rows, findings) = intake.finish();
    Ok(Imported { format: plan.format, rows, findings })
}

fn read_file(format: Format, file: &Path, intake: &mut Intake) -> Result<(), Error> {
    match format {
        Format::Conversations => conversations::read(file, &Keys::any(), intake),
        Format::LlamaFactory => llama_factory::read(file, intake),
        Format::CocoCaptions | Format::CocoBoxes => coco::read(file, intake),
        Format::Vqa => vqa::read(file, intake),
        Format::Table => table::read(file, &Keys::any(), intake),
        Format::Folder => folder::read(file, intake),
        Format::WebDataset => web_dataset::read(file, intake),
        Format::Parquet => parquet::read(file, &Keys::any(), intake),
    }
}
