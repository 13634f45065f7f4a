//! The model: images to embeddings, embeddings to hidden states, hidden states to logits.
//!
//! One forward pass serves chat, evidence, training and evaluation. It knows tensors only: no
//! images as files, no text, no sampling.
//!
//! Shapes: `N` tiles, `C` channels, `S` side, `P` patches, `D_v` width of the vision features,
//! `T_img` tokens of a tile, `B` batch, `T` tokens, `D` hidden size, `V` vocabulary, `k` deepstack
//! layers.

pub mod nn;

pub mod attention;
mod encoder_layer;
mod gate;
mod loader;
mod mlp;
mod rotary;

mod cross_attention;
pub mod kv_cache;
pub mod language_model;
mod overlay;
mod packing;
pub mod projector;
pub mod q_former;
pub mod region_encoder;
pub(crate) mod tensor_names;
pub mod towers;
pub mod vision_encoder;

use std::path::Path;

use candle_core::{D, Device, Tensor};

use crate::checkpoint::Checkpoint;
use crate::config::{Config, VisionKind};
use crate::error::{Context, Error};
use crate::probe::Probe;
use crate::processor::ImageSpan;
use crate::weights::TensorMap;
use crate::weights::packed::{PackedFile, Quantization};
use kv_cache::KvCache;
use language_model::LanguageModel;
use loader::Loader;
use nn::Compute;
pub use overlay::{LoadOptions, Overlay};
use projector::{Projected, Projector};
use tensor_names::TensorNames;
use vision_encoder::VisionEncoder;

/// Which keys a query may see.
#[derive(Clone, Copy)]
pub enum Mask<'a> {
    /// Those at or before its own position (within the sliding window, where there is one).
    Causal,
    /// Scores are added, `(B|1, 1, T, S)`: 0 to see, `attention::MASKED` to hide.
    Additive(&'a Tensor),
    /// The same, and another one for the layers that see through a sliding window.
    Windowed { full: &'a Tensor, windowed: &'a Tensor },
}

/// Where the new tokens stand.
#[derive(Clone, Copy)]
pub enum Positions<'a> {
    /// One after another from this position.
    From(usize),
    /// Each its own, `(B, T)` u32, or `(3, B, T)`: time, height and width.
    Ids(&'a Tensor),
}

/// A vision-language model.
pub struct Vlm {
    pub config: Config,
    /// `None` in a model that reads text only.
    pub eyes: Option<Eyes>,
    pub language_model: LanguageModel,
}

/// The parts that make picture tokens.
pub struct Eyes {
    pub vision_encoder: VisionEncoder,
    pub projector: Projector,
    /// Ends rows of picture tokens, `(D)`; in families that have such ends.
    pub image_newline: Option<Tensor>,
}

impl Vlm {
    /// Loads a model ([`Checkpoint::open`] says where it may be), in f32.
    ///
    /// Errors: unsupported family; weights missing, damaged or not fitting `config.json`, with
    /// every tensor named.
    pub fn load(dir: &Path, device: &Device) -> Result<Vlm, Error> {
        Self::load_with(dir, LoadOptions::on(device))
    }

    /// Whether the weights of a model are whole and fit its `config.json`, unread.
    ///
    /// Errors: as [`Vlm::load`].
    pub fn check(dir: &Path) -> Result<(), Error> {
        let config = Config::load(dir)?;
        let mut tensors = Checkpoint::open(dir)?.tensors(&Device::Cpu)?;
        let tied = config.tensor_names().adopt(&config, &mut tensors);
        let mut plan = Loader::new(tensors.dry(), Compute::F32).quantized(Quantization::Q8_0, None);
        Self::build(&config, &mut plan, tied)?;
        plan.finish()
    }

    /// As [`Vlm::load`] with weights packed as `quantization` says. The packed form is kept in
    /// the folder `cache` and mapped from there the next time; without one it is made in memory.
    ///
    /// Errors: as [`Vlm::load`]; a device other than the CPU computes in its own precision only.
    pub fn load_quantized(
        dir: &Path,
        device: &Device,
        quantization: Quantization,
        cache: Option<&Path>,
    ) -> Result<Vlm, Error> {
        // Weights of so few bits lose nothing more to bf16 that would be seen (see
        // `eval quantization`), and tiles of it are several times as fast.
        let compute = match (quantization, kernels::level()) {
            (Quantization::Q8_0 | Quantization::Q4_0, kernels::Level::Amx) => Compute::Bf16,
            _ => Compute::F32,
        };
        let options = LoadOptions { quantization, cache, compute, ..LoadOptions::on(device) };
        Self::load_with(dir, options)
    }

