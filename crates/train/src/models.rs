//! The networks of a run over the shared weights: the engine's `Vlm`, and beside it the text
//! tower and the region head that stage 0 trains.
//!
//! Weights of modules that a stage freezes are taken without their graph. This file is the only
//! one that knows how the engine's parts are put together.

use std::collections::{BTreeSet, HashMap};

use candle_core::Tensor;
use scenes::{Colour, classes};
use vlm::model::nn::RmsNorm;
use vlm::model::region_encoder::{RegionEncoder, RegionEncoderConfig};
use vlm::{Config, TensorMap, Vlm};

use crate::Error;
use crate::dialogue::Side;
use crate::grounding::Grid;
use crate::letters::{LETTERS, LetterHead};
use crate::parameters::{Parameters, module_of};
use crate::recipe::{Evidence, Recipe, Stage};
use crate::vocabulary::Speech;

/// Modules that lie beside the model, in its `region` folder.
pub(crate) const BESIDE: [&str; 2] = ["text_tower", "region_head"];
/// The module that teaches and is not shipped.
pub(crate) const TEACHER: &str = "letter_head";
/// As in the vision towers that ship with this layout.
const LAYER_NORM_EPS: f64 = 1e-6;

/// Everything that a stage computes with.
pub(crate) struct Models {
    pub(crate) vlm: Vlm,
    dual: RegionEncoder,
    pub(crate) letter_head: LetterHead,
    pub(crate) speech: Speech,
    evidence: Evidence,
    /// Patches of the vision encoder.
    pub(crate) patches: Grid,
    /// Image tokens of the decoder.
    pub(crate) tokens: Grid,
    /// Side of the pictures, pixels.
    pub(crate) image_size: u32,
    norm: RmsNorm,
    pub(crate) words: Words,
}

/// What image tokens are to say: the first token of each word.
pub(crate) struct Words {
    /// By class.
    pub(crate) names: Vec<u32>,
    pub(crate) colours: HashMap<Colour, u32>,
    pub(crate) letters: HashMap<char, u32>,
}

impl Words {
    fn new(speech: &Speech) -> Result<Self, Error> {
        let first = |text: String| -> Result<u32, Error> {
            Ok(speech.encode(&text)?.first().copied().unwrap_or(speech.pad))
        };
        let colour = |colour: Colour| Ok((colour, first(format!(" {}", colour.name()))?));
        let letter = |letter: char| Ok((letter, first(letter.to_string())?));
        Ok(Self {
            names: classes()
                .iter()
                .map(|c| first(format!(" {}", c.name)))
                .collect::<Result<_, _>>()?,
            colours: Colour::ALL.into_iter().map(colour).collect::<Result<_, Error>>()?,
            letters: LETTERS.chars().skip(1).map(letter).collect::<Result<_, Error>>()?,
        })
    }
}

/// Shape of the text tower and the region head beside a model.
pub(crate) fn dual_config(recipe: &Recipe, config: &Config) -> RegionEncoderConfig {
    let shape = &recipe.text_tower;
    RegionEncoderConfig {
        vocab_size: config.text_config.vocab_size,
        hidden_size: shape.hidden_size,
        intermediate_size: shape.intermediate_size,
        num_hidden_layers: shape.num_hidden_layers,
        num_attention_heads: shape.num_attention_heads,
        max_position_embeddings: shape.max_position_embeddings,
        projection_dim: shape.projection_dim,
        vision_hidden_size: config.vision_feature_size(),
        layer_norm_eps: LAYER_NORM_EPS,
    }
}

/// Names and shapes of every weight that a recipe trains.
pub(crate) fn parameter_shapes(
    recipe: &Recipe,
    config: &Config,
) -> Result<Vec<(String, Vec<usize>)>, Error> {
    let mut shapes = Vlm::parameter_shapes(config)?;
    shapes.extend(RegionEncoder::parameter_shapes(&dual_config(recipe, config))?);
    shapes.extend(LetterHead::parameter_shapes(config.vision_feature_size()));
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
        if config.vision_config.dynamic.is_some() {
            let reason =
                "pictures that keep their shape cannot be trained on; take a model of tiles";
            return Err(Error::Model(reason.into()));
        }
        let trained = |name: &str| {
            stage.is_some_and(|s| s.modules.get(module_of(name)).is_some_and(|&f| f > 0.0))
        };
        let (mut beside, mut rest) = (HashMap::new(), HashMap::new());
        let mut letters = Vec::new();
        let mut norm = None;
        for (name, tensor) in parameters.tensors(trained) {
            if name == "model.text_model.norm.weight" {
                norm = Some(tensor.clone());
            }
            match module_of(&name) {
                // In name order: bias, weight.
                TEACHER => letters.push(tensor),
                module if BESIDE.contains(&module) => _ = beside.insert(name, tensor),
                _ => _ = rest.insert(name, tensor),
            }
        }
        let [bias, weight] = <[Tensor; 2]>::try_from(letters)
            .map_err(|_| Error::Model("the letter head is missing".into()))?;
        let letter_head = LetterHead { weight, bias };
        let weight = norm.ok_or_else(|| Error::Model("the decoder has no final norm".into()))?;
        let dual = dual_config(recipe, config);
        let compute = recipe.compute();
        let image_size = config.vision_config.image_size;
        let speech = Speech::load(&recipe.model, config.tokens_per_tile())?;
        let words = Words::new(&speech)?;
        let side = |n: usize| (n as f64).sqrt().round() as usize;
        Ok(Self {
            vlm: Vlm::from_tensors(config, TensorMap::from(rest), compute)?,
            dual: RegionEncoder::from_tensors(&dual, TensorMap::from(beside), compute)?,
            letter_head,
            speech,
            evidence: recipe.evidence.clone(),
            patches: Grid::new(image_size, config.vision_config.patches_per_side()),
            tokens: Grid::new(image_size, side(config.tokens_per_tile())),
            image_size: image_size as u32,
            norm: RmsNorm { weight, eps: config.text_config.rms_norm_eps },
            words,
        })
    }

    /// Unit vectors `(U, E)` of some phrases; each is read with a space before it, as inside a
    /// sentence.
    pub(crate) fn embed_texts(&self, texts: &[String]) -> Result<Tensor, Error> {
        let phrases: Result<Vec<Vec<u32>>, Error> =
            texts.iter().map(|text| self.speech.encode(&format!(" {text}"))).collect();
        Ok(self.dual.embed_phrases(&phrases?)?)
    }

    /// Unit vectors of pooled vision features `(R, D_v)`.
    pub(crate) fn embed_regions(&self, features: &Tensor) -> Result<Tensor, Error> {
        Ok(self.dual.region_head.forward(features)?)
    }

    /// The learned inverse temperature, at most 100.
    pub(crate) fn logit_scale(&self) -> Result<Tensor, Error> {
        Ok(self.dual.region_head.scale()?)
    }

    /// The decoder's last norm on hidden states of any layer.
    pub(crate) fn final_norm(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        Ok(self.norm.forward(hidden)?)
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
