//! One folder: a checkpoint, its input, and what the reference computed.

use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vlm::Checkpoint;
use vlm::processor::{Message, Part, Role, image as pictures};

use super::reference::Reference;
use crate::Error;

/// The file that makes a folder a case.
const FILE: &str = "case.json";

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
    /// What the reference computed.
    pub expected: Reference,
}

impl Case {
    /// Reads `case.json`, the pictures `image-0.*`, `image-1.*` and `expected.safetensors`.
    ///
    /// # Errors
    /// [`Error::Case`] with what is missing or wrong.
    pub fn load(dir: PathBuf) -> Result<Case, Error> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let case: Value = read(&dir)?;
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
        Ok(Case {
            name,
            kind,
            messages: messages.ok_or_else(|| wrong("a part is neither text nor an image"))?,
            images: images.collect::<Result<_, _>>()?,
            prompt: prompt.to_owned(),
            texts: texts.ok_or_else(|| wrong("a text is no string"))?,
            expected: Reference::load(&dir)?,
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
}

/// The folders in a folder that are cases, in the order of their names.
///
/// # Errors
/// [`Error::Read`]; [`Error::Case`] where there is none.
pub(crate) fn folders(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = |source| Error::Read { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(read)?;
    let mut dirs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    dirs.retain(|dir| dir.join(FILE).is_file());
    dirs.sort();
    if dirs.is_empty() {
        let reason = format!("no folder in it holds a {FILE}");
        return Err(Error::Case { path: folder.to_owned(), reason });
    }
    Ok(dirs)
}

/// A case's `case.json`.
///
/// # Errors
/// [`Error::Read`]; [`Error::Case`] where it is not what is expected.
pub(crate) fn read<T: DeserializeOwned>(dir: &Path) -> Result<T, Error> {
    let path = dir.join(FILE);
    let text = std::fs::read(&path);
    let text = text.map_err(|source| Error::Read { path: path.clone(), source })?;
    let wrong = |error: serde_json::Error| Error::Case { path, reason: error.to_string() };
    serde_json::from_slice(&text).map_err(wrong)
}

/// The picture `image-{index}` of a case, in any format.
pub(crate) fn picture(dir: &Path, index: u64) -> Result<RgbImage, Error> {
    let stem = format!("image-{index}");
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths = entries.map(|entry| entry.path());
    let path = paths.find(|path| path.file_stem().is_some_and(|found| *found == *stem));
    let missing = || Error::Case { path: dir.to_owned(), reason: format!("it has no {stem}") };
    Ok(pictures::open(&path.ok_or_else(missing)?)?)
}

/// A message as chat templates take it; `None` where a part is neither text nor an image.
pub(crate) fn message(json: &Value) -> Option<Message> {
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
