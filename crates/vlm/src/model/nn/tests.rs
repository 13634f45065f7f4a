//! Laws of the ops: fused equals composed, in values and gradients, and every tracked operand
//! gets a gradient.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::*;

/// Reproducible values in −1..1.
fn values(dims: &[usize], seed: u64) -> Result<Tensor> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let n = dims.iter().product();
    Tensor::from_vec((0..n).map(|_| next()).collect::<Vec<f32>>(), dims, &Device::Cpu)
}

/// Values and gradients of `f` over operands of these dtypes: f32 takes the fused path, f64 the
/// composed one.
fn run(
    operands: &[Tensor],
    dtype: DType,
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<Vec<f64>>> {
    let vars = operands.iter().map(|t| Var::from_tensor(&t.to_dtype(dtype)?));
    let vars = vars.collect::<Result<Vec<Var>>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors)?;
    let weights = values(y.dims(), 99)?.to_dtype(dtype)?;
    let grads = (&y * weights)?.sum_all()?.backward()?;
    let mut all = vec![y.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?];
    for (i, var) in vars.iter().enumerate() {
        let grad = grads.get(var).unwrap_or_else(|| panic!("operand {i} got no gradient"));
        all.push(grad.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?);
    }
    Ok(all)
}

fn check(name: &str, dims: &[&[usize]], tolerance: f64, f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let operands: Result<Vec<_>> =
        dims.iter().enumerate().map(|(i, dims)| values(dims, i as u64 + 1)).collect();
    let operands = operands.unwrap();
    let fused = run(&operands, DType::F32, &f).unwrap();
    let composed = run(&operands, DType::F64, &f).unwrap();
    for (i, (a, b)) in fused.iter().zip(&composed).enumerate() {
        let top = b.iter().fold(1e-3f64, |top, v| top.max(v.abs()));
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f64, f64::max);
        assert!(worst <= tolerance * top, "{name}, output {i}: off by {worst} of {top}");
    }
}

fn linear_of(t: &[Tensor], compute: Compute) -> Result<Tensor> {
    let (weight, bias) = (t[1].clone(), t.get(2).cloned());
    Linear { weight: Weight::Dense(weight), bias, compute, adapters: Vec::new() }.forward(&t[0])
}

#[test]
fn linear_is_the_composed_one() {
    for (rows, n_in, n_out) in [(1, 3, 5), (7, 33, 17), (64, 192, 96), (50, 672, 256)] {
        let dims: [&[usize]; 3] = [&[2, rows, n_in], &[n_out, n_in], &[n_out]];
        check("linear", &dims, 1e-5, |t| linear_of(t, Compute::F32));
        check("linear bf16", &dims, 2e-2, |t| linear_of(t, Compute::Bf16));
        check("linear without bias", &dims[..2], 1e-5, |t| linear_of(t, Compute::F32));
    }
}

#[test]
fn heads_are_the_composed_ones() {
    for (t, h, d) in [(1, 3, 4), (5, 2, 8), (17, 4, 3)] {
        check("split", &[&[2, t, h * d]], 0.0, |x| split_heads(&x[0], h));
        check("merge", &[&[2, h, t, d]], 0.0, |x| merge_heads(&x[0]));
    }
}

#[test]
fn norms_are_the_composed_ones() {
    for d in [5, 16, 192, 257] {
        let dims: [&[usize]; 3] = [&[3, 4, d], &[d], &[d]];
        check("layer norm", &dims, 1e-4, |t| {
            LayerNorm { weight: t[1].clone(), bias: t[2].clone(), eps: 1e-6 }.forward(&t[0])
        });
        check("rms norm", &dims[..2], 1e-4, |t| {
            RmsNorm { weight: t[1].clone(), eps: 1e-5 }.forward(&t[0])
        });
    }
}

#[test]
fn activations_are_the_composed_ones() {
    use Activation::*;
    for act in [Gelu, GeluPytorchTanh, QuickGelu, Silu, Relu] {
        check("activation", &[&[3, 77]], 1e-5, |t| act.apply(&(&t[0] * 5.0)?));
        check("gated", &[&[3, 77], &[3, 77]], 1e-5, |t| swiglu(&(&t[0] * 5.0)?, &t[1], act));
    }
}

