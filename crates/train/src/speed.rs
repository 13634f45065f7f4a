//! How fast a model trains here: whole steps over pictures and texts that lie ready, so that
//! nothing but training is timed.
//!
//! What is learned is noise; every weight of the model moves by AdamW, as in the plainest recipe.

use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};
use vlm::Config;
use vlm::model::nn::cross_entropy;

use crate::Error;
use crate::batch::Batch;
use crate::dialogue::Row;
use crate::models::{self, Models};
use crate::objective;
use crate::optimizer::Optimizer;
use crate::parameters::{Parameters, Random};
use crate::recipe::{Evidence, Recipe, Weights};
use crate::replicas::Replicas;
use crate::run::groups;
use crate::step::gradients;

/// What one step holds.
#[derive(Clone, Copy, Debug)]
pub struct StepSize {
    /// Pictures, split evenly over the threads.
    pub pictures: usize,
    /// Tokens with each picture, its image tokens among them; all others are learned from.
    pub tokens: usize,
    pub threads: usize,
    /// Whether matrix products take bf16 operands.
    pub bf16: bool,
}

/// Seconds of each of `steps` training steps of the model in a folder that holds a `recipe.toml`,
/// after one step of warm-up.
///
/// # Errors
/// A folder without a model or recipe, [`Error::Model`] when `size` does not hold a picture.
pub fn time_steps(model: &Path, size: StepSize, steps: usize) -> Result<Vec<f64>, Error> {
    let (recipe, config) = (plain(model, size)?, Config::load(model)?);
    let stage = &recipe.stages[0];
    let shapes = models::parameter_shapes(&recipe, &config)?;
    let parameters = Parameters::init(&shapes, recipe.seed)?;
    let models = Models::new(&recipe, &config, &parameters, Some(stage))?;
    let groups = groups(stage, &parameters);
    let replicas = Replicas::new(size.threads)?;
    let mut random = Random::new(recipe.seed);
    let share = size.pictures.div_ceil(replicas.len());
    let lessons = (0..replicas.len()).map(|_| lesson(&models, (share, size.tokens), &mut random));
    let lessons = lessons.collect::<Result<Vec<_>, _>>()?;
    let mut optimizer = Optimizer::default();
    let mut step = || {
        let begun = Instant::now();
        let found = replicas.map(&lessons, |lesson| gradients(&loss(&models, lesson)?, &groups))?;
        optimizer.step(&groups, found, (stage.learning_rate, stage.clip), &replicas)?;
        Ok(begun.elapsed().as_secs_f64())
    };
    step()?;
    (0..steps).map(|_| step()).collect()
}

/// The model's recipe with one stage that moves every weight of the model by AdamW, and no heads
/// that are taught where to look.
fn plain(model: &Path, size: StepSize) -> Result<Recipe, Error> {
    let mut recipe = Recipe::load(&model.join("recipe.toml"))?;
    recipe.stages.truncate(1);
    recipe.evidence = Evidence { answer: Vec::new(), question: Vec::new() };
    recipe.compute = if size.bf16 { "bf16" } else { "f32" }.into();
    let modules = ["vision_encoder", "projector", "language_model"];
    let stage = &mut recipe.stages[0];
    stage.modules = modules.map(|module| (module.to_string(), 1.0)).into();
    (stage.muon, stage.weights) = (false, Weights::default());
    Ok(recipe)
}

/// One copy's share of a step.
struct Lesson {
    /// `(N, 3, S, S)`
    pixels: Tensor,
    batch: Batch,
}

fn lesson(
    models: &Models,
    (pictures, tokens): (usize, usize),
    random: &mut Random,
) -> Result<Lesson, Error> {
    let side = models.image_size as usize;
    let (n_images, opening) = (models.speech.image_tokens.len(), &models.speech.opening);
    if tokens <= opening.len() {
        let problem = format!("a picture takes {} tokens, {tokens} are too few", opening.len());
        return Err(Error::Model(problem));
    }
    let mut row = || {
        let first = random.next() as usize % models.words.names.len();
        let words = models.words.names.iter().cycle().skip(first);
        let ids: Vec<u32> = opening.iter().chain(words).copied().take(tokens).collect();
        let supervised = (n_images..tokens).map(|i| (i - 1, ids[i])).collect();
        let (segments, positions) = (vec![0; tokens], (0..tokens as u32).collect());
        Row { ids, segments, positions, supervised, ..Row::default() }
    };
    let rows: Vec<Row> = (0..pictures).map(|_| row()).collect();
    let shape = (pictures, 3, side, side);
    let pixels = Tensor::rand(-1f32, 1f32, shape, &Device::Cpu)?;
    Ok(Lesson { pixels, batch: Batch::new(&rows, models.speech.pad)? })
}

/// Mean next-token cross-entropy.
fn loss(models: &Models, lesson: &Lesson) -> Result<Tensor, Error> {
    let features = models.vlm.vision_features(&lesson.pixels)?;
    let read = objective::read(models, &lesson.batch, &models.vlm.project(&features)?)?;
    let hidden = read.hidden.index_select(&lesson.batch.rows, 0)?;
    Ok(cross_entropy(&models.vlm.logits(&hidden)?, &lesson.batch.targets)?)
}
