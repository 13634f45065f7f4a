//! The loss of a stage on some scenes: what is computed, and what each part is called.
//!
//! The model is the engine's own; this file only chooses what to compare. It does not know
//! optimisers or threads. Legend: `N` pictures, `P` patches, `G` image tokens, `T` tokens,
//! `D` hidden size, `H` heads, `E` width of the space shared by regions and phrases.

use candle_core::{DType, Device, Tensor};
use scenes::Scene;
use vlm::model::nn::cross_entropy;
use vlm::{Mask, Positions, Probe, Rows};

use crate::Error;
use crate::batch::{Batch, Gaze, Lens, pixel_values};
use crate::contrast::{Contrast, caption_loss};
use crate::dialogue::{Row, Side};
use crate::models::Models;
use crate::parameters::Random;
use crate::recipe::{Objective, Stage, Weights};
use crate::sampling;

/// A loss with its parts for the curve.
pub(crate) struct Losses {
    pub(crate) total: Tensor,
    pub(crate) parts: Vec<(&'static str, f64)>,
}

impl Losses {
    fn new() -> Result<Self, Error> {
        Ok(Self { total: Tensor::zeros((), DType::F32, &Device::Cpu)?, parts: Vec::new() })
    }

    fn add(&mut self, name: &'static str, weight: f64, loss: &Tensor) -> Result<(), Error> {
        self.parts.push((name, f64::from(loss.to_scalar::<f32>()?)));
        self.total = (&self.total + (loss * weight)?)?;
        Ok(())
    }
}

/// Some pictures: what is true of them, and their vision features `(N, P, D_v)`.
struct Seen<'a> {
    scenes: &'a [Scene],
    features: &'a Tensor,
}

/// The loss of a stage on the scenes of some seeds.
pub(crate) fn loss(models: &Models, stage: &Stage, seeds: &[u64]) -> Result<Losses, Error> {
    let scenes: Vec<Scene> =
        seeds.iter().map(|&seed| sampling::scene(stage, seed, models.image_size)).collect();
    let mut losses = Losses::new()?;
    let features = models.vlm.vision_features(&pixel_values(&scenes)?)?; // (N, P, D_v)
    let seen = Seen { scenes: &scenes, features: &features };
    let weights = &stage.weights;
    if weights.region > 0.0 || weights.patch > 0.0 || weights.caption > 0.0 {
        let mut random = Random::new(seeds.first().copied().unwrap_or(0) ^ 0xc04_7a5);
        contrast(models, weights, &seen, &mut random, &mut losses)?;
    }
    if weights.letters > 0.0 {
        let flat = features.flatten(0, 1)?; // (N P, D_v)
        if let Some(loss) = models.letter_head.loss(&flat, (&scenes, models.patches))? {
            losses.add("letters", weights.letters, &loss)?;
        }
    }
    if stage.objective == Objective::Dialogue {
        let mut rows = Vec::with_capacity(scenes.len());
        for (scene, &seed) in scenes.iter().zip(seeds) {
            rows.push(row(models, stage, scene, seed)?);
        }
        dialogue(models, weights, &seen, &rows, &mut losses)?;
    }
    Ok(losses)
}

/// A scene's questions as its words may see it.
fn row(models: &Models, stage: &Stage, scene: &Scene, seed: u64) -> Result<Row, Error> {
    let view = sampling::view(stage, scene, seed, models.tokens);
    let scene = view.scene.as_ref().unwrap_or(scene);
    let branches = sampling::branches(stage, scene, seed);
    let mut row = Row::new(&models.speech, scene, &branches, stage.tokens)?;
    row.hide(&view.hidden, models.speech.image_tokens.start);
    Ok(row)
}

fn contrast(
    models: &Models,
    weights: &Weights,
    &Seen { scenes, features }: &Seen<'_>,
    random: &mut Random,
    losses: &mut Losses,
) -> Result<(), Error> {
    let flat = features.flatten(0, 1)?.contiguous()?; // (N P, D_v)
    let Some(contrast) = Contrast::new(scenes, models.patches, random)? else { return Ok(()) };
    let texts: Vec<String> = contrast.phrases.iter().map(|p| p.text()).collect();
    let phrases = models.embed_texts(&texts)?; // (U, E)
    let scale = models.logit_scale()?;
    let regions = models.embed_regions(&contrast.pooling.matmul(&flat)?)?; // (R, E)
    let (region, top1) = contrast.region_loss(&regions, &phrases, &scale)?;
    losses.add("region", weights.region, &region)?;
    losses.parts.push(("region_top1", top1));
    if weights.patch > 0.0 {
        let patches = models.embed_regions(&flat)?; // (N P, E)
        if let Some(patch) = contrast.patch_loss(&patches, &phrases, &scale)? {
            losses.add("patch", weights.patch, &patch)?;
        }
    }
    if weights.caption > 0.0 {
        let pictures = models.embed_regions(&features.mean(1)?)?; // (N, E)
        let captions: Vec<String> = scenes.iter().map(caption).collect();
        let captions = models.embed_texts(&captions)?;
        losses.add("caption", weights.caption, &caption_loss(&pictures, &captions, &scale)?)?;
    }
    Ok(())
}

