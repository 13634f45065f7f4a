//! The networks of a run over the shared weights: the engine's `Vlm`, and beside it the text
//! tower and the region head that stage 0 trains.
//!
//! Weights of modules that a stage freezes are taken without their graph. This file is the only
//! one that knows how the engine's parts are put together.

use std::collections::{BTreeSet, HashMap};

use candle_core::{Device, Tensor};
use scenes::{Colour, classes};
use vlm::model::dual_encoder::{DualEncoderConfig, RegionHead, TextTower};
use vlm::model::nn::RmsNorm;
use vlm::{Config, TensorMap, Vlm};

use crate::Error;
use crate::dialogue::Side;
use crate::grounding::Grid;
use crate::parameters::{Parameters, module_of};
use crate::recipe::{Evidence, Recipe, Stage};
use crate::vocabulary::Speech;

const TEXT_TOWER: &str = "text_tower.";
const REGION_HEAD: &str = "region_head.";

/// Everything that a stage computes with.
pub(crate) struct Models {
    pub(crate) vlm: Vlm,
    text_tower: TextTower,
    region_head: RegionHead,
    pub(crate) speech: Speech,
    evidence: Evidence,
    /// Patches of the vision encoder.
    pub(crate) patches: Grid,
    /// Image tokens of the decoder.
    pub(crate) tokens: Grid,
    /// Side of the pictures, pixels.
    pub(crate) image_size: u32,
    norm: RmsNorm,
    /// First token of each class's name.
    pub(crate) names: Vec<u32>,
    colours: HashMap<Colour, u32>,
    max_text: usize,
}

/// Shape of the text tower and the region head beside a model.
pub(crate) fn dual_config(recipe: &Recipe, config: &Config) -> DualEncoderConfig {
    let shape = &recipe.text_tower;
    DualEncoderConfig {
        vocab_size: config.text_config.vocab_size,
        hidden_size: shape.hidden_size,
        intermediate_size: shape.intermediate_size,
        num_hidden_layers: shape.num_hidden_layers,
        num_attention_heads: shape.num_attention_heads,
        max_position_embeddings: shape.max_position_embeddings,
        projection_dim: shape.projection_dim,
        vision_hidden_size: config.vision_feature_size(),
    }
}

/// Names and shapes of every weight that a recipe trains.
pub(crate) fn parameter_shapes(
    recipe: &Recipe,
    config: &Config,
) -> Result<Vec<(String, Vec<usize>)>, Error> {
    let dual = dual_config(recipe, config);
    let mut shapes = Vlm::parameter_shapes(config)?;
    for (prefix, more) in [
        (TEXT_TOWER, TextTower::parameter_shapes(&dual)?),
        (REGION_HEAD, RegionHead::parameter_shapes(&dual)?),
    ] {
        shapes.extend(more.into_iter().map(|(name, dims)| (format!("{prefix}{name}"), dims)));
    }
    Ok(shapes)
}

