//! A GGUF model as llama.cpp writes it: the language model's file and, where the model sees, its
//! `mmproj` companion.
//!
//! It finds the two and makes sure that they fit. What their metadata means as Hugging Face files
//! is in `settings`, the vocabulary's in `vocabulary`, tensor names in `tensors`.

mod settings;
mod tensors;
mod vocabulary;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::config::unsupported;
use crate::error::Error;
use crate::weights::gguf::{GgufFile, damaged, part_names};
use tensors::{GgufTensors, VisionNames};

/// A language model that this library has, by `general.architecture`.
struct Architecture {
    name: &'static str,
    /// as `config.json` calls it
    model_type: &'static str,
    /// llama.cpp turns neighbouring pairs of a head where transformers turns its two halves, and
    /// its converter reorders the rows of q and k for that.
    interleaved: bool,
}

const ARCHITECTURES: [Architecture; 3] = [
    Architecture { name: "llama", model_type: "llama", interleaved: true },
    Architecture { name: "qwen2", model_type: "qwen2", interleaved: false },
    // Without pictures its three rotary positions are one.
    Architecture { name: "qwen2vl", model_type: "qwen2", interleaved: false },
];

/// A way from vision features to embeddings, by `clip.projector_type`, and the family it is of.
struct Projector {
    name: &'static str,
    /// as `config.json` calls the family
    model_type: &'static str,
    /// the only architecture that it goes with, and what `config.json` calls that one's decoder
    decoder: Option<(&'static str, &'static str)>,
    image_token: &'static str,
    /// tokens that the family puts around its picture tokens, so that no vocabulary lacks them
    around: &'static [&'static str],
    vision: &'static VisionNames,
    /// name in the file → in the family
    layers: &'static [(&'static str, &'static str)],
    /// the tensor whose rows are the language model's width
    last: &'static str,
}

const LLAVA: Projector = Projector {
    name: "mlp",
    model_type: "llava",
    decoder: None,
    image_token: "<image>",
    around: &[],
    vision: &VisionNames { tower: "vision_tower.vision_model", ..tensors::CLIP },
    layers: &[
        ("mm.0", "multi_modal_projector.linear_1"),
        ("mm.2", "multi_modal_projector.linear_2"),
        ("model.image_newline", "model.image_newline"),
    ],
    last: "mm.2.weight",
};

const QWEN2_VL: Projector = Projector {
    name: "qwen2vl_merger",
    model_type: "qwen2_vl",
    decoder: Some(("qwen2vl", "qwen2_vl_text")),
    image_token: "<|image_pad|>",
    around: &[],
    vision: &tensors::QWEN2_VL,
    layers: &[("mm.0", "visual.merger.mlp.0"), ("mm.2", "visual.merger.mlp.2")],
    last: "mm.2.weight",
};

const PROJECTORS: [Projector; 4] = [
    LLAVA,
    Projector {
        name: "idefics3",
        model_type: "idefics3",
        around: &["<fake_token_around_image>", "<global-img>"],
        vision: &VisionNames { tower: "model.vision_model", ..tensors::CLIP },
        layers: &[("mm.model.fc", "model.connector.modality_projection.proj")],
        last: "mm.model.fc.weight",
        ..LLAVA
    },
    QWEN2_VL,
    Projector {
        name: "qwen2.5vl_merger",
        model_type: "qwen2_5_vl",
        decoder: Some(("qwen2vl", "qwen2_5_vl_text")),
        vision: &tensors::QWEN2_5_VL,
        ..QWEN2_VL
    },
];

