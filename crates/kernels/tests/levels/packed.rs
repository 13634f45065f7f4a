//! Products with packed weights.

use kernels::gemm::Precision;
use kernels::quant::{self, Format, Packed};

use super::{assert_close, same_at_every_level, values, wide};

/// Rows, outputs, inner elements: around groups of 16, blocks of 32 and the tiles' heights.
const PRODUCTS: [(usize, usize, usize); 10] = [
    (1, 16, 32),
    (1, 5, 7),
    (2, 33, 64),
    (3, 48, 96),
    (5, 17, 100),
    (7, 64, 33),
    (13, 40, 160),
    (16, 16, 64),
    (31, 33, 100),
    (70, 96, 576),
];

fn packed_product(format: Format, (m, n, k): (usize, usize, usize), widths: &[usize]) -> Vec<f32> {
    product(format, (m, n, k), (widths, Precision::F32))
}

fn product(
    format: Format,
    (m, n, k): (usize, usize, usize),
    (widths, precision): (&[usize], Precision),
) -> Vec<f32> {
    let (x, w, bias) = (values(m * k, 1, 2.0), values(n * k, 2, 0.3), values(n, 3, 1.0));
    let bytes = quant::pack(format, &w, k);
    let packed = Packed::new(format, (n, k), &bytes).expect("a fitting length");
    let mut out = vec![f32::NAN; m * n];
    quant::product(&mut out, (&x, m), packed, Some(&bias), (widths, precision));
    out
}

#[test]
fn products_with_packed_weights() {
    for (format, tolerance) in [(Format::Q8_0, 1e-4), (Format::Q4_0, 1e-2)] {
        for (m, n, k) in PRODUCTS {
            let what = format!("{format:?} {m} {n} {k}");
            let found = same_at_every_level(&what, || packed_product(format, (m, n, k), &[n]));
            let (x, w, bias) = (values(m * k, 1, 2.0), values(n * k, 2, 0.3), values(n, 3, 1.0));
            let bytes = quant::pack(format, &w, k);
            let mut kept = vec![0.0; n * k];
            Packed::new(format, (n, k), &bytes).expect("it fits").unpack(&mut kept);
            let mut expected = wide(&bias).repeat(m);
            for (i, out) in expected.iter_mut().enumerate() {
                let (x, w) = (&x[i / n * k..][..k], &kept[i % n * k..][..k]);
                *out += x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum::<f64>();
            }
            assert_close(&what, &found, &expected, tolerance);
            // bf16 keeps 8 bits of activations and weights; few rows stay exact.
            let found = product(format, (m, n, k), (&[n], Precision::Bf16));
            assert_close(&what, &found, &expected, tolerance.max(1e-2));
        }
    }
}

#[test]
fn matrices_of_one_input_are_the_parts_of_one_in_bf16_too() {
    for format in [Format::Q8_0, Format::Q4_0] {
        let (m, n, k) = (70, 117, 1600);
        let all = product(format, (m, n, k), (&[n], Precision::Bf16));
        let cut = product(format, (m, n, k), (&[48, 16, 53], Precision::Bf16));
        for (first, from, width) in [(0, 0, 48), (48 * m, 48, 16), (64 * m, 64, 53)] {
            for row in 0..m {
                let part = &cut[first + row * width..][..width];
                assert_eq!(part, &all[row * n + from..][..width], "{format:?}, row {row}");
            }
        }
    }
}

#[test]
fn a_packed_row_gives_the_same_bits_alone_and_in_a_batch() {
    for format in [Format::Q8_0, Format::Q4_0] {
        let (m, n, k) = (70, 96, 576);
        let all = packed_product(format, (m, n, k), &[n]);
        let (x, w, bias) = (values(m * k, 1, 2.0), values(n * k, 2, 0.3), values(n, 3, 1.0));
        let bytes = quant::pack(format, &w, k);
        let packed = Packed::new(format, (n, k), &bytes).expect("it fits");
        for row in [0, 1, 33, 69] {
            let mut one = vec![0.0; n];
            let of = (&x[row * k..][..k], 1);
            quant::product(&mut one, of, packed, Some(&bias), (&[n], Precision::F32));
            assert_eq!(one, all[row * n..][..n], "{format:?}, row {row}");
        }
        // The same outputs cut into three matrices.
        let cut = packed_product(format, (m, n, k), &[48, 16, 32]);
        for (first, from, width) in [(0, 0, 48), (48 * m, 48, 16), (64 * m, 64, 32)] {
            for row in 0..m {
                let part = &cut[first + row * width..][..width];
                assert_eq!(part, &all[row * n + from..][..width], "{format:?}, row {row}");
            }
        }
    }
}

#[test]
fn packing_rounds_as_ggml_does() {
    let mut w = vec![0f32; 64];
    w[..4].copy_from_slice(&[-8.0, 3.4, 0.5, 7.0]);
    w[32..35].copy_from_slice(&[127.0, -63.6, 0.4]);
    let unpacked = |format| {
        let bytes = quant::pack(format, &w, 64);
        let mut out = vec![0.0; 64];
        Packed::new(format, (1, 64), &bytes).expect("it fits").unpack(&mut out);
        out
    };
    // Scale 1: the largest in magnitude becomes exactly −8.
    assert_eq!(unpacked(Format::Q4_0)[..4], [-8.0, 3.0, 1.0, 7.0]);
    assert_eq!(unpacked(Format::Q8_0)[32..35], [127.0, -64.0, 0.0]);
    for (format, step) in [(Format::Q8_0, 0.5 / 127.0), (Format::Q4_0, 1.0 / 8.0)] {
        let w = values(96 * 20, 5, 1.0);
        let bytes = quant::pack(format, &w, 96);
        let mut out = vec![0.0; w.len()];
        Packed::new(format, (20, 96), &bytes).expect("it fits").unpack(&mut out);
        for (a, b) in w.iter().zip(&out) {
            assert!((a - b).abs() <= step * 1.15, "{format:?}: {a} became {b}");
        }
        assert!(Packed::new(format, (21, 96), &bytes).is_some(), "rows are padded to sixteen");
        assert!(Packed::new(format, (33, 96), &bytes).is_none());
    }
    let zeros = quant::pack(Format::Q4_0, &[0.0; 32], 32);
    let mut out = [1f32; 32];
    Packed::new(Format::Q4_0, (1, 32), &zeros).expect("it fits").unpack(&mut out);
    assert_eq!(out, [0.0; 32]);
}
