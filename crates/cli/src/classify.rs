//! `sightline classify`: which of some labels fits a picture, by a model that compares pictures
//! with texts (CLIP, SigLIP), as transformers' zero-shot pipeline does it.
use std::path::{Path, PathBuf};

use serde_json::json;
use vlm::{DeviceChoice, DualEncoder};

use crate::ask::print;
use crate::problem::Problem;

/// Say which of some labels fits a picture, with a CLIP or SigLIP model.
///
/// CLIP's probabilities are shared out among the labels; SigLIP's stand each for itself.
#[derive(clap::Args)]
pub struct Classify {
    /// Picture files.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// The folder of a CLIP, SigLIP or SigLIP 2 model.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// What to choose among, with commas between.
    #[arg(long, value_name = "A,B,...", required = true, value_delimiter = ',')]
    labels: Vec<String>,
    /// The sentence that each label is put into, at {}.
    #[arg(long, value_name = "TEXT", default_value = "This is a photo of {}.")]
    template: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// auto, cpu, cuda or metal.
    #[arg(long, default_value = "auto")]
    device: String,
}

impl Classify {
    pub fn run(self) -> Result<(), Problem> {
        let labels: Vec<&str> = self.labels.iter().map(|label| label.trim()).collect();
        let form = "usage: sightline classify --model DIR IMAGE --labels cat,dog";
        if labels.iter().any(|label| label.is_empty()) {
            return Err(Problem::usage("a label is empty", form));
        }
        if !self.template.contains("{}") {
            let hint = "write it like \"a photo of {}\"";
            return Err(Problem::usage("the template has no {} for the label", hint));
        }
        let device = vlm::choose(self.device.parse::<DeviceChoice>()?)?;
        let dual_encoder = DualEncoder::load(&self.model, &device)?;
        let open = |path: &PathBuf| vlm::processor::image::open(path);
        let images = self.images.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let texts: Vec<String> =
            labels.iter().map(|label| self.template.replace("{}", label)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let text_embeds = dual_encoder.encode_texts(&texts)?;
        let logits = dual_encoder.logits(&dual_encoder.encode_images(&images)?, &text_embeds)?;
        let probabilities = dual_encoder.probabilities(&logits)?;
        let rows = probabilities.to_vec2::<f32>()?.into_iter().zip(logits.to_vec2::<f32>()?);
        let found = self.images.iter().zip(rows).map(|(image, (probabilities, logits))| {
            let scored = probabilities.into_iter().zip(logits).zip(&labels);
            let mut scored: Vec<(&str, f32, f32)> =
                scored.map(|((probability, logit), label)| (*label, probability, logit)).collect();
            scored.sort_by(|a, b| b.2.total_cmp(&a.2));
            (image.as_path(), scored)
        });
        let found: Vec<_> = found.collect();
        print(&if self.json { as_json(&found) } else { as_table(&found) })
    }
}

/// A picture and its labels, each with its probability and logit, the likeliest first.
type Found<'a> = (&'a Path, Vec<(&'a str, f32, f32)>);

fn as_json(found: &[Found]) -> String {
    let images = found.iter().map(|(image, scored)| {
        let labels = scored.iter().map(|(label, probability, logit)| {
            json!({ "label": label, "probability": probability, "logit": logit })
        });
        json!({ "image": image.display().to_string(), "labels": labels.collect::<Vec<_>>() })
    });
    format!("{}\n", json!({ "images": images.collect::<Vec<_>>() }))
}

fn as_table(found: &[Found]) -> String {
    let mut text = String::new();
    for (image, scored) in found {
        if found.len() > 1 {
            text.push_str(&format!("{}\n", image.display()));
        }
        for (label, probability, _) in scored {
            text.push_str(&format!("{:>6.2} %  {label}\n", probability * 100.0));
        }
    }
    text
}