    /// As [`Vlm::load_quantized`], with something laid over the checkpoint's weights.
    ///
    /// Errors: as there; tensors of the overlay that the model has no place for.
    pub fn load_with(dir: &Path, options: LoadOptions) -> Result<Vlm, Error> {
        let LoadOptions { device, quantization, cache, compute, overlay } = options;
        let config = Config::load(dir)?;
        let open = || {
            let mut tensors = Checkpoint::open(dir)?.tensors(device)?;
            let tied = config.tensor_names().adopt(&config, &mut tensors);
            overlay.lay_over(&mut tensors);
            Ok::<_, Error>((tensors, tied))
        };
        let loader = |tensors, compute| Loader::new(tensors, compute).adapted(overlay.scales());
        let (tensors, tied) = open()?;
        if quantization == Quantization::None {
            return Self::finished(&config, loader(tensors, compute), tied);
        }
        if !device.is_cpu() {
            let reason = "packed weights run on the CPU only; load the model unpacked".into();
            return Err(Error::Device { device: crate::device::name(device).into(), reason });
        }
        // Everything that can be wrong with the files shows before the long work begins.
        let key = tensors.fingerprint();
        let mut plan = loader(tensors.dry(), compute).quantized(quantization, None);
        Self::build(&config, &mut plan, tied)?;
        let matrices = std::mem::take(&mut plan.matrices);
        plan.finish()?;
        let packed = PackedFile::open_or_make(cache, &key, &matrices, || Ok(open()?.0))?;
        let loader = loader(open()?.0, compute).quantized(quantization, Some(packed));
        Self::finished(&config, loader, tied)
    }

    fn finished(config: &Config, mut loader: Loader, tied: bool) -> Result<Vlm, Error> {
        let vlm = Self::build(config, &mut loader, tied)?;
        loader.finish()?;
        Ok(vlm)
    }

    /// Builds the model from named tensors, which it keeps as they are: variables stay linked, and
    /// a change made to one in place is seen by the next forward pass.
    pub fn from_tensors(
        config: &Config,
        tensors: TensorMap,
        compute: Compute,
    ) -> Result<Vlm, Error> {
        Self::from_tensors_with(config, tensors, compute, &Overlay::default())
    }

    /// The same with something laid over them; models of the same tensors share them.
    /// Errors: as [`Vlm::load_with`].
    pub fn from_tensors_with(
        config: &Config,
        mut tensors: TensorMap,
        compute: Compute,
        overlay: &Overlay,
    ) -> Result<Vlm, Error> {
        let tied = config.tensor_names().adopt(config, &mut tensors);
        overlay.lay_over(&mut tensors);
        Self::finished(config, Loader::new(tensors, compute).adapted(overlay.scales()), tied)
    }

    /// Where the weights live.
    pub fn device(&self) -> &Device {
        self.language_model.embed_tokens.weight.device()
    }

    /// Every parameter's name, as in the Hugging Face checkpoint, and shape.
    pub fn parameter_shapes(config: &Config) -> Result<Vec<(String, Vec<usize>)>, Error> {
        let mut recorder = Loader::recorder();
        let tied = config.tensor_names().is_tied(config, None);
        Self::build(config, &mut recorder, tied)?;
        Ok(recorder.asked)
    }

    /// Some weights, by the names of [`Vlm::parameter_shapes`], in f32. Errors: as [`Vlm::load`].
    pub fn weights(
        dir: &Path,
        device: &Device,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, Tensor)>, Error> {
        let config = Config::load(dir)?;
        let mut tensors = Checkpoint::open(dir)?.tensors(device)?;
        config.tensor_names().adopt(&config, &mut tensors);
        let shapes = Self::parameter_shapes(&config)?.into_iter();
        let weights = shapes.filter(|(name, _)| wanted(name)).map(|(name, dims)| {
            let tensor = tensors.take(&name, &dims)?;
            Ok((name, tensor))
        });
        let weights = weights.collect::<Result<_, Error>>()?;
        tensors.finish_part()?;
        Ok(weights)
    }

