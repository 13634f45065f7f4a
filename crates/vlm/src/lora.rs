//! Low-rank adapters in files, as `peft` writes them (`peft/utils/save_and_load.py`, 0.17):
//! `adapter_config.json` beside `adapter_model.safetensors`.
//!
//! Between files and models names change: `peft` names a layer by its place among the modules of
//! transformers, the engine as `save_pretrained` names its weights. It knows no training.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::Error;

const SETTINGS: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
/// What `peft` puts before the names of the model it wraps.
const WRAPPED: &str = "base_model.model.";
const DOWN: &str = ".lora_A.weight";
const UP: &str = ".lora_B.weight";
const MAGNITUDE: &str = ".lora_magnitude_vector";

/// An adapter.
#[derive(Debug, Clone)]
pub struct Lora {
    /// What its low-rank products are multiplied by: alpha ÷ rank, or by the root of the rank.
    pub scale: f64,
    pub rank: usize,
    /// `{layer}.lora_A.weight (rank, in)`, `{layer}.lora_B.weight (out, rank)` and, for DoRA,
    /// `{layer}.lora_magnitude_vector (out)`, by the engine's names of layers. Variables stay
    /// linked to the models that they are laid over.
    pub tensors: HashMap<String, Tensor>,
}

/// `adapter_config.json`, as far as it changes what is computed.
#[derive(Debug, Serialize, Deserialize)]
struct Settings {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default = "none")]
    bias: String,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    rank_pattern: HashMap<String, usize>,
    #[serde(default)]
    alpha_pattern: HashMap<String, f64>,
    /// Names, or a pattern; what the tensors say counts.
    #[serde(default)]
    target_modules: serde_json::Value,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    #[serde(default)]
    inference_mode: bool,
}

fn none() -> String {
    "none".to_owned()
}

impl Settings {
    fn scale(&self) -> f64 {
        let rank = self.r as f64;
        self.lora_alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// What this engine does not compute, if there is any.
    fn unsupported(&self) -> Option<(&'static str, String)> {
        let rows = [
            ("peft_type", self.peft_type != "LORA", self.peft_type.clone()),
            ("bias", self.bias != "none", self.bias.clone()),
            ("fan_in_fan_out", self.fan_in_fan_out, "true".into()),
            ("modules_to_save", self.modules_to_save.is_some(), "set".into()),
            ("rank_pattern", !self.rank_pattern.is_empty(), "set".into()),
            ("alpha_pattern", !self.alpha_pattern.is_empty(), "set".into()),
        ];
        rows.into_iter().find(|(_, is_set, _)| *is_set).map(|(key, _, found)| (key, found))
    }
}

impl Lora {
    /// Reads an adapter of a model with this `config`.
    ///
    /// # Errors
    /// Files that cannot be read, kinds of adapters other than LoRA and DoRA, named by their key.
    pub fn read(folder: &Path, config: &Config) -> Result<Lora, Error> {
        let path = folder.join(SETTINGS);
        let text = std::fs::read(&path);
        let text = text.map_err(|source| Error::Io { path: path.clone(), source })?;
        let settings: Settings = serde_json::from_slice(&text)
            .map_err(|source| Error::Json { path: path.clone(), source })?;
        if let Some((key, found)) = settings.unsupported() {
            let supported = "LORA without biases, saved modules and patterns".into();
            return Err(Error::Unsupported { key: key.into(), found, supported });
        }
        let path = folder.join(TENSORS);
        let hint = "save the adapter again with `save_pretrained`".to_owned();
        let unread = |reason: String| Error::Weights { path: path.clone(), reason, hint };
        let read = candle_core::safetensors::load(&path, &Device::Cpu);
        let read = read.map_err(|error| unread(error.to_string()))?;
        let mut tensors = HashMap::new();
        for (name, tensor) in read {
            let name = name.strip_prefix(WRAPPED).unwrap_or(&name);
            tensors.insert(config.tensor_names().ours(name), tensor.to_dtype(DType::F32)?);
        }
        Ok(Lora { scale: settings.scale(), rank: settings.r, tensors })
    }

