//! Which attention heads are evidence.

use std::collections::BTreeSet;
use std::path::Path;

use candle_core::{DType, IndexOp};

use super::Calibration;
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

impl EvidenceHeads {
    /// From `evidence.json` of a model folder, else [`EvidenceHeads::untrained`].
    ///
    /// Errors: a file that is not valid, or names heads that the model does not have.
    pub fn load(dir: &Path, config: &Config) -> Result<EvidenceHeads, Error> {
        Ok(Calibration::load(dir, config)?.heads)
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
        self.each(probe, None, &mut |row| {
            mean.resize(row.len(), 0.0);
            mean.iter_mut().zip(row).for_each(|(sum, share)| *sum += share);
            n += 1;
        })?;
        mean.iter_mut().for_each(|sum| *sum /= n as f32);
        Ok((n > 0).then_some(mean))
    }

    /// The attention of each head at one of the captured rows, the last where none is named.
    pub(crate) fn rows(&self, probe: &Probe, row: Option<usize>) -> Result<Vec<Vec<f32>>, Error> {
        let mut rows = Vec::new();
        self.each(probe, row, &mut |row| rows.push(row.to_vec()))?;
        Ok(rows)
    }

    fn each(
        &self,
        probe: &Probe,
        row: Option<usize>,
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<(), Error> {
        for (layer, weights) in &probe.attention {
            let (_, _, rows, n_keys) = weights.dims4()?;
            let row = row.unwrap_or(rows - 1);
            let heads = weights.i((0, .., row))?.to_dtype(DType::F32)?; // (H, S)
            let heads = heads.flatten_all()?.to_vec1::<f32>()?;
            for (_, head) in self.heads.iter().filter(|(of, _)| of == layer) {
                if let Some(row) = heads.get(head * n_keys..(head + 1) * n_keys) {
                    take(row);
                }
            }
        }
        Ok(())
    }
}
