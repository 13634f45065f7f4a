//! A quick look at a model under training on held-out scenes.
//!
//! Answers are judged teacher-forced: an answer counts as right when every token of it is the
//! most likely one given the true tokens before, which is exactly when greedy decoding gives it.
//! The full measurement, through the engine's own generation, lives elsewhere.

use std::collections::BTreeMap;

use candle_core::{D, Device, IndexOp, Tensor};
use scenes::{Scene, classes};

use crate::Error;
use crate::batch::{Batch, pixel_values};
use crate::dialogue::{Row, Side};
use crate::models::Models;
use crate::objective::read;
use crate::recipe::{FIRST_HELD_OUT_SEED, Objective, Stage};
use crate::replicas::Replicas;
use crate::sampling;

/// Right answers of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// How many were right.
    pub right: usize,
    /// How many were asked.
    pub n: usize,
}

impl Score {
    fn add(&mut self, right: bool) {
        self.right += usize::from(right);
        self.n += 1;
    }

    /// Part of the answers that were right; 0 when nothing was asked.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.right as f64 / self.n.max(1) as f64
    }
}

/// What a measurement found, by name: `region_top1`, `attended`, `exists_yes`, `exists_no` and
/// the kinds of questions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Name to score.
    pub by_name: BTreeMap<String, Score>,
}

impl Scores {
    /// Mean of the parts of right "yes" and right "no" answers about existence.
    #[must_use]
    pub fn existence_balanced(&self) -> f64 {
        let value = |name: &str| self.by_name.get(name).map_or(0.0, Score::value);
        0.5 * (value("exists_yes") + value("exists_no"))
    }

    /// One line for logs.
    #[must_use]
    pub fn line(&self) -> String {
        let one = |(name, s): (&String, &Score)| format!("{name}={:.3}/{}", s.value(), s.n);
        let all: Vec<String> = self.by_name.iter().map(one).collect();
        format!("{} exists_balanced={:.3}", all.join(" "), self.existence_balanced())
    }

    fn add(&mut self, name: &str, right: bool) {
        self.by_name.entry(name.to_owned()).or_default().add(right);
    }

    fn merge(&mut self, other: Self) {
        for (name, score) in other.by_name {
            let sum = self.by_name.entry(name).or_default();
            sum.right += score.right;
            sum.n += score.n;
        }
    }
}

/// Scenes judged at once.
const BATCH: u64 = 20;

/// Measures on the first `n_scenes` held-out seeds.
pub(crate) fn scores(
    models: &Models,
    stage: &Stage,
    n_scenes: usize,
    replicas: &Replicas,
) -> Result<Scores, Error> {
    // In the world's own mixture, whatever the stage shows.
    let (kinds, scenes) = (Default::default(), None);
    let ask = Stage { collages: 0.0, damaged: 0.0, questions: 8, multi_turn: 0.0, ..stage.clone() };
    let ask = Stage { kinds, scenes, ..ask };
    let last = FIRST_HELD_OUT_SEED + n_scenes as u64;
    let starts: Vec<u64> = (FIRST_HELD_OUT_SEED..last).step_by(BATCH as usize).collect();
    let judge = |&start: &u64| judge(models, &ask, start..(start + BATCH).min(last));
    let mut scores = Scores::default();
    for part in replicas.map(&starts, judge)? {
        scores.merge(part);
    }
    Ok(scores)
}

fn judge(models: &Models, stage: &Stage, seeds: std::ops::Range<u64>) -> Result<Scores, Error> {
    let seeds: Vec<u64> = seeds.collect();
    let scenes: Vec<Scene> =
        seeds.iter().map(|&seed| sampling::scene(stage, seed, models.image_size)).collect();
    let mut scores = Scores::default();
    let features = models.vlm.vision_features(&pixel_values(&scenes)?)?;
    regions(models, &scenes, &features, &mut scores)?;
    if stage.objective == Objective::Dialogue {
        let mut rows = Vec::with_capacity(scenes.len());
        for (scene, &seed) in scenes.iter().zip(&seeds) {
            let branches = sampling::branches(stage, scene, seed);
            rows.push(Row::new(&models.speech, scene, &branches, 0)?);
        }
        answers(models, &rows, &features, &mut scores)?;
    }
    Ok(scores)
}

/// The class whose phrase lies closest to each object's region, among all classes.
fn regions(
    models: &Models,
    scenes: &[Scene],
    features: &Tensor,
    scores: &mut Scores,
) -> Result<(), Error> {
    let names: Vec<String> = classes().iter().map(|c| c.name.to_owned()).collect();
    let names = models.embed_texts(&names)?;
    let width = models.patches.len();
    for (i, scene) in scenes.iter().enumerate().filter(|(_, s)| !s.objects.is_empty()) {
        let mut pooling = vec![0f32; scene.objects.len() * width];
        for (row, object) in pooling.chunks_mut(width).zip(&scene.objects) {
            row.copy_from_slice(&models.patches.pooling(object));
        }
        let pooling = Tensor::from_vec(pooling, (scene.objects.len(), width), &Device::Cpu)?;
        let regions = models.embed_regions(&pooling.matmul(&features.i(i)?.contiguous()?)?)?;
        let nearest = regions.matmul(&names.t()?)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
        for (object, found) in scene.objects.iter().zip(nearest) {
            scores.add("region_top1", found as usize == object.class);
        }
    }
    Ok(())
}

fn answers(
    models: &Models,
    rows: &[Row],
    features: &Tensor,
    scores: &mut Scores,
) -> Result<(), Error> {
    let batch = Batch::new(rows, models.speech.pad)?;
    let read = read(models, &batch, &models.vlm.project(features)?)?;
    let logits = models.vlm.logits(&read.hidden.index_select(&batch.rows, 0)?)?;
    let said = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
    let mut at = 0;
    for row in rows {
        for reply in &row.replies {
            let span = reply.supervised.clone();
            let right = span.clone().all(|k| said[at + k] == row.supervised[k].1);
            scores.add(reply.kind, right);
            if reply.kind == "exists" {
                let name = if reply.answer == "No." { "exists_no" } else { "exists_yes" };
                scores.add(name, said[at + span.start] == row.supervised[span.start].1);
            }
        }
        at += row.supervised.len();
    }
    attended(models, rows, &read.attention, scores)
}

/// Whether the image token that the answer heads look at most lies in the right box.
fn attended(
    models: &Models,
    rows: &[Row],
    attention: &[(usize, Tensor)],
    scores: &mut Scores,
) -> Result<(), Error> {
    let span = models.speech.image_tokens.clone();
    for (i, row) in rows.iter().enumerate() {
        let mut maps = Vec::new();
        for &[layer, head] in models.heads(Side::Answer) {
            if let Some((_, weights)) = attention.iter().find(|(l, _)| *l == layer) {
                let image = weights.i((i, head))?.narrow(1, span.start, span.len())?;
                maps.push(image.to_vec2::<f32>()?);
            }
        }
        let grounds = row.grounds.iter().enumerate().filter(|(_, g)| g.side == Side::Answer);
        for (k, ground) in grounds.filter(|(_, g)| !g.boxes.is_empty()) {
            let mass = |cell: usize| maps.iter().map(|m| m[k][cell]).sum::<f32>();
            let peak = (0..span.len()).max_by(|&a, &b| mass(a).total_cmp(&mass(b)));
            let inside = models.tokens.inside_any(&ground.boxes);
            scores.add("attended", peak.is_some_and(|p| inside[p]));
        }
    }
    Ok(())
}
