//! The steps of a fine-tuning, each reproducible from the checkpoint alone.
//!
//! It reports through events and stops when told to; it draws nothing and prints nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::Tensor;
use serde::Serialize;
use vlm::processor::Processor;
use vlm::{Config, Vlm};

use super::examples::{Examples, Shuffled};
use super::lesson::{lesson, loss};
use super::recipe::FineTune;
use super::weights::Learned;
use crate::Error;
use crate::checkpoint::{self, Progress};
use crate::curve::Curve;
use crate::optimizer::{Group, Optimizer};
use crate::parameters::hash;
use crate::replicas::Replicas;
use crate::run::{CHECKPOINT, Cancel};
use crate::step;

/// Held-out examples that are looked at in one measurement.
const MOST_HELD_OUT: usize = 100;

/// What the model makes of the held-out examples: as they are, and without their pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Held {
    pub n: usize,
    /// Mean loss of a taught token.
    pub loss: f64,
    /// Share of the examples whose every taught token is the likeliest.
    pub right: f64,
    pub blind_loss: f64,
    pub blind_right: f64,
}

impl Held {
    /// Whether what it gets right it would get right without looking: the answers can be guessed
    /// from the questions.
    #[must_use]
    pub fn is_not_looking(&self) -> bool {
        const GUESSED: f64 = 0.9;
        self.n > 0 && self.right > 0.5 && self.blind_right >= GUESSED * self.right
    }
}

/// What happens during a run.
pub enum Event<'a> {
    /// A step was done.
    Step {
        progress: &'a Progress,
        /// Mean over the taught tokens of the step.
        loss: f64,
        rate: f64,
        /// Of the gradient before clipping.
        norm: f64,
        /// Time left at this speed.
        left: Duration,
    },
    /// The model was measured.
    Measured { progress: &'a Progress, held: &'a Held },
    /// A checkpoint was written.
    Saved { progress: &'a Progress },
}

/// Fine-tunes by a recipe in `folder`, going on from its checkpoint when there is one; `cache` is
/// where packed weights are kept. Returns what was learned and how far it came.
///
/// # Errors
/// Whatever stops it; the last checkpoint stays usable.
pub fn run(
    recipe: &FineTune,
    (examples, held_out): (&dyn Examples, &dyn Examples),
    (folder, cache): (&Path, Option<&Path>),
    cancel: &Cancel,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<(Learned, Progress), Error> {
    let problems = recipe.problems();
    if !problems.is_empty() {
        return Err(Error::Recipe { path: folder.to_owned(), problems });
    }
    if examples.is_empty() {
        return Err(Error::Model("there is no example to learn from".into()));
    }
    std::fs::create_dir_all(folder).map_err(Error::writing(folder))?;
    let config = Config::load(&recipe.model)?;
    let processor = Processor::load(&recipe.model, &config)?;
    let mut learned = Learned::start(recipe, &config)?;
    let (mut optimizer, mut progress) = (Optimizer::default(), Progress::default());
    let path = folder.join(CHECKPOINT);
    let recipe_hash = hash(&serde_json::to_string(recipe).unwrap_or_default());
    if path.exists() {
        let state = checkpoint::load(&path, &learned.shapes())?;
        if state.progress.recipe_hash != recipe_hash {
            return Err(Error::OtherRecipe { path });
        }
        (learned.parameters, optimizer, progress) =
            (state.parameters, state.optimizer, state.progress);
    }
    progress.recipe_hash = recipe_hash;
    let curve = Curve::open(&folder.join("curve.csv"), progress.step)?;
    let vlm = learned.model(recipe, cache, true)?;
    let groups = learned.groups(recipe, &config);
    let replicas = Replicas::new(recipe.threads)?;
    let order = Shuffled::new(recipe.seed, examples.len());
    let lessons = (examples, held_out);
    let mut tutor = Tutor { recipe, processor, vlm, groups, replicas, order, lessons };
    let mut state = State { learned, optimizer, progress, path, curve };
    tutor.teach(&mut state, (cache, cancel), on_event)?;
    Ok((state.learned, state.progress))
}

/// What a run changes.
struct State {
    learned: Learned,
    optimizer: Optimizer,
    progress: Progress,
    path: PathBuf,
    curve: Curve,
}

impl State {
    fn save(&self) -> Result<(), Error> {
        checkpoint::save(&self.path, &self.learned.parameters, &self.optimizer, &self.progress)
    }
}

/// What a run works with.
struct Tutor<'a> {
    recipe: &'a FineTune,
    processor: Processor,
    vlm: Vlm,
    groups: BTreeMap<String, Group>,
    replicas: Replicas,
    order: Shuffled,
    lessons: (&'a dyn Examples, &'a dyn Examples),
}

