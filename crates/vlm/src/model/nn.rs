//! The layers' arithmetic: every op here is differentiable.
//!
//! On the CPU in f32 an op runs a fused kernel with a gradient of its own; on any other device
//! or dtype it is composed of candle's differentiable ops. Both give the same values and
//! gradients (tested). No other module names candle's fused ops, which stop gradients silently.
//! It knows no architecture.
//!
//! Shapes: `B` batch, `H` query heads, `Hkv` key and value heads, `T` queries, `S` keys, `d` head
//! size, `V` vocabulary.

mod activation;
mod adapter;
mod attention;
mod fused;
mod heads;
mod linear;
mod loss;
mod norm;
mod rotary;
mod weight;

pub use activation::{Activation, swiglu};
pub use adapter::Adapter;
pub use attention::{
    Attend, attention, attention_weights, attention_with_last_weights, attention_with_weights,
    softmax,
};
pub use heads::{merge_heads, split_heads};
pub use linear::{Embedding, Linear, Projections, matmul};
pub use loss::cross_entropy;
pub use norm::{LayerNorm, Norm, RmsNorm};
pub use rotary::rope;
pub use weight::{Bytes, PackedWeight, Weight};

#[cfg(test)]
mod tests;

/// How matrix products are formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compute {
    /// f32 throughout.
    #[default]
    F32,
    /// Operands rounded to bf16, sums in f32 (AMX tiles where the processor has them). CPU only:
    /// other devices compute in the tensors' own dtype.
    Bf16,
}

impl Compute {
    fn precision(self) -> kernels::gemm::Precision {
        match self {
            Compute::F32 => kernels::gemm::Precision::F32,
            Compute::Bf16 => kernels::gemm::Precision::Bf16,
        }
    }
}
