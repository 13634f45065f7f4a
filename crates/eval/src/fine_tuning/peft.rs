//! The trainer held against `peft` and PyTorch: the same checkpoint, lessons, order and start.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use image::RgbImage;
use serde::Deserialize;
use train::fine_tune::{Base, Event, Example, Examples, FineTune, Learned, Part};
use vlm::model::nn::Compute;
use vlm::processor::{Lesson, Message, Part as Content, Processor, Role, image as pictures};
use vlm::{Config, LoadOptions, Lora, Mask, Overlay, Positions, Probe, Vlm};

use super::Work;
use crate::Error;

const FILE: &str = "case.json";

/// `case.json`.
#[derive(Debug, Deserialize)]
struct File {
    base: String,
    recipe: Settings,
    losses: Vec<f64>,
    lessons: Vec<Vec<Said>>,
}

#[derive(Debug, Deserialize)]
struct Settings {
    adapt: Vec<Part>,
    train: Vec<Part>,
    targets: Vec<String>,
    rank: usize,
    alpha: f64,
    dora: bool,
    steps: u64,
    batch: usize,
    learning_rate: f64,
}

#[derive(Debug, Deserialize)]
struct Said {
    role: String,
    content: Vec<Piece>,
}

#[derive(Debug, Deserialize)]
struct Piece {
    text: Option<String>,
}

/// What is learned, and what the reference made of it.
pub(super) struct Case {
    pub name: String,
    pub recipe: FineTune,
    pub examples: Vec<Example>,
    losses: Vec<f64>,
    folder: PathBuf,
    expected: HashMap<String, Tensor>,
}

/// What was found in one case.
#[derive(Clone, Debug, PartialEq, serde::Serialize, Deserialize)]
pub struct Held {
    pub case: String,
    /// The largest |ours ÷ theirs − 1| of a step's loss.
    pub loss: f64,
    pub n_steps: usize,
    /// Whether every lesson's tokens, and which of them are taught, are the reference's.
    pub same_lessons: bool,
    /// max|a-b| / max|b| of the logits with the adapter that `peft` trained, as it saved it, and
    /// as it is after we have saved it again; `None` where no adapter is trained.
    pub round_trip: Option<f64>,
    /// The same with what we trained.
    pub trained: f64,
}

impl Examples for InMemory<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, idx: usize) -> Result<Example, train::Error> {
        Ok(self.0[idx].clone())
    }
}

/// Examples in memory.
pub(super) struct InMemory<'a>(pub &'a [Example]);

/// Every case in a folder, in the order of their names.
///
/// # Errors
/// A folder without any; files that are not as the script writes them.
pub(super) fn cases(folder: &Path) -> Result<Vec<Case>, Error> {
    let read = |source| Error::Read { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(read)?;
    let mut dirs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    dirs.retain(|dir| dir.join(FILE).is_file());
    dirs.sort();
    if dirs.is_empty() {
        let reason = format!("no folder in it holds a {FILE}");
        return Err(Error::Case { path: folder.to_owned(), reason });
    }
    dirs.into_iter().map(Case::load).collect()
}

impl Case {
    fn load(folder: PathBuf) -> Result<Case, Error> {
        let path = folder.join(FILE);
        let text = std::fs::read(&path);
        let text = text.map_err(|source| Error::Read { path: path.clone(), source })?;
        let wrong = |reason: String| Error::Case { path: path.clone(), reason };
        let file: File = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        let examples = file.lessons.iter().enumerate().map(|(i, said)| {
            let picture = folder.join(format!("image-{i}.png"));
            Ok(Example { images: vec![open(&picture)?], messages: messages(said) })
        });
        let examples = examples.collect::<Result<_, Error>>()?;
        let expected =
            candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu)?;
        let Settings { adapt, train, targets, rank, alpha, dora, steps, batch, learning_rate } =
            file.recipe;
        let start = Some(folder.join("start")).filter(|start| start.is_dir());
        let fixtures = folder.parent().and_then(Path::parent).unwrap_or(Path::new("."));
        let recipe = FineTune {
            model: fixtures.join("fixtures").join(&file.base),
            start,
            adapt,
            train,
            targets,
            rank,
            alpha,
            dora,
            steps,
            batch,
            learning_rate,
            compute: "f32".into(),
            warmup_steps: 0,
            final_rate: 1.0,
            clip: f64::INFINITY,
            in_order: true,
            ..FineTune::default()
        };
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Case { name, recipe, examples, losses: file.losses, folder, expected })
    }

    fn expected(&self, name: &str) -> Result<&Tensor, Error> {
        let reason = || format!("expected.safetensors has no {name}");
        let missing = || Error::Case { path: self.folder.clone(), reason: reason() };
        self.expected.get(name).ok_or_else(missing)
    }
}

fn open(path: &Path) -> Result<RgbImage, Error> {
    Ok(pictures::open(path)?)
}

fn messages(said: &[Said]) -> Vec<Message> {
    let part = |piece: &Piece| piece.text.clone().map_or(Content::Image, Content::Text);
    let message = |said: &Said| Message {
        role: if said.role == "assistant" { Role::Assistant } else { Role::User },
        content: said.content.iter().map(part).collect(),
    };
    said.iter().map(message).collect()
}