impl Models {
    /// Builds the networks; only the modules of `stage` get a graph (none without a stage).
    pub(crate) fn new(
        recipe: &Recipe,
        config: &Config,
        parameters: &Parameters,
        stage: Option<&Stage>,
    ) -> Result<Self, Error> {
        let trained = |name: &str| {
            stage.is_some_and(|s| s.modules.get(module_of(name)).is_some_and(|&f| f > 0.0))
        };
        let (mut text, mut head, mut rest) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut norm = None;
        for (name, tensor) in parameters.tensors(trained) {
            if name == "model.text_model.norm.weight" {
                norm = Some(tensor.clone());
            }
            if let Some(short) = name.strip_prefix(TEXT_TOWER) {
                text.insert(short.to_owned(), tensor);
            } else if let Some(short) = name.strip_prefix(REGION_HEAD) {
                head.insert(short.to_owned(), tensor);
            } else {
                rest.insert(name, tensor);
            }
        }
        let weight = norm.ok_or_else(|| Error::Model("the decoder has no final norm".into()))?;
        let dual = dual_config(recipe, config);
        let compute = recipe.compute();
        let image_size = config.vision_config.image_size;
        let speech = Speech::load(&recipe.model, config.tokens_per_tile())?;
        let names = first_tokens(&speech, classes().iter().map(|c| c.name))?;
        let colours = first_tokens(&speech, Colour::ALL.iter().map(|c| c.name()))?;
        let side = |n: usize| (n as f64).sqrt().round() as usize;
        Ok(Self {
            vlm: Vlm::from_tensors(config, TensorMap::from(rest), compute)?,
            text_tower: TextTower::from_tensors(&dual, TensorMap::from(text), compute)?,
            region_head: RegionHead::from_tensors(&dual, TensorMap::from(head), compute)?,
            speech,
            evidence: recipe.evidence.clone(),
            patches: Grid::new(image_size, config.vision_config.patches_per_side()),
            tokens: Grid::new(image_size, side(config.tokens_per_tile())),
            image_size: image_size as u32,
            norm: RmsNorm { weight, eps: config.text_config.rms_norm_eps },
            names,
            colours: Colour::ALL.into_iter().zip(colours).collect(),
            max_text: recipe.text_tower.max_position_embeddings,
        })
    }

    /// Unit vectors `(U, E)` of some phrases; each is read with a space before it, as inside a
    /// sentence.
    pub(crate) fn embed_texts(&self, texts: &[String]) -> Result<Tensor, Error> {
        let mut rows = Vec::with_capacity(texts.len());
        for text in texts {
            let mut ids = self.speech.encode(&format!(" {text}"))?;
            ids.truncate(self.max_text);
            rows.push(ids);
        }
        let (n, t) = (rows.len(), rows.iter().map(Vec::len).max().unwrap_or(1).max(1));
        let (mut ids, mut mask) = (vec![self.speech.pad; n * t], vec![0f32; n * t]);
        for (i, row) in rows.iter().enumerate() {
            ids[i * t..i * t + row.len()].copy_from_slice(row);
            mask[i * t..i * t + row.len()].fill(1.0);
        }
        let ids = Tensor::from_vec(ids, (n, t), &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, (n, t), &Device::Cpu)?;
        Ok(self.text_tower.forward(&ids, &mask)?)
    }

    /// Unit vectors of pooled vision features `(R, D_v)`.
    pub(crate) fn embed_regions(&self, features: &Tensor) -> Result<Tensor, Error> {
        Ok(self.region_head.forward(features)?)
    }

    /// The learned inverse temperature, at most 100.
    pub(crate) fn logit_scale(&self) -> Result<Tensor, Error> {
        Ok(self.region_head.scale()?)
    }

    /// The decoder's last norm on hidden states of any layer.
    pub(crate) fn final_norm(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        Ok(self.norm.forward(hidden)?)
    }

    /// First token of a colour's name.
    pub(crate) fn colour(&self, colour: Colour) -> u32 {
        self.colours.get(&colour).copied().unwrap_or(self.speech.pad)
    }

    /// Heads that are supervised at one kind of row.
    pub(crate) fn heads(&self, side: Side) -> &[[usize; 2]] {
        match side {
            Side::Question => &self.evidence.question,
            Side::Answer => &self.evidence.answer,
        }
    }

    /// Layers with a supervised head.
    pub(crate) fn supervised_layers(&self) -> BTreeSet<usize> {
        self.evidence.question.iter().chain(&self.evidence.answer).map(|h| h[0]).collect()
    }
}

fn first_tokens<'a>(
    speech: &Speech,
    words: impl Iterator<Item = &'a str>,
) -> Result<Vec<u32>, Error> {
    words
        .map(|word| Ok(speech.encode(&format!(" {word}"))?.first().copied().unwrap_or(speech.pad)))
        .collect()
}