/// The files of one model.
pub(super) struct Gguf {
    text: Arc<GgufFile>,
    architecture: &'static Architecture,
    vision: Option<(Arc<GgufFile>, &'static Projector)>,
}

/// Whether `path` is a GGUF file, or a folder that holds some.
pub(super) fn is_there(path: &Path) -> bool {
    (is_gguf(path) && path.is_file()) || (path.is_dir() && !files_in(path).is_empty())
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// `mmproj-model-f16.gguf`, `model-mmproj.gguf` and their like.
fn is_mmproj(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    name.contains("mmproj")
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    // Of a file in parts the first stands for all.
    let is_first = |path: &Path| part_names(path).first().is_none_or(|first| first == path);
    files.retain(|path| is_gguf(path) && path.is_file() && is_first(path));
    files.sort();
    files
}

impl Gguf {
    /// The model at `path`, a file or a folder; `None` where there is no GGUF file.
    pub(super) fn find(path: &Path) -> Result<Option<Self>, Error> {
        if is_gguf(path) && !path.is_dir() {
            return Self::open(path).map(Some);
        }
        let files = files_in(path);
        let models: Vec<&PathBuf> = files.iter().filter(|file| !is_mmproj(file)).collect();
        match (models.as_slice(), files.as_slice()) {
            ([], []) => Ok(None),
            ([model], _) => Self::open(model).map(Some),
            ([], [eyes, ..]) => Self::open(eyes).map(Some),
            ([one, other, ..], _) => Err(refused(
                path,
                format!("holds several models, {} and {}", name(one), name(other)),
                "name the file of one of them",
            )),
        }
    }

    fn open(path: &Path) -> Result<Self, Error> {
        let text = Arc::new(GgufFile::open(path)?);
        let found = text.text("general.architecture")?.unwrap_or("nothing");
        if found == "clip" {
            let reason = "it is the vision part of a model".to_string();
            return Err(refused(path, reason, "name the language model's file beside it"));
        }
        let architecture = ARCHITECTURES.iter().find(|known| known.name == found);
        let architecture = architecture.ok_or_else(|| {
            let names = ARCHITECTURES.each_ref().map(|known| known.name).join(", ");
            unsupported("general.architecture", found, &names)
        })?;
        let vision = companion(&text, architecture)?;
        Ok(Gguf { text, architecture, vision })
    }

    /// What the model would say in a Hugging Face file of this name.
    pub(super) fn json(&self, name: &str) -> Result<Option<Value>, Error> {
        match name {
            "config.json" => settings::config(self).map(Some),
            "preprocessor_config.json" => settings::preprocessor(self),
            "tokenizer.json" => vocabulary::tokenizer(self).map(Some),
            "tokenizer_config.json" => vocabulary::special_tokens(self).map(Some),
            _ => Ok(None),
        }
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let vision = self.vision.iter().map(|(file, _)| file);
        [&self.text].into_iter().chain(vision).flat_map(|file| file.paths()).collect()
    }

    /// The file that says what `name` holds.
    pub(super) fn place(&self, name: &str) -> &Path {
        match (&self.vision, name) {
            (Some((file, _)), "preprocessor_config.json") => file.path(),
            _ => self.text.path(),
        }
    }

    pub(super) fn tensors(&self) -> Result<GgufTensors, Error> {
        GgufTensors::new(self)
    }
}

/// The one `mmproj` file beside the language model; `None` where there is none.
///
/// Errors: none that fits, or several.
fn companion(
    text: &GgufFile,
    architecture: &Architecture,
) -> Result<Option<(Arc<GgufFile>, &'static Projector)>, Error> {
    let folder = text.path().parent().filter(|folder| !folder.as_os_str().is_empty());
    let beside = files_in(folder.unwrap_or(Path::new(".")));
    let mut fitting: Vec<(GgufFile, &'static Projector)> = Vec::new();
    let mut misfit = None;
    for path in beside.iter().filter(|path| is_mmproj(path)) {
        let file = GgufFile::open(path)?;
        let found = projector(&file).and_then(|found| {
            let reason = mismatch((text, architecture), (&file, found))?;
            Ok((found, reason))
        });
        match found {
            Ok((projector, None)) => fitting.push((file, projector)),
            Ok((_, Some(reason))) => {
                misfit = Some(refused(text.path(), reason, "put the mmproj file of this model"));
            }
            Err(error) => misfit = Some(error),
        }
    }
    match (fitting.len(), misfit) {
        (0, Some(misfit)) => Err(misfit),
        (0 | 1, _) => Ok(fitting.pop().map(|(file, projector)| (Arc::new(file), projector))),
        _ => {
            let (one, other) = (fitting[0].0.name(), fitting[1].0.name());
            let width = projected_width(&fitting[0].0, fitting[0].1)?;
            let reason = format!("{one} and {other} both fit it (embeddings of width {width})");
            Err(refused(text.path(), reason, "keep one of them in the folder"))
        }
    }
}

/// Why the eyes in a file are not those of a language model, where they are not.
fn mismatch(
    (text, architecture): (&GgufFile, &Architecture),
    (file, projector): (&GgufFile, &Projector),
) -> Result<Option<String>, Error> {
    let (eyes, words) = (file.name(), text.name());
    let kind = architecture.name;
    let is_for = |projector: &Projector| projector.decoder.map(|(name, _)| name);
    match is_for(projector) {
        Some(wanted) if wanted != kind => {
            return Ok(Some(format!(
                "{eyes} was made for a decoder of kind {wanted}, but {words} is {kind}"
            )));
        }
        None if PROJECTORS.iter().any(|own| is_for(own) == Some(kind)) => {
            let family = projector.model_type;
            return Ok(Some(format!(
                "{eyes} holds eyes of kind {family}, but {words} is {kind}, which has its own kind"
            )));
        }
        _ => {}
    }
    let (gives, reads) =
        (projected_width(file, projector)?, text.count(&format!("{kind}.embedding_length"))?);
    if gives != reads.unwrap_or(0) {
        let reads = reads.unwrap_or(0);
        return Ok(Some(format!(
            "{eyes} makes embeddings of width {gives}, but {words} reads {reads}"
        )));
    }
    if projector.decoder.is_some()
        && let Some(reason) = other_generation(text, (file, projector))?
    {
        return Ok(Some(reason));
    }
    let tokens = match projector.around {
        [] => Vec::new(),
        _ => text.texts("tokenizer.ggml.tokens")?.unwrap_or_default(),
    };
    let missing = projector.around.iter().find(|token| tokens.iter().all(|own| own != *token));
    Ok(missing.map(|token| {
        format!("{eyes} needs the token {token} around pictures, which {words} does not have")
    }))
}

/// Qwen2-VL and Qwen2.5-VL have decoders of one kind: what else the files say of it.
fn other_generation(
    text: &GgufFile,
    (file, projector): (&GgufFile, &Projector),
) -> Result<Option<String>, Error> {
    let (eyes, words, key) = (file.name(), text.name(), "clip.vision.n_wa_pattern");
    let has_windows = file.count(key)?.is_some_and(|every| every > 0);
    if has_windows != (projector.model_type == "qwen2_5_vl") {
        let (kind, has) = (projector.name, if has_windows { "has" } else { "lacks" });
        return Ok(Some(format!("{eyes} is of kind {kind}, but {has} the windows of {key}")));
    }
    for key in ["general.basename", "general.name", "general.base_model.0.name"] {
        let stated = text.text(key)?.unwrap_or_default().trim();
        let plain = stated.chars().filter(char::is_ascii_alphanumeric);
        let plain = plain.collect::<String>().to_lowercase();
        let spelled = [("qwen25vl", "qwen2_5_vl"), ("qwen2vl", "qwen2_vl")];
        let Some((_, of)) = spelled.iter().find(|(spelled, _)| plain.contains(spelled)) else {
            continue;
        };
        let kind = projector.name;
        let reason = format!("{eyes} is of kind {kind}, but {words} calls itself {stated}");
        return Ok((*of != projector.model_type).then_some(reason));
    }
    Ok(None)
}

/// The kind of a companion. Errors: another file, or a kind that this library does not have.
fn projector(file: &GgufFile) -> Result<&'static Projector, Error> {
    if file.text("general.architecture")? != Some("clip") {
        return Err(damaged(file.path(), "it is named mmproj, but holds no vision part".into()));
    }
    let found = match file.text("clip.projector_type")? {
        Some(found) => found,
        None => file.text("clip.vision.projector_type")?.unwrap_or("mlp"),
    };
    PROJECTORS.iter().find(|known| known.name == found).ok_or_else(|| {
        let names = PROJECTORS.each_ref().map(|known| known.name).join(", ");
        unsupported(&format!("clip.projector_type of {}", file.name()), found, &names)
    })
}

/// Width of the embeddings: what the last layer gives, as older files state another number.
fn projected_width(file: &GgufFile, projector: &Projector) -> Result<usize, Error> {
    let rows = file.dims(projector.last).and_then(|dims| dims.first().copied());
    rows.ok_or_else(|| damaged(file.path(), format!("it has no tensor {}", projector.last)))
}

fn refused(path: &Path, reason: String, hint: &str) -> Error {
    Error::Weights { path: path.to_path_buf(), reason, hint: hint.to_string() }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
