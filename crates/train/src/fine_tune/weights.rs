//! What a fine-tuning moves: the variables, the model over them, and what becomes of them.
//!
//! It knows no examples and no optimiser.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{D, Device, Tensor, Var};
use vlm::{Config, LoadOptions, Lora, Overlay, Quantization, TensorMap, Vlm};

use super::recipe::FineTune;
use crate::Error;
use crate::optimizer::{Group, Rule};
use crate::parameters::{Parameters, Random, hash};

const DOWN: &str = ".lora_A.weight";
const UP: &str = ".lora_B.weight";
const MAGNITUDE: &str = ".lora_magnitude_vector";

/// The weights that a fine-tuning stands on, read once and shared by every model over them.
pub struct Base {
    config: Config,
    /// By name; none where they are packed, which are mapped and so shared anyway.
    dense: Option<HashMap<String, Tensor>>,
}

impl Base {
    /// # Errors
    /// A model that cannot be read.
    pub fn load(recipe: &FineTune, config: &Config) -> Result<Self, Error> {
        let dense = match recipe.quantization {
            Quantization::None => {
                let all = Vlm::weights(&recipe.model, &Device::Cpu, |_| true)?;
                Some(all.into_iter().collect())
            }
            _ => None,
        };
        Ok(Base { config: config.clone(), dense })
    }

    /// The model with something laid over it.
    fn under(
        &self,
        recipe: &FineTune,
        cache: Option<&Path>,
        overlay: &Overlay,
    ) -> Result<Vlm, Error> {
        if let Some(dense) = &self.dense {
            let tensors = TensorMap::from(dense.clone());
            let compute = recipe.compute();
            return Ok(Vlm::from_tensors_with(&self.config, tensors, compute, overlay)?);
        }
        let options = LoadOptions {
            quantization: recipe.quantization,
            cache,
            compute: recipe.compute(),
            overlay,
            ..LoadOptions::on(&Device::Cpu)
        };
        Ok(Vlm::load_with(&recipe.model, options)?)
    }
}

/// Variables by name: an adapter's by [`Lora::tensors`], a part's own by the checkpoint's.
pub struct Learned {
    pub parameters: Parameters,
    rank: usize,
    scale: f64,
}

impl Learned {
    /// The variables of a recipe as they are before the first step: adapters change nothing yet
    /// (A uniform within ±1/√in, B zero, magnitudes those of the weights, as `peft` begins).
    ///
    /// # Errors
    /// A model that cannot be read, or that no layer or weight of is named.
    pub fn start(recipe: &FineTune, config: &Config) -> Result<Self, Error> {
        let mut vars = BTreeMap::new();
        let mut add = |name: String, tensor: Tensor| -> Result<(), Error> {
            vars.insert(name, Var::from_tensor(&tensor.contiguous()?)?);
            Ok(())
        };
        let layers = adapted(recipe, config)?;
        for (layer, [n_out, n_in]) in &layers {
            let mut random = Random::new(recipe.seed ^ hash(layer));
            let bound = 1.0 / (*n_in as f64).sqrt();
            let down =
                (0..recipe.rank * n_in).map(|_| ((2.0 * random.uniform() - 1.0) * bound) as f32);
            let down = Tensor::from_iter(down, &Device::Cpu)?.reshape((recipe.rank, *n_in))?;
            add(format!("{layer}{DOWN}"), down)?;
            let up = Tensor::zeros((*n_out, recipe.rank), candle_core::DType::F32, &Device::Cpu)?;
            add(format!("{layer}{UP}"), up)?;
        }
        let own = |name: &str| recipe.train.contains(&config.part_of(name));
        let lengths = |name: &str| {
            let layer = name.strip_suffix(".weight");
            recipe.dora && layer.is_some_and(|layer| layers.iter().any(|(known, _)| known == layer))
        };
        for (name, tensor) in
            Vlm::weights(&recipe.model, &Device::Cpu, |name| own(name) || lengths(name))?
        {
            match lengths(&name) {
                true => {
                    let layer = name.strip_suffix(".weight").unwrap_or(&name);
                    let length = tensor.sqr()?.sum(D::Minus1)?.sqrt()?;
                    add(format!("{layer}{MAGNITUDE}"), length)?;
                }
                false => add(name, tensor)?,
            }
        }
        if vars.is_empty() {
            let reason = "adapt, train, targets: no layer of this model is named by them";
            return Err(Error::Model(reason.into()));
        }
        let (rank, scale) = (recipe.rank, recipe.alpha / recipe.rank as f64);
        let learned = Learned { parameters: Parameters { vars }, rank, scale };
        if let Some(folder) = &recipe.start {
            learned.go_on_from(folder, config)?;
        }
        Ok(learned)
    }

