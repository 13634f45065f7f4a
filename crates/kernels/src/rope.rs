//! Rotary position embedding, half-split (Llama) convention: element `i` turns with `i + d/2`.

simd! {
    /// Turns one vector: `out = rotate(x)` by the angles of `cos` and `sin` (each `d/2`).
    pub fn rotate(out: &mut [f32], x: &[f32], angles: (&[f32], &[f32])) {
        rotate_row(out, x, angles.0, angles.1)
    }
}

simd! {
    /// Turns one vector back: the inverse and the gradient of [`rotate`].
    pub fn rotate_back(out: &mut [f32], x: &[f32], angles: (&[f32], &[f32])) {
        rotate_back_row(out, x, angles.0, angles.1)
    }
}

#[inline(always)]
pub(crate) fn rotate_row(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    let (x0, x1) = (&x[..half], &x[half..2 * half]);
    let (o0, o1) = out[..2 * half].split_at_mut(half);
    let sin = &sin[..half];
    for i in 0..half {
        let (a, b) = (x0[i], x1[i]);
        o0[i] = a * cos[i] - b * sin[i];
        o1[i] = b * cos[i] + a * sin[i];
    }
}

#[inline(always)]
pub(crate) fn rotate_back_row(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    let (x0, x1) = (&x[..half], &x[half..2 * half]);
    let (o0, o1) = out[..2 * half].split_at_mut(half);
    let sin = &sin[..half];
    for i in 0..half {
        let (a, b) = (x0[i], x1[i]);
        o0[i] = a * cos[i] + b * sin[i];
        o1[i] = b * cos[i] - a * sin[i];
    }
}
