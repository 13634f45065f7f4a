//! Contrast between what a picture shows and what words say: boxes against phrases, patches
//! against phrases, whole pictures against captions, both directions where both make sense.
//!
//! It follows CLIP's symmetric loss with regions in RegionCLIP's manner. It does not know the
//! towers; it is given embeddings of unit length. `R` regions, `U` phrases, `E` shared width.

use candle_core::{D, Device, Tensor};
use candle_nn::ops::log_softmax;
use scenes::{Colour, Object, Scene, classes};

use crate::Error;
use crate::grounding::Grid;
use crate::parameters::Random;

/// A phrase as a class and perhaps a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Phrase {
    pub(crate) class: usize,
    pub(crate) colour: Option<Colour>,
}

impl Phrase {
    /// "red car", "dog".
    pub(crate) fn text(&self) -> String {
        let name = classes()[self.class].name;
        self.colour.map_or_else(|| name.to_owned(), |c| format!("{} {name}", c.name()))
    }

    /// Whether both could be said of one object.
    fn may_mean(&self, other: &Self) -> bool {
        self.class == other.class
            && (self.colour.is_none() || other.colour.is_none() || self.colour == other.colour)
    }
}

/// Regions of a batch, the phrases said of them, and which is which.
pub(crate) struct Contrast {
    /// The distinct phrases.
    pub(crate) phrases: Vec<Phrase>,
    /// `(R, N × P)`, each row adding up to 1 over the patches under a box.
    pub(crate) pooling: Tensor,
    /// `(R,)` index of the phrase of each region.
    targets: Tensor,
    /// `(R, U)`, minus infinity where a phrase other than the target is true as well.
    ambiguous: Tensor,
    /// `(R, U)`, 0 at the target, else minus infinity.
    only_target: Tensor,
    /// `(K,)` flat patches with an owner, and `(K,)` the region that owns each.
    patches: Option<(Tensor, Tensor)>,
}

impl Contrast {
    /// Collects the regions of some scenes; a coloured object is called by its plain name half
    /// of the time. `None` when nothing is in sight.
    pub(crate) fn new(
        scenes: &[Scene],
        grid: Grid,
        random: &mut Random,
    ) -> Result<Option<Self>, Error> {
        let mut phrases: Vec<Phrase> = Vec::new();
        let (mut pooling, mut said, mut truth) = (Vec::new(), Vec::new(), Vec::new());
        let (mut patches, mut owners) = (Vec::new(), Vec::new());
        let width = scenes.len() * grid.len();
        for (i, scene) in scenes.iter().enumerate() {
            let first = said.len() as u32;
            for object in &scene.objects {
                let phrase = choose(object, random);
                said.push(index_of(&mut phrases, phrase));
                truth.push(Phrase { class: object.class, colour: object.colour });
                let start = pooling.len();
                pooling.resize(start + width, 0f32);
                let own = &mut pooling[start + i * grid.len()..][..grid.len()];
                own.copy_from_slice(&grid.pooling(object));
            }
            for (cell, owner) in grid.owners(&scene.objects).into_iter().enumerate() {
                if let Some(owner) = owner {
                    patches.push((i * grid.len() + cell) as u32);
                    owners.push(first + owner as u32);
                }
            }
        }
        if said.is_empty() {
            return Ok(None);
        }
        let (r, u) = (said.len(), phrases.len());
        let none = f32::NEG_INFINITY;
        let (mut ambiguous, mut only_target) = (vec![0f32; r * u], vec![none; r * u]);
        for (row, (&target, truth)) in said.iter().zip(&truth).enumerate() {
            for (col, phrase) in phrases.iter().enumerate() {
                if col == target as usize {
                    only_target[row * u + col] = 0.0;
                } else if truth.may_mean(phrase) {
                    ambiguous[row * u + col] = none;
                }
            }
        }
        let cpu = &Device::Cpu;
        let patches = match patches.is_empty() {
            true => None,
            false => Some((Tensor::new(patches, cpu)?, Tensor::new(owners, cpu)?)),
        };
        Ok(Some(Self {
            phrases,
            pooling: Tensor::from_vec(pooling, (r, width), cpu)?,
            targets: Tensor::new(said, cpu)?,
            ambiguous: Tensor::from_vec(ambiguous, (r, u), cpu)?,
            only_target: Tensor::from_vec(only_target, (r, u), cpu)?,
            patches,
        }))
    }