    /// Bytes that the weights of such a model take in memory on a CPU.
    pub fn weight_bytes(config: &Config, quantization: Quantization) -> Result<usize, Error> {
        let mut recorder = Loader::recorder().quantized(quantization, None);
        let tied = config.tensor_names().is_tied(config, None);
        Self::build(config, &mut recorder, tied)?;
        Ok(recorder.bytes())
    }

    fn build(config: &Config, loader: &mut Loader, tied: bool) -> Result<Vlm, Error> {
        let family = config.tensor_names();
        let names = (family.language_model, family.lm_head);
        let eyes = config.sees().then(|| Eyes::load(loader, family, config));
        Ok(Vlm {
            config: config.clone(),
            eyes: eyes.transpose()?,
            language_model: LanguageModel::load(loader, names, &config.text_config, tied)?,
        })
    }

    /// Errors: a model that reads text only.
    fn eyes(&self) -> Result<&Eyes, Error> {
        self.eyes.as_ref().ok_or(Error::TextOnly)
    }

    /// `pixel_values (N, C, S, S)` → what the projector receives, `(N, P, D_v)`.
    ///
    /// Idefics3 and SmolVLM pad a batch with tiles of zeros; those are left out, as in
    /// `get_image_features`, so `N` may shrink.
    pub fn vision_features(&self, pixel_values: &Tensor) -> Result<Tensor, Error> {
        if self.config.vision_config.kind == VisionKind::Idefics3 {
            let real = without_padding_tiles(pixel_values)?;
            return self.eyes()?.vision_encoder.forward(&real, None);
        }
        let layers = &self.config.vision_feature_layer;
        let encoder = &self.eyes()?.vision_encoder;
        if layers.is_empty() {
            return encoder.forward(pixel_values, None);
        }
        let mut states = encoder.hidden_states(pixel_values, layers)?;
        if self.config.vision_feature_select_strategy == crate::config::SelectStrategy::Default {
            for state in &mut states {
                *state = state.narrow(1, 1, state.dim(1)? - 1)?.contiguous()?;
            }
        }
        match states.as_slice() {
            [one] => Ok(one.clone()),
            several => Ok(Tensor::cat(several, D::Minus1)?),
        }
    }

    /// The same for the pictures of `spans`, which say how those that keep their shape lie in
    /// `pixel_values (P, values of a patch)` → `(P, D_v)`, in the order of the tower's windows; and
    /// on what canvases tiles lie that see each other. Such pictures are filled up with empty
    /// tiles, so `N` may grow.
    pub fn picture_features(
        &self,
        pixel_values: &Tensor,
        spans: &[ImageSpan],
    ) -> Result<Tensor, Error> {
        if self.config.vision_config.tiles.is_some() {
            let canvases = packing::canvases(spans);
            return self.eyes()?.vision_encoder.tiled_features(pixel_values, &canvases);
        }
        if self.config.vision_config.dynamic.is_none() {
            return self.vision_features(pixel_values);
        }
        let n_patches: usize = spans.iter().map(ImageSpan::n_rows).sum();
        if pixel_values.rank() != 2 || pixel_values.dims()[0] != n_patches {
            let (tensor, found) = ("pixel_values", pixel_values.dims().to_vec());
            return Err(Error::Shape { tensor, expected: format!("({n_patches}, …)"), found });
        }
        let eyes = self.eyes()?;
        let mut first = 0;
        let picture = |span: &ImageSpan| {
            let patches = pixel_values.narrow(0, first, span.n_rows())?;
            first += span.n_rows();
            eyes.vision_encoder.forward_patches(&patches, span.grid)
        };
        let features: Vec<Tensor> = spans.iter().map(picture).collect::<Result<_, _>>()?;
        match features.as_slice() {
            [one] => Ok(one.clone()),
            several => Ok(Tensor::cat(several, 0)?),
        }
    }

    /// `vision_features (N, P, D_v)` → `image_embeds (N, T_img, D)`; of pictures that keep their
    /// shape `(P, D_v)` → `(T_img, D · (1 + k))`
    pub fn project(&self, vision_features: &Tensor) -> Result<Tensor, Error> {
        Ok(self.project_for(vision_features, &[])?.image_embeds)
    }

