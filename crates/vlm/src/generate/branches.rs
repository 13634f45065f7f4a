//! Several ways to go on from the same pictures, in one forward pass.
//!
//! The prompt up to its last image token (the prefix) is read once. What follows it, a question
//! and an answer, is a branch; branches lie one after another behind the cache, and a mask shows
//! each of them the prefix and itself. Image tokens can be hidden from a branch, in all layers: the
//! prefix is not computed anew, so a token that has mixed in another one still holds some of it.
//! What the conversation has in the cache stays there. It does not know what is asked, or why.
//!
//! Shapes: `T` rows of a pass, `S` keys, `D` hidden size, `V` vocabulary.

use std::rc::Rc;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;

use super::score::{log_probability, said_tokens};
use super::{Cancel, GenerateOptions, Run, Session, check_context};
use crate::explain::certainty;
use crate::model::attention::MASKED;
use crate::processor::{ImageSpan, Inputs, Message, Processor, Tiles};
use crate::{Error, KvCache, Mask, Positions, Probe, Vlm};

/// Rows of one forward pass, unless one branch alone has more: each row also computes with the
/// keys of the other branches, so that more rows at once cost more than they save.
const ROWS_AT_ONCE: usize = 256;
/// Rows of logits at once: a vocabulary is wide.
const LOGITS_AT_ONCE: usize = 64;

/// What goes on from the pictures: the last of `messages` asks, `answer` is what is said.
#[derive(Debug, Clone)]
pub struct Branch<'a> {
    pub messages: &'a [Message],
    pub answer: &'a str,
    pub hidden: Hidden,
}

/// Which image tokens a branch does not see.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Hidden {
    #[default]
    Nothing,
    /// It is told as if there were no picture.
    Everything,
    /// These, in the order of [`Session::image_cells`].
    Tokens(Vec<bool>),
}

impl Hidden {
    /// Whether there is any.
    fn hides(&self) -> bool {
        match self {
            Hidden::Nothing => false,
            Hidden::Everything => true,
            Hidden::Tokens(tokens) => tokens.contains(&true),
        }
    }

    /// Whether the `idx`-th is among them.
    fn has(&self, idx: usize) -> bool {
        match self {
            Hidden::Nothing => false,
            Hidden::Everything => true,
            Hidden::Tokens(tokens) => tokens[idx],
        }
    }
}

/// What the model made of a branch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// The tokens of the answer, without an end.
    pub tokens: Vec<u32>,
    /// The natural logarithm of the probability of each.
    pub logprobs: Vec<f32>,
    /// Of the distribution that each was taken from, nats.
    pub entropies: Vec<f32>,
    /// `(V)`: what predicts the answer's first token.
    pub first_logits: Vec<f32>,
}

/// What an image token shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// Which of the conversation's pictures.
    pub image: usize,
    /// x0, y0, x1, y1 in pixels of the original; `None` where it stands for no part of it.
    pub bbox: Option<[f32; 4]>,
}

/// A row of logits that predicts a token of a branch's answer.
pub(crate) struct Row<'a> {
    /// The branch's number among those asked for.
    pub branch: usize,
    /// The token's number in the answer; 0 also where the answer is empty.
    pub idx: usize,
    /// The token; `None` where the answer is empty.
    pub token: Option<u32>,
    /// `(V)`
    pub logits: &'a [f32],
}

/// A branch laid out.
pub(super) struct Plan {
    pub inputs: Rc<Inputs>,
    said: Rc<Vec<u32>>,
    /// How many tokens of the prompt are the prefix.
    prefix: usize,
    hidden: Hidden,
    /// Its pictures are left out, since the model has no tokens to hide.
    blind: bool,
}

impl Session {
    /// What the model makes of each branch: `images` are the pictures of the image parts of every
    /// branch's messages. Branches with the same text before their pictures share passes.
    ///
    /// Errors: `Error::Cancelled`; a branch longer than the context; `hidden` of another length
    /// than there are image tokens; `Error::Unhidable` where some are to be hidden and the
    /// model's pictures are no tokens; whatever processor and model report.
    pub fn tell(
        &mut self,
        (vlm, processor): (&Vlm, &Processor),
        images: &[RgbImage],
        branches: &[Branch],
        cancel: &Cancel,
    ) -> Result<Vec<Told>, Error> {
        let mut told = vec![Told::default(); branches.len()];
        self.tell_each((vlm, processor), images, (branches, cancel), &mut |row| {
            let told = &mut told[row.branch];
            if row.idx == 0 {
                told.first_logits = row.logits.to_vec();
            }
            if let Some(token) = row.token {
                told.tokens.push(token);
                told.logprobs.push(log_probability(row.logits, &[token]));
                told.entropies.push(certainty(row.logits).0);
            }
        })?;
        Ok(told)
    }

