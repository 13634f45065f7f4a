//! One folder: a checkpoint, its input, and what the reference computed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vlm::Checkpoint;
use vlm::processor::{Message, Part, Role, image as pictures};

use crate::Error;

/// The file that makes a folder a case.
pub(super) const FILE: &str = "case.json";

/// What a case's model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A question about pictures is answered.
    Ask,
    /// Pictures are compared with texts.
    Compare,
}

impl Kind {
    /// Activations that are compared, from the pixels on.
    #[must_use]
    pub fn tensors(self) -> &'static [&'static str] {
        match self {
            Kind::Ask => &["pixel_values", "vision_features", "image_embeds", "logits"],
            Kind::Compare => &[
                "pixel_values",
                "vision_features",
                "image_embeds",
                "text_embeds",
                "logits_per_image",
            ],
        }
    }
}

/// A case: what is asked, about which pictures, and the reference's tensors.
pub struct Case {
    pub name: String,
    /// The model's folder.
    pub dir: PathBuf,
    pub kind: Kind,
    pub images: Vec<RgbImage>,
    /// Ask: the question, and what came before it.
    pub messages: Vec<Message>,
    /// Ask: the chat template's output, one placeholder for each picture.
    pub prompt: String,
    /// Compare: what the pictures are compared with.
    pub texts: Vec<String>,
    expected: HashMap<String, Tensor>,
}

/// How far two tensors are apart.
#[derive(Clone, Copy, Debug)]
pub struct Apart {
    /// max|a-b| / max|b|
    pub relative: f64,
    /// max|a-b|
    pub absolute: f32,
}

impl Case {
    /// Reads `case.json`, the pictures `image-0.*`, `image-1.*` and `expected.safetensors`.
    ///
    /// # Errors
    /// [`Error::Case`] with what is missing or wrong.
    pub fn load(dir: PathBuf) -> Result<Case, Error> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let case = json(&dir.join(FILE))?;
        let wrong = |reason: &str| Error::Case { path: dir.join(FILE), reason: reason.into() };
        let list = |key: &str| case[key].as_array().map(Vec::as_slice);
        let (kind, messages, texts, prompt) = match (list("messages"), list("texts")) {
            (_, Some(texts)) => (Kind::Compare, &[][..], texts, ""),
            (Some(messages), None) => {
                let prompt = case["prompt"].as_str().ok_or_else(|| wrong("it has no prompt"))?;
                (Kind::Ask, messages, &[][..], prompt)
            }
            (None, None) => return Err(wrong("it has neither messages nor texts")),
        };
        let messages = messages.iter().map(message).collect::<Option<_>>();
        let texts =
            texts.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<_>>();
        let images = (0..case["images"].as_u64().unwrap_or(0)).map(|i| picture(&dir, i));
        let path = dir.join("expected.safetensors");
        let failed = |error: candle_core::Error| Error::Case {
            path: path.clone(),
            reason: error.to_string(),
        };
        Ok(Case {
            name,
            kind,
            messages: messages.ok_or_else(|| wrong("a part is neither text nor an image"))?,
            images: images.collect::<Result<_, _>>()?,
            prompt: prompt.to_owned(),
            texts: texts.ok_or_else(|| wrong("a text is no string"))?,
            expected: candle_core::safetensors::load(&path, &Device::Cpu).map_err(failed)?,
            dir,
        })
    }

    /// The family and its decoder, as `config.json` calls them; `-` for what has no decoder, and a
    /// language model alone is both.
    ///
    /// # Errors
    /// [`Error::Case`].
    pub fn kinds(&self) -> Result<(String, String), Error> {
        let config = Checkpoint::open(&self.dir)?.json("config.json")?.unwrap_or_default();
        let kind = |value: &Value| value["model_type"].as_str().map(str::to_owned);
        let family = kind(&config).unwrap_or_default();
        let decoder = match self.kind {
            Kind::Ask => kind(&config["text_config"]).unwrap_or_else(|| family.clone()),
            Kind::Compare => "-".to_owned(),
        };
        Ok((family, decoder))
    }

    fn tensor(&self, name: &str) -> Result<&Tensor, Error> {
        let reason = format!("it has no {name}");
        let path = self.dir.join("expected.safetensors");
        self.expected.get(name).ok_or(Error::Case { path, reason })
    }

    /// What the reference computed, as f32.
    ///
    /// # Errors
    /// [`Error::Case`] when it is not there.
    pub fn floats(&self, name: &str) -> Result<Tensor, Error> {
        Ok(self.tensor(name)?.to_dtype(DType::F32)?)
    }

    /// Token ids that the reference computed.
    ///
    /// # Errors
    /// [`Error::Case`] when they are not there.
    pub fn ids(&self, name: &str) -> Result<Vec<u32>, Error> {
        let ids: Vec<i64> = self.tensor(name)?.to_vec1()?;
        Ok(ids.into_iter().map(|id| id as u32).collect())
    }

    /// How far `ours` is from what the reference computed.
    ///
    /// # Errors
    /// [`Error::Case`] when the shapes differ.
    pub fn apart(&self, name: &str, ours: &Tensor) -> Result<Apart, Error> {
        let reference = self.floats(name)?;
        if ours.dims() != reference.dims() {
            let reason = format!("{name} is {:?}, ours {:?}", reference.dims(), ours.dims());
            return Err(Error::Case { path: self.dir.clone(), reason });
        }
        let flat = |tensor: &Tensor| -> Result<Vec<f32>, Error> {
            Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
        };
        let (ours, reference) = (flat(ours)?, flat(&reference)?);
        let largest = reference.iter().fold(0f32, |max, b| max.max(b.abs()));
        let apart = ours.iter().zip(&reference).map(|(a, b)| (a - b).abs());
        // NaN is further apart than anything.
        let absolute = apart.fold(0f32, |max, d| if d > max || d.is_nan() { d } else { max });
        let absolute = if absolute.is_nan() { f32::MAX } else { absolute };
        let relative = f64::from(absolute) / f64::from(largest).max(f64::MIN_POSITIVE);
        Ok(Apart { relative, absolute })
    }
}

fn json(path: &Path) -> Result<Value, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let text = std::fs::read(path).map_err(read)?;
    let wrong =
        |error: serde_json::Error| Error::Case { path: path.to_owned(), reason: error.to_string() };
    serde_json::from_slice(&text).map_err(wrong)
}

fn picture(dir: &Path, index: u64) -> Result<RgbImage, Error> {
    let stem = format!("image-{index}");
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths = entries.map(|entry| entry.path());
    let path = paths.find(|path| path.file_stem().is_some_and(|found| *found == *stem));
    let missing = || Error::Case { path: dir.to_owned(), reason: format!("it has no {stem}") };
    Ok(pictures::open(&path.ok_or_else(missing)?)?)
}

fn message(json: &Value) -> Option<Message> {
    let role = match json["role"].as_str()? {
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => Role::User,
    };
    let part = |part: &Value| match part["type"].as_str() {
        Some("image") => Some(Part::Image),
        _ => Some(Part::Text(part["text"].as_str()?.to_owned())),
    };
    let content = json["content"].as_array()?.iter().map(part).collect::<Option<_>>()?;
    Some(Message { role, content })
}