    /// The same for a question, `Inputs::qformer_input_ids`, which only InstructBLIP reads; and
    /// what each token looked at, where it has no place of its own.
    pub fn project_for(
        &self,
        vision_features: &Tensor,
        qformer_input_ids: &[u32],
    ) -> Result<Projected, Error> {
        let width = self.config.vision_feature_size();
        let (rank, expected) = match self.config.vision_config.dynamic {
            None => (3, format!("(N, P, {width})")),
            Some(_) => (2, format!("(P, {width})")),
        };
        let found = vision_features.dims();
        if found.len() != rank || found.last() != Some(&width) {
            let (tensor, found) = ("vision_features", found.to_vec());
            return Err(Error::Shape { tensor, expected, found });
        }
        self.eyes()?.projector.forward(vision_features, qformer_input_ids)
    }

    /// `pixel_values (N, C, S, S)` → `image_embeds (N, T_img, D)`, each tile for itself;
    /// [`Vlm::pack`] makes picture tokens of them.
    pub fn encode_images(&self, pixel_values: &Tensor) -> Result<Tensor, Error> {
        self.project(&self.vision_features(pixel_values)?)
    }

    /// `input_ids (B, T)` u32 → `(B, T, D)`. Errors on an id outside the vocabulary.
    pub fn embed_tokens(&self, input_ids: &Tensor) -> Result<Tensor, Error> {
        let input_ids = input_ids.to_dtype(candle_core::DType::U32)?;
        self.check_ids(&input_ids.flatten_all()?.to_vec1::<u32>()?)?;
        Ok(self.language_model.embed_tokens.forward(&input_ids)?)
    }

    /// Token embeddings with the k-th image token replaced by the k-th row of `image_embeds`
    /// `(N, T_img, D)` or `(image tokens, D)` → `inputs_embeds (1, T, D)`; `D · (1 + k)` wide with
    /// deepstack, zeros beside words.
    ///
    /// Errors: as many image tokens as rows are needed; ids outside the vocabulary.
    pub fn merge(&self, input_ids: &[u32], image_embeds: &Tensor) -> Result<Tensor, Error> {
        self.merge_batch(input_ids, 1, image_embeds)
    }

    /// The same for a batch: `input_ids (B · T)` row after row → `(B, T, D)`. Image rows are used
    /// up in the order of the batch.
    pub fn merge_batch(
        &self,
        input_ids: &[u32],
        batch: usize,
        image_embeds: &Tensor,
    ) -> Result<Tensor, Error> {
        let image_token = self.config.image_token_id;
        let d = self.config.image_embed_size();
        let rows = image_embeds.reshape(((), d)).map_err(|_| Error::Shape {
            tensor: "image_embeds",
            expected: format!("(N, T_img, {d})"),
            found: image_embeds.dims().to_vec(),
        })?; // (N · T_img, D)
        let is_image = |id: &&u32| **id == image_token;
        let n_image_tokens = input_ids.iter().filter(is_image).count();
        if n_image_tokens != rows.dim(0)? {
            return Err(Error::ImageTokens { tokens: n_image_tokens, embeds: rows.dim(0)? });
        }
        // The image token may lie outside the embedding's rows: look up only the words.
        let words: Vec<u32> = input_ids.iter().copied().filter(|&id| id != image_token).collect();
        self.check_ids(&words)?;
        let (mut next_word, mut next_image) = (0u32, words.len() as u32);
        let source = input_ids.iter().map(|&id| {
            let next = if id == image_token { &mut next_image } else { &mut next_word };
            *next += 1;
            *next - 1
        });
        let source: Vec<u32> = source.collect();
        let device = rows.device().clone();
        let mut parts = Vec::with_capacity(2);
        if !words.is_empty() {
            let words = Tensor::from_slice(&words, words.len(), &device)?;
            let words = self.language_model.embed_tokens.forward(&words)?;
            let beside = d - words.dim(1)?;
            parts.push(if beside == 0 { words } else { words.pad_with_zeros(1, 0, beside)? });
        }
        parts.push(rows);
        let all = Tensor::cat(&parts, 0)?; // (words + images, D)
        let n = source.len();
        let merged = all.index_select(&Tensor::from_vec(source, n, &device)?, 0)?;
        merged.reshape((batch, n / batch.max(1), d)).context("merging images into the prompt")
    }