impl Tutor<'_> {
    fn teach(
        &mut self,
        state: &mut State,
        (cache, cancel): (Option<&Path>, &Cancel),
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Error> {
        let (recipe, mut saved) = (self.recipe, Instant::now());
        let (begun, first) = (Instant::now(), state.progress.step);
        while state.progress.step < recipe.steps {
            let started = Instant::now();
            let rate = recipe.rate(state.progress.step);
            let (gradients, loss) = self.step(state.progress.step)?;
            let pace = (rate, recipe.clip);
            let norm = state.optimizer.step(&self.groups, gradients, pace, &self.replicas)?;
            let progress = &mut state.progress;
            progress.step += 1;
            progress.stage_images += recipe.batch as u64;
            progress.images = progress.stage_images;
            progress.moment_steps = state.optimizer.steps;
            progress.seconds += started.elapsed().as_secs_f64();
            state.curve.push(&format!(
                "{},{},fine-tune,{rate:.3e},{norm:.4},{:.1},{:.0},loss={loss:.6}",
                progress.step,
                progress.images,
                recipe.batch as f64 / started.elapsed().as_secs_f64().max(1e-9),
                progress.seconds,
            ))?;
            let done = (progress.step - first) as f64;
            let each = begun.elapsed().as_secs_f64() / done;
            let left = Duration::from_secs_f64(each * (recipe.steps - progress.step) as f64);
            on_event(Event::Step { progress: &state.progress, loss, rate, norm, left });
            let every = recipe.evaluate_every;
            let is_last = state.progress.step == recipe.steps;
            if is_last || (every > 0 && state.progress.step.is_multiple_of(every)) {
                let held = self.held(&state.learned, cache)?;
                on_event(Event::Measured { progress: &state.progress, held: &held });
            }
            if saved.elapsed().as_secs() >= recipe.checkpoint_every_secs {
                state.save()?;
                on_event(Event::Saved { progress: &state.progress });
                saved = Instant::now();
            }
            if cancel.asked() {
                break;
            }
        }
        state.save()?;
        on_event(Event::Saved { progress: &state.progress });
        Ok(())
    }

    /// Gradients of each copy, and the step's mean loss of a taught token.
    fn step(&mut self, done: u64) -> Result<(Vec<BTreeMap<String, Tensor>>, f64), Error> {
        let (recipe, first) = (self.recipe, done * self.recipe.batch as u64);
        let n_examples = self.lessons.0.len() as u64;
        let numbers = (first..first + recipe.batch as u64).map(|nth| match recipe.in_order {
            true => (nth % n_examples) as usize,
            false => self.order.at(nth),
        });
        let numbers: Vec<usize> = numbers.collect();
        let (examples, processor) = (self.lessons.0, &self.processor);
        let lessons = self
            .replicas
            .map(&numbers, |&number| lesson(processor, &examples.get(number)?, false))?;
        // Every taught token counts the same, whichever example it is of.
        let taught = |lesson: &vlm::processor::Lesson| lesson.supervised().len() as f64;
        let all: f64 = lessons.iter().map(taught).sum();
        let n_copies = self.replicas.len().min(lessons.len());
        let copies: Vec<_> = (0..n_copies).map(|k| lessons[k..].iter().step_by(n_copies)).collect();
        let found = self.replicas.map(&copies, |mine| {
            let (mut gradients, mut sum) = (BTreeMap::<String, Tensor>::new(), 0.0);
            for lesson in mine.clone() {
                let found = loss(&self.vlm, lesson)?;
                let share = found.n as f64 / all;
                sum += f64::from(found.loss.to_scalar::<f32>()?) * share;
                // The optimiser takes the mean over copies.
                let scaled = (found.loss * (share * n_copies as f64))?;
                for (name, gradient) in step::gradients(&scaled, &self.groups)? {
                    let total = match gradients.remove(&name) {
                        Some(before) => (before + gradient)?,
                        None => gradient,
                    };
                    gradients.insert(name, total);
                }
            }
            Ok((gradients, sum))
        })?;
        let (gradients, sums): (Vec<_>, Vec<f64>) = found.into_iter().unzip();
        let loss: f64 = sums.iter().sum();
        if !loss.is_finite() {
            return Err(Error::Diverged { step: done, what: "loss" });
        }
        Ok((gradients, loss))
    }

    /// What the model makes of the held-out examples now.
    fn held(&self, learned: &Learned, cache: Option<&Path>) -> Result<Held, Error> {
        let n = self.lessons.1.len().min(MOST_HELD_OUT);
        if n == 0 {
            return Ok(Held::default());
        }
        let vlm = learned.model(self.recipe, cache, false)?;
        let numbers: Vec<usize> = (0..n).collect();
        let found = self.replicas.map(&numbers, |&number| {
            let example = self.lessons.1.get(number)?;
            let mut both = [(0.0, 0.0, 0.0); 2];
            for (blind, sums) in both.iter_mut().enumerate() {
                let found = loss(&vlm, &lesson(&self.processor, &example, blind == 1)?)?;
                let loss = f64::from(found.loss.to_scalar::<f32>()?);
                *sums = (loss * found.n as f64, found.n as f64, f64::from(found.is_right));
            }
            Ok(both)
        })?;
        let of = |which: usize| {
            let sum = |part: fn(&(f64, f64, f64)) -> f64| -> f64 {
                found.iter().map(|both| part(&both[which])).sum()
            };
            (sum(|s| s.0) / sum(|s| s.1).max(1.0), sum(|s| s.2) / n as f64)
        };
        let ((loss, right), (blind_loss, blind_right)) = (of(0), of(1));
        Ok(Held { n, loss, right, blind_loss, blind_right })
    }
}
