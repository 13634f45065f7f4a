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
    /// Several tensors of the file that are one.
    Parts { file: usize, names: Vec<String>, along: Along },
    /// A norm's parameter that the file leaves out because its result is never used.
    Unused { value: f32, size: usize },
}

/// How parts become one tensor.
#[derive(Clone, Copy)]
enum Along {
    /// One after another.
    Rows,
    /// Each is a moment of a video's patch, `(C, 3, P, P)` of `(C, 3, 2, P, P)`.
    Time,
}

/// What a vision tower's tensors are called: in the file → in transformers. Several of the file
/// with the same name are one, their rows in the order here.
pub(super) struct VisionNames {
    pub tower: &'static str,
    /// around the number of a block
    pub blocks: &'static str,
    pub attention: &'static [(&'static str, &'static str)],
    pub feed_forward: &'static [(&'static str, &'static str)],
    pub around: &'static [(&'static str, &'static str)],
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

pub(super) const CLIP: VisionNames = VisionNames {
    tower: "",
    blocks: "encoder.layers",
    attention: &[
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_out", "self_attn.out_proj"),
        ("ln1", "layer_norm1"),
        ("ln2", "layer_norm2"),
    ],
    feed_forward: &[("ffn_up", "mlp.fc1"), ("ffn_down", "mlp.fc2")],
    around: &[
        ("v.class_embd", "embeddings.class_embedding"),
        ("v.patch_embd", "embeddings.patch_embedding"),
        ("v.position_embd", "embeddings.position_embedding"),
        ("v.pre_ln", "pre_layrnorm"),
        ("v.post_ln", "post_layernorm"),
    ],
};

pub(super) const QWEN2_VL: VisionNames = VisionNames {
    tower: "visual",
    blocks: "blocks",
    attention: &[
        ("attn_q", "attn.qkv"),
        ("attn_k", "attn.qkv"),
        ("attn_v", "attn.qkv"),
        ("attn_out", "attn.proj"),
        ("ln1", "norm1"),
        ("ln2", "norm2"),
    ],
    around: &[("v.patch_embd", "patch_embed.proj"), ("v.post_ln", "merger.ln_q")],
    ..CLIP
};

pub(super) const QWEN2_5_VL: VisionNames = VisionNames {
    feed_forward: &[
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
    ],
    ..QWEN2_VL
};

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
            tensors.extend(vision_tensors(file, projector)?);
            if projector.name == "mlp" {
                let size = file.count("clip.vision.embedding_length")?.unwrap_or(0);
                for (part, value) in [("weight", 1.0), ("bias", 0.0)] {
                    let name = format!("{}.post_layernorm.{part}", projector.vision.tower);
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
            Some(Source::Parts { file, names, along }) => {
                let parts = names.iter().map(|name| self.files[*file].dims(name));
                joined_dims(&parts.collect::<Option<Vec<_>>>().unwrap_or_default(), *along)
            }
            Some(Source::Unused { size, .. }) => Some(vec![*size]),
            None => None,
        };
        dims.ok_or_else(|| self.unknown(name))
    }

    /// Formats that are not read are refused when they are.
    fn foreign_dtype(&self, _: &str) -> Result<Option<String>, Error> {
        Ok(None)
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
            Some(Source::Parts { file, names, along }) => {
                let parts = names.iter().map(|name| self.files[*file].load(name, dtype, device));
                let parts = parts.collect::<Result<Vec<_>, _>>()?;
                Ok(match along {
                    Along::Rows => Tensor::cat(&parts, 0)?,
                    Along::Time => Tensor::stack(&parts, 2)?.contiguous()?,
                })
            }
            Some(Source::Unused { value, size }) => {
                Ok(Tensor::full(*value, *size, device)?.to_dtype(dtype)?)
            }
            None => Err(self.unknown(name)),
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().flat_map(|file| file.paths()).collect()
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

/// The tensors of a vision file, the second of a model's two.
fn vision_tensors(
    file: &GgufFile,
    projector: &Projector,
) -> Result<BTreeMap<String, Source>, Error> {
    let swapped = is_swapped(file)?;
    let mut found: BTreeMap<String, Vec<(usize, String)>> = BTreeMap::new();
    for name in file.tensor_names() {
        let ours = vision_name(name, projector, swapped);
        let (ours, place) = ours.unwrap_or_else(|| (name.to_string(), 0));
        found.entry(ours).or_default().push((place, name.to_string()));
    }
    let source = |(ours, mut names): (String, Vec<(usize, String)>)| {
        names.sort();
        let along = match ours.contains("patch_embed") {
            true => Along::Time,
            false => Along::Rows,
        };
        let mut names: Vec<String> = names.into_iter().map(|(_, name)| name).collect();
        let source = match names.len() {
            1 => Source::Stored { file: 1, name: names.remove(0), interleaved: None },
            _ => Source::Parts { file: 1, names, along },
        };
        (ours, source)
    };
    Ok(found.into_iter().map(source).collect())
}

/// The name in transformers, and the place among tensors that share it.
fn vision_name(name: &str, projector: &Projector, swapped: bool) -> Option<(String, usize)> {
    let VisionNames { tower, blocks, attention, feed_forward, around } = projector.vision;
    if let Some((layer, part, end)) = name.strip_prefix("v.blk.").and_then(in_block) {
        let part = match part {
            "ffn_up" if swapped => "ffn_down",
            "ffn_down" if swapped => "ffn_up",
            part => part,
        };
        let mut layers = attention.iter().chain(*feed_forward).enumerate();
        let (place, (_, ours)) = layers.find(|(_, (theirs, _))| *theirs == part)?;
        return Some((format!("{tower}.{blocks}.{layer}.{ours}.{end}"), place));
    }
    if let Some(ours) = find(around, name) {
        return Some((format!("{tower}.{ours}"), 0)); // a parameter that is not a layer's
    }
    if let Some(ours) = find(projector.layers, name) {
        return Some((ours.to_string(), 0));
    }
    // The patch of the second moment: "v.patch_embd.weight.1".
    let (name, place) = name.strip_suffix(".1").map_or((name, 0), |name| (name, 1));
    let (part, end) = name.rsplit_once('.')?;
    match find(around, part) {
        Some(ours) => Some((format!("{tower}.{ours}.{end}"), place)),
        None => Some((format!("{}.{end}", find(projector.layers, part)?), place)),
    }
}

/// The dimensions of parts that are one; `None` where they are not alike.
fn joined_dims(parts: &[&[usize]], along: Along) -> Option<Vec<usize>> {
    let mut dims = parts.first()?.to_vec();
    match along {
        Along::Rows => {
            let is_alike = parts.iter().all(|part| part.get(1..) == dims.get(1..));
            *dims.first_mut()? = parts.iter().map(|part| part[0]).sum();
            is_alike.then_some(dims)
        }
        Along::Time => {
            let is_alike = dims.len() == 4 && parts.iter().all(|part| **part == *dims);
            dims.insert(2.min(dims.len()), parts.len());
            is_alike.then_some(dims)
        }
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
