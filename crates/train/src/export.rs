//! A run's weights as a model folder: Hugging Face layout in bf16, the evidence heads, and the
//! text tower with its region head beside it.
//!
//! `config.json`, the tokenizer and the templates are already in the folder: a recipe trains the
//! model that they describe.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Tensor};
use serde_json::json;
use vlm::Config;

use crate::Error;
use crate::checkpoint::{self, Progress, write_tensors};
use crate::models;
use crate::parameters::module_of;
use crate::recipe::Recipe;
use crate::run::CHECKPOINT;

/// Writes the weights of the run in `run_folder` into the model folder `out`.
///
/// # Errors
/// When the checkpoint does not fit the recipe's model, or a file cannot be written.
pub fn export(recipe: &Recipe, run_folder: &Path, out: &Path) -> Result<Progress, Error> {
    let config = Config::load(&recipe.model)?;
    let shapes = models::parameter_shapes(recipe, &config)?;
    let state = checkpoint::load(&run_folder.join(CHECKPOINT), &shapes)?;
    let (mut model, mut region) = (BTreeMap::new(), BTreeMap::new());
    for (name, var) in &state.parameters.vars {
        let tensor: Tensor = var.as_detached_tensor().to_dtype(DType::BF16)?;
        let part = match module_of(name) {
            models::TEACHER => continue,
            module if models::BESIDE.contains(&module) => &mut region,
            _ => &mut model,
        };
        part.insert(name.clone(), tensor);
    }
    let region_folder = out.join("region");
    std::fs::create_dir_all(&region_folder).map_err(Error::writing(&region_folder))?;
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_tensors(&out.join("model.safetensors"), &model, format.clone())?;
    write_tensors(&region_folder.join("model.safetensors"), &region, format)?;
    let dual = models::dual_config(recipe, &config);
    let dual = serde_json::to_value(&dual).map_err(|e| Error::Model(e.to_string()))?;
    write_json(&region_folder.join("config.json"), &dual)?;
    let outlined = recipe.stages.last().is_some_and(|stage| stage.weights.outline > 0.0);
    let heads = &recipe.evidence.answer;
    let evidence = json!({ "heads": heads, "null_token": 0, "outlined": outlined });
    write_json(&out.join("evidence.json"), &evidence)?;
    Ok(state.progress)
}

fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    std::fs::write(path, text).map_err(Error::writing(path))
}
