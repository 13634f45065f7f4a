//! Named intermediates offered during the decoder's forward pass.
//!
//! Attention weights and hidden states of chosen layers are kept as tensors, still part of the
//! graph, so that a trainer may supervise them. With nothing asked for it costs nothing. It does
//! not know what the weights mean; `explain` does.
//!
//! Shapes: `B` batch, `H` heads, `T` tokens of this forward, `S` keys seen, `D` hidden size.

use candle_core::Tensor;

/// Which query rows of the attention weights are kept.
#[derive(Debug, Clone, Default)]
pub enum Rows {
    /// Only the last token's: the row that predicts the next token. Cheap: the others are never
    /// computed, and the output is bit for bit what it is without a probe.
    #[default]
    Last,
    /// Every row.
    All,
    /// These of each sample, `(B, R)` u32; the weights are `(B, H, R, S)`. For a trainer, which
    /// supervises few rows: the output stays fused and the others are never computed.
    Chosen(Tensor),
}

/// What to keep, and after a forward pass what was kept.
#[derive(Debug, Default)]
pub struct Probe {
    attention_layers: Vec<usize>,
    rows: Rows,
    hidden_layers: Vec<usize>,
    /// layer, weights `(B, H, rows, S)`
    pub attention: Vec<(usize, Tensor)>,
    /// layer, output of that decoder layer `(B, T, D)`
    pub hidden: Vec<(usize, Tensor)>,
}

impl Probe {
    /// Keeps nothing.
    pub fn none() -> Self {
        Probe::default()
    }

    /// Keeps the attention weights of these layers.
    pub fn attention(layers: impl IntoIterator<Item = usize>, rows: Rows) -> Self {
        Probe { attention_layers: layers.into_iter().collect(), rows, ..Probe::default() }
    }

    /// Keeps the hidden states of these layers too.
    pub fn hidden(mut self, layers: impl IntoIterator<Item = usize>) -> Self {
        self.hidden_layers = layers.into_iter().collect();
        self
    }

    /// Forgets what was kept, so that the probe can serve another forward pass.
    pub fn clear(&mut self) {
        self.attention.clear();
        self.hidden.clear();
    }

    /// Which rows of this layer's weights are wanted, if any.
    pub(crate) fn wants_attention(&self, layer_idx: usize) -> Option<Rows> {
        self.attention_layers.contains(&layer_idx).then(|| self.rows.clone())
    }

    pub(crate) fn offer_attention(&mut self, layer_idx: usize, weights: Tensor) {
        self.attention.push((layer_idx, weights));
    }

    pub(crate) fn offer_hidden(&mut self, layer_idx: usize, hidden: &Tensor) {
        if self.hidden_layers.contains(&layer_idx) {
            self.hidden.push((layer_idx, hidden.clone()));
        }
    }
}
