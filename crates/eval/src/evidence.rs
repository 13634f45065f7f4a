//! Whether a model's evidence is true.

mod apart;
mod assertions;
mod causal;
mod detection;
mod faithfulness;
mod forced;
mod localisation;
mod pixels;
mod pointing;
mod witness;