    /// What each image token of the prompt shows, in order; of a model whose pictures are no
    /// tokens, what its layers look at.
    ///
    /// Errors: the processor's own.
    pub fn image_cells(
        processor: &Processor,
        (messages, images): (&[Message], &[RgbImage]),
    ) -> Result<Vec<Cell>, Error> {
        let tiled = processor.images.tiles_of(images);
        Ok(cells(&lay_out(processor, messages, &tiled)?.image_spans))
    }

    /// [`Session::tell`] row by row: each branch's rows come in order, one for each token of its
    /// answer, and one where that is empty.
    pub(crate) fn tell_each(
        &mut self,
        (vlm, processor): (&Vlm, &Processor),
        images: &[RgbImage],
        (branches, cancel): (&[Branch], &Cancel),
        visit: &mut dyn FnMut(Row),
    ) -> Result<(), Error> {
        let plans = plans((vlm, processor), images, branches)?;
        let mut first = 0;
        for group in plans.chunk_by(shares_prefix) {
            let mut visit = |row: Row| visit(Row { branch: first + row.branch, ..row });
            let work = (group, cancel);
            if group[0].blind && !images.is_empty() {
                // A session of its own, so that this one keeps its pictures.
                let mut other = Session::new(self.calibration.clone());
                other.tell_group((vlm, processor), &[], work, &mut visit)?;
            } else {
                let told = self.tell_group((vlm, processor), images, work, &mut visit);
                // Half-read tokens would be taken for read ones.
                told.inspect_err(|_| self.clear())?;
            }
            first += group.len();
        }
        Ok(())
    }

    /// Branches that share their prefix.
    fn tell_group(
        &mut self,
        (vlm, processor): (&Vlm, &Processor),
        images: &[RgbImage],
        (group, cancel): (&[Plan], &Cancel),
        visit: &mut dyn FnMut(Row),
    ) -> Result<(), Error> {
        self.read_prefix((vlm, processor), images, &group[0], cancel)?;
        let mut first = 0;
        while first < group.len() {
            cancel.check()?;
            let n = fitting(&group[first..]);
            let mut visit = |row: Row| visit(Row { branch: first + row.branch, ..row });
            self.tell_packed(vlm, &group[first..first + n], &mut Probe::none(), &mut visit)?;
            first += n;
        }
        Ok(())
    }

    /// Makes the cache begin with the prefix of a branch; what follows it there may stay.
    pub(super) fn read_prefix(
        &mut self,
        (vlm, processor): (&Vlm, &Processor),
        images: &[RgbImage],
        plan: &Plan,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let prefix = plan.prefix;
        let keys = self.pictures.keys(&plan.inputs, images);
        let known = self.keys.iter().zip(&keys[..prefix]).take_while(|(old, new)| old == new);
        let known = known.count();
        let looks = vlm.config.text_config.has_cross_attention();
        if known == prefix && !looks {
            return Ok(());
        }
        if known < prefix {
            self.truncate(known);
        }
        let tiled = if plan.blind { Vec::new() } else { processor.images.tiles_of(images) };
        let tiles: Vec<_> = tiled.iter().flat_map(|tiled| &tiled.tiles).collect();
        let pixel_values = (!tiles.is_empty()).then(|| processor.images.pixel_values(&tiles));
        let pixel_values = pixel_values.transpose()?;
        let inputs = Inputs { pixel_values, ..Inputs::clone(&plan.inputs) };
        if looks {
            let cache = self.cache.get_or_insert_with(KvCache::new);
            self.pictures.look_at(vlm, &inputs, cache, cancel)?;
        }
        if known < prefix {
            let embeds = self.pictures.embed(vlm, &inputs, known, cancel)?;
            let embeds = embeds.narrow(1, 0, prefix - known)?; // (1, T, D)
            let options = &GenerateOptions { evidence: false, ..Default::default() };
            let mut run = Run::new((vlm, processor), options, cancel, inputs);
            self.prefill(&mut run, embeds, &keys[..prefix])?;
        }
        Ok(())
    }