    /// Sets the adapter to one that was kept, which must change the same layers.
    fn go_on_from(&self, folder: &Path, config: &Config) -> Result<(), Error> {
        let known = Lora::read(folder, config)?;
        let (own, _) = self.parts(Var::as_detached_tensor);
        let unfit = |what: &str| {
            Error::Model(format!("start: {}: {what} is not the recipe's", folder.display()))
        };
        if (known.scale - own.scale).abs() > 1e-9 || known.rank != own.rank {
            return Err(unfit("its rank or alpha"));
        }
        if known.tensors.len() != own.tensors.len() {
            return Err(unfit("the number of its layers"));
        }
        for (name, tensor) in &known.tensors {
            match self.parameters.vars.get(name) {
                Some(var) if var.dims() == tensor.dims() => var.set(tensor)?,
                _ => return Err(unfit(name)),
            }
        }
        Ok(())
    }

    /// Names and shapes, for a checkpoint to fit.
    pub(crate) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let vars = self.parameters.vars.iter();
        vars.map(|(name, var)| (name.clone(), var.dims().to_vec())).collect()
    }

    /// The adapter, and weights of the model's own, as `view` gives them.
    fn parts(&self, view: impl Fn(&Var) -> Tensor) -> (Lora, Vec<(String, Tensor)>) {
        let is_adapter = |name: &str| [DOWN, UP, MAGNITUDE].iter().any(|end| name.ends_with(end));
        let vars = self.parameters.vars.iter().map(|(name, var)| (name.clone(), view(var)));
        let (tensors, own): (Vec<_>, Vec<_>) = vars.partition(|(name, _)| is_adapter(name));
        let tensors = tensors.into_iter().collect();
        (Lora { scale: self.scale, rank: self.rank, tensors }, own)
    }

    /// The adapter as it is now; `None` where a recipe trains none.
    #[must_use]
    pub fn lora(&self) -> Option<Lora> {
        Some(self.parts(Var::as_detached_tensor).0).filter(|lora| !lora.tensors.is_empty())
    }

    /// Weights of the model's own that moved, as they are now.
    #[must_use]
    pub fn own(&self) -> Vec<(String, Tensor)> {
        self.parts(Var::as_detached_tensor).1
    }

    /// The model over the variables; gradients reach them where `taught`.
    ///
    /// # Errors
    /// As [`Vlm::load_with`].
    pub fn model(
        &self,
        recipe: &FineTune,
        (base, cache): (&Base, Option<&Path>),
        taught: bool,
    ) -> Result<Vlm, Error> {
        let view = |var: &Var| match taught {
            true => var.as_tensor().clone(),
            false => var.as_detached_tensor(),
        };
        let (lora, tensors) = self.parts(view);
        // Without tensors an adapter changes no layer.
        base.under(recipe, cache, &Overlay { adapters: vec![(&lora, 1.0)], tensors })
    }

    /// How each is moved.
    pub(crate) fn groups(&self, recipe: &FineTune, config: &Config) -> BTreeMap<String, Group> {
        let group = |(name, var): (&String, &Var)| {
            let factor = recipe.rates.get(&config.part_of(name)).copied().unwrap_or(1.0);
            let decay = if var.rank() > 1 { recipe.weight_decay } else { 0.0 };
            (name.clone(), Group { var: var.clone(), rule: Rule::AdamW, factor, decay })
        };
        self.parameters.vars.iter().map(group).collect()
    }
}

/// The layers that a recipe adapts, with their outputs and inputs.
fn adapted(recipe: &FineTune, config: &Config) -> Result<Vec<(String, [usize; 2])>, Error> {
    let shapes = Vlm::parameter_shapes(config)?.into_iter();
    let layers = shapes.filter_map(|(name, dims)| {
        let layer = name.strip_suffix(".weight")?;
        let last = layer.rsplit('.').next()?;
        let named = match recipe.targets.is_empty() {
            true => name.contains("layers.") && last.ends_with("_proj") || last.starts_with("fc"),
            false => recipe.targets.iter().any(|target| target == last),
        };
        let [n_out, n_in] = <[usize; 2]>::try_from(dims).ok()?;
        let wanted = named && recipe.adapt.contains(&config.part_of(&name));
        wanted.then(|| (layer.to_owned(), [n_out, n_in]))
    });
    Ok(layers.collect())
}
