//! Full-size models: whether they load, answer and stay inside this machine's memory.
//!
//! Random weights in the exact shape of public models, each in a process of its own, ours alone.

use std::fmt;

use serde::{Deserialize, Serialize};
use vlm::Quantization;

/// What one model took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub shape: String,
    pub parameters: u64,
    /// As published, in bf16.
    pub checkpoint_gib: f64,
    pub quantization: Quantization,
    /// What the packed weights were predicted to take.
    pub weights_gib: f64,
    /// The first time, when the packed file is made, s.
    pub first_load_seconds: f64,
    /// Every other time, s.
    pub load_seconds: f64,
    pub prompt_tokens: usize,
    /// From the pixels of a picture of 512 px to the first token, s.
    pub first_token_seconds: f64,
    pub decode_tokens_per_second: f64,
    /// Most memory of the answering process, what the runtime itself takes included.
    pub peak_gib: Option<f64>,
    /// What the machine had free before.
    pub available_gib: Option<f64>,
}

/// Every full-size model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FullSize {
    pub rows: Vec<Row>,
    pub processor: String,
    pub date: String,
    pub build: String,
    pub seconds: f64,
}

impl fmt::Display for FullSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16} {:>6} {:>9} {:>6} {:>9} {:>8} {:>7} {:>7} {:>11} {:>9} {:>8} {:>8}",
            "shape",
            "params",
            "bf16 GiB",
            "held",
            "predicted",
            "1st load",
            "load",
            "prompt",
            "1st token s",
            "tokens/s",
            "peak GiB",
            "free GiB"
        )?;
        let gib = |gib: Option<f64>| gib.map_or("-".into(), |gib| format!("{gib:.2}"));
        for row in &self.rows {
            writeln!(
                f,
                "{:<16} {:>5.2}B {:>9.2} {:>6} {:>9.2} {:>7.1}s {:>6.2}s {:>7} {:>11.2} {:>9.1} \
                 {:>8} {:>8}",
                row.shape,
                row.parameters as f64 / 1e9,
                row.checkpoint_gib,
                row.quantization.name(),
                row.weights_gib,
                row.first_load_seconds,
                row.load_seconds,
                row.prompt_tokens,
                row.first_token_seconds,
                row.decode_tokens_per_second,
                gib(row.peak_gib),
                gib(row.available_gib),
            )?;
        }
        let FullSize { processor, date, build, seconds, .. } = self;
        write!(f, "{processor}, random weights. Measured {date}, build {build}, {seconds:.0} s")
    }
}
