//! Which attention heads are evidence.

use std::collections::BTreeSet;
use std::path::Path;

use candle_core::{DType, IndexOp};
use serde::Deserialize;

use crate::config::read_json;
use crate::{Config, Error, Probe};

/// The heads whose attention counts, and how to read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceHeads {
    /// layer, head
    pub heads: Vec<(usize, usize)>,
    /// The position that takes the attention of words that rest on nothing.
    pub null_token: usize,
    /// True when the model was trained so that these heads tell the truth.
    pub trained: bool,
    /// True when they were also trained to follow how much of each image token a thing covers.
    pub outlined: bool,
}

#[derive(Deserialize)]
struct File {
    heads: Vec<(usize, usize)>,
    #[serde(default)]
    null_token: usize,
    #[serde(default)]
    outlined: bool,
}

impl EvidenceHeads {
    /// From `evidence.json` of a model folder, else [`EvidenceHeads::untrained`].
    ///
    /// Errors: a file that is not valid, or names heads that the model does not have.
    pub fn load(dir: &Path, config: &Config) -> Result<EvidenceHeads, Error> {
        let path = dir.join("evidence.json");
        if !path.exists() {
            return Ok(EvidenceHeads::untrained(config));
        }
        let wrong = |message: String| Error::Processor { file: "evidence.json".into(), message };
        let file: File =
            serde_json::from_value(read_json(&path)?).map_err(|error| wrong(error.to_string()))?;
        let (layers, n_heads) = (config.evidence_layers(), config.text_config.num_attention_heads);
        let bad =
            file.heads.iter().find(|(layer, head)| !layers.contains(layer) || *head >= n_heads);
        match bad {
            Some((layer, head)) => Err(wrong(format!(
                "head [{layer}, {head}] is not among those that see pictures; remove it"
            ))),
            None if file.heads.is_empty() => Err(wrong("`heads` is empty; name some".into())),
            None => Ok(EvidenceHeads {
                heads: file.heads,
                null_token: file.null_token,
                trained: true,
                outlined: file.outlined,
            }),
        }
    }

    /// Every head of the middle half of the layers that see pictures.
    pub fn untrained(config: &Config) -> EvidenceHeads {
        let (all, n_heads) = (config.evidence_layers(), config.text_config.num_attention_heads);
        let n = all.len();
        let middle = n / 4..(n - n / 4).max(n / 4 + 1).min(n);
        let layers = all[middle].iter();
        let heads = layers.flat_map(|&layer| (0..n_heads).map(move |head| (layer, head)));
        let heads = heads.collect();
        EvidenceHeads { heads, null_token: 0, trained: false, outlined: false }
    }

    /// The layers to probe.
    pub fn layers(&self) -> Vec<usize> {
        self.heads.iter().map(|(layer, _)| *layer).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Mean over the heads of the captured last row: one share for each place that the evidence
    /// layers look at (cached positions or cross-attention states), their sum is 1. `None` when
    /// nothing was captured.
    pub fn attention(&self, probe: &Probe) -> Result<Option<Vec<f32>>, Error> {
        let mut mean: Vec<f32> = Vec::new();
        let mut n = 0;
        for (layer, weights) in &probe.attention {
            let (_, _, rows, n_keys) = weights.dims4()?;
            let last = weights.i((0, .., rows - 1))?.to_dtype(DType::F32)?; // (H, S)
            let last = last.flatten_all()?.to_vec1::<f32>()?;
            for (_, head) in self.heads.iter().filter(|(of, _)| of == layer) {
                let Some(row) = last.get(head * n_keys..(head + 1) * n_keys) else { continue };
                mean.resize(row.len(), 0.0);
                mean.iter_mut().zip(row).for_each(|(sum, share)| *sum += share);
                n += 1;
            }
        }
        mean.iter_mut().for_each(|sum| *sum /= n as f32);
        Ok((n > 0).then_some(mean))
    }
}
