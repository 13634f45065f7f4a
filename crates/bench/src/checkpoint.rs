//! Checkpoints with random weights in the exact shape of public models.
//!
//! How fast a model runs depends on its shape, not on what it has learned. The folder is in
//! Hugging Face layout, so that every engine reads the same file. The tokenizer is the shipped
//! model's, which fits inside the larger vocabularies.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use half::bf16;
use serde_json::{Value, json};
use vlm::Quantization;

use crate::Error;

/// A public model whose shape is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelShape {
    SmolVlm256M,
    SmolVlm500M,
}

impl ModelShape {
    pub const ALL: [ModelShape; 2] = [ModelShape::SmolVlm256M, ModelShape::SmolVlm500M];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ModelShape::SmolVlm256M => "smolvlm-256m",
            ModelShape::SmolVlm500M => "smolvlm-500m",
        }
    }

    /// hidden size, layers, heads, key and value heads, intermediate size
    fn decoder(self) -> [usize; 5] {
        match self {
            ModelShape::SmolVlm256M => [576, 30, 9, 3, 1536],
            ModelShape::SmolVlm500M => [960, 32, 15, 5, 2560],
        }
    }

    /// Bytes of weights that one decoded token reads: the layers' and the head's.
    pub fn decode_bytes(self, quantization: Quantization) -> usize {
        let [d, layers, heads, kv_heads, wide] = self.decoder();
        let layer = d * (heads + 2 * kv_heads) * 64 + heads * 64 * d + 3 * d * wide;
        let (layer_bits, head_bits) = match quantization {
            Quantization::None => (32.0, 32.0),
            Quantization::Q8_0 => (8.5, 8.5),
            Quantization::Q4_0 => (4.5, 8.5),
        };
        let bits = (layers * layer) as f64 * layer_bits + ((LAST_ID + 1) * d) as f64 * head_bits;
        (bits / 8.0) as usize
    }

    fn config(self) -> Value {
        let [hidden_size, layers, heads, kv_heads, intermediate_size] = self.decoder();
        json!({
            "architectures": ["SmolVLMForConditionalGeneration"],
            "model_type": "smolvlm",
            "image_token_id": 3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": LAST_ID,
            "scale_factor": 4, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
            "use_cache": true,
            "text_config": {
                "model_type": "llama", "hidden_size": hidden_size, "num_hidden_layers": layers,
                "num_attention_heads": heads, "num_key_value_heads": kv_heads,
                "intermediate_size": intermediate_size, "head_dim": 64, "hidden_act": "silu",
                "vocab_size": LAST_ID + 1, "max_position_embeddings": 8192,
                "rms_norm_eps": 1e-5, "rope_theta": 100_000.0, "tie_word_embeddings": true,
                "attention_bias": false, "mlp_bias": false, "torch_dtype": "bfloat16",
                "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": LAST_ID,
            },
            "vision_config": {
                "model_type": "smolvlm_vision", "hidden_size": 768, "num_hidden_layers": 12,
                "num_attention_heads": 12, "intermediate_size": 3072, "image_size": 512,
                "patch_size": 16, "num_channels": 3, "hidden_act": "gelu_pytorch_tanh",
                "layer_norm_eps": 1e-6, "attention_dropout": 0.0,
            },
        })
    }
}

/// The greatest token id; random weights next to never choose it, so answers run to their length.
const LAST_ID: usize = 49_279;

/// How a picture is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// One tile of 512 px.
    OneTile,
    /// The long side at 2048 px, tiles of 512 px and the whole picture.
    Tiles,
}

impl Cut {
    /// Side of the picture that is asked about, px.
    pub fn side(self) -> u32 {
        match self {
            Cut::OneTile => 512,
            Cut::Tiles => 2048,
        }
    }
}

/// The two folders of one set of weights, which differ in how pictures are cut.
pub struct Checkpoint {
    one_tile: PathBuf,
    tiles: PathBuf,
}

