//! The training loop: stages in order, each step reproducible from the checkpoint alone.
//!
//! It reports through events and stops when told to; it draws nothing and prints nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vlm::Config;

use crate::Error;
use crate::checkpoint::{self, Checkpoint, Progress};
use crate::curve::Curve;
use crate::evaluate::{self, Scores};
use crate::models::{self, Models};
use crate::optimizer::{Group, Optimizer, Rule, learning_rate};
use crate::parameters::{Parameters, module_of};
use crate::recipe::{Recipe, Stage};
use crate::replicas::Replicas;
use crate::step::Step;

/// Steps between lines of the curve.
const CURVE_STEPS: u64 = 10;
/// The file of a run that holds everything to go on with.
pub(crate) const CHECKPOINT: &str = "checkpoint.safetensors";

/// Tells a run to stop at its next step, after writing a checkpoint.
#[derive(Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for the stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What happens during a run.
pub enum Event<'a> {
    /// A stage begins, or goes on after a resume.
    Stage {
        /// The stage.
        stage: &'a Stage,
        /// Images of it seen already.
        images: u64,
    },
    /// Some steps were done.
    Step {
        /// How far the run is.
        progress: &'a Progress,
        /// Parts of the loss, averaged over the steps since the last such event.
        losses: &'a [(&'static str, f64)],
        /// Images each second since the last such event.
        images_per_second: f64,
        /// Time left at this speed, all stages.
        left: Duration,
    },
    /// The model was measured on held-out scenes.
    Measured {
        /// How far the run is.
        progress: &'a Progress,
        /// What was found.
        scores: &'a Scores,
    },
    /// A checkpoint was written.
    Saved {
        /// How far the run is.
        progress: &'a Progress,
    },
}

/// Trains by a recipe in `folder`, going on from its checkpoint when there is one.
///
/// Returns how far it came: all stages unless cancelled.
///
/// # Errors
/// Whatever stops it; the last checkpoint stays usable.
pub fn run(
    recipe: &Recipe,
    folder: &Path,
    cancel: &Cancel,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Progress, Error> {
    std::fs::create_dir_all(folder).map_err(Error::writing(folder))?;
    let config = Config::load(&recipe.model)?;
    let state = start(recipe, &config, &folder.join(CHECKPOINT))?;
    let curve = Curve::open(&folder.join("curve.csv"), state.progress.step)?;
    let replicas = Replicas::new(recipe.threads)?;
    let mut trainer = Trainer { recipe, config, folder, replicas, state, curve, cancel, on_event };
    while let Some(stage) = recipe.stages.get(trainer.state.progress.stage) {
        if !trainer.stage(stage)? {
            break;
        }
        let progress = &mut trainer.state.progress;
        progress.stage += 1;
        progress.stage_images = 0;
        progress.moment_steps = 0;
        trainer.state.optimizer = Optimizer::default();
        trainer.save()?;
    }
    trainer.save()?;
    Ok(trainer.state.progress)
}

/// The checkpoint's state, or fresh weights.
fn start(recipe: &Recipe, config: &Config, path: &Path) -> Result<Checkpoint, Error> {
    let shapes = models::parameter_shapes(recipe, config)?;
    if path.exists() {
        let state = checkpoint::load(path, &shapes)?;
        let stage = state.progress.stage.min(recipe.stages.len().saturating_sub(1));
        let finished = state.progress.stage >= recipe.stages.len();
        let known = checkpoint::recipe_hash(recipe, stage);
        if !finished && state.progress.stage_images > 0 && known != state.progress.recipe_hash {
            return Err(Error::OtherRecipe { path: path.to_owned() });
        }
        return Ok(state);
    }
    let parameters = Parameters::init(&shapes, recipe.seed)?;
    let width = config.text_config.head_dim;
    for &[layer, head] in recipe.evidence.question.iter().chain(&recipe.evidence.answer) {
        parameters.tie_query_to_key(layer, head, width)?;
    }
    Ok(Checkpoint { parameters, optimizer: Optimizer::default(), progress: Progress::default() })
}

/// The weights that a stage moves. Embeddings, norms and biases are not decayed.
/// Matrices inside the layers are moved by the stage's rule, everything else by AdamW.
pub(crate) fn groups(stage: &Stage, parameters: &Parameters) -> BTreeMap<String, Group> {
    let group = |(name, var): (&String, &candle_core::Var)| {
        let factor = stage.modules.get(module_of(name)).copied().filter(|&f| f > 0.0)?;
        let matrix = var.rank() > 1 && !name.contains("embed");
        let decay = if matrix { stage.weight_decay } else { 0.0 };
        let rule = match matrix && stage.muon && name.contains(".layers.") {
            true => Rule::Muon,
            false => Rule::AdamW,
        };
        Some((name.clone(), Group { var: var.clone(), rule, factor, decay }))
    };
    parameters.vars.iter().filter_map(group).collect()
}

struct Trainer<'a> {
    recipe: &'a Recipe,
    config: Config,
    folder: &'a Path,
    replicas: Replicas,
    state: Checkpoint,
    curve: Curve,
    cancel: &'a Cancel,
    on_event: &'a mut dyn FnMut(Event<'_>),
}

