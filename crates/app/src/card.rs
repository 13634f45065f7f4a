//! A model folder's README -> what the user reads about the model.
//!
//! Abilities, limits and examples are the list items under headings that say so ("What it can
//! do", "What it cannot do", "Try"). A model that says nothing gets careful general words.

use std::path::Path;

use vlm::Config;
use vlm::explain::Calibration;

use crate::api::ModelCard;
use crate::models;

/// Examples for a model whose card names none.
const EXAMPLES: [&str; 3] =
    ["What is in the picture?", "How many things are there?", "What colour is it?"];

pub(crate) fn card(
    folder: &Path,
    (config, calibration): (&Config, &Calibration),
    (quantization, sight): (vlm::Quantization, &eval::Sight),
) -> ModelCard {
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    let shapes = vlm::Vlm::parameter_shapes(config).unwrap_or_default();
    let parameters = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>() as f64).sum();
    let evidence = match (calibration.heads.trained, calibration.map.is_some()) {
        (true, _) => "The regions come from attention heads trained to look at what a word names.",
        (false, true) => {
            "This model was not trained to show its evidence: its regions were calibrated on drawn \
             pictures. How far they can be trusted stands under its marks."
        }
        (false, false) => {
            "This model was not trained to show its evidence, and nobody has calibrated it yet: \
             its marks are off."
        }
    };
    ModelCard {
        name: models::name_of(folder),
        folder: folder.display().to_string(),
        quantization: quantization.into(),
        family: config.family().title.into(),
        parameters,
        context_tokens: config.text_config.max_position_embeddings as u32,
        shipped: models::is_shipped(folder),
        summary: summary(&readme),
        abilities: items(&readme, &["can do", "good at"]),
        limits: or(
            items(&readme, &["cannot", "limit"]),
            &["It can be wrong: compare what matters with the picture"],
        ),
        examples: or(items(&readme, &["try", "example question"]), &EXAMPLES),
        evidence: evidence.into(),
        sight: sight.into(),
    }
}

fn or(found: Vec<String>, otherwise: &[&str]) -> Vec<String> {
    if found.is_empty() { otherwise.iter().map(|text| text.to_string()).collect() } else { found }
}

/// The first paragraph, without the front matter and the title.
fn summary(readme: &str) -> String {
    let body = readme.strip_prefix("---").and_then(|rest| rest.split_once("\n---"));
    let body = body.map_or(readme, |(_, body)| body);
    let plain = |line: &&str| !line.starts_with(['#', '!', '<', '|', '-', '`']);
    let lines = body.lines().map(str::trim);
    let paragraph = lines.skip_while(|line| line.is_empty() || !plain(line));
    let lines: Vec<&str> = paragraph.take_while(|line| !line.is_empty()).collect();
    strip(&lines.join(" "))
}

/// List items under the first heading that holds one of `names`; a negation is a limit.
fn items(readme: &str, names: &[&str]) -> Vec<String> {
    let wants = |line: &str| {
        let heading = line.to_lowercase();
        names.iter().any(|name| heading.contains(name))
    };
    let mut inside = false;
    let mut items: Vec<String> = Vec::new();
    for line in readme.lines() {
        if line.starts_with('#') {
            if inside && !items.is_empty() {
                break;
            }
            inside = wants(line);
        } else if let Some(item) = line.strip_prefix("- ").or(line.strip_prefix("* ")) {
            if inside {
                items.push(strip(item));
            }
        } else if inside && line.starts_with("  ") && !line.trim().is_empty() {
            if let Some(last) = items.last_mut() {
                *last = format!("{last} {}", strip(line.trim()));
            }
        }
    }
    items
}

/// Without Markdown's emphasis and code marks.
fn strip(text: &str) -> String {
    text.replace("**", "").replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_read_from_its_readme() {
        let readme = "---\nlicense: apache-2.0\n---\n# nano\n\nA **small** model\nfor scenes.\n\n\
                      ## What it can do\n\n- Name things.\n- Count\n  to four.\n\n\
                      ## What it cannot do\n\n- Read photos.\n";
        assert_eq!(summary(readme), "A small model for scenes.");
        assert_eq!(items(readme, &["can do"]), ["Name things.", "Count to four."]);
        assert_eq!(items(readme, &["cannot"]), ["Read photos."]);
        assert!(items("", &["cannot"]).is_empty() && summary("").is_empty());
    }
}
