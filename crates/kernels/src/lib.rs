//! Vector and matrix kernels over plain `f32` slices, each with a portable body and faster ones
//! chosen at run time (AVX2, AVX-512 with its dot products, AMX tiles, NEON).
//!
//! Why: stock CPU kernels spend most of a training step outside the matrix product. These take
//! whole rows at a time, make few passes over memory and keep nothing that can be recomputed.
//! The crate knows no tensors, shapes of models, devices or gradient graphs.

mod level;
#[macro_use]
mod simd;
#[cfg(target_arch = "x86_64")]
mod amx;
mod buffer;
mod math;
mod parallel;
mod pool;

pub mod activation;
pub mod attention;
pub mod gemm;
pub mod loss;
pub mod norm;
pub mod quant;
pub mod rope;
pub mod softmax;

pub use buffer::uninit;
pub use level::{Level, level, with_level};
pub use pool::claim_cores;