#[test]
fn rope_is_the_composed_one() {
    for batch in [1, 2] {
        let cos = values(&[batch, 5, 4], 7).unwrap();
        let sin = values(&[batch, 5, 4], 8).unwrap();
        check("rope", &[&[2, 3, 5, 8]], 1e-5, |t| {
            rope(&t[0], &cos.to_dtype(t[0].dtype())?, &sin.to_dtype(t[0].dtype())?)
        });
    }
}

#[test]
fn cross_entropy_is_the_composed_one() {
    let targets = Tensor::new(&[3u32, 0, 10, 3], &Device::Cpu).unwrap();
    check("cross entropy", &[&[4, 11]], 1e-5, |t| cross_entropy(&(&t[0] * 9.0)?, &targets));
    let wrong = Tensor::new(&[11u32, 0, 1, 2], &Device::Cpu).unwrap();
    assert!(cross_entropy(&values(&[4, 11], 1).unwrap(), &wrong).is_err());
}

/// A causal mask with hidden keys, `(batch, 1, T, S)`.
fn mask(batch: usize, t: usize, s: usize) -> Result<Tensor> {
    let seen = |i: usize| i % s <= (i / s) % t + s - t && (i % 5 != 3 || i % s == 0);
    let mask = (0..batch * t * s).map(|i| if seen(i) { 0.0 } else { -1e30 });
    Tensor::from_vec(mask.collect::<Vec<f32>>(), (batch, 1, t, s), &Device::Cpu)
}

#[test]
fn attention_is_the_composed_one() {
    let sizes = [(4, 4, 9, 9, 8), (4, 2, 5, 7, 16), (3, 1, 1, 6, 8), (2, 2, 40, 70, 64)];
    for (h, kv, t, s, d) in sizes {
        let dims: [&[usize]; 3] = [&[2, h, t, d], &[2, kv, s, d], &[2, kv, s, d]];
        for mask in [None, Some(mask(1, t, s).unwrap()), Some(mask(2, t, s).unwrap())] {
            let of = |t: &[Tensor], compute, with: bool| {
                let mask = mask.as_ref().map(|m| m.to_dtype(t[0].dtype())).transpose()?;
                let how = Attend { mask: mask.as_ref(), scale: 0.3, compute };
                match with {
                    true => Ok(attention_with_weights(&t[0], &t[1], &t[2], &how)?.0),
                    false => attention(&t[0], &t[1], &t[2], &how),
                }
            };
            check("attention", &dims, 1e-4, |t| of(t, Compute::F32, false));
            check("attention bf16", &dims, 3e-2, |t| of(t, Compute::Bf16, false));
            check("attention with weights", &dims, 1e-4, |t| of(t, Compute::F32, true));
        }
    }
}

#[test]
fn masked_places_are_exactly_zero() {
    let (t, s) = (6, 6);
    let q = values(&[1, 2, t, 8], 1).unwrap();
    let mask = mask(1, t, s).unwrap();
    let how = Attend { mask: Some(&mask), scale: 1.0, compute: Compute::F32 };
    let (_, weights) = attention_with_weights(&q, &q, &q, &how).unwrap();
    let hidden = mask.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let weights = weights.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (i, w) in weights.iter().enumerate() {
        assert_eq!(*w == 0.0, hidden[i % (t * s)] != 0.0);
    }
}

#[test]
fn an_embedding_gives_gradients_to_the_rows_it_read() {
    let table = Var::from_tensor(&values(&[5, 3], 1).unwrap()).unwrap();
    let ids = Tensor::new(&[[1u32, 4], [1, 1]], &Device::Cpu).unwrap();
    let rows =
        Embedding { weight: Weight::Dense(table.as_tensor().clone()) }.forward(&ids).unwrap();
    assert_eq!(rows.dims(), [2, 2, 3]);
    let grads = rows.sum_all().unwrap().backward().unwrap();
    let grads = grads.get(&table).unwrap().to_vec2::<f32>().unwrap();
    let sums: Vec<f32> = grads.iter().map(|row| row[0]).collect();
    assert_eq!(sums, [0.0, 3.0, 0.0, 0.0, 1.0]);
}