/// What is averaged between two lines of the curve.
struct Window {
    since: Instant,
    images: u64,
    steps: f64,
    losses: Vec<(&'static str, f64)>,
    norm: f64,
}

impl Window {
    fn new() -> Self {
        Self { since: Instant::now(), images: 0, steps: 0.0, losses: Vec::new(), norm: 0.0 }
    }

    fn add(&mut self, images: u64, losses: &[(&'static str, f64)], norm: f64) {
        self.images += images;
        self.steps += 1.0;
        self.norm += norm;
        for &(name, value) in losses {
            match self.losses.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += value,
                None => self.losses.push((name, value)),
            }
        }
    }

    fn finish(&mut self) -> f64 {
        self.losses.iter_mut().for_each(|(_, sum)| *sum /= self.steps);
        self.images as f64 / self.since.elapsed().as_secs_f64().max(1e-9)
    }
}

impl Trainer<'_> {
    /// Runs a stage to its end; false when cancelled.
    fn stage(&mut self, stage: &Stage) -> Result<bool, Error> {
        (self.on_event)(Event::Stage { stage, images: self.state.progress.stage_images });
        let groups = groups(stage, &self.state.parameters);
        let models = Models::new(self.recipe, &self.config, &self.state.parameters, Some(stage))?;
        let (mut window, mut saved) = (Window::new(), Instant::now());
        while self.state.progress.stage_images < stage.images {
            let begun = Instant::now();
            let (losses, norm) = self.step(stage, &models, &groups)?;
            self.state.progress.seconds += begun.elapsed().as_secs_f64();
            window.add(stage.batch as u64, &losses, norm);
            if self.state.progress.step.is_multiple_of(CURVE_STEPS) {
                self.report(stage, &mut window)?;
                window = Window::new();
            }
            self.measure(stage)?;
            if saved.elapsed().as_secs() >= self.recipe.checkpoint_every_secs {
                self.save()?;
                saved = Instant::now();
            }
            if self.cancel.is_cancelled() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn step(
        &mut self,
        stage: &Stage,
        models: &Models,
        groups: &BTreeMap<String, Group>,
    ) -> Result<(Vec<(&'static str, f64)>, f64), Error> {
        let progress = &mut self.state.progress;
        let first = stage.first_seed + progress.stage_images;
        let seeds: Vec<u64> = (first..first + stage.batch as u64).collect();
        let rate = learning_rate(stage, progress.stage_images);
        let step = Step::compute(&self.replicas, models, stage, groups, &seeds)?;
        let pace = (rate, stage.clip);
        let norm = self.state.optimizer.step(groups, step.gradients, pace, &self.replicas)?;
        progress.stage_images += stage.batch as u64;
        progress.images += stage.batch as u64;
        progress.step += 1;
        progress.moment_steps = self.state.optimizer.steps;
        progress.recipe_hash = checkpoint::recipe_hash(self.recipe, progress.stage);
        Ok((step.parts, norm))
    }

    fn report(&mut self, stage: &Stage, window: &mut Window) -> Result<(), Error> {
        let speed = window.finish();
        let progress = &self.state.progress;
        let later: u64 = self.recipe.stages[progress.stage + 1..].iter().map(|s| s.images).sum();
        let images = later + stage.images.saturating_sub(progress.stage_images);
        let losses: Vec<String> =
            window.losses.iter().map(|(name, value)| format!("{name}={value:.4}")).collect();
        self.curve.push(&format!(
            "{},{},{},{:.3e},{:.3},{speed:.1},{:.0},{}",
            progress.step,
            progress.images,
            stage.name,
            learning_rate(stage, progress.stage_images),
            window.norm / window.steps,
            progress.seconds,
            losses.join(" "),
        ))?;
        let left = Duration::from_secs_f64(images as f64 / speed.max(0.01));
        (self.on_event)(Event::Step {
            progress,
            losses: &window.losses,
            images_per_second: speed,
            left,
        });
        Ok(())
    }

    fn measure(&mut self, stage: &Stage) -> Result<(), Error> {
        let (every, batch) = (self.recipe.evaluate_every_images, stage.batch as u64);
        let seen = self.state.progress.stage_images;
        let due = every > 0 && (seen / every > (seen - batch) / every || seen >= stage.images);
        if !due {
            return Ok(());
        }
        let scores = self.scores(stage)?;
        (self.on_event)(Event::Measured { progress: &self.state.progress, scores: &scores });
        Ok(())
    }

    fn scores(&self, stage: &Stage) -> Result<Scores, Error> {
        let models = Models::new(self.recipe, &self.config, &self.state.parameters, None)?;
        evaluate::scores(&models, stage, self.recipe.evaluate_scenes, &self.replicas)
    }

    fn save(&mut self) -> Result<(), Error> {
        let Checkpoint { parameters, optimizer, progress } = &self.state;
        checkpoint::save(&self.folder.join(CHECKPOINT), parameters, optimizer, progress)?;
        (self.on_event)(Event::Saved { progress });
        Ok(())
    }
}
