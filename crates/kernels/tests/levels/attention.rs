//! Attention, forward and backward.

use kernels::Level;
use kernels::attention::{self, Gradients, Operands, Sizes};
use kernels::gemm::Precision;

use super::{assert_close, at, faster, values, wide};

/// Heads, key heads, queries, keys, head size: few queries, a block, more than a block.
const SIZES: [(usize, usize, usize, usize, usize); 6] = [
    (2, 2, 5, 5, 8),
    (4, 2, 3, 9, 16),
    (3, 1, 1, 40, 33),
    (6, 2, 1, 70, 64),
    (2, 1, 20, 31, 24),
    (1, 1, 150, 160, 8),
];

struct Case {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    mask: Vec<f32>,
    sizes: Sizes,
}

impl Case {
    /// Queries see the keys up to their own, but for every fourth; a head has room for three more.
    fn new(
        (heads, kv_heads, queries, keys, head_size): (usize, usize, usize, usize, usize),
    ) -> Case {
        let (batch, kv_stride) = (2, (keys + 3) * head_size);
        let hidden = |i: usize| i % keys > i / keys + keys - queries || i % keys % 4 == 3;
        Case {
            q: values(batch * heads * queries * head_size, 19, 1.0),
            k: values(batch * kv_heads * kv_stride, 20, 1.0),
            v: values(batch * kv_heads * kv_stride, 21, 1.0),
            mask: (0..queries * keys).map(|i| if hidden(i) { -1e30 } else { 0.0 }).collect(),
            sizes: Sizes { batch, heads, kv_heads, queries, keys, head_size, kv_stride },
        }
    }

    fn operands(&self) -> Operands<'_> {
        let (q, k, v, mask) = (&self.q, &self.k, &self.v, Some(self.mask.as_slice()));
        Operands { q, k, v, mask, scale: 0.4, precision: Precision::F32 }
    }

    /// Outputs and last weights by the formula, in f64.
    fn expected(&self) -> (Vec<f64>, Vec<f64>) {
        let Sizes { batch, heads, kv_heads, queries, keys, head_size: d, kv_stride } = self.sizes;
        let (mut out, mut last) = (Vec::new(), Vec::new());
        for head in 0..batch * heads {
            let kv = head / heads * kv_heads + head % heads / (heads / kv_heads);
            for t in 0..queries {
                let q = &self.q[(head * queries + t) * d..][..d];
                let row = |of: &[f32], s: usize| wide(&of[kv * kv_stride + s * d..][..d]);
                let power = |s: usize| {
                    let dot: f64 =
                        row(&self.k, s).iter().zip(q).map(|(k, &q)| k * f64::from(q)).sum();
                    if self.mask[t * keys + s] < 0.0 { 0.0 } else { (dot * 0.4).exp() }
                };
                let powers: Vec<f64> = (0..keys).map(power).collect();
                let sum: f64 = powers.iter().sum();
                let weights: Vec<f64> = powers.iter().map(|p| p / sum).collect();
                let value =
                    |i: usize| (0..keys).map(|s| weights[s] * row(&self.v, s)[i]).sum::<f64>();
                out.extend((0..d).map(value));
                if t + 1 == queries {
                    last.extend(weights);
                }
            }
        }
        (out, last)
    }
}

#[test]
fn forward_is_the_formula() {
    for sizes in SIZES {
        let case = Case::new(sizes);
        let (out, last) = case.expected();
        let run = || {
            let (mut found, mut weights) = (vec![f32::NAN; out.len()], vec![f32::NAN; last.len()]);
            attention::forward(&mut found, Some(&mut weights), case.operands(), case.sizes);
            (found, weights)
        };
        for level in [vec![Level::Portable], faster()].concat() {
            let (found, weights) = at(level, run);
            assert_close(&format!("{sizes:?} at {level:?}"), &found, &out, 1e-5);
            assert_close(&format!("{sizes:?} weights"), &weights, &last, 1e-5);
        }
        let (found, weights) = run();
        assert_close(&format!("{sizes:?} on all threads"), &found, &out, 1e-5);
        assert_close(&format!("{sizes:?} weights"), &weights, &last, 1e-5);
        let mut plain = vec![0.0; out.len()];
        attention::forward(&mut plain, None, case.operands(), case.sizes);
        assert_eq!(plain, found, "asking for weights changes nothing");
    }
}

#[test]
fn backward_is_the_same_at_every_level() {
    for sizes in SIZES {
        let case = Case::new(sizes);
        let Sizes { batch, kv_heads, keys, head_size, .. } = case.sizes;
        let (n_q, n_kv) = (case.q.len(), batch * kv_heads * keys * head_size);
        let grad = values(n_q, 22, 1.0);
        let run = || {
            let (mut dq, mut dk, mut dv) = (vec![0.0; n_q], vec![0.0; n_kv], vec![0.0; n_kv]);
            let to = Gradients { dq: &mut dq, dk: &mut dk, dv: &mut dv };
            attention::backward(to, case.operands(), &grad, case.sizes);
            [dq, dk, dv].concat()
        };
        let portable = at(Level::Portable, run);
        for level in faster() {
            // The products inside go to another library, which sums in its own order.
            assert_close(&format!("{level:?}"), &at(level, run), &wide(&portable), 1e-5);
        }
    }
}
