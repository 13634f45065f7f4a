//! The engine held against the reference implementation: on folders that hold a checkpoint,
//! pictures, and what transformers computed with them, all from prompt to answer is compared.
//!
//! `tests/parity/make.py` makes such folders. This file knows no family; it does what a user does
//! and looks at what lies between.

pub(crate) mod case;
mod compare;
pub(crate) mod reference;
mod report;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use vlm::generate::Cancel;
use vlm::processor::image::ImageSettings;
use vlm::processor::{Inputs, Processor};
use vlm::{KvCache, Mask, Positions, Probe, Vlm};

use crate::Error;

pub use case::{Case, Kind};
pub use report::{Held, Report};

/// Every case in a folder, in the order of their names.
///
/// # Errors
/// [`Error::Read`], [`Error::Case`].
pub fn cases(folder: &Path) -> Result<Vec<Case>, Error> {
    case::folders(folder)?.into_iter().map(Case::load).collect()
}

/// Holds every case of a folder against the reference.
///
/// # Errors
/// As [`cases`], and [`Error::Cancelled`]. A case that fails is a row of the report.
pub fn parity(
    folder: &Path,
    progress: &(dyn Fn(u64, u64) + Sync),
    cancel: &Cancel,
) -> Result<Report, Error> {
    let begun = std::time::Instant::now();
    let cases = cases(folder)?;
    let mut held = Vec::new();
    for (done, case) in cases.iter().enumerate() {
        progress(done as u64, cases.len() as u64);
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let mut row = Held::new(case)?;
        if let Err(error) = hold(case, &mut row) {
            row.error = Some(error.to_string());
        }
        held.push(row);
    }
    Ok(Report::new(held, begun))
}

/// Compares one case; what was found before an error stays.
///
/// # Errors
/// Whatever the engine reports, and shapes that differ.
pub fn hold(case: &Case, row: &mut Held) -> Result<(), Error> {
    match case.kind {
        Kind::Ask => ask(case, row),
        Kind::Compare => compare::hold(case, row),
    }
}

fn ask(case: &Case, row: &mut Held) -> Result<(), Error> {
    let vlm = Vlm::load(&case.dir, &Device::Cpu)?;
    let processor = Processor::load(&case.dir, &vlm.config)?;
    row.prompt = Some(processor.chat.render(&case.messages)? == case.prompt);
    let inputs = processor.prepare(&case.messages, &case.images)?;
    row.input_ids = Some(inputs.input_ids == case.expected.ids("input_ids")?);
    let mut cache = KvCache::new();
    let (embeds, activations) = activations(&vlm, &inputs, case, &mut cache)?;
    note(case, row, &activations, &processor.images.settings)?;
    let expected = case.expected.ids("greedy")?;
    let found = greedy((&vlm, &inputs), embeds, expected.len(), cache)?;
    row.greedy_equal = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
    row.greedy_tokens = expected.len();
    Ok(())
}

/// Puts down how far each tensor is from the reference's.
fn note(
    case: &Case,
    row: &mut Held,
    activations: &BTreeMap<&'static str, Tensor>,
    settings: &ImageSettings,
) -> Result<(), Error> {
    for (name, ours) in activations {
        let apart = case.expected.apart(name, ours)?;
        row.deviations.insert((*name).to_owned(), apart.relative);
        if *name == "pixel_values" {
            let std =
                settings.normalize.map_or(1.0, |(_, std)| std.into_iter().fold(0.0, f32::max));
            row.largest_step = Some(f64::from(apart.absolute * std * 255.0));
        }
    }
    Ok(())
}

/// What the decoder reads, `(1, T, D)`, and the tensors that are compared; what its layers look at
/// beside that is set in `cache`.
fn activations(
    vlm: &Vlm,
    inputs: &Inputs,
    case: &Case,
    cache: &mut KvCache,
) -> Result<(Tensor, BTreeMap<&'static str, Tensor>), Error> {
    let mut found = BTreeMap::new();
    let embeds = match &inputs.pixel_values {
        Some(pixel_values) => {
            let features = vlm.picture_features(pixel_values, &inputs.image_spans)?;
            let image_embeds = vlm.project_for(&features, &inputs.qformer_input_ids)?.image_embeds;
            let packed = vlm.pack(&image_embeds, &inputs.image_spans)?;
            found.insert("pixel_values", pixel_values.clone());
            found.insert("vision_features", features);
            found.insert("image_embeds", image_embeds);
            let visible = vec![inputs.cross_attention_mask.clone()];
            vlm.fuse(&inputs.input_ids, &packed, visible, cache)?
        }
        None => {
            let ids = Tensor::new(inputs.input_ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
            vlm.embed_tokens(&ids)?
        }
    };
    let hidden = read((vlm, inputs), &embeds, cache)?;
    cache.truncate(0);
    let n_rows = case.expected.floats("logits")?.dim(0)?;
    let n_tokens = inputs.input_ids.len();
    let last = hidden.narrow(1, n_tokens.saturating_sub(n_rows), n_rows.min(n_tokens))?;
    found.insert("logits", vlm.logits(&last.contiguous()?)?.squeeze(0)?);
    Ok((embeds, found))
}

fn read(
    (vlm, inputs): (&Vlm, &Inputs),
    embeds: &Tensor,
    cache: &mut KvCache,
) -> Result<Tensor, Error> {
    let from = cache.len();
    let ids = inputs.positions(from, embeds.dim(1)?)?;
    let positions = ids.as_ref().map_or(Positions::From(from), Positions::Ids);
    Ok(vlm.forward(embeds, &positions, &Mask::Causal, Some(cache), &mut Probe::none())?)
}

/// Prefill, then one token at a time through the cache; the end token does not stop it.
fn greedy(
    (vlm, inputs): (&Vlm, &Inputs),
    mut embeds: Tensor,
    n_tokens: usize,
    mut cache: KvCache,
) -> Result<Vec<u32>, Error> {
    let mut answer = Vec::new();
    while answer.len() < n_tokens {
        let hidden = read((vlm, inputs), &embeds, &mut cache)?;
        let last = hidden.narrow(1, hidden.dim(1)? - 1, 1)?.contiguous()?;
        let logits: Vec<f32> = vlm.logits(&last)?.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
        let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
        let best = best.unwrap_or(0) as u32;
        answer.push(best);
        embeds = vlm.embed_tokens(&Tensor::new(&[[best]], &Device::Cpu)?)?;
    }
    Ok(answer)
}