/// Trains a case and compares.
pub(super) fn hold(case: &Case, work: &Work) -> Result<Held, Error> {
    let config = Config::load(&case.recipe.model)?;
    let processor = Processor::load(&case.recipe.model, &config)?;
    let mut same_lessons = true;
    for (i, example) in case.examples.iter().enumerate() {
        let lesson = processor.prepare_lesson(&example.messages, &example.images)?;
        let ids = case.expected(&format!("lesson.{i}.input_ids"))?.to_vec1::<i64>()?;
        let taught = case.expected(&format!("lesson.{i}.is_taught"))?.to_vec1::<u8>()?;
        same_lessons &= ids.iter().copied().eq(lesson
            .inputs
            .input_ids
            .iter()
            .map(|&id| i64::from(id)))
            && taught.iter().copied().eq(lesson.is_taught.iter().map(|&taught| u8::from(taught)));
    }
    let (learned, losses) = train_case(case, &case.recipe, &work.folder.join(&case.name), work)?;
    let apart = |(ours, theirs): (&f64, &f64)| (ours / theirs - 1.0).abs();
    let loss = losses.iter().zip(&case.losses).map(apart).fold(0.0, f64::max);
    let first = &case.examples[0];
    let lesson = processor.prepare_lesson(&first.messages, &first.images)?;
    let expected = case.expected("logits")?;
    let base = Base::load(&case.recipe, &config)?;
    let trained = deviation(
        &logits(&learned.model(&case.recipe, (&base, None), false)?, &lesson)?,
        expected,
    )?;
    let round_trip = match case.folder.join("end") {
        end if end.is_dir() => {
            let theirs = Lora::read(&end, &config)?;
            let again = work.folder.join(format!("{}-again", case.name));
            theirs.write(&again, &config, &case.name)?;
            // Files of other names would be empty to Python.
            let mut worst: f64 = if names(&again)? == names(&end)? { 0.0 } else { f64::INFINITY };
            for lora in [theirs, Lora::read(&again, &config)?] {
                let found = logits(&adapted(&case.recipe.model, &lora)?, &lesson)?;
                worst = worst.max(deviation(&found, expected)?);
            }
            Some(worst)
        }
        _ => None,
    };
    let n_steps = losses.len().min(case.losses.len());
    let case = case.name.clone();
    Ok(Held { case, loss, n_steps, same_lessons, round_trip, trained })
}

/// Runs a recipe on a case's lessons: what was learned, and the loss of each step.
pub(super) fn train_case(
    case: &Case,
    recipe: &FineTune,
    folder: &Path,
    work: &Work,
) -> Result<(Learned, Vec<f64>), Error> {
    let (stop, mut losses) = (train::Cancel::default(), Vec::new());
    let examples = InMemory(&case.examples);
    let mut on_event = |event: Event<'_>| {
        if let Event::Step { loss, .. } = event {
            losses.push(loss);
            work.heed(&stop);
        }
    };
    let nothing = InMemory(&[]);
    let lessons: (&dyn Examples, &dyn Examples) = (&examples, &nothing);
    let (learned, _) =
        train::fine_tune::run(recipe, lessons, (folder, None), &stop, &mut on_event)?;
    if work.cancel.is_cancelled() {
        return Err(Error::Cancelled);
    }
    Ok((learned, losses))
}

fn adapted(model: &Path, lora: &Lora) -> Result<Vlm, Error> {
    let overlay = Overlay { adapters: vec![(lora, 1.0)], tensors: Vec::new() };
    let options =
        LoadOptions { compute: Compute::F32, overlay: &overlay, ..LoadOptions::on(&Device::Cpu) };
    Ok(Vlm::load_with(model, options)?)
}

/// What the tensors of a kept adapter are called.
fn names(folder: &Path) -> Result<BTreeSet<String>, Error> {
    let path = folder.join("adapter_model.safetensors");
    Ok(candle_core::safetensors::load(path, &Device::Cpu)?.into_keys().collect())
}

/// Of the rows that predict what is taught, `(R, V)`.
fn logits(vlm: &Vlm, lesson: &Lesson) -> Result<Tensor, Error> {
    let inputs = &lesson.inputs;
    let Some(pixel_values) = &inputs.pixel_values else {
        return Err(Error::Vlm(vlm::Error::TextOnly));
    };
    let features = vlm.picture_features(pixel_values, &inputs.image_spans)?;
    let rows = vlm.pack(&vlm.project(&features)?, &inputs.image_spans)?;
    let embeds = vlm.merge(&inputs.input_ids, &rows)?;
    let ids = inputs.positions(0, inputs.input_ids.len())?;
    let positions = ids.as_ref().map_or(Positions::From(0), Positions::Ids);
    let hidden = vlm.forward(&embeds, &positions, &Mask::Causal, None, &mut Probe::none())?;
    let rows: Vec<u32> = lesson.supervised().into_iter().map(|(row, _)| row).collect();
    let rows = Tensor::from_slice(&rows, rows.len(), &Device::Cpu)?;
    Ok(vlm.logits(&hidden.squeeze(0)?.index_select(&rows, 0)?)?)
}

/// max|a-b| / max|b|
fn deviation(a: &Tensor, b: &Tensor) -> Result<f64, Error> {
    if a.dims() != b.dims() {
        return Ok(f64::INFINITY);
    }
    let largest = |t: &Tensor| -> Result<f64, Error> {
        Ok(f64::from(t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?))
    };
    Ok(largest(&(a - b)?)? / largest(b)?.max(1e-12))
}
