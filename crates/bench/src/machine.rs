//! What this machine can do at most: the two figures every speed is held against.

use std::time::Instant;

use kernels::gemm::{Mat, Out, Precision, Start, gemm};
use kernels::quant::{self, Format, Packed};
use serde::{Deserialize, Serialize};

/// Bytes that no cache holds.
const MEMORY_BYTES: usize = 1 << 30;
const ROUNDS: usize = 5;

/// Measured limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor name, as the system gives it.
    pub processor: String,
    /// Instruction sets the kernels use here.
    pub level: String,
    pub threads: usize,
    /// Reading memory with all threads, GB/s.
    pub read_gb_per_second: f64,
    /// Matrix product with all threads, f32, GFLOP/s.
    pub f32_gflop_per_second: f64,
    /// The same with 8-bit and 4-bit weights.
    pub q8_gflop_per_second: f64,
    pub q4_gflop_per_second: f64,
}

impl Machine {
    /// Takes about four seconds.
    pub fn measure() -> Machine {
        let threads = rayon::current_num_threads();
        Machine {
            processor: processor(),
            level: format!("{:?}", kernels::level()),
            threads,
            read_gb_per_second: read(threads),
            f32_gflop_per_second: product(None),
            q8_gflop_per_second: product(Some(Format::Q8_0)),
            q4_gflop_per_second: product(Some(Format::Q4_0)),
        }
    }
}

fn best(mut run: impl FnMut()) -> f64 {
    let timed = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        run();
        begun.elapsed().as_secs_f64()
    });
    timed.fold(f64::INFINITY, f64::min)
}

fn read(threads: usize) -> f64 {
    let memory = vec![1u8; MEMORY_BYTES];
    let seconds = best(|| {
        std::thread::scope(|scope| {
            for part in memory.chunks(MEMORY_BYTES.div_ceil(threads)) {
                scope.spawn(move || std::hint::black_box(sum(part)));
            }
        });
    });
    MEMORY_BYTES as f64 / seconds / 1e9
}

fn sum(part: &[u8]) -> u64 {
    let mut lanes = [0u64; 16];
    for block in part.as_chunks::<128>().0 {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane = lane.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    lanes.iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// A product of the size of a decoder's layer; `None` is f32.
fn product(format: Option<Format>) -> f64 {
    let (m, n, k) = (512, 2560, 960);
    let (x, w) = (vec![0.5f32; m * k], vec![0.25f32; n * k]);
    let mut out = vec![0f32; m * n];
    let seconds = match format {
        None => best(|| {
            let to = Out { data: &mut out, row_stride: n };
            let (a, b) = (Mat::new(&x, m, k), Mat::new(&w, n, k).t());
            gemm(to, a, b, Start::Zero, Precision::F32);
        }),
        Some(format) => {
            let bytes = quant::pack(format, &w, k);
            let Some(packed) = Packed::new(format, (n, k), &bytes) else { return 0.0 };
            best(|| quant::product(&mut out, (&x, m), packed, None, (&[n], Precision::Bf16)))
        }
    };
    2.0 * (m * n * k) as f64 / seconds / 1e9
}

/// Whether bf16 is multiplied as such; elsewhere it is slower than f32, ours and the peers'.
pub(crate) fn has_bf16() -> bool {
    kernels::level() >= kernels::Level::Avx512Bf16
}

/// The processor's name, as the system gives it.
pub(crate) fn processor() -> String {
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = about.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    named.unwrap_or(std::env::consts::ARCH).trim().to_string()
}

/// Memory that programs can still have, where the system tells.
pub(crate) fn available_gib() -> Option<f64> {
    let about = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = about.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / (1 << 20) as f64)
}