    /// One forward pass behind what the cache holds; the cache is left as it was.
    pub(super) fn tell_packed(
        &mut self,
        vlm: &Vlm,
        plans: &[Plan],
        probe: &mut Probe,
        visit: &mut dyn FnMut(Row),
    ) -> Result<(), Error> {
        let held = self.keys.len();
        let ids: Vec<u32> = plans.iter().flat_map(Plan::ids).collect();
        let n_rows = ids.len();
        let ids = Tensor::from_vec(ids, (1, n_rows), vlm.device())?;
        let embeds = vlm.embed_tokens(&ids)?; // (1, T, D)
        let positions = plans.iter().map(|plan| plan.positions(vlm.device()));
        let positions: Vec<Tensor> = positions.collect::<Result<_, _>>()?;
        let rank = positions.first().map_or(2, Tensor::rank);
        let positions = Tensor::cat(&positions, rank - 1)?; // (1, T) or (3, 1, T)
        let window = vlm.config.text_config.sliding_window;
        let mask = |window| -> Result<Tensor, Error> {
            let (values, dims) = (mask(plans, held, window), (1, 1, n_rows, held + n_rows));
            Ok(Tensor::from_vec(values, dims, vlm.device())?)
        };
        let full = mask(None)?;
        let windowed = if window.is_some() { mask(window)? } else { full.clone() };
        let mask = Mask::Windowed { full: &full, windowed: &windowed };
        let positions = Positions::Ids(&positions);
        let cache = self.cache.get_or_insert_with(KvCache::new);
        let hidden = vlm.forward(&embeds, &positions, &mask, Some(cache), probe);
        cache.truncate(held);
        let hidden = hidden?.squeeze(0)?; // (T, D)
        let mut wanted: Vec<(u32, usize, usize)> = Vec::new();
        let mut next = 0;
        for (branch, plan) in plans.iter().enumerate() {
            let first = next + plan.predicts_first();
            let rows = (0..plan.said.len().max(1)).map(|i| (first + i, branch, i));
            wanted.extend(rows.map(|(row, branch, i)| (row as u32, branch, i)));
            next += plan.n_rows();
        }
        for piece in wanted.chunks(LOGITS_AT_ONCE) {
            let rows: Vec<u32> = piece.iter().map(|(row, ..)| *row).collect();
            let rows = Tensor::from_vec(rows, piece.len(), vlm.device())?;
            let logits = vlm.logits(&hidden.index_select(&rows, 0)?)?; // (rows, V)
            let logits = logits.to_dtype(DType::F32)?.to_vec2::<f32>()?;
            for (&(_, branch, idx), logits) in piece.iter().zip(&logits) {
                visit(Row { branch, idx, token: plans[branch].said.get(idx).copied(), logits });
            }
        }
        Ok(())
    }
}

impl Plan {
    fn n_rows(&self) -> usize {
        self.inputs.input_ids.len() - self.prefix + self.said.len()
    }

    /// Which of its rows predicts the first token of the answer.
    pub fn predicts_first(&self) -> usize {
        self.inputs.input_ids.len() - self.prefix - 1
    }

    /// Those of its rows.
    fn ids(&self) -> impl Iterator<Item = u32> {
        self.inputs.input_ids[self.prefix..].iter().chain(self.said.iter()).copied()
    }

    /// Where its rows stand, `(1, T)` or `(3, 1, T)`.
    fn positions(&self, device: &Device) -> Result<Tensor, Error> {
        if let Some(ids) = self.inputs.positions(self.prefix, self.n_rows())? {
            return Ok(ids);
        }
        let first = self.prefix as u32;
        let ids = Tensor::arange(first, first + self.n_rows() as u32, device)?;
        Ok(ids.unsqueeze(0)?)
    }

    /// Positions of the prompt that it does not see: the image tokens hidden from it and, where
    /// all of a picture are, what the prompt writes between them.
    fn hidden_positions(&self) -> Vec<usize> {
        let spans: Vec<&ImageSpan> =
            self.inputs.image_spans.iter().filter(|span| span.is_in_prompt()).collect();
        let (mut idx, mut positions) = (0, Vec::new());
        for of_image in spans.chunk_by(|a, b| a.image == b.image) {
            let tokens = of_image.iter().flat_map(|span| span.tokens.clone());
            let seen = positions.len();
            let n = tokens.clone().count();
            positions
                .extend(tokens.zip(idx..).filter(|(_, i)| self.hidden.has(*i)).map(|(at, _)| at));
            idx += n;
            if let ([first, .., last], true) = (of_image, positions.len() - seen == n) {
                positions.truncate(seen);
                positions.extend(first.tokens.start..last.tokens.end);
            }
        }
        positions
    }
}