    /// Symmetric loss between regions `(R, E)` and phrases `(U, E)`, and the part of regions
    /// whose own phrase is the closest.
    pub(crate) fn region_loss(
        &self,
        regions: &Tensor,
        phrases: &Tensor,
        scale: &Tensor,
    ) -> Result<(Tensor, f64), Error> {
        let logits = regions.matmul(&phrases.t()?)?.broadcast_mul(scale)?; // (R, U)
        let logits = (logits + finite(&self.ambiguous)?)?;
        let to_phrase = pick(&logits, &self.targets)?.mean_all()?;
        // A phrase said of several regions is to find any of them.
        let among_own = (&logits + finite(&self.only_target)?)?.log_sum_exp(0)?;
        let to_region = (logits.log_sum_exp(0)? - among_own)?.mean_all()?;
        let right = logits.argmax(D::Minus1)?.eq(&self.targets)?;
        let top1 = right.to_dtype(candle_core::DType::F32)?.mean_all()?.to_scalar::<f32>()?;
        Ok((((to_phrase + to_region)? * 0.5)?, f64::from(top1)))
    }

    /// Loss of single patches `(N × P, E)` against the phrases, where an object covers them.
    pub(crate) fn patch_loss(
        &self,
        patches: &Tensor,
        phrases: &Tensor,
        scale: &Tensor,
    ) -> Result<Option<Tensor>, Error> {
        let Some((rows, owners)) = &self.patches else { return Ok(None) };
        let logits = patches.index_select(rows, 0)?.matmul(&phrases.t()?)?;
        let ambiguous = finite(&self.ambiguous)?.index_select(owners, 0)?;
        let logits = (logits.broadcast_mul(scale)? + ambiguous)?;
        let targets = self.targets.index_select(owners, 0)?;
        Ok(Some(pick(&logits, &targets)?.mean_all()?))
    }
}

/// Symmetric loss between pictures and captions, both `(N, E)`, pair by pair.
pub(crate) fn caption_loss(
    pictures: &Tensor,
    captions: &Tensor,
    scale: &Tensor,
) -> Result<Tensor, Error> {
    let logits = pictures.matmul(&captions.t()?)?.broadcast_mul(scale)?;
    let n = logits.dim(0)?;
    let own = Tensor::arange(0u32, n as u32, &Device::Cpu)?;
    let there = pick(&logits, &own)?.mean_all()?;
    let back = pick(&logits.t()?.contiguous()?, &own)?.mean_all()?;
    Ok(((there + back)? * 0.5)?)
}

/// Minus the log-probability of each row's target.
fn pick(logits: &Tensor, targets: &Tensor) -> Result<Tensor, Error> {
    let log_probs = log_softmax(logits, D::Minus1)?;
    Ok(log_probs.gather(&targets.unsqueeze(1)?, 1)?.squeeze(1)?.neg()?)
}

/// Minus infinity as a number that arithmetic survives.
fn finite(mask: &Tensor) -> Result<Tensor, Error> {
    Ok(mask.clamp(-1e4f32, 0f32)?)
}

fn choose(object: &Object, random: &mut Random) -> Phrase {
    let plain = random.uniform() < 0.5;
    Phrase { class: object.class, colour: object.colour.filter(|_| !plain) }
}

fn index_of(phrases: &mut Vec<Phrase>, phrase: Phrase) -> u32 {
    let found = phrases.iter().position(|p| *p == phrase);
    found.unwrap_or_else(|| {
        phrases.push(phrase);
        phrases.len() - 1
    }) as u32
}
