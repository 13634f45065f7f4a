//! The trained weights: named as in the checkpoint, grouped into modules, drawn from a seed.
//!
//! Modules are what a recipe freezes and gives learning rates to. How the weights are used is
//! the engine's business.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};

use crate::Error;

/// Names a recipe may use for groups of weights.
pub(crate) const MODULES: [&str; 6] =
    ["vision_encoder", "projector", "language_model", "text_tower", "region_head", "letter_head"];

/// Module that a weight belongs to, by its checkpoint name.
#[must_use]
pub fn module_of(name: &str) -> &'static str {
    match name {
        n if n.starts_with("text_tower.") => "text_tower",
        n if n.starts_with("region_head.") => "region_head",
        n if n.starts_with("letter_head.") => "letter_head",
        n if n.starts_with("model.vision_model.") => "vision_encoder",
        n if n.starts_with("model.connector.") => "projector",
        _ => "language_model",
    }
}

/// All trained weights, by name.
#[derive(Clone)]
pub struct Parameters {
    /// Name to variable, in name order: the order of optimiser state and of gradient sums.
    pub vars: BTreeMap<String, Var>,
}

impl Parameters {
    /// Fresh weights: matrices normal with deviation `0.5 / sqrt(inputs)`, those that add to
    /// the residual stream divided by `sqrt(2 layers)`, embeddings 0.02, norms one, biases zero.
    ///
    /// # Errors
    /// [`Error::Tensor`] when a tensor cannot be made.
    pub fn init(shapes: &[(String, Vec<usize>)], seed: u64) -> Result<Self, Error> {
        let mut vars = BTreeMap::new();
        for (name, dims) in shapes {
            let values = initial(name, dims, seed);
            let tensor = Tensor::from_vec(values, dims.as_slice(), &Device::Cpu)?;
            vars.insert(name.clone(), Var::from_tensor(&tensor)?);
        }
        Ok(Self { vars })
    }

    /// Number of values of all weights.
    #[must_use]
    pub fn count(&self) -> usize {
        self.vars.values().map(|v| v.elem_count()).sum()
    }

    /// Tensors for the engine: variables where `trained` says so (gradients reach them), plain
    /// views elsewhere (no graph is recorded above them). Both see in-place updates.
    pub fn tensors(&self, trained: impl Fn(&str) -> bool) -> Vec<(String, Tensor)> {
        let view = |name: &str, var: &Var| {
            if trained(name) { var.as_tensor().clone() } else { var.as_detached_tensor() }
        };
        self.vars.iter().map(|(name, var)| (name.clone(), view(name, var))).collect()
    }

    /// Makes the query and key maps of a head equal, so that alike tokens attend to each other
    /// from the first step on.
    ///
    /// # Errors
    /// [`Error::Tensor`] when the head does not exist.
    pub fn tie_query_to_key(&self, layer: usize, head: usize, width: usize) -> Result<(), Error> {
        let name = |map: &str| format!("model.text_model.layers.{layer}.self_attn.{map}.weight");
        let (Some(query), Some(key)) =
            (self.vars.get(&name("q_proj")), self.vars.get(&name("k_proj")))
        else {
            return Err(Error::Model(format!("there is no attention layer {layer}")));
        };
        let rows = query.as_detached_tensor().narrow(0, head * width, width)?;
        let tied = key
            .as_detached_tensor()
            .slice_assign(&[head * width..(head + 1) * width, 0..key.dim(1)?], &rows)?;
        Ok(key.set(&tied)?)
    }
}

fn initial(name: &str, dims: &[usize], seed: u64) -> Vec<f32> {
    let n = dims.iter().product();
    if name.ends_with("logit_scale") {
        return vec![10f32.ln(); n];
    }
    if name.ends_with("bias") {
        return vec![0.0; n];
    }
    if dims.len() == 1 {
        return vec![1.0; n];
    }
    let inputs: usize = dims[1..].iter().product();
    let adds = ["o_proj.", "out_proj.", "down_proj.", "fc2."].iter().any(|p| name.contains(p));
    let deviation = match name {
        n if n.contains("embed_tokens") || n.contains("position_embedding") => 0.02,
        n if n.contains("embeddings") && !n.contains("patch_embedding") => 0.02,
        _ if adds => 0.5 / (inputs as f64).sqrt() / 12f64.sqrt(),
        _ => 0.5 / (inputs as f64).sqrt(),
    };
    let mut random = Random::new(seed ^ hash(name));
    (0..n).map(|_| (random.normal() * deviation) as f32).collect()
}

/// FNV-1a, so that a weight's start depends on its name and not on its place in a list.
pub(crate) fn hash(text: &str) -> u64 {
    let mix = |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// SplitMix64: small, seedable, the same on every platform.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}
