//! The steps of a fine-tuning, each reproducible from the checkpoint alone.
//!
//! Beside the model a twin learns the same lessons without their pictures, by an adapter of its
//! own: what the twin gets right can be guessed from the questions, so a model that does no better
//! need not have looked. Without pictures a lesson is short, so the twin costs little.
//!
//! It reports through events and stops when told to; it draws nothing and prints nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::Tensor;
use serde::Serialize;
use vlm::processor::{Lesson, Processor};
use vlm::{Config, Vlm};

use super::examples::{Examples, Shuffled};
use super::lesson::{lesson, loss};
use super::recipe::{FineTune, Part};
use super::weights::{Base, Learned};
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

/// What the model makes of the held-out examples, and its twin without their pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Held {
    pub n: usize,
    /// Mean loss of a taught token.
    pub loss: f64,
    /// Share of the examples whose every taught token is the likeliest.
    pub right: f64,
    /// The twin's.
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
    let base = Base::load(recipe, &config)?;
    let processor = Processor::load(&recipe.model, &config)?;
    let replicas = Replicas::new(recipe.threads)?;
    let ground = Ground { recipe, config, base, cache, processor, replicas };
    let twin = FineTune {
        adapt: vec![Part::LanguageModel],
        train: Vec::new(),
        targets: Vec::new(),
        dora: false,
        start: None,
        ..recipe.clone()
    };
    let path = folder.join(CHECKPOINT);
    let mut pair = Pair { sighted: ground.enrol(recipe)?, blind: ground.enrol(&twin)? };
    if path.exists() {
        pair.go_on_from(&path, recipe)?;
    }
    pair.sighted.progress.recipe_hash = recipe_hash(recipe);
    let curve = Curve::open(&folder.join("curve.csv"), pair.sighted.progress.step)?;
    let order = Shuffled::new(recipe.seed, examples.len());
    let mut course = Course { ground: &ground, order, examples, held_out, curve, path };
    course.teach(&mut pair, cancel, on_event)?;
    Ok((pair.sighted.learned, pair.sighted.progress))
}

/// Of what shapes the weights: not of where the model lies, and how often is looked and saved.
fn recipe_hash(recipe: &FineTune) -> u64 {
    let shaping = FineTune {
        model: PathBuf::new(),
        evaluate_every: 0,
        checkpoint_every_secs: 0,
        ..recipe.clone()
    };
    hash(&serde_json::to_string(&shaping).unwrap_or_default())
}

/// What the model and its twin have in common.
struct Ground<'a> {
    recipe: &'a FineTune,
    config: Config,
    base: Base,
    cache: Option<&'a Path>,
    processor: Processor,
    replicas: Replicas,
}

impl Ground<'_> {
    /// Who learns by a recipe, before the first step.
    fn enrol(&self, recipe: &FineTune) -> Result<Pupil, Error> {
        let learned = Learned::start(recipe, &self.config)?;
        let groups = learned.groups(recipe, &self.config);
        let vlm = learned.model(recipe, (&self.base, self.cache), true)?;
        let (recipe, optimizer) = (recipe.clone(), Optimizer::default());
        let progress = Progress::default();
        Ok(Pupil { recipe, learned, optimizer, progress, groups, vlm })
    }
}

/// Who learns: variables, the model over them, and how far it came.
struct Pupil {
    recipe: FineTune,
    learned: Learned,
    optimizer: Optimizer,
    progress: Progress,
    groups: BTreeMap<String, Group>,
    vlm: Vlm,
}

/// The model and its twin, kept in one file so that none is ahead of the other.
struct Pair {
    sighted: Pupil,
    blind: Pupil,
}

/// Before the names of the twin's variables.
const TWIN: &str = "twin/";

impl Pair {
    fn save(&self, path: &Path) -> Result<(), Error> {
        let of_twin = |name: &String| format!("{TWIN}{name}");
        let mut parameters = self.sighted.learned.parameters.clone();
        let twin = self.blind.learned.parameters.vars.iter();
        parameters.vars.extend(twin.map(|(name, var)| (of_twin(name), var.clone())));
        let Optimizer { moments, steps } = &self.sighted.optimizer;
        let mut optimizer = Optimizer { moments: moments.clone(), steps: *steps };
        let twin = self.blind.optimizer.moments.iter();
        optimizer.moments.extend(twin.map(|(name, moments)| (of_twin(name), moments.clone())));
        checkpoint::save(path, &parameters, &optimizer, &self.sighted.progress)
    }

    /// Sets both to what was kept.
    fn go_on_from(&mut self, path: &Path, recipe: &FineTune) -> Result<(), Error> {
        let mut shapes = self.sighted.learned.shapes();
        let twin = self.blind.learned.shapes().into_iter();
        shapes.extend(twin.map(|(name, dims)| (format!("{TWIN}{name}"), dims)));
        let state = checkpoint::load(path, &shapes)?;
        if state.progress.recipe_hash != recipe_hash(recipe) {
            return Err(Error::OtherRecipe { path: path.to_owned() });
        }
        for (pupil, prefix) in [(&mut self.sighted, ""), (&mut self.blind, TWIN)] {
            for (name, var) in &pupil.learned.parameters.vars {
                if let Some(kept) = state.parameters.vars.get(&format!("{prefix}{name}")) {
                    var.set(kept.as_tensor())?;
                }
                let moments = state.optimizer.moments.get(&format!("{prefix}{name}"));
                if let Some(moments) = moments {
                    pupil.optimizer.moments.insert(name.clone(), moments.clone());
                }
            }
            pupil.optimizer.steps = state.optimizer.steps;
            pupil.progress = state.progress.clone();
        }
        Ok(())
    }
}

