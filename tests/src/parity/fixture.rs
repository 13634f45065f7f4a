//! One fixture folder: a model, its input and what the reference computed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use serde_json::Value;
use vlm::processor::{Message, Part, Role, image as pictures};

/// A case of `tests/parity/fixtures`.
pub struct Fixture {
    pub name: String,
    pub dir: PathBuf,
    pub messages: Vec<Message>,
    pub images: Vec<RgbImage>,
    /// The chat template's output, one placeholder for each picture.
    pub prompt: String,
    expected: HashMap<String, Tensor>,
}

/// Every case, in the order of their names.
pub fn all() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/fixtures");
    let entries = std::fs::read_dir(&root).expect("tests/parity/fixtures");
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder").path()).collect();
    dirs.sort();
    assert!(dirs.len() >= 9, "{} cases", dirs.len());
    dirs.into_iter().map(Fixture::load).collect()
}

impl Fixture {
    fn load(dir: PathBuf) -> Fixture {
        let name = dir.file_name().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(dir.join("case.json")).expect("case.json");
        let case: Value = serde_json::from_str(&text).expect("JSON");
        let messages = case["messages"].as_array().expect("messages").iter().map(message);
        let n_images = case["images"].as_u64().expect("a count");
        let images = (0..n_images)
            .map(|i| pictures::open(&dir.join(format!("image-{i}.png"))).expect("a picture"));
        let path = dir.join("expected.safetensors");
        Fixture {
            messages: messages.collect(),
            images: images.collect(),
            prompt: case["prompt"].as_str().expect("a prompt").to_owned(),
            expected: candle_core::safetensors::load(path, &Device::Cpu).expect("tensors"),
            name,
            dir,
        }
    }

    /// What the reference computed, as f32.
    pub fn floats(&self, name: &str) -> Tensor {
        self.expected[name].to_dtype(DType::F32).expect("numbers")
    }

    /// Token ids the reference computed.
    pub fn ids(&self, name: &str) -> Vec<u32> {
        let ids: Vec<i64> = self.expected[name].to_vec1().expect("ids");
        ids.into_iter().map(|id| id as u32).collect()
    }

    /// Fails unless `ours` has the reference's shape and max|a-b| / max|b| is at most `bound`.
    pub fn assert_close(&self, tensor: &str, ours: &Tensor, bound: f32) {
        let reference = self.floats(tensor);
        assert_eq!(ours.dims(), reference.dims(), "{}: shape of {tensor}", self.name);
        let flat = |tensor: &Tensor| -> Vec<f32> {
            tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("f32 values")
        };
        let (ours, reference) = (flat(ours), flat(&reference));
        let largest = reference.iter().fold(0f32, |max, b| max.max(b.abs()));
        let apart = ours.iter().zip(&reference).map(|(a, b)| (a - b).abs());
        // NaN compares as further apart than anything.
        let apart = apart.fold(0f32, |max, d| if d.is_nan() || d > max { d } else { max });
        println!("{}: {tensor} differs by {:.1e}", self.name, apart / largest);
        assert!(apart / largest <= bound, "{}: {tensor}: {apart} of {largest}", self.name);
    }
}

fn message(json: &Value) -> Message {
    let role = match json["role"].as_str() {
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => Role::User,
    };
    let part = |part: &Value| match part["type"].as_str() {
        Some("image") => Part::Image,
        _ => Part::Text(part["text"].as_str().expect("text").to_owned()),
    };
    let content = json["content"].as_array().expect("parts").iter().map(part).collect();
    Message { role, content }
}