    /// Writes the adapter so that `peft` loads it over the model at `base`.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn write(&self, folder: &Path, config: &Config, base: &str) -> Result<(), Error> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Io { path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let of_modules = |name: &String| config.tensor_names().of_modules(name);
        let tensors = self.tensors.iter().map(|(name, tensor)| {
            Ok((format!("{WRAPPED}{}", of_modules(name)), tensor.contiguous()?))
        });
        let tensors: HashMap<String, Tensor> = tensors.collect::<Result<_, Error>>()?;
        let settings = Settings {
            peft_type: "LORA".into(),
            r: self.rank,
            lora_alpha: self.scale * self.rank as f64,
            use_rslora: false,
            use_dora: self.tensors.keys().any(|name| name.ends_with(MAGNITUDE)),
            bias: none(),
            fan_in_fan_out: false,
            modules_to_save: None,
            rank_pattern: HashMap::new(),
            alpha_pattern: HashMap::new(),
            target_modules: self.layers().iter().map(of_modules).collect(),
            lora_dropout: 0.0,
            task_type: None,
            base_model_name_or_path: Some(base.to_owned()),
            inference_mode: true,
        };
        let (path, part) = (folder.join(TENSORS), folder.join(format!("{TENSORS}.part")));
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let written = safetensors::serialize_to_file(&tensors, Some(metadata), &part);
        written.map_err(|error| failed(&part)(std::io::Error::other(error)))?;
        std::fs::rename(&part, &path).map_err(failed(&path))?;
        let path = folder.join(SETTINGS);
        let text = serde_json::to_vec_pretty(&settings);
        let text = text.map_err(|source| Error::Json { path: path.clone(), source })?;
        std::fs::write(&path, text).map_err(failed(&path))
    }

    /// The layers that it changes, by the engine's names.
    pub fn layers(&self) -> BTreeSet<String> {
        let layers = self.tensors.keys().filter_map(|name| name.strip_suffix(DOWN));
        layers.map(str::to_owned).collect()
    }

    /// Its tensors under the name `adapter`, as [`tensors_of`] says.
    pub(crate) fn named<'a>(
        &'a self,
        adapter: &'a str,
    ) -> impl Iterator<Item = (String, Tensor)> + 'a {
        self.tensors.iter().map(move |(name, tensor)| {
            let suffixes = [DOWN, UP, MAGNITUDE].into_iter().enumerate();
            let mut layers =
                suffixes.filter_map(|(i, suffix)| Some((i, name.strip_suffix(suffix)?)));
            let name = match layers.next() {
                Some((i, layer)) => tensors_of(layer, adapter)[i].clone(),
                None => name.clone(),
            };
            (name, tensor.clone())
        })
    }
}

/// What the tensors of an adapter are called while a model is built: A, B and the magnitude.
pub(crate) fn tensors_of(layer: &str, adapter: &str) -> [String; 3] {
    [
        format!("{layer}.lora_A.{adapter}.weight"),
        format!("{layer}.lora_B.{adapter}.weight"),
        format!("{layer}.lora_magnitude_vector.{adapter}.weight"),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Part;

    /// The modules as `named_modules()` of transformers 4.57.1 gives them.
    #[test]
    fn layers_are_named_by_their_place_among_the_modules() {
        let attention = "layers.0.self_attn.q_proj";
        let rows = [
            ("smolvlm-llama-square", "model.text_model", "model.text_model", Part::LanguageModel),
            (
                "llava-clip-llama",
                "language_model.model",
                "model.language_model",
                Part::LanguageModel,
            ),
            (
                "llava-clip-llama",
                "vision_tower.vision_model.encoder",
                "model.vision_tower.vision_model.encoder",
                Part::VisionEncoder,
            ),
            ("qwen2-5-vl-wide-bf16", "model", "model.language_model", Part::LanguageModel),
            ("qwen2-5-vl-wide-bf16", "visual.blocks", "model.visual.blocks", Part::VisionEncoder),
            ("qwen2-5-vl-wide-bf16", "visual.merger", "model.visual.merger", Part::Projector),
            (
                "qwen3-vl-tall-bf16",
                "model.visual.blocks",
                "model.visual.blocks",
                Part::VisionEncoder,
            ),
            ("blip-2-opt", "qformer.encoder", "qformer.encoder", Part::Projector),
            ("text-qwen2", "model", "model", Part::LanguageModel),
        ];
        for (case, ours, modules, part) in rows {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/fixtures");
            let config = Config::load(&folder.join(case)).expect(case);
            let (ours, modules) = (format!("{ours}.{attention}"), format!("{modules}.{attention}"));
            assert_eq!(config.tensor_names().of_modules(&ours), modules, "{case}");
            assert_eq!(config.tensor_names().ours(&modules), ours, "{case}");
            assert_eq!(config.part_of(&ours), part, "{case}: {ours}");
        }
    }
}
