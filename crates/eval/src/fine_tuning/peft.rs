//! The trainer held against `peft` and PyTorch: the same checkpoint, lessons, order and start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use candle_core::Device;
use serde::Deserialize;
use serde_json::Value;
use train::fine_tune::{Base, Event, Example, Examples, FineTune, Learned, logits};
use vlm::model::nn::Compute;
use vlm::processor::Processor;
use vlm::{Config, LoadOptions, Lora, Overlay, Vlm};

use super::Work;
use crate::Error;
use crate::parity::case::{self, folders, message, picture};
use crate::parity::reference::Reference;

/// `case.json`.
#[derive(Debug, Deserialize)]
struct File {
    base: String,
    recipe: FineTune,
    losses: Vec<f64>,
    lessons: Vec<Vec<Value>>,
}

/// What is learned, and what the reference made of it.
pub(super) struct Case {
    pub name: String,
    pub recipe: FineTune,
    pub examples: Vec<Example>,
    losses: Vec<f64>,
    folder: PathBuf,
    expected: Reference,
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

/// Every case in a folder, in the order of their names.
///
/// # Errors
/// A folder without any; files that are not as the script writes them.
pub(super) fn cases(folder: &Path) -> Result<Vec<Case>, Error> {
    folders(folder)?.into_iter().map(Case::load).collect()
}

impl Case {
    fn load(folder: PathBuf) -> Result<Case, Error> {
        let file: File = case::read(&folder)?;
        let strange = || {
            let reason = "a part is neither text nor an image".into();
            Error::Case { path: folder.clone(), reason }
        };
        let examples = file.lessons.iter().enumerate().map(|(i, said)| {
            let messages = said.iter().map(message).collect::<Option<_>>().ok_or_else(strange)?;
            Ok(Example { images: vec![picture(&folder, i as u64)?], messages })
        });
        let examples = examples.collect::<Result<_, Error>>()?;
        let start = Some(folder.join("start")).filter(|start| start.is_dir());
        let fixtures = folder.parent().and_then(Path::parent).unwrap_or(Path::new("."));
        let recipe = FineTune {
            model: fixtures.join("fixtures").join(&file.base),
            start,
            compute: "f32".into(),
            warmup_steps: 0,
            final_rate: 1.0,
            clip: f64::INFINITY,
            in_order: true,
            ..file.recipe
        };
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let expected = Reference::load(&folder)?;
        Ok(Case { name, recipe, examples, losses: file.losses, folder, expected })
    }
}

/// Trains a case and compares.
pub(super) fn hold(case: &Case, work: &Work) -> Result<Held, Error> {
    let config = Config::load(&case.recipe.model)?;
    let processor = Processor::load(&case.recipe.model, &config)?;
    let mut same_lessons = true;
    for (i, example) in case.examples.iter().enumerate() {
        let lesson = processor.prepare_lesson(&example.messages, &example.images)?;
        let expected = |of: &str| case.expected.ids(&format!("lesson.{i}.{of}"));
        let taught = lesson.is_taught.iter().map(|&taught| u32::from(taught));
        same_lessons &= expected("input_ids")? == lesson.inputs.input_ids
            && expected("is_taught")?.into_iter().eq(taught);
    }
    let (learned, losses) = train_case(case, &case.recipe, &case.name, work)?;
    let apart = |(ours, theirs): (&f64, &f64)| (ours / theirs - 1.0).abs();
    let loss = losses.iter().zip(&case.losses).map(apart).fold(0.0, f64::max);
    let first = &case.examples[0];
    let lesson = processor.prepare_lesson(&first.messages, &first.images)?;
    let apart = |vlm: &Vlm| -> Result<f64, Error> {
        Ok(case.expected.apart("logits", &logits(vlm, &lesson)?)?.relative)
    };
    let base = Base::load(&case.recipe, &config)?;
    let trained = apart(&learned.model(&case.recipe, (&base, None), false)?)?;
    let round_trip = match case.folder.join("end") {
        end if end.is_dir() => {
            let theirs = Lora::read(&end, &config)?;
            let again = work.folder.join(format!("{}-again", case.name));
            theirs.write(&again, &config, &case.name)?;
            // Files of other names would be empty to Python.
            let mut worst: f64 = if names(&again)? == names(&end)? { 0.0 } else { f64::INFINITY };
            for lora in [theirs, Lora::read(&again, &config)?] {
                worst = worst.max(apart(&adapted(&case.recipe.model, &lora)?)?);
            }
            Some(worst)
        }
        _ => None,
    };
    let n_steps = losses.len().min(case.losses.len());
    let case = case.name.clone();
    Ok(Held { case, loss, n_steps, same_lessons, round_trip, trained })
}

/// Runs a recipe on a case's lessons in the folder `name`: what was learned, and the loss of each
/// step.
pub(super) fn train_case(
    case: &Case,
    recipe: &FineTune,
    name: &str,
    work: &Work,
) -> Result<(Learned, Vec<f64>), Error> {
    let mut losses = Vec::new();
    let mut on_event = |event: &Event<'_>| {
        if let Event::Step { loss, .. } = event {
            losses.push(*loss);
        }
    };
    let lessons: (&dyn Examples, &dyn Examples) = (&case.examples, &Vec::new());
    let learned = work.train(recipe, lessons, name, &mut on_event)?;
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
