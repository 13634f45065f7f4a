//! Checkpoints with random weights in the exact shape of public models.
//!
//! How fast a model runs depends on its shape, not on what it has learned. The folder is in
//! Hugging Face layout, so that every engine reads the same file. The tokenizer is the shipped
//! model's, which fits inside the larger vocabularies.

mod qwen_vl;
mod smolvlm;

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
    Qwen2_5Vl3B,
}

/// Sizes of a decoder.
struct Decoder {
    hidden_size: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    intermediate_size: usize,
    vocab_size: usize,
}

impl ModelShape {
    /// Those that are measured beside the peers.
    pub const PEERED: [ModelShape; 2] = [ModelShape::SmolVlm256M, ModelShape::SmolVlm500M];
    /// Those whose loading, answering and memory are measured alone.
    pub const FULL_SIZE: [ModelShape; 2] = [ModelShape::SmolVlm500M, ModelShape::Qwen2_5Vl3B];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ModelShape::SmolVlm256M => "smolvlm-256m",
            ModelShape::SmolVlm500M => "smolvlm-500m",
            ModelShape::Qwen2_5Vl3B => "qwen2.5-vl-3b",
        }
    }

    fn decoder(self) -> Decoder {
        let (sizes, head_dim, vocab_size) = match self {
            ModelShape::SmolVlm256M => ([576, 30, 9, 3, 1536], 64, smolvlm::VOCAB_SIZE),
            ModelShape::SmolVlm500M => ([960, 32, 15, 5, 2560], 64, smolvlm::VOCAB_SIZE),
            ModelShape::Qwen2_5Vl3B => ([2048, 36, 16, 2, 11_008], 128, qwen_vl::VOCAB_SIZE),
        };
        let [hidden_size, layers, heads, kv_heads, intermediate_size] = sizes;
        Decoder { hidden_size, layers, heads, kv_heads, head_dim, intermediate_size, vocab_size }
    }

    /// Bytes of weights that one decoded token reads: the layers' and the head's.
    pub fn decode_bytes(self, quantization: Quantization) -> usize {
        let decoder = self.decoder();
        let (d, q) = (decoder.hidden_size, decoder.heads * decoder.head_dim);
        let kv = decoder.kv_heads * decoder.head_dim;
        let layer = d * (q + 2 * kv) + q * d + 3 * d * decoder.intermediate_size;
        let (layer_bits, head_bits) = match quantization {
            Quantization::None => (32.0, 32.0),
            Quantization::Q8_0 => (8.5, 8.5),
            Quantization::Q4_0 => (4.5, 8.5),
        };
        let head = (decoder.vocab_size * d) as f64 * head_bits;
        (((decoder.layers * layer) as f64 * layer_bits + head) / 8.0) as usize
    }

    fn config(self) -> Value {
        match self {
            ModelShape::Qwen2_5Vl3B => qwen_vl::config(&self.decoder()),
            _ => smolvlm::config(&self.decoder()),
        }
    }

    /// The other small files in JSON, by name.
    fn small_files(self, cut: Cut) -> Vec<(&'static str, Value)> {
        match self {
            ModelShape::Qwen2_5Vl3B => qwen_vl::small_files(),
            _ => smolvlm::small_files(cut),
        }
    }
}

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
        let tokenizer = tokenizer(shipped_model)?;
        let files = [("config.json", shape.config()), ("tokenizer.json", tokenizer)];
        let files = files.into_iter().chain(shape.small_files(cut));
        for (name, value) in files {
            std::fs::write(folder.join(name), value.to_string()).map_err(writing)?;
        }
        for name in ["chat_template.jinja", "tokenizer_config.json", "special_tokens_map.json"] {
            std::fs::copy(shipped_model.join(name), folder.join(name)).map_err(writing)?;
        }
        if shape == ModelShape::Qwen2_5Vl3B {
            let template = folder.join("chat_template.jinja");
            std::fs::write(template, qwen_vl::CHAT_TEMPLATE).map_err(writing)?;
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
