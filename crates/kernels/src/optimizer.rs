//! AdamW over plain slices, and the norm that gradient clipping needs.

/// Settings of one AdamW step. Weight decay is decoupled (Loshchilov and Hutter 2019).
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Share of the weight removed, times `lr`.
    pub weight_decay: f32,
    /// 1 for the first step: bias correction divides by `1 − betaˢᵗᵉᵖ`.
    pub step: usize,
    /// The gradient is multiplied by this first: 1, or the clipping factor.
    pub grad_scale: f32,
}

impl Default for AdamW {
    fn default() -> Self {
        AdamW {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            step: 1,
            grad_scale: 1.0,
        }
    }
}

/// What one step changes: the weights and both moments, of equal length.
pub struct State<'a> {
    /// Weights, updated in place.
    pub weight: &'a mut [f32],
    /// First moment.
    pub m: &'a mut [f32],
    /// Second moment.
    pub v: &'a mut [f32],
}

simd! {
    fn adamw_block(state: State, grad: &[f32], o: AdamW, correction: (f32, f32)) {
        let n = grad.len();
        let (weight, m, v) = (&mut state.weight[..n], &mut state.m[..n], &mut state.v[..n]);
        for i in 0..n {
            let g = grad[i] * o.grad_scale;
            m[i] = o.beta1 * m[i] + (1.0 - o.beta1) * g;
            v[i] = o.beta2 * v[i] + (1.0 - o.beta2) * g * g;
            let step = m[i] * correction.0 / ((v[i] * correction.1).sqrt() + o.eps);
            weight[i] -= o.lr * (step + o.weight_decay * weight[i]);
        }
    }
}

/// One AdamW step in place.
pub fn adamw(state: State, grad: &[f32], options: AdamW) {
    let n = grad.len();
    assert!(state.weight.len() == n && state.m.len() == n && state.v.len() == n);
    let correct = |beta: f32| (1.0 / (1.0 - f64::from(beta).powi(options.step as i32))) as f32;
    adamw_block(state, grad, options, (correct(options.beta1), correct(options.beta2)));
}

simd! {
    fn norm_squared_block(x: &[f32]) -> f32 {
        crate::simd::sum(x.len(), |i| x[i] * x[i])
    }
}

/// Σ x², summed in f64 over blocks.
pub fn norm_squared(x: &[f32]) -> f64 {
    x.chunks(4096).map(|block| f64::from(norm_squared_block(block))).sum()
}

simd! {
    /// `sum[i] += x[i]`.
    pub fn add_assign(sum: &mut [f32], x: &[f32]) {
        for (s, &v) in sum.iter_mut().zip(x) {
            *s += v;
        }
    }
}
