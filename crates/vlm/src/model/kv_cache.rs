//! Keys and values of tokens already seen, so that each new token costs one row.
//!
//! Room is allocated ahead and doubled; a conversation can be cut back to a shared prefix
//! (`truncate`) and continued. What layers see that look at pictures instead (`cross_attention`) is
//! kept beside. It does not know which tokens it holds; `generate` does.
//!
//! Shapes: `B` batch, `Hkv` key and value heads, `T` new tokens, `S` tokens held, `d` head size.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::cross_attention::CrossAttentionStates;
use crate::error::{Context, Error};

/// Room for this many tokens is allocated at first.
const FIRST_CAPACITY: usize = 256;

/// The cache of one conversation (or one batch of equally long ones), for all layers.
///
/// Not for training: what is written here has no gradient.
#[derive(Default)]
pub struct KvCache {
    /// Only of layers that look at the text before.
    layers: BTreeMap<usize, Layer>,
    len: usize,
    /// What the others look at; `None` without pictures.
    pub(super) cross_attention: Option<CrossAttentionStates>,
}

/// `(B, Hkv, capacity, d)` each.
struct Layer {
    keys: Tensor,
    values: Tensor,
}

impl KvCache {
    pub fn new() -> Self {
        KvCache::default()
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets every token after the first `n_tokens`, but no picture. Costs nothing.
    pub fn truncate(&mut self, n_tokens: usize) {
        self.len = self.len.min(n_tokens);
    }

    /// Forgets everything and frees the memory.
    pub fn clear(&mut self) {
        *self = KvCache::new();
    }

    /// An independent copy, to continue one prefix in two ways.
    pub fn fork(&self) -> Result<KvCache, Error> {
        let copy = |(&layer_idx, layer): (&usize, &Layer)| {
            let (keys, values) = (layer.keys.copy()?, layer.values.copy()?);
            Ok((layer_idx, Layer { keys, values }))
        };
        let layers: candle_core::Result<_> = self.layers.iter().map(copy).collect();
        let layers = layers.context("copying the cache")?;
        Ok(KvCache { layers, len: self.len, cross_attention: self.cross_attention.clone() })
    }

    /// Writes the new keys and values `(B, Hkv, T, d)` of one layer after those held and returns
    /// all of them, `(B, Hkv, S, d)`. They count only once `advance` is called, so that a forward
    /// pass that fails halfway leaves the cache as it was.
    pub(super) fn append(
        &mut self,
        layer_idx: usize,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<(Tensor, Tensor), Error> {
        let n_after = self.len + keys.dim(2)?;
        self.reserve(layer_idx, keys, n_after).context("growing the cache")?;
        let layer = &self.layers[&layer_idx];
        let write = || {
            layer.keys.slice_set(&keys.contiguous()?, 2, self.len)?;
            layer.values.slice_set(&values.contiguous()?, 2, self.len)?;
            Ok((layer.keys.narrow(2, 0, n_after)?, layer.values.narrow(2, 0, n_after)?))
        };
        write().context("writing to the cache")
    }

    /// Counts the tokens that every layer has just written.
    pub(super) fn advance(&mut self, n_tokens: usize) {
        self.len += n_tokens;
    }

    /// Makes room for `n_tokens` in one layer.
    fn reserve(
        &mut self,
        layer_idx: usize,
        like: &Tensor,
        n_tokens: usize,
    ) -> candle_core::Result<()> {
        let (b, h, _, d) = like.dims4()?;
        let held = self.layers.get(&layer_idx).map_or(0, |layer| layer.keys.dims()[2]);
        if held >= n_tokens {
            return Ok(());
        }
        let capacity = n_tokens.max(2 * held).max(FIRST_CAPACITY);
        let room = || Tensor::zeros((b, h, capacity, d), like.dtype(), like.device());
        let larger = Layer { keys: room()?, values: room()? };
        if let Some(layer) = self.layers.get(&layer_idx)
            && self.len > 0
        {
            let kept = layer.keys.narrow(2, 0, self.len)?.contiguous()?;
            larger.keys.slice_set(&kept, 2, 0)?;
            let kept = layer.values.narrow(2, 0, self.len)?.contiguous()?;
            larger.values.slice_set(&kept, 2, 0)?;
        }
        self.layers.insert(layer_idx, larger);
        Ok(())
    }
}
