//! GGUF tensors under the names that `save_pretrained` of transformers gives them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::settings::ROPE_FREQS;
use super::{Gguf, Projector};
use crate::error::Error;
use crate::weights::TensorFiles;
use crate::weights::gguf::{GgufFile, damaged};

/// The tensors of a model's files.
pub(in crate::checkpoint) struct GgufTensors {
    files: Vec<Arc<GgufFile>>,
    tensors: BTreeMap<String, Source>,
}

/// Where a tensor comes from.
enum Source {
    Stored {
        file: usize,
        name: String,
        /// Rows are in llama.cpp's rotary order, for this many heads.
        interleaved: Option<usize>,
    },
    /// A norm's parameter that the file leaves out because its result is never used.
    Unused { value: f32, size: usize },
}

/// Layers of a decoder block: name in the file → in transformers.
const DECODER_LAYERS: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Around the decoder blocks.
const DECODER: [(&str, &str); 3] = [
    ("token_embd", "model.language_model.embed_tokens"),
    ("output_norm", "model.language_model.norm"),
    ("output", "lm_head"),
];

/// Layers of a vision block.
const VISION_LAYERS: [(&str, &str); 8] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_out", "self_attn.out_proj"),
    ("ln1", "layer_norm1"),
    ("ln2", "layer_norm2"),
    ("ffn_up", "mlp.fc1"),
    ("ffn_down", "mlp.fc2"),
];

/// Around the vision blocks.
const VISION: [(&str, &str); 5] = [
    ("v.class_embd", "embeddings.class_embedding"),
    ("v.patch_embd", "embeddings.patch_embedding"),
    ("v.position_embd", "embeddings.position_embedding"),
    ("v.pre_ln", "pre_layrnorm"),
    ("v.post_ln", "post_layernorm"),
];

impl GgufTensors {
    pub(super) fn new(gguf: &Gguf) -> Result<Self, Error> {
        let mut files = vec![gguf.text.clone()];
        let mut tensors = BTreeMap::new();
        let arch = gguf.architecture;
        let heads = gguf.text.count(&format!("{}.attention.head_count", arch.name))?;
        let kv_heads = gguf.text.count(&format!("{}.attention.head_count_kv", arch.name))?;
        for name in gguf.text.tensor_names().filter(|name| *name != ROPE_FREQS) {
            let interleaved = match arch.interleaved {
                true if name.contains(".attn_q.") => heads,
                true if name.contains(".attn_k.") => kv_heads.or(heads),
                _ => None,
            };
            let stored = Source::Stored { file: 0, name: name.to_string(), interleaved };
            tensors.insert(decoder_name(name).unwrap_or_else(|| name.to_string()), stored);
        }
        if let Some((file, projector)) = &gguf.vision {
            files.push(file.clone());
            let swapped = is_swapped(file)?;
            for name in file.tensor_names() {
                let ours = vision_name(name, projector, swapped);
                let stored = Source::Stored { file: 1, name: name.to_string(), interleaved: None };
                tensors.insert(ours.unwrap_or_else(|| name.to_string()), stored);
            }
            if projector.name == "mlp" {
                let size = file.count("clip.vision.embedding_length")?.unwrap_or(0);
                for (part, value) in [("weight", 1.0), ("bias", 0.0)] {
                    let name = format!("{}.post_layernorm.{part}", projector.vision_encoder);
                    tensors.entry(name).or_insert(Source::Unused { value, size });
                }
            }
        }
        Ok(GgufTensors { files, tensors })
    }

    fn unknown(&self, name: &str) -> Error {
        damaged(self.files[0].path(), format!("it has no tensor {name}"))
    }
}

impl TensorFiles for GgufTensors {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, Error> {
        let dims = match self.tensors.get(name) {
            Some(Source::Stored { file, name, .. }) => {
                self.files[*file].dims(name).map(<[usize]>::to_vec)
            }
            Some(Source::Unused { size, .. }) => Some(vec![*size]),
            None => None,
        };
        dims.ok_or_else(|| self.unknown(name))
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor, Error> {
        match self.tensors.get(name) {
            Some(Source::Stored { file, name, interleaved }) => {
                let tensor = self.files[*file].load(name, dtype, device)?;
                match interleaved {
                    Some(n_heads) => in_halves(&tensor, *n_heads),
                    None => Ok(tensor),
                }
            }
            Some(Source::Unused { value, size }) => {
                Ok(Tensor::full(*value, *size, device)?.to_dtype(dtype)?)
            }
            None => Err(self.unknown(name)),
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.path().to_path_buf()).collect()
    }
}

/// Rows of q or k `(H · d, …)` from neighbouring pairs to a head's two halves: undoes what
/// `LlamaModel.permute` of llama.cpp's converter did.
fn in_halves(x: &Tensor, n_heads: usize) -> Result<Tensor, Error> {
    let rows = x.dim(0)?;
    let pairs = rows / n_heads.max(1) / 2;
    if n_heads * pairs * 2 != rows {
        return Ok(x.clone()); // misshaped, as the model will say
    }
    let split = x.reshape((n_heads, pairs, 2, ()))?.transpose(1, 2)?; // (H, 2, d/2, …)
    Ok(split.contiguous()?.reshape(x.dims())?)
}

fn decoder_name(name: &str) -> Option<String> {
    if let Some((layer, part, end)) = name.strip_prefix("blk.").and_then(in_block) {
        let ours = find(&DECODER_LAYERS, part)?;
        return Some(format!("model.language_model.layers.{layer}.{ours}.{end}"));
    }
    let (part, end) = name.rsplit_once('.')?;
    Some(format!("{}.{end}", find(&DECODER, part)?))
}

fn vision_name(name: &str, projector: &Projector, swapped: bool) -> Option<String> {
    let tower = projector.vision_encoder;
    if let Some((layer, part, end)) = name.strip_prefix("v.blk.").and_then(in_block) {
        let part = match part {
            "ffn_up" if swapped => "ffn_down",
            "ffn_down" if swapped => "ffn_up",
            part => part,
        };
        let ours = find(&VISION_LAYERS, part)?;
        return Some(format!("{tower}.encoder.layers.{layer}.{ours}.{end}"));
    }
    if let Some(ours) = find(&VISION, name) {
        return Some(format!("{tower}.{ours}")); // a parameter that is not a layer's
    }
    let (part, end) = name.rsplit_once('.')?;
    match find(&VISION, part) {
        Some(ours) => Some(format!("{tower}.{ours}.{end}")),
        None => Some(format!("{}.{end}", find(projector.layers, part)?)),
    }
}

/// `3.attn_q.weight` → `(3, attn_q, weight)`
fn in_block(rest: &str) -> Option<(&str, &str, &str)> {
    let (layer, rest) = rest.split_once('.')?;
    let (part, end) = rest.rsplit_once('.')?;
    Some((layer, part, end))
}

fn find(names: &[(&str, &'static str)], part: &str) -> Option<&'static str> {
    names.iter().find(|(theirs, _)| *theirs == part).map(|(_, ours)| *ours)
}

/// Whether `ffn_down` is the first of the two layers, as older converters named them.
fn is_swapped(file: &GgufFile) -> Result<bool, Error> {
    let width = file.count("clip.vision.embedding_length")?;
    let inputs = file.dims("v.blk.0.ffn_down.weight").and_then(|dims| dims.last().copied());
    Ok(inputs.is_some() && inputs == width)
}
