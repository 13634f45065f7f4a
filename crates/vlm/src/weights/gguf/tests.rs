//! Every format is read as ggml's own tools read it; files that are cut short or lie are refused
//! without a panic and without taking memory.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use kernels::quant::{Format, Packed, pack_into, packed_len};

use super::{GgufFile, parse};

fn formats(extension: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/gguf");
    folder.join("formats").with_extension(extension)
}

fn values(file: &GgufFile, tensor: &str) -> Vec<f32> {
    let tensor = file.load(tensor, DType::F32, &Device::Cpu).expect(tensor);
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
}

#[test]
fn every_format_holds_what_gguf_py_reads_in_it() {
    let file = GgufFile::open(&formats("gguf")).expect("formats");
    let expected = candle_core::safetensors::load(formats("safetensors"), &Device::Cpu);
    let mut n_known = 0;
    for (name, expected) in expected.expect("what gguf-py read") {
        if name == "IQ4_NL" {
            let error = file.load(&name, DType::F32, &Device::Cpu).expect_err("unknown");
            let error = error.to_string();
            assert!(error.contains("IQ4_NL") && error.contains("Q4_0"), "{error}");
            continue;
        }
        assert_eq!(file.dims(&name), Some(expected.dims()), "{name}");
        let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
        let apart = expected.iter().zip(values(&file, &name)).map(|(a, b)| (a - b).abs());
        let apart = apart.fold(0.0, f32::max);
        assert!(apart <= 1e-6, "{name}: {apart}");
        n_known += 1;
    }
    assert_eq!(n_known, 13);
}

/// 8- and 4-bit blocks of a GGUF are the very blocks that packing makes of their values.
#[test]
fn blocks_stay_what_they_are_when_packed() {
    let file = GgufFile::open(&formats("gguf")).expect("formats");
    for (name, format) in [("Q8_0", Format::Q8_0), ("Q4_0", Format::Q4_0)] {
        let values = values(&file, name);
        let (rows, cols) = (2, 256);
        let mut bytes = vec![0; packed_len(format, rows, cols)];
        pack_into(&mut bytes, format, &values, cols);
        let packed = Packed::new(format, (rows, cols), &bytes).expect("packed");
        for (row, values) in values.chunks(cols).enumerate() {
            let mut unpacked = vec![0.0; cols];
            packed.unpack_row(row, &mut unpacked);
            assert_eq!(unpacked, values, "{name}, row {row}");
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = std::fs::read(formats("gguf")).expect("formats");
    assert!(parse(&whole).is_ok());
    for n in (0..whole.len() - 32).step_by(7) {
        let reason = parse(&whole[..n]).err().unwrap_or_else(|| panic!("{n} bytes accepted"));
        assert!(reason.contains("cut short") || reason.contains("not a GGUF"), "{n}: {reason}");
    }
}

/// Any number of the header may be any other number.
#[test]
fn a_lying_file_is_refused_or_read_within_its_bytes() {
    let whole = std::fs::read(formats("gguf")).expect("formats");
    let n_header = 1200.min(whole.len());
    for lie in [u64::MAX, 1 << 63, 1 << 40, 1 << 31, 0xffff_ffff, 3] {
        for at in 0..n_header {
            let mut bytes = whole.clone();
            let lie = lie.to_le_bytes();
            bytes[at..at + 8].copy_from_slice(&lie);
            let Ok((_, tensors)) = parse(&bytes) else { continue };
            for (name, entry) in tensors {
                let n = entry.dims.iter().product::<usize>();
                assert!(super::format(entry.kind).is_none() || n <= 64 * bytes.len(), "{name}");
            }
        }
    }
    for (at, lie) in [(8, u64::MAX), (16, u64::MAX), (24, u64::MAX)] {
        let mut bytes = whole.clone();
        bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
        assert!(parse(&bytes).is_err(), "{at}");
    }
}