impl Pupil {
    /// One step on some lessons: the mean loss of a taught token, and the gradient's norm.
    fn step(&mut self, lessons: &[Lesson], ground: &Ground) -> Result<(f64, f64), Error> {
        let done = self.progress.step;
        // Every taught token counts the same, whichever example it is of.
        let all: f64 = lessons.iter().map(|lesson| lesson.supervised().len() as f64).sum();
        let n_copies = ground.replicas.len().min(lessons.len());
        let copies: Vec<_> = (0..n_copies).map(|k| lessons[k..].iter().step_by(n_copies)).collect();
        let found = ground.replicas.map(&copies, |mine| {
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
        let pace = (self.recipe.rate(done), self.recipe.clip);
        let norm = self.optimizer.step(&self.groups, gradients, pace, &ground.replicas)?;
        let progress = &mut self.progress;
        progress.step += 1;
        progress.images += self.recipe.batch as u64;
        progress.stage_images = progress.images;
        progress.moment_steps = self.optimizer.steps;
        Ok((loss, norm))
    }

    /// Of some examples: the mean loss of a taught token, and the share that is all right.
    fn held(
        &self,
        (examples, n): (&dyn Examples, usize),
        (ground, blind): (&Ground, bool),
    ) -> Result<(f64, f64), Error> {
        let vlm = self.learned.model(&self.recipe, (&ground.base, ground.cache), false)?;
        let numbers: Vec<usize> = (0..n).collect();
        let found = ground.replicas.map(&numbers, |&number| {
            let lesson = lesson(&ground.processor, &examples.get(number)?, blind)?;
            let found = loss(&vlm, &lesson)?;
            let loss = f64::from(found.loss.to_scalar::<f32>()?) * found.n as f64;
            Ok([loss, found.n as f64, f64::from(u8::from(found.is_right))])
        })?;
        let sum = |part: usize| found.iter().map(|sums| sums[part]).sum::<f64>();
        Ok((sum(0) / sum(1).max(1.0), sum(2) / n.max(1) as f64))
    }
}

/// The lessons of a run, and its curve.
struct Course<'a> {
    ground: &'a Ground<'a>,
    order: Shuffled,
    examples: &'a dyn Examples,
    held_out: &'a dyn Examples,
    curve: Curve,
    path: PathBuf,
}

impl Course<'_> {
    fn teach(
        &mut self,
        pair: &mut Pair,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Error> {
        let (recipe, mut saved) = (self.ground.recipe, Instant::now());
        let (begun, first) = (Instant::now(), pair.sighted.progress.step);
        while pair.sighted.progress.step < recipe.steps {
            let Pair { sighted, blind } = pair;
            let started = Instant::now();
            let (done, rate) = (sighted.progress.step, recipe.rate(sighted.progress.step));
            let (loss, norm) = sighted.step(&self.lessons(done, false)?, self.ground)?;
            blind.step(&self.lessons(done, true)?, self.ground)?;
            let seconds = started.elapsed().as_secs_f64();
            let progress = &mut sighted.progress;
            progress.seconds += seconds;
            self.curve.push(&format!(
                "{},{},fine-tune,{rate:.3e},{norm:.4},{:.1},{:.0},loss={loss:.6}",
                progress.step,
                progress.images,
                recipe.batch as f64 / seconds.max(1e-9),
                progress.seconds,
            ))?;
            let each = begun.elapsed().as_secs_f64() / (progress.step - first) as f64;
            let left = Duration::from_secs_f64(each * (recipe.steps - progress.step) as f64);
            let progress = &sighted.progress;
            on_event(Event::Step { progress, loss, rate, norm, left });
            let every = recipe.evaluate_every;
            let is_last = progress.step == recipe.steps;
            if is_last || (every > 0 && progress.step.is_multiple_of(every)) {
                let held = self.held(sighted, blind)?;
                on_event(Event::Measured { progress, held: &held });
            }
            if saved.elapsed().as_secs() >= recipe.checkpoint_every_secs {
                pair.save(&self.path)?;
                on_event(Event::Saved { progress: &pair.sighted.progress });
                saved = Instant::now();
            }
            if cancel.is_cancelled() {
                break;
            }
        }
        pair.save(&self.path)?;
        on_event(Event::Saved { progress: &pair.sighted.progress });
        Ok(())
    }

    /// The lessons of the step after `done`.
    fn lessons(&mut self, done: u64, blind: bool) -> Result<Vec<Lesson>, Error> {
        let (recipe, n) = (self.ground.recipe, self.examples.len() as u64);
        let first = done * recipe.batch as u64;
        let numbers = (first..first + recipe.batch as u64).map(|nth| match recipe.in_order {
            true => (nth % n) as usize,
            false => self.order.at(nth),
        });
        let numbers: Vec<usize> = numbers.collect();
        let (examples, processor) = (self.examples, &self.ground.processor);
        let take = |number: &usize| lesson(processor, &examples.get(*number)?, blind);
        self.ground.replicas.map(&numbers, take)
    }

    /// What both make of the held-out examples now.
    fn held(&self, sighted: &Pupil, blind: &Pupil) -> Result<Held, Error> {
        let n = self.held_out.len().min(MOST_HELD_OUT);
        if n == 0 {
            return Ok(Held::default());
        }
        let held = (self.held_out, n);
        let (loss, right) = sighted.held(held, (self.ground, false))?;
        let (blind_loss, blind_right) = blind.held(held, (self.ground, true))?;
        Ok(Held { n, loss, right, blind_loss, blind_right })
    }
}
