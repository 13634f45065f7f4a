//! Weights stored in other ways than usual: each dtype that is read gives the same answers, every
//! other one is refused by the tensor's name, and of a tensor that is there twice the right one is
//! taken or both are named.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use serde_json::Value;
use tempfile::TempDir;
use vlm::processor::{Message, Processor};
use vlm::{Config, Mask, Positions, Probe, Vlm};

use super::models::copy_of;

const SHARDED: &str = "llava-siglip-qwen2-sharded";
const INDEX: &str = "model.safetensors.index.json";

type Tensors = HashMap<String, Tensor>;

fn read(path: &Path) -> Tensors {
    candle_core::safetensors::load(path, &Device::Cpu).expect("good weights")
}

fn write(tensors: &Tensors, path: &Path) {
    candle_core::safetensors::save(tensors, path).expect("written weights");
}

/// Logits of a question about a picture.
fn logits(dir: &Path) -> Vec<f32> {
    let config = Config::load(dir).expect("a config");
    let processor = Processor::load(dir, &config).expect("a processor");
    let vlm = Vlm::load(dir, &Device::Cpu).expect("a model");
    let picture = RgbImage::from_fn(40, 30, |x, y| image::Rgb([6 * x as u8, 8 * y as u8, 90]));
    let inputs = processor.prepare(&[Message::user(1, "What is this?")], &[picture]);
    let inputs = inputs.expect("inputs");
    let pixels = inputs.pixel_values.as_ref().expect("pixels");
    let embeds = vlm.encode_images(pixels).and_then(|e| vlm.pack(&e, &inputs.image_spans));
    let merged = vlm.merge(&inputs.input_ids, &embeds.expect("picture tokens")).expect("merged");
    let (from, mut probe) = (Positions::From(0), Probe::none());
    let hidden = vlm.forward(&merged, &from, &Mask::Causal, None, &mut probe);
    let logits = vlm.logits(&hidden.expect("hidden states")).expect("logits");
    logits.flatten_all().and_then(|logits| logits.to_vec1()).expect("numbers")
}

/// What checking and loading say; they say the same.
fn refusal(dir: &Path) -> String {
    let checked = Vlm::check(dir).expect_err("bad weights were taken up").to_string();
    let loaded = Vlm::load(dir, &Device::Cpu).err().expect("bad weights were loaded").to_string();
    assert_eq!(checked, loaded);
    loaded
}

/// A copy whose tensors are stored as `dtype`, read from numbers of the dtype `rounded`.
fn stored_as(dtype: DType, rounded: DType) -> TempDir {
    let folder = copy_of("llava-clip-llama");
    let path = folder.path().join("model.safetensors");
    let convert = |(name, tensor): (String, Tensor)| {
        let tensor = tensor.to_dtype(rounded).and_then(|tensor| tensor.to_dtype(dtype));
        (name, tensor.expect("converted"))
    };
    write(&read(&path).into_iter().map(convert).collect(), &path);
    folder
}

#[test]
fn every_dtype_that_is_read_gives_the_same_answers() {
    let of = |dtype, rounded| logits(stored_as(dtype, rounded).path());
    let exact = of(DType::F32, DType::F32);
    let size = exact.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    assert_eq!(of(DType::F64, DType::F32), exact);
    for (dtype, near) in [(DType::F16, 4e-3), (DType::BF16, 4e-2)] {
        let found = of(dtype, dtype);
        assert_eq!(of(DType::F32, dtype), found, "{dtype:?}: the same numbers, stored wider");
        let apart = exact.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart > 0.0 && apart < near * size, "{dtype:?}: {}", apart / size);
    }
}

/// Says in a file's header that a tensor is of another dtype of the same size, which candle may
/// not write.
fn with_dtype(path: &Path, name: &str, dtype: &str) {
    let bytes = std::fs::read(path).expect("weights");
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize;
    let (header, data) = rest.split_at(length);
    let mut header: Value = serde_json::from_slice(header).expect("a header");
    header[name]["dtype"] = dtype.into();
    let header = header.to_string().into_bytes();
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&length[..], &header, data].concat()).expect("written");
}

#[test]
fn weights_of_another_dtype_are_refused_by_name() {
    let name = "language_model.model.layers.1.mlp.up_proj.weight";
    let refused = |dtype: &str| {
        let folder = copy_of("llava-clip-llama");
        let path = folder.path().join("model.safetensors");
        let (change, to) = match dtype {
            "I32" => (DType::F32, dtype),
            "F8_E4M3" | "I8" | "U8" => (DType::U8, dtype),
            _ => (DType::I64, dtype),
        };
        let mut tensors = read(&path);
        let tensor = tensors.get(name).expect(name).to_dtype(change).expect("converted");
        tensors.insert(name.to_owned(), tensor);
        write(&tensors, &path);
        with_dtype(&path, name, to);
        let message = refusal(folder.path());
        assert!(message.contains("up_proj.weight is ") && message.contains(dtype), "{message}");
        assert!(message.contains("take the weights in F32, F16 or BF16"), "{message}");
    };
    ["I32", "I64", "I8", "U8", "F8_E4M3"].into_iter().for_each(refused);
}

/// A sharded checkpoint, with a tensor of the one shard also in the other, all zeros there.
fn twice(name: &str, also_in: &str) -> TempDir {
    let folder = copy_of(SHARDED);
    let index = std::fs::read(folder.path().join(INDEX)).expect("an index");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let right = index["weight_map"][name].as_str().expect(name);
    assert_ne!(right, also_in);
    let zeros = read(&folder.path().join(right))[name].zeros_like().expect("zeros");
    let path = folder.path().join(also_in);
    let mut tensors = read(&path);
    tensors.insert(name.to_owned(), zeros);
    write(&tensors, &path);
    folder
}

fn shard(i: usize) -> String {
    format!("model-{i:05}-of-00005.safetensors")
}

#[test]
fn of_a_tensor_in_two_shards_the_one_that_the_index_names_is_read() {
    let (good, name) = (copy_of(SHARDED), "language_model.model.layers.0.mlp.up_proj.weight");
    let expected = logits(good.path());
    for i in [1, 5] {
        let folder = twice(name, &shard(i));
        assert_eq!(logits(folder.path()), expected, "{name} also in shard {i}");
        let path = folder.path().join(INDEX);
        let index = std::fs::read(&path).expect("an index");
        let mut index: Value = serde_json::from_slice(&index).expect("JSON");
        index["weight_map"].as_object_mut().expect("a map").remove(name);
        std::fs::write(&path, index.to_string()).expect("written");
        let message = refusal(folder.path());
        assert!(message.contains(name) && message.contains("names neither"), "{message}");
    }
}
