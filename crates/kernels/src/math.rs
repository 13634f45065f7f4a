//! Elementary functions written as plain arithmetic, so that loops over them vectorise.
//! No fused multiply-add: every instruction set gives the same bits.

/// Below this `exp` is exactly zero: no denormals, which would slow later products by 15×.
const EXP_MIN: f32 = -87.0;
const EXP_MAX: f32 = 88.7;
/// Adding and subtracting 1.5·2²³ rounds to the nearest integer, held in the low mantissa bits.
const ROUND: f32 = 12_582_912.0;

/// eˣ with a relative error of about 1.2e-7 (Cephes `expf`); exactly 0 below −87.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let clamped = if x > EXP_MAX { EXP_MAX } else { x };
    let clamped = if clamped < EXP_MIN { EXP_MIN } else { clamped };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4f32;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let mantissa = p * r * r + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < EXP_MIN { 0.0 } else { mantissa * power }
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Normal density and distribution at `x`: (φ(x), Φ(x)).
///
/// Φ by Abramowitz and Stegun 7.1.26, absolute error 1.5e-7.
#[inline(always)]
pub(crate) fn normal(x: f32) -> (f32, f32) {
    const INV_SQRT_2PI: f32 = 0.398_942_3;
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let e = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4f32;
    p = p * t - 1.453_152_1;
    p = p * t + 1.421_413_8;
    p = p * t - 0.284_496_72;
    p = p * t + 0.254_829_6;
    let tail = 0.5 * p * t * e;
    (INV_SQRT_2PI * e, if x < 0.0 { tail } else { 1.0 - tail })
}

/// tanh, accurate to about 1e-7 in absolute terms.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}