/// The branches as tokens, without pixels.
pub(super) fn plans(
    (vlm, processor): (&Vlm, &Processor),
    images: &[RgbImage],
    branches: &[Branch],
) -> Result<Vec<Plan>, Error> {
    let tiled = processor.images.tiles_of(images);
    let has_tokens = !vlm.config.text_config.has_cross_attention();
    let mut plans: Vec<Plan> = Vec::new();
    for (i, branch) in branches.iter().enumerate() {
        let blind = branch.hidden.hides() && !has_tokens;
        let same = |(other, plan): &(&Branch, &Plan)| {
            std::ptr::eq(other.messages, branch.messages) && plan.blind == blind
        };
        let last = branches[..i].iter().zip(&plans).rev().find(same);
        let inputs = match last {
            Some((_, plan)) => Rc::clone(&plan.inputs),
            None if blind => {
                let messages: Vec<Message> =
                    branch.messages.iter().map(Message::without_images).collect();
                Rc::new(lay_out(processor, &messages, &[])?)
            }
            None => Rc::new(lay_out(processor, branch.messages, &tiled)?),
        };
        let said = match last.filter(|(other, _)| other.answer == branch.answer) {
            Some((_, plan)) => Rc::clone(&plan.said),
            None if branch.answer.is_empty() => Rc::new(Vec::new()),
            None => Rc::new(said_tokens(processor, branch.messages, branch.answer)?),
        };
        check_context(vlm, &inputs, said.len())?;
        check_hidden(branch, &inputs, blind)?;
        let prefix = prefix(&inputs);
        plans.push(Plan { inputs, said, prefix, hidden: branch.hidden.clone(), blind });
    }
    Ok(plans)
}

/// Errors: not as many as there are image tokens; some of those that cannot be hidden.
fn check_hidden(branch: &Branch, inputs: &Inputs, blind: bool) -> Result<(), Error> {
    let n = inputs.image_spans.iter().map(|span| span.tokens.len()).sum::<usize>();
    match &branch.hidden {
        Hidden::Tokens(tokens) if blind && tokens.contains(&false) => Err(Error::Unhidable),
        Hidden::Tokens(tokens) if !blind && tokens.len() != n => Err(Error::Shape {
            tensor: "hidden",
            expected: format!("({n}), one for each image token"),
            found: vec![tokens.len()],
        }),
        _ => Ok(()),
    }
}

fn lay_out(processor: &Processor, messages: &[Message], tiled: &[Tiles]) -> Result<Inputs, Error> {
    processor.images.check(tiled)?;
    let messages = processor.layout.plain(messages, tiled.len())?;
    processor.lay_out(&processor.chat.render(&messages)?, tiled)
}

pub(super) fn cells(spans: &[ImageSpan]) -> Vec<Cell> {
    let of = |span: &ImageSpan| {
        let span = span.clone();
        (0..span.tokens.len()).map(move |i| Cell { image: span.image, bbox: span.pixel_box(i) })
    };
    spans.iter().flat_map(of).collect()
}

/// Tokens up to and with the last one of a picture; one is left to predict what follows.
fn prefix(inputs: &Inputs) -> usize {
    let spans = inputs.image_spans.iter().filter(|span| span.is_in_prompt());
    let ends = spans.map(|span| span.tokens.end);
    let seen = inputs.cross_attention_mask.iter().map(|visible| visible.tokens.start + 1);
    let prefix = ends.chain(seen).max().unwrap_or(0);
    prefix.min(inputs.input_ids.len().saturating_sub(1))
}

fn shares_prefix(a: &Plan, b: &Plan) -> bool {
    let of = |plan: &Plan| (plan.blind, plan.prefix);
    let begins = a.inputs.input_ids.iter().zip(&b.inputs.input_ids).take(a.prefix);
    of(a) == of(b)
        && begins.into_iter().all(|(a, b)| a == b)
        && a.inputs.qformer_input_ids == b.inputs.qformer_input_ids
}

/// How many of the branches go into one pass; at least one.
fn fitting(plans: &[Plan]) -> usize {
    let mut n_rows = 0;
    let fits = |plan: &&Plan| {
        n_rows += plan.n_rows();
        n_rows <= ROWS_AT_ONCE
    };
    plans.iter().take_while(fits).count().max(1)
}

/// The additive mask `(T · S)` of branches behind `held` cached tokens: each sees what is not
/// hidden of the prefix, and itself up to its own place, through the window where there is one.
fn mask(plans: &[Plan], held: usize, window: Option<usize>) -> Vec<f32> {
    let n_rows: usize = plans.iter().map(Plan::n_rows).sum();
    let n_keys = held + n_rows;
    let window = window.unwrap_or(usize::MAX);
    let mut mask = vec![MASKED; n_rows * n_keys];
    let mut first = 0;
    for plan in plans {
        let hidden = plan.hidden_positions();
        for i in 0..plan.n_rows() {
            let row = &mut mask[(first + i) * n_keys..(first + i + 1) * n_keys];
            let oldest = (plan.prefix + i + 1).saturating_sub(window);
            row[oldest.min(plan.prefix)..plan.prefix].fill(0.0);
            hidden.iter().for_each(|&position| row[position] = MASKED);
            let own = held + first;
            let oldest = oldest.saturating_sub(plan.prefix);
            row[own + oldest..=own + i].fill(0.0);
        }
        first += plan.n_rows();
    }
    mask
}
