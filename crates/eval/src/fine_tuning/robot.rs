//! The shipped model is taught a thing that it has never seen, and asked about the world it knew.

use serde::{Deserialize, Serialize};
use train::fine_tune::{Event, Examples, FineTune, Source, Subject, gather};
use vlm::generate::Session;
use vlm::{LoadOptions, Overlay, Quantization, Vlm};

use super::{Wanted, Work};
use crate::ask::{self, Model};
use crate::sample::each;
use crate::{Error, mentions};

/// Robots that nobody has shown.
const FIRST_ROBOT: u64 = 10_080_000;
const N_ROBOTS: u64 = 100;
/// Scenes of the old world.
const FIRST_SCENE: u64 = 10_090_000;
const N_SCENES: u64 = 120;
/// Side of the pictures, pixels.
const SIZE: u32 = 192;

/// What became of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taught {
    /// Share of new robots that are named: before and after.
    pub before: f64,
    pub after: f64,
    pub n_robots: usize,
    /// Share of right answers about the old world: before and after.
    pub old_before: f64,
    pub old_after: f64,
    pub n_answers: usize,
    /// Pictures of the thing that it was taught with.
    pub pictures: usize,
    /// Seconds of teaching.
    pub seconds: f64,
}

/// Carries out the recipe and measures before and after.
pub(super) fn teach(wanted: &Wanted, work: &Work, progress: &dyn Fn(f64)) -> Result<Taught, Error> {
    let path = wanted.recipe;
    let wrong = |reason: String| Error::Case { path: path.to_owned(), reason };
    let recipe = FineTune::load(path)?.ok_or_else(|| wrong("is no fine-tuning".into()))?;
    let recipe = FineTune { model: wanted.model.to_owned(), ..recipe };
    let mut model = Model::load(&recipe.model, Quantization::None)?;
    let (before, old_before, n_answers) = measure(&model, work)?;
    let (steps, mut seconds) = (recipe.steps as f64, 0.0);
    let mut on_event = |event: &Event<'_>| {
        if let Event::Step { progress: at, .. } = event {
            seconds = at.seconds;
            progress(at.step as f64 / steps);
        }
    };
    let gathered = gather(&recipe, dataset::Job::quiet())?;
    let lessons: (&dyn Examples, &dyn Examples) = (&gathered.train, &gathered.held_out);
    let learned = work.train(&recipe, lessons, "robot", &mut on_event)?;
    let lora = learned.lora();
    let adapters = lora.iter().map(|lora| (lora, 1.0)).collect();
    let overlay = Overlay { adapters, tensors: learned.own() };
    let device = candle_core::Device::Cpu;
    let options = LoadOptions { overlay: &overlay, ..LoadOptions::on(&device) };
    model.vlm = Vlm::load_with(&recipe.model, options)?;
    let (after, old_after, _) = measure(&model, work)?;
    let robots = recipe.data.iter().map(|source| match source {
        Source::Drawn(drawn) if drawn.drawn == Subject::Robots => drawn.pictures,
        _ => 0,
    });
    let pictures = robots.sum();
    let n_robots = N_ROBOTS as usize;
    Ok(Taught { before, after, n_robots, old_before, old_after, n_answers, pictures, seconds })
}

/// Share of robots named, share of answers about the old world that are right, and their number.
fn measure(model: &Model, work: &Work) -> Result<(f64, f64, usize), Error> {
    let mut named = 0;
    for seed in FIRST_ROBOT..FIRST_ROBOT + N_ROBOTS {
        let robot = scenes::robot(seed, SIZE);
        let mut session = Session::new(model.calibration.clone());
        let asked = (&robot.image, "What is in the picture?", false);
        let said = ask::answer(model, &mut session, asked, work.cancel)?.text.to_lowercase();
        // Named, and nothing else beside it.
        named += usize::from(said.contains(scenes::ROBOT) && mentions::named(&said).is_empty());
    }
    let options = scenes::Options::default();
    let look = |scene: &scenes::Scene| {
        let mut session = Session::new(model.calibration.clone());
        Ok(ask::ask(model, &mut session, scene, work.cancel)?.only_answers())
    };
    let seeds = FIRST_SCENE..FIRST_SCENE + N_SCENES;
    let trials = each((&seeds, &options), look, &|_| {}, work.cancel)?;
    let hits: Vec<bool> = trials.into_iter().flatten().map(|trial| trial.hit).collect();
    let right = hits.iter().filter(|hit| **hit).count() as f64 / hits.len().max(1) as f64;
    Ok((named as f64 / N_ROBOTS as f64, right, hits.len()))
}
