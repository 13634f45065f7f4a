//! Every fast body against the portable one, at every level this machine has, and the portable
//! one against the formula in f64, over random shapes with edges.
//!
//! Gradients are compared with automatic differentiation in f64 where the tensors are: in
//! `vlm::model::nn`. Levels that this processor lacks are said to be skipped.

mod attention;
mod packed;

use kernels::activation::{self, Activation};
use kernels::gemm::{Mat, Out, Precision, Start, gemm, gemm_on_this_thread};
use kernels::norm::{self, Norm};
use kernels::{Level, level, loss, rope, softmax, with_level};

/// Reproducible values in −scale..scale.
fn values(n: usize, seed: u64, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale
    };
    (0..n).map(|_| next()).collect()
}

/// The levels above portable that this processor has; the others are named once.
fn faster() -> Vec<Level> {
    use Level::{Amx, Avx2, Avx512, Avx512Bf16, Avx512Vnni, Neon, NeonDot};
    let all = match std::env::consts::ARCH {
        "aarch64" => vec![Neon, NeonDot],
        _ => vec![Avx2, Avx512, Avx512Vnni, Avx512Bf16, Amx],
    };
    let (has, lacks): (Vec<_>, Vec<_>) = all.into_iter().partition(|&l| l <= level());
    if !lacks.is_empty() {
        println!("skipped: this processor lacks {lacks:?}");
    }
    has
}

/// `f` limited to a level and to this thread.
fn at<R: Send>(cap: Level, f: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    pool.install(|| with_level(cap, f))
}

/// The portable result, which every faster body must give to the last bit.
fn same_at_every_level(what: &str, f: impl Fn() -> Vec<f32> + Send + Sync) -> Vec<f32> {
    let portable = at(Level::Portable, &f);
    for level in faster() {
        let fast = at(level, &f);
        assert_eq!(fast.len(), portable.len(), "{what} at {level:?}");
        for (i, (a, b)) in fast.iter().zip(&portable).enumerate() {
            assert_eq!(a.to_bits(), b.to_bits(), "{what} at {level:?}, element {i}: {a} {b}");
        }
    }
    portable
}

fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let top = expected.iter().fold(1e-6f64, |top, v| top.max(v.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let apart = (f64::from(*a) - b).abs();
        assert!(apart <= tolerance * top, "{what}, element {i}: {a} {b}");
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// The error function by Simpson's rule.
fn erf(x: f64) -> f64 {
    let (n, h) = (2000, x / 2000.0);
    let f = |i: i32| (-(f64::from(i) * h).powi(2)).exp();
    let inner: f64 = (1..n).map(|i| if i % 2 == 1 { 4.0 * f(i) } else { 2.0 * f(i) }).sum();
    (f(0) + inner + f(n)) * h / 3.0 * 2.0 / std::f64::consts::PI.sqrt()
}

fn curve(act: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match act {
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Silu => x * sigmoid(x),
        Activation::Relu => x.max(0.0),
    }
}

const ACTIVATIONS: [Activation; 5] = [
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Silu,
    Activation::Relu,
];
/// Around the widths of the registers.
const LENGTHS: [usize; 8] = [1, 7, 8, 15, 16, 17, 33, 100];

#[test]
fn activations() {
    for act in ACTIVATIONS {
        for n in LENGTHS {
            let (x, up, grad) = (values(n, 1, 6.0), values(n, 2, 2.0), values(n, 3, 1.0));
            let found = same_at_every_level("activation", || {
                let mut out = vec![0.0; n];
                activation::apply(&mut out, &x, act);
                out
            });
            let expected: Vec<f64> = wide(&x).into_iter().map(|x| curve(act, x)).collect();
            assert_close(&format!("{act:?}"), &found, &expected, 1e-6);
            let found = same_at_every_level("gradient", || {
                let mut dx = vec![0.0; n];
                activation::backward(&mut dx, &x, &grad, act);
                dx
            });
            let slope = |x: f64| (curve(act, x + 1e-4) - curve(act, x - 1e-4)) / 2e-4;
            let expected: Vec<f64> =
                wide(&x).iter().zip(wide(&grad)).map(|(&x, g)| slope(x) * g).collect();
            assert_close(&format!("{act:?} gradient"), &found, &expected, 1e-5);
            let found = same_at_every_level("gated", || {
                let mut out = vec![0.0; n];
                activation::gated(&mut out, &x, &up, act);
                out
            });
            let expected: Vec<f64> =
                wide(&x).iter().zip(wide(&up)).map(|(&x, up)| curve(act, x) * up).collect();
            assert_close(&format!("{act:?} gated"), &found, &expected, 1e-6);
            same_at_every_level("gated gradients", || {
                let (mut a, mut b) = (vec![0.0; n], vec![0.0; n]);
                activation::gated_backward((&mut a, &mut b), (&x, &up), &grad, act);
                [a, b].concat()
            });
        }
    }
}

#[test]
fn softmax_rows() {
    for n in LENGTHS {
        let x = values(n, 4, 20.0);
        let mask: Vec<f32> = (0..n).map(|i| if i % 3 == 1 { -1e30 } else { 0.0 }).collect();
        for mask in [None, Some(&mask)] {
            let found = same_at_every_level("softmax", || {
                let mut x = x.clone();
                softmax::softmax_row(&mut x, 0.5, mask.map(Vec::as_slice));
                x
            });
            let score =
                |i: usize| f64::from(x[i]) * 0.5 + mask.map_or(0.0, |mask| f64::from(mask[i]));
            let top = (0..n).map(score).fold(f64::MIN, f64::max);
            let sum: f64 = (0..n).map(|i| (score(i) - top).exp()).sum();
            let expected: Vec<f64> = (0..n).map(|i| (score(i) - top).exp() / sum).collect();
            assert_close("softmax", &found, &expected, 1e-6);
            same_at_every_level("softmax gradient", || {
                let mut grad = values(n, 5, 1.0);
                softmax::softmax_backward_row(&mut grad, &found, 0.5);
                grad
            });
        }
        let nothing = vec![f32::NEG_INFINITY; n];
        let mut x = x.clone();
        softmax::softmax_row(&mut x, 1.0, Some(&nothing));
        assert!(x.iter().all(|&p| p == 0.0), "a row with nothing allowed is zeros");
    }
}

#[test]
fn norms() {
    for d in LENGTHS {
        let (x, grad) = (values(3 * d, 6, 3.0), values(3 * d, 7, 1.0));
        let (weight, bias) = (values(d, 8, 1.0), values(d, 9, 1.0));
        for (norm, bias) in
            [(Norm::Layer { eps: 1e-5 }, Some(bias.as_slice())), (Norm::Rms { eps: 1e-5 }, None)]
        {
            let found = same_at_every_level("norm", || {
                let mut out = vec![0.0; 3 * d];
                norm::forward(&mut out, &x, (&weight, bias), norm);
                out
            });
            let layer = matches!(norm, Norm::Layer { .. });
            let row = |row: &[f32]| -> Vec<f64> {
                let row = wide(row);
                let mean = if layer { row.iter().sum::<f64>() / d as f64 } else { 0.0 };
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d as f64;
                let one = |i: usize| {
                    (row[i] - mean) / (variance + 1e-5).sqrt() * f64::from(weight[i])
                        + bias.map_or(0.0, |bias| f64::from(bias[i]))
                };
                (0..d).map(one).collect()
            };
            let expected: Vec<f64> = x.chunks_exact(d).flat_map(row).collect();
            assert_close("norm", &found, &expected, 1e-5);
            same_at_every_level("norm gradients", || {
                let (mut dx, mut dw, mut db) = (vec![0.0; 3 * d], vec![0.0; d], vec![0.0; d]);
                norm::backward(&mut dx, (&x, &grad), &weight, norm, (&mut dw, &mut db));
                [dx, dw, db].concat()
            });
        }
        let found = same_at_every_level("column sum", || {
            let mut sums = vec![0.0; d];
            norm::column_sum(&mut sums, &x);
            sums
        });
        let expected: Vec<f64> = (0..d).map(|i| wide(&x).iter().skip(i).step_by(d).sum()).collect();
        assert_close("column sum", &found, &expected, 1e-6);
    }
}

#[test]
fn rotations_turn_back() {
    for half in [1, 4, 7, 8, 16, 32] {
        let (x, angles) = (values(2 * half, 10, 1.0), values(half, 11, 3.0));
        let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
        let turned = same_at_every_level("rotation", || {
            let mut out = vec![0.0; 2 * half];
            rope::rotate(&mut out, &x, (&cos, &sin));
            out
        });
        let back = same_at_every_level("rotation back", || {
            let mut out = vec![0.0; 2 * half];
            rope::rotate_back(&mut out, &turned, (&cos, &sin));
            out
        });
        assert_close("turned there and back", &back, &wide(&x), 1e-6);
    }
}

#[test]
fn cross_entropy() {
    for vocab in LENGTHS {
        let logits = values(4 * vocab, 12, 9.0);
        let targets: Vec<u32> = (0..4).map(|i| (i * 5 % vocab) as u32).collect();
        let found = same_at_every_level("cross entropy", || {
            let (mean, lse) = loss::cross_entropy(&logits, &targets);
            [vec![mean], lse].concat()
        });
        let rows = logits.chunks_exact(vocab);
        let lse: Vec<f64> =
            rows.map(|r| wide(r).iter().map(|x| x.exp()).sum::<f64>().ln()).collect();
        let own = |i: usize| f64::from(logits[i * vocab + targets[i] as usize]);
        let mean = (0..4).map(|i| lse[i] - own(i)).sum::<f64>() / 4.0;
        assert_close("cross entropy", &found, &[vec![mean], lse].concat(), 1e-6);
        let gradient = same_at_every_level("cross entropy gradient", || {
            let mut out = vec![0.0; 4 * vocab];
            loss::cross_entropy_backward(&mut out, &logits, &targets, 2.0);
            out
        });
        let sum: f32 = gradient.iter().sum();
        assert!(sum.abs() < 1e-4, "each row's gradient adds up to nothing, not {sum}");
    }
}

/// What an output starts with.
type Value<'a> = &'a dyn Fn(usize, usize) -> f32;

/// `start + a·b` in f64, operands rounded to bf16 first where asked.
fn product(a: Mat, b: Mat, start: Value, bf16: bool) -> Vec<f64> {
    let round = |v: f32| f64::from(if bf16 { half::bf16::from_f32(v).to_f32() } else { v });
    let get = |m: Mat, i: usize, j: usize| round(m.data[i * m.row_stride + j * m.col_stride]);
    let one = |i: usize, j: usize| {
        (0..a.cols).map(|k| get(a, i, k) * get(b, k, j)).sum::<f64>() + f64::from(start(i, j))
    };
    (0..a.rows).flat_map(|i| (0..b.cols).map(move |j| (i, j))).map(|(i, j)| one(i, j)).collect()
}

/// Sizes (m, n, k) around the blocks of 16 and 32, and larger than one panel.
const PRODUCTS: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (1, 33, 7),
    (5, 3, 64),
    (16, 16, 16),
    (31, 33, 32),
    (32, 32, 33),
    (64, 48, 100),
    (17, 130, 800),
    (3, 5, 0),
];

#[test]
fn products() {
    for (m, n, k) in PRODUCTS {
        let (a, b) = (values(m * k + 1, 13, 1.0), values(k * n + 1, 14, 1.0));
        let (old, bias) = (values(m * n, 15, 1.0), values(n, 16, 1.0));
        for (a, b) in [
            (Mat::new(&a, m, k), Mat::new(&b, k, n)),
            (Mat::strided(&a, k, m, m).t(), Mat::strided(&b, n, k, k).t()),
            // As a linear layer has them.
            (Mat::new(&a, m, k), Mat::strided(&b, n, k, k).t()),
        ] {
            let starts: [(Start, Value); 3] = [
                (Start::Zero, &|_, _| 0.0),
                (Start::Old, &|i, j| old[i * n + j]),
                (Start::Bias(&bias), &|_, j| bias[j]),
            ];
            for (start, value) in starts {
                for precision in [Precision::F32, Precision::Bf16] {
                    let bf16 = precision == Precision::Bf16;
                    let expected = product(a, b, value, bf16);
                    let levels = [vec![Level::Portable], faster()].concat();
                    for level in levels {
                        let found = at(level, || {
                            let mut out = old.clone();
                            let to = Out { data: &mut out, row_stride: n };
                            gemm_on_this_thread(to, a, b, start, precision);
                            out
                        });
                        let what = format!("{m}×{n}×{k} {start:?} {precision:?} {level:?}");
                        assert_close(&what, &found, &expected, 3e-6);
                    }
                }
            }
        }
    }
}

#[test]
fn a_product_over_several_threads_is_the_same_and_leaves_gaps_alone() {
    let (m, n, k, stride) = (150, 90, 120, 97);
    let (a, b) = (values(m * k, 17, 1.0), values(k * n, 18, 1.0));
    let (a, b) = (Mat::new(&a, m, k), Mat::new(&b, k, n));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
    for precision in [Precision::F32, Precision::Bf16] {
        let mut out = vec![7.0; m * stride];
        let to = Out { data: &mut out, row_stride: stride };
        pool.install(|| gemm(to, a, b, Start::Zero, precision));
        assert!(out.chunks_exact(stride).all(|row| row[n..].iter().all(|&v| v == 7.0)));
        let dense: Vec<f32> = out.chunks_exact(stride).flat_map(|r| r[..n].to_vec()).collect();
        let expected = product(a, b, &|_, _| 0.0, precision == Precision::Bf16);
        assert_close("over threads", &dense, &expected, 3e-6);
    }
}