/// A packed weight of these dense values.
fn packed(weight: &Tensor, format: kernels::quant::Format) -> PackedWeight {
    let (rows, cols) = weight.dims2().unwrap();
    let values = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let bytes = kernels::quant::pack(format, &values, cols);
    let range = 0..bytes.len();
    let bytes = Bytes { memory: std::sync::Arc::new(bytes), range };
    PackedWeight::new(format, (rows, cols), bytes).unwrap()
}

#[test]
fn packed_layers_are_the_dense_ones_of_their_own_weights() {
    use kernels::quant::Format;
    for (format, tolerance) in [(Format::Q8_0, 1e-4), (Format::Q4_0, 1e-2)] {
        let (x, bias) = (values(&[2, 3, 64], 1).unwrap(), values(&[80], 3).unwrap());
        let weight = packed(&values(&[80, 64], 2).unwrap(), format);
        let all = Tensor::arange(0u32, 80, &Device::Cpu).unwrap();
        let table = Embedding { weight: Weight::Packed(weight.clone()) };
        let dense = Weight::Dense(table.forward(&all).unwrap());
        let (compute, adapters) = (Compute::F32, Vec::new());
        let layer = |weight| Linear {
            weight,
            bias: Some(bias.clone()),
            compute,
            adapters: adapters.clone(),
        };
        let (packed, dense) = (layer(Weight::Packed(weight)), layer(dense));
        let close = |a: &Tensor, b: &Tensor| {
            let apart = (a - b).unwrap().abs().unwrap().max_all().unwrap();
            let apart = apart.to_scalar::<f32>().unwrap();
            assert!(apart < 30.0 * tolerance, "{format:?}: {apart}");
        };
        let expected = dense.forward(&x).unwrap();
        close(&packed.forward(&x).unwrap(), &expected);
        let projections = Projections::Together {
            all: packed.clone(),
            widths: [48, 32],
            adapters: [vec![], vec![]],
        };
        let [first, second] = projections.forward(&x).unwrap();
        close(&first, &expected.narrow(2, 0, 48).unwrap());
        close(&second, &expected.narrow(2, 48, 32).unwrap());
        // Gradients pass through frozen weights to the input.
        let x = Var::from_tensor(&x).unwrap();
        let gradient = |y: Tensor| {
            let loss = y.sqr().unwrap().sum_all().unwrap();
            loss.backward().unwrap().get(&x).unwrap().clone()
        };
        let [first, second] = projections.forward(x.as_tensor()).unwrap();
        let found = gradient(Tensor::cat(&[first, second], 2).unwrap());
        let expected = gradient(dense.forward(x.as_tensor()).unwrap());
        let scale = expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        close(&(found / f64::from(scale)).unwrap(), &(expected / f64::from(scale)).unwrap());
    }
}

#[test]
fn asking_for_the_last_weights_changes_no_output() {
    let (q, k) = (values(&[1, 4, 3, 8], 1).unwrap(), values(&[1, 2, 9, 8], 2).unwrap());
    // A cache with room for more: strided keys and values.
    let (k, v) = (k.narrow(2, 0, 7).unwrap(), k.narrow(2, 0, 7).unwrap());
    let attend = Attend { mask: None, scale: 0.3, compute: Compute::F32 };
    let plain = attention(&q, &k, &v, &attend).unwrap();
    let (out, last) = attention_with_last_weights(&q, &k, &v, &attend).unwrap();
    let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(bits(&plain), bits(&out));
    let (_, all) = attention_with_weights(&q, &k, &v, &attend).unwrap();
    let all = all.narrow(2, 2, 1).unwrap().contiguous().unwrap();
    for (a, b) in bits(&last).iter().zip(bits(&all)) {
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
}
