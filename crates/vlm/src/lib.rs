//! The engine: images and messages in; tokens, evidence and embeddings out.
//!
//! One vision encoder, one projector and one language model serve every family; a family
//! (`family`) is only a table over them. It knows no application, no network,
//! no async runtime and no user interface.
//!
//! Shapes are written with `B` batch, `N` images or tiles, `C` channels, `S` side or key length,
//! `T` tokens, `P` patches, `D` hidden size, `H` heads, `d` head size, `V` vocabulary.

pub mod error;

pub mod checkpoint;
pub mod config;
pub mod device;
pub mod family;
pub mod model;
pub mod probe;
pub mod weights;

pub mod dual_encoder;
pub mod explain;
pub mod generate;
pub mod lora;
mod memory;
pub mod processor;

pub use checkpoint::Checkpoint;
pub use config::Config;
pub use device::{DeviceChoice, choose};
pub use dual_encoder::DualEncoder;
pub use error::Error;
pub use kernels::claim_cores;
pub use lora::Lora;
pub use memory::MemoryNeed;
pub use model::kv_cache::KvCache;
pub use model::{LoadOptions, Mask, Overlay, Positions, Vlm};
pub use probe::{Probe, Rows};
pub use weights::TensorMap;
pub use weights::packed::{Quantization, cache_folder};