    /// `inputs_embeds (B, T, D)` → hidden states after the final norm, `(B, T, D)`.
    ///
    /// With a cache the new tokens follow those it holds, and it grows by `T`. The probe keeps
    /// what it was asked for; it changes nothing.
    pub fn forward(
        &self,
        inputs_embeds: &Tensor,
        positions: &Positions,
        mask: &Mask,
        cache: Option<&mut KvCache>,
        probe: &mut Probe,
    ) -> Result<Tensor, Error> {
        let n_past = cache.as_ref().map_or(0, |cache| cache.len());
        self.check_forward(inputs_embeds, positions, mask, n_past)?;
        self.language_model.forward(inputs_embeds, (positions, mask), cache, probe)
    }

    /// `hidden (…, D)` → `logits (…, V)`
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        let d = self.config.text_config.hidden_size;
        if hidden.dims().last() != Some(&d) {
            let expected = format!("(…, {d})");
            return Err(Error::Shape { tensor: "hidden", expected, found: hidden.dims().to_vec() });
        }
        self.language_model.logits(hidden)
    }

    fn check_ids(&self, input_ids: &[u32]) -> Result<(), Error> {
        let vocab_size = self.config.text_config.n_embeddings();
        match input_ids.iter().find(|&&id| id as usize >= vocab_size) {
            None => Ok(()),
            Some(&id) => Err(Error::TokenId { id, vocab_size }),
        }
    }

    fn check_forward(
        &self,
        inputs_embeds: &Tensor,
        positions: &Positions,
        mask: &Mask,
        n_past: usize,
    ) -> Result<(), Error> {
        let d = self.config.text_config.hidden_size;
        let wrong = |tensor, expected, found: &Tensor| {
            Err(Error::Shape { tensor, expected, found: found.dims().to_vec() })
        };
        let wide = self.config.image_embed_size();
        let (b, t) = match inputs_embeds.dims3() {
            Ok((b, t, found)) if (found == d || found == wide) && t > 0 => (b, t),
            _ => return wrong("inputs_embeds", format!("(B, T, {d})"), inputs_embeds),
        };
        if let Positions::Ids(ids) = positions
            && !matches!(ids.dims(), [n, m] | [3, n, m] if (*n == b || *n == 1) && *m == t)
        {
            return wrong("position_ids", format!("({b}, {t}) or (3, {b}, {t})"), ids);
        }
        let masks = match mask {
            Mask::Causal => [None, None],
            Mask::Additive(mask) => [Some(mask), None],
            Mask::Windowed { full, windowed } => [Some(full), Some(windowed)],
        };
        for mask in masks.into_iter().flatten() {
            let s = n_past + t;
            if mask.dims() != [b, 1, t, s] && mask.dims() != [1, 1, t, s] {
                return wrong("attention_mask", format!("({b} or 1, 1, {t}, {s})"), mask);
            }
        }
        Ok(())
    }
}

impl Eyes {
    fn load(loader: &mut Loader, family: &TensorNames, config: &Config) -> Result<Self, Error> {
        let vision = &config.vision_config;
        let d = config.text_config.hidden_size;
        let newline = family.image_newline.map(|name| loader.tensor(name, &[d]));
        Ok(Eyes {
            vision_encoder: VisionEncoder::load(loader, family.vision_encoder, vision)?,
            projector: Projector::load(loader, family.projector, config)?,
            image_newline: newline.transpose()?,
        })
    }
}

/// Leaves out the tiles whose every value is zero; keeps the first if all are.
fn without_padding_tiles(pixel_values: &Tensor) -> Result<Tensor, Error> {
    if pixel_values.rank() != 4 || pixel_values.elem_count() == 0 {
        return Ok(pixel_values.clone()); // the encoder says what is wrong with it
    }
    let largest = pixel_values.flatten_from(1)?.abs()?.max(1)?.to_vec1::<f32>()?;
    let all = 0..largest.len() as u32;
    let mut real: Vec<u32> = all.filter(|&i| largest[i as usize] != 0.0).collect();
    if real.len() == largest.len() {
        return Ok(pixel_values.clone());
    }
    if real.is_empty() {
        real.push(0);
    }
    let n = real.len();
    let real = Tensor::from_vec(real, n, pixel_values.device())?;
    Ok(pixel_values.index_select(&real, 0)?)
}
