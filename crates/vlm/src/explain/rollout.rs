//! Attention on queries -> attention on the patches that those looked at.
//!
//! The tokens that a Q-Former makes of a picture have no place in it. What a word rests on is
//! found by going on: its attention to each query times that query's to each patch, as in
//! attention rollout (Abnar and Zuidema 2020), of which only the last two steps are taken. Tokens
//! that show their own patches are read as they are.

use std::ops::Range;

use crate::processor::{ImageSpan, Packing};

/// How attention rows over a prompt are read as attention over patches.
pub struct Rollout {
    /// What a row that went through [`Rollout::row`] is about.
    pub spans: Vec<ImageSpan>,
    queries: Vec<Queries>,
}

struct Queries {
    /// Positions in the prompt.
    tokens: Range<usize>,
    /// `(Q, P)`
    patch_attention: Vec<Vec<f32>>,
}

impl Rollout {
    /// `patch_attention` is that of each span of queries in order, `(Q, P)`; without it a query
    /// shows the whole picture.
    pub fn new(spans: &[ImageSpan], patch_attention: Vec<Vec<Vec<f32>>>) -> Rollout {
        let all = spans.iter().all(|span| span.packing == Packing::Queries);
        if !all || patch_attention.len() != spans.len() {
            return Rollout { spans: spans.to_vec(), queries: Vec::new() };
        }
        let mut first = 0;
        let patches = spans.iter().map(|span| {
            let patches = span.patches(first);
            first = patches.tokens.end;
            patches
        });
        let queries = spans.iter().zip(patch_attention).map(|(span, patch_attention)| Queries {
            tokens: span.tokens.clone(),
            patch_attention,
        });
        Rollout { spans: patches.collect(), queries: queries.collect() }
    }

    /// A row over the prompt's positions as one over those of `spans`.
    pub fn row(&self, row: Vec<f32>) -> Vec<f32> {
        if self.queries.is_empty() {
            return row;
        }
        let mut patches = vec![0.0; self.spans.last().map_or(0, |span| span.tokens.end)];
        for (span, queries) in self.spans.iter().zip(&self.queries) {
            let shares = row.get(queries.tokens.clone()).unwrap_or_default();
            for (share, looked) in shares.iter().zip(&queries.patch_attention) {
                let patches = patches[span.tokens.clone()].iter_mut();
                patches.zip(looked).for_each(|(patch, part)| *patch += share * part);
            }
        }
        patches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Heatmap;

    fn span(image: usize, tokens: Range<usize>, packing: Packing) -> ImageSpan {
        let source = [0.0, 0.0, 20.0, 10.0];
        ImageSpan { image, tokens, grid: (2, 2), first_cell: -1, source, packing }
    }

    #[test]
    fn attention_goes_on_to_what_the_queries_looked_at() {
        let spans = [span(0, 0..2, Packing::Queries), span(1, 2..4, Packing::Queries)];
        // A class token and 2 x 2 patches.
        let first = vec![vec![0.0, 1.0, 0.0, 0.0, 0.0], vec![0.0, 0.0, 0.5, 0.0, 0.5]];
        let second = vec![vec![1.0, 0.0, 0.0, 0.0, 0.0], vec![0.0, 0.0, 0.0, 1.0, 0.0]];
        let rollout = Rollout::new(&spans, vec![first, second]);
        let row = rollout.row(vec![0.1, 0.4, 0.2, 0.1, 0.2]);
        let map = Heatmap::new(&row, &rollout.spans, 0).expect("a map");
        assert_eq!(map.values, [0.1, 0.2, 0.0, 0.2]);
        // The class token shows all.
        let map = Heatmap::new(&row, &rollout.spans, 1).expect("a map");
        assert_eq!(map.values, [0.05, 0.05, 0.15, 0.05]);
    }

    #[test]
    fn tokens_of_their_own_patches_and_unknown_queries_are_read_as_they_are() {
        let row = vec![0.2, 0.4, 0.1, 0.1, 0.1];
        let spans = [span(0, 0..5, Packing::Tile { newline: false })];
        let rollout = Rollout::new(&spans, Vec::new());
        assert_eq!((rollout.row(row.clone()), &rollout.spans[..]), (row.clone(), &spans[..]));
        let spans = [span(0, 1..3, Packing::Queries)];
        let rollout = Rollout::new(&spans, Vec::new());
        let map = Heatmap::new(&rollout.row(row), &rollout.spans, 0).expect("a map");
        assert_eq!(map.values, [0.125; 4], "a query shows the whole picture");
    }
}