/// What is in the picture, in a few words.
fn caption(scene: &Scene) -> String {
    let phrases: Vec<String> = scene.objects.iter().take(3).map(|o| o.phrase()).collect();
    phrases.join(" and ")
}

/// What the decoder made of the rows.
pub(crate) struct Read {
    /// `(N T, D)`, after the final norm.
    pub(crate) hidden: Tensor,
    /// Layer and its attention weights `(N, H, R, T)`, at the rows of [`Batch::looking`].
    pub(crate) attention: Vec<(usize, Tensor)>,
}

/// Runs the decoder over rows whose pictures have been projected to `image_embeds (N, G, D)`.
pub(crate) fn read(models: &Models, batch: &Batch, image_embeds: &Tensor) -> Result<Read, Error> {
    let span = &models.speech.image_tokens;
    let words = models.vlm.embed_tokens(&batch.input_ids)?; // (N, T, D)
    let t = words.dim(1)?;
    let before = words.narrow(1, 0, span.start)?;
    let after = words.narrow(1, span.end, t - span.end)?;
    let inputs = Tensor::cat(&[&before, image_embeds, &after], 1)?; // (N, T, D)
    let layers = models.supervised_layers();
    let mut probe = match &batch.looking {
        Some(rows) => Probe::attention(layers, Rows::Chosen(rows.clone())),
        None => Probe::none(),
    };
    let positions = Positions::Ids(&batch.positions);
    let mask = Mask::Additive(&batch.mask);
    let hidden = models.vlm.forward(&inputs, &positions, &mask, None, &mut probe)?;
    Ok(Read { hidden: hidden.flatten(0, 1)?, attention: probe.attention })
}

fn dialogue(
    models: &Models,
    weights: &Weights,
    &Seen { scenes, features }: &Seen<'_>,
    rows: &[Row],
    losses: &mut Losses,
) -> Result<(), Error> {
    let batch = Batch::new(rows, models.speech.pad)?;
    let image_embeds = models.vlm.project(features)?; // (N, G, D)
    if weights.lens > 0.0 {
        lens(models, weights.lens, scenes, &image_embeds, losses)?;
    }
    let read = read(models, &batch, &image_embeds)?;
    let hidden = read.hidden.index_select(&batch.rows, 0)?; // (M, D)
    let logits = models.vlm.logits(&hidden)?; // (M, V)
    losses.add("answer", weights.answer, &cross_entropy(&logits, &batch.targets)?)?;
    if weights.evidence > 0.0 || weights.outline > 0.0 {
        for (side, name) in [(Side::Question, "matching"), (Side::Answer, "evidence")] {
            let first = models.speech.image_tokens.start;
            let Some(gaze) = Gaze::new(rows, side, models.tokens, first)? else { continue };
            let heads = models.heads(side);
            if weights.evidence > 0.0
                && let Some(loss) = gaze_loss(&gaze, heads, &read.attention, Gaze::on_boxes)?
            {
                losses.add(name, weights.evidence, &loss)?;
            }
            if weights.outline > 0.0
                && let Some(loss) = gaze_loss(&gaze, heads, &read.attention, Gaze::as_covered)?
            {
                losses.add(name, weights.outline, &loss)?;
            }
        }
    }
    Ok(())
}

/// Image tokens read as words: cross-entropy of the final norm and the unembedding on the
/// projector's output, against the name and the colour of the object under each token, and the
/// letters printed on it.
fn lens(
    models: &Models,
    weight: f64,
    scenes: &[Scene],
    image_embeds: &Tensor,
    losses: &mut Losses,
) -> Result<(), Error> {
    let lens = Lens::new(scenes, models.tokens, &models.words)?;
    let flat = image_embeds.flatten(0, 1)?; // (N G, D)
    let lists = [
        ("lens", 0.75, lens.names),
        ("lens_colour", 0.25, lens.colours),
        ("lens_letter", 0.5, lens.letters),
    ];
    for (name, share, list) in lists {
        let Some((rows, words)) = list else { continue };
        let hidden = models.final_norm(&flat.index_select(&rows, 0)?)?;
        let loss = cross_entropy(&models.vlm.logits(&hidden)?, &words)?;
        losses.add(name, weight * share, &loss)?;
    }
    Ok(())
}

/// Mean over heads and rows of what `surprise` says of the attention at the rows.
fn gaze_loss(
    gaze: &Gaze,
    heads: &[[usize; 2]],
    attention: &[(usize, Tensor)],
    surprise: impl Fn(&Gaze, &Tensor) -> candle_core::Result<Tensor>,
) -> Result<Option<Tensor>, Error> {
    let mut total: Option<Tensor> = None;
    for &[layer, head] in heads {
        let Some((_, weights)) = attention.iter().find(|(l, _)| *l == layer) else { continue };
        let weights = weights.narrow(1, head, 1)?.squeeze(1)?.contiguous()?; // (N, R, T)
        let rows = weights.flatten(0, 1)?.index_select(&gaze.rows, 0)?; // (R, T)
        let loss = (surprise(gaze, &rows)? * &gaze.weights)?.sum_all()?;
        total = Some(match total {
            Some(sum) => (sum + loss)?,
            None => loss,
        });
    }
    let share = 1.0 / heads.len().max(1) as f64;
    Ok(total.map(|sum| sum * share).transpose()?)
}