impl Checkpoint {
    /// The checkpoint in `cache`, made when it is not there.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn open_or_make(
        shape: ModelShape,
        shipped_model: &Path,
        cache: &Path,
    ) -> Result<Checkpoint, Error> {
        let folder = cache.join("bench").join(shape.name());
        let made = Checkpoint { one_tile: folder.join("one-tile"), tiles: folder.join("tiles") };
        for cut in [Cut::OneTile, Cut::Tiles] {
            made.write(shape, shipped_model, cut)?;
        }
        Ok(made)
    }

    pub fn folder(&self, cut: Cut) -> &Path {
        match cut {
            Cut::OneTile => &self.one_tile,
            Cut::Tiles => &self.tiles,
        }
    }

    fn write(&self, shape: ModelShape, shipped_model: &Path, cut: Cut) -> Result<(), Error> {
        let folder = self.folder(cut);
        let writing = |source| Error::File { path: folder.to_path_buf(), source };
        std::fs::create_dir_all(folder).map_err(writing)?;
        let longest_edge = if cut == Cut::Tiles { 2048 } else { 512 };
        let preprocessor = json!({
            "image_processor_type": "SmolVLMImageProcessor", "processor_class": "SmolVLMProcessor",
            "do_convert_rgb": true, "do_image_splitting": cut == Cut::Tiles, "do_normalize": true,
            "do_pad": true, "do_rescale": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5], "max_image_size": { "longest_edge": 512 },
            "resample": 1, "rescale_factor": 1.0 / 255.0, "size": { "longest_edge": longest_edge },
        });
        let processor = json!({ "processor_class": "SmolVLMProcessor", "image_seq_len": 64 });
        let generation = json!({ "bos_token_id": 1, "eos_token_id": LAST_ID, "pad_token_id": 0 });
        let files = [
            ("config.json", shape.config()),
            ("preprocessor_config.json", preprocessor),
            ("processor_config.json", processor),
            ("generation_config.json", generation),
            ("tokenizer.json", tokenizer(shipped_model)?),
        ];
        for (name, value) in files {
            std::fs::write(folder.join(name), value.to_string()).map_err(writing)?;
        }
        for name in ["chat_template.jinja", "tokenizer_config.json", "special_tokens_map.json"] {
            std::fs::copy(shipped_model.join(name), folder.join(name)).map_err(writing)?;
        }
        let weights = folder.join("model.safetensors");
        if weights.exists() {
            return Ok(());
        }
        match cut {
            Cut::OneTile => write_weights(folder, &weights),
            Cut::Tiles => std::fs::hard_link(self.one_tile.join("model.safetensors"), &weights)
                .map_err(writing),
        }
    }
}

/// The shipped tokenizer with the names of four by four tiles.
fn tokenizer(shipped_model: &Path) -> Result<Value, Error> {
    let path = shipped_model.join("tokenizer.json");
    let read = |source| Error::File { path: path.clone(), source };
    let text = std::fs::read(&path).map_err(read)?;
    let mut tokenizer: Value = serde_json::from_slice(&text).map_err(|e| read(e.into()))?;
    let mut next = tokenizer["model"]["vocab"].as_object().map_or(0, |vocab| vocab.len()) + 100;
    let added = tokenizer["added_tokens"].as_array_mut();
    let added = added.ok_or_else(|| read(std::io::ErrorKind::InvalidData.into()))?;
    for tile in 0..16 {
        let content = format!("<row_{}_col_{}>", tile / 4 + 1, tile % 4 + 1);
        if added.iter().any(|token| token["content"] == content) {
            continue;
        }
        added.push(json!({
            "id": next, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        }));
        next += 1;
    }
    Ok(tokenizer)
}

/// Every parameter in bf16: matrices near normal(0, 0.02), norms one, biases zero.
fn write_weights(folder: &Path, weights: &Path) -> Result<(), Error> {
    let config = vlm::Config::load(folder)?;
    let shapes = vlm::Vlm::parameter_shapes(&config)?;
    let mut end = 0;
    let entries = shapes.iter().map(|(name, shape)| {
        let first = end;
        end += 2 * shape.iter().product::<usize>();
        let offsets = [first, end];
        (name.clone(), json!({ "dtype": "BF16", "shape": shape, "data_offsets": offsets }))
    });
    let mut header = serde_json::Map::from_iter(entries);
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize((header.len() + 8).next_multiple_of(64) - 8, b' ');
    let part = weights.with_extension("part");
    let writing = |source| Error::File { path: part.clone(), source };
    let file = std::fs::File::create(&part).map_err(writing)?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(writing);
    write(&(header.len() as u64).to_le_bytes())?;
    write(&header)?;
    let mut random = Random(0x5167_4713);
    for (name, shape) in &shapes {
        let n: usize = shape.iter().product();
        let is_norm = name.contains("norm") && name.ends_with("weight");
        let mut value = || match (is_norm, shape.len()) {
            (true, _) => 1.0,
            (false, 1) => 0.0,
            _ => 0.02 * random.normal(),
        };
        let bytes: Vec<u8> = (0..n).flat_map(|_| bf16::from_f32(value()).to_le_bytes()).collect();
        write(&bytes)?;
    }
    file.flush().map_err(writing)?;
    std::fs::rename(&part, weights).map_err(writing)
}

/// Steele, Lea and Flood's SplitMix64.
struct Random(u64);

impl Random {
    /// Near normal(0, 1): four uniform numbers of 16 bits summed.
    fn normal(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let sum: u64 = (0..4).map(|i| z >> (16 * i) & 0xffff).sum();
        (sum as f32 / 65_536.0 - 2.0) * 3f32.sqrt()
    }
}
