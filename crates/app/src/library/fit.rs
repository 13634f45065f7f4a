//! Whether a model fits into this machine's memory, said in one sentence.

use hub::Entry;
use vlm::{Config, MemoryNeed};

use crate::api::{ApiError, Fit, Verdict};
use crate::failure::{api_error, failure};

/// Side of the picture that needs are stated for, px.
const SIDE: u32 = 512;
/// More of what is free than this is tight.
const COMFORT: f64 = 0.8;

/// From the checkpoint's own settings; of two towers that compare pictures with words from
/// `parameters`, their number of weights, where that is known.
///
/// Errors: settings that this version cannot open.
pub(super) fn exact(
    parameters: Option<f64>,
    config: Option<&str>,
    preprocessor: Option<&str>,
    how: vlm::Quantization,
) -> Result<Fit, ApiError> {
    let hint = "Choose a checkpoint in the layout of Hugging Face's transformers.";
    let text = config.ok_or_else(|| {
        failure("model_config", "this repository has no config.json, which says what it is", hint)
    })?;
    let json = serde_json::from_str(text).map_err(|error| {
        failure("model_config", format!("its config.json is no JSON: {error}"), hint)
    })?;
    let config = match (Config::from_json(&json), parameters) {
        (Err(vlm::Error::DualEncoder { .. }), n) => return Ok(towers(n.unwrap_or_default())),
        (config, _) => config.map_err(|error| api_error(&error))?,
    };
    let need = MemoryNeed::of(&config, preprocessor, how, SIDE).map_err(|e| api_error(&e))?;
    Ok(fit(need.bytes() as f64, how, Some(need.image_tokens as u32)))
}

/// From what the catalogue says of it.
pub(super) fn about(entry: &Entry, answers: bool, how: vlm::Quantization) -> Fit {
    let parameters = entry.parameters as f64;
    if !answers {
        return towers(parameters);
    }
    let weights = |bytes: f64| parameters * bytes;
    // Beside the weights: tower, cache and program take about a tenth, and no less than 0.2 GB.
    let plain = entry.memory.map(|bytes| bytes as f64);
    let plain = plain.unwrap_or(weights(4.0) + weights(0.4).max(2e8));
    let saved = match how {
        vlm::Quantization::None => 0.0,
        vlm::Quantization::Q8_0 => weights(4.0 - 1.1),
        vlm::Quantization::Q4_0 => weights(4.0 - 0.7),
    };
    fit(plain - saved, how, None)
}

/// Two towers are held as trained, whatever a model that answers is held in.
fn towers(parameters: f64) -> Fit {
    fit(4.0 * parameters + 3e8, vlm::Quantization::None, None)
}

fn fit(needs: f64, how: vlm::Quantization, image_tokens: Option<u32>) -> Fit {
    let free = free_memory();
    let verdict = match needs {
        needs if needs > free => Verdict::TooBig,
        needs if needs > COMFORT * free => Verdict::Tight,
        _ => Verdict::Fits,
    };
    let about = if image_tokens.is_some() { "" } else { "about " };
    let held = match how {
        vlm::Quantization::None => "",
        vlm::Quantization::Q8_0 => " in 8 bits",
        vlm::Quantization::Q4_0 => " in 4 bits",
    };
    let words = format!(
        "needs {about}{} of memory{held} with a {SIDE}-px picture; this machine has {} free",
        size(needs),
        size(free)
    );
    let exact = image_tokens.is_some();
    Fit { needs, free, verdict, quantization: how.into(), exact, image_tokens, words }
}

/// Bytes that a program can still take, also where a container has less than its machine.
fn free_memory() -> f64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    system.available_memory().min(limit) as f64
}

/// "2.1 GB", "14 GB", "513 MB"
pub(super) fn size(bytes: f64) -> String {
    match bytes {
        b if b >= 1e10 => format!("{:.0} GB", b / 1e9),
        b if b >= 1e9 => format!("{:.1} GB", b / 1e9),
        b => format!("{:.0} MB", b / 1e6),
    }
}
