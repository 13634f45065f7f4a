//! Elementwise nonlinearities and gated products, forward and backward. Rows do not matter here.

use crate::math::{exp, normal, sigmoid, tanh};
use crate::parallel;

/// The nonlinearity between two linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x·Φ(x), the exact one.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// x·σ(1.702x), used by CLIP.
    QuickGelu,
    /// x·σ(x).
    Silu,
    /// max(x, 0).
    Relu,
}

trait Curve {
    /// Value and slope at `x`.
    fn at(x: f32) -> (f32, f32);
}

struct Gelu;
struct GeluTanh;
struct QuickGelu;
struct Silu;
struct Relu;

impl Curve for Gelu {
    #[inline(always)]
    fn at(x: f32) -> (f32, f32) {
        let (density, distribution) = normal(x);
        (x * distribution, distribution + x * density)
    }
}

impl Curve for GeluTanh {
    #[inline(always)]
    fn at(x: f32) -> (f32, f32) {
        const C: f32 = 0.797_884_6;
        let t = tanh(C * (x + 0.044_715 * x * x * x));
        let inner = C * (1.0 + 0.134_145 * x * x);
        let half = 0.5 * (1.0 + t);
        (x * half, half + 0.5 * x * (1.0 - t * t) * inner)
    }
}

impl Curve for QuickGelu {
    #[inline(always)]
    fn at(x: f32) -> (f32, f32) {
        let s = 1.0 / (1.0 + exp(-1.702 * x));
        (x * s, s + 1.702 * x * s * (1.0 - s))
    }
}

impl Curve for Silu {
    #[inline(always)]
    fn at(x: f32) -> (f32, f32) {
        let s = sigmoid(x);
        (x * s, s + x * s * (1.0 - s))
    }
}

impl Curve for Relu {
    #[inline(always)]
    fn at(x: f32) -> (f32, f32) {
        if x > 0.0 { (x, 1.0) } else { (0.0, 0.0) }
    }
}

macro_rules! with_curve {
    ($act:expr, $f:ident($($arg:expr),*)) => {
        match $act {
            Activation::Gelu => $f::<Gelu>($($arg),*),
            Activation::GeluTanh => $f::<GeluTanh>($($arg),*),
            Activation::QuickGelu => $f::<QuickGelu>($($arg),*),
            Activation::Silu => $f::<Silu>($($arg),*),
            Activation::Relu => $f::<Relu>($($arg),*),
        }
    };
}

#[inline(always)]
fn map<C: Curve>(out: &mut [f32], x: &[f32]) {
    for (o, &v) in out.iter_mut().zip(x) {
        *o = C::at(v).0;
    }
}

#[inline(always)]
fn map_backward<C: Curve>(dx: &mut [f32], x: &[f32], grad: &[f32]) {
    for ((d, &v), &g) in dx.iter_mut().zip(x).zip(grad) {
        *d = g * C::at(v).1;
    }
}

#[inline(always)]
fn gate<C: Curve>(out: &mut [f32], gates: &[f32], up: &[f32]) {
    for ((o, &g), &u) in out.iter_mut().zip(gates).zip(up) {
        *o = C::at(g).0 * u;
    }
}

struct Gated<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    grad: &'a [f32],
}

#[inline(always)]
fn gate_backward<C: Curve>(d_gate: &mut [f32], d_up: &mut [f32], of: Gated) {
    let n = d_gate.len();
    let (d_up, gate, up, grad) = (&mut d_up[..n], &of.gate[..n], &of.up[..n], &of.grad[..n]);
    for i in 0..n {
        let (value, slope) = C::at(gate[i]);
        d_gate[i] = grad[i] * up[i] * slope;
        d_up[i] = grad[i] * value;
    }
}

simd! {
    fn apply_block(out: &mut [f32], x: &[f32], act: Activation) {
        with_curve!(act, map(out, x))
    }
}
simd! {
    fn backward_block(dx: &mut [f32], x: &[f32], grad: &[f32], act: Activation) {
        with_curve!(act, map_backward(dx, x, grad))
    }
}
simd! {
    fn gated_block(out: &mut [f32], gates: &[f32], up: &[f32], act: Activation) {
        with_curve!(act, gate(out, gates, up))
    }
}
simd! {
    fn gated_backward_block(d_gate: &mut [f32], d_up: &mut [f32], of: Gated, act: Activation) {
        with_curve!(act, gate_backward(d_gate, d_up, of))
    }
}

/// `out[i] = act(x[i])`.
pub fn apply(out: &mut [f32], x: &[f32], act: Activation) {
    assert_eq!(out.len(), x.len());
    parallel::rows(out, 1, |i, out| apply_block(out, &x[i..i + out.len()], act));
}

/// `dx[i] = grad[i] · act′(x[i])`.
pub fn backward(dx: &mut [f32], x: &[f32], grad: &[f32], act: Activation) {
    assert!(dx.len() == x.len() && dx.len() == grad.len());
    parallel::rows(dx, 1, |i, dx| {
        let n = i + dx.len();
        backward_block(dx, &x[i..n], &grad[i..n], act);
    });
}

/// `out[i] = act(gate[i]) · up[i]` (SwiGLU when the activation is SiLU).
pub fn gated(out: &mut [f32], gate: &[f32], up: &[f32], act: Activation) {
    assert!(out.len() == gate.len() && out.len() == up.len());
    parallel::rows(out, 1, |i, out| {
        let n = i + out.len();
        gated_block(out, &gate[i..n], &up[i..n], act);
    });
}

/// Gradients of [`gated`] for both operands.
pub fn gated_backward(
    (d_gate, d_up): (&mut [f32], &mut [f32]),
    (gate, up): (&[f32], &[f32]),
    grad: &[f32],
    act: Activation,
) {
    assert!(d_gate.len() == d_up.len() && d_gate.len() == grad.len());
    assert!(gate.len() == grad.len() && up.len() == grad.len());
    parallel::rows2(d_gate, d_up, 1, |i, d_gate, d_up| {
        let n = i + d_gate.len();
        let of = Gated { gate: &gate[i..n], up: &up[i..n], grad: &grad[i..n] };
        gated_backward_block(d_gate, d_up, of, act);
    });
}
