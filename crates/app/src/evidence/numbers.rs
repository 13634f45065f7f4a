//! The raw numbers of an answer: log-probabilities, entropies, where attention goes by layer and
//! head. Shown as they are, explained by nobody.

use vlm::explain::{Calibration, Evidence, EvidenceHeads, Heatmap, Word, pieces, place};
use vlm::generate::{Cancel, Cell, Features, Session};

use crate::api::{ApiError, ExpertView, HeatmapView, MapRequest, RawMap, WordNumbers};
use crate::engine::{Engine, Model};
use crate::failure::{api_error, failure};
use crate::outline::hull;
use crate::telling::seen_in;

use super::phrase::percent;
use super::subject::{Subject, inside, mean};
use super::trial::blinded;

/// A sink takes so many times the mean attention over the words of an answer, and is among this
/// share of the image tokens.
const SINK_FACTOR: f32 = 4.0;
const SINK_SHARE: f32 = 0.02;
/// Most cells along a side of a map.
const MAX_SIDE: usize = 64;

/// Every word's numbers.
pub(crate) fn expert(
    engine: &mut Engine,
    subject: &Subject,
    cancel: &Cancel,
) -> Result<ExpertView, ApiError> {
    subject.sees()?;
    let images = subject.pixels();
    engine.seeing(subject.seat, |model, session| {
        let mut look = || {
            let asked = (subject.messages.as_slice(), images.as_slice());
            let said = subject.answer.text.trim();
            let told = blinded(model, session, (subject, &images), cancel)?;
            let features = session.features(model.both(), asked, said, cancel)?;
            let tokens = pieces(&model.processor, &told[0].tokens, &subject.answer.text)?;
            let numbers = |word: &Word| {
                let sum = |values: &[f32]| inside(values, &tokens, &word.bytes).iter().sum();
                let of_word: Vec<usize> = (0..tokens.len()).collect();
                let of_word = inside(&of_word, &tokens, &word.bytes);
                let masses = of_word.iter().map(|&token| masses(&features, token));
                let (image, null): (Vec<f32>, Vec<f32>) = masses.unzip();
                WordNumbers {
                    word: word.index as u32,
                    text: word.text.clone(),
                    logprob: sum(&told[0].logprobs),
                    logprob_without: sum(&told[1].logprobs),
                    entropy: mean(&inside(&told[0].entropies, &tokens, &word.bytes)),
                    image_mass: mean(&image),
                    null_mass: mean(&null),
                }
            };
            let chosen = model.calibration.heads.heads.iter();
            Ok(ExpertView {
                layers: model.vlm.config.evidence_layers().iter().map(|&l| l as u32).collect(),
                heads: model.vlm.config.text_config.num_attention_heads as u32,
                chosen: chosen.map(|&(layer, head)| [layer as u32, head as u32]).collect(),
                words: subject.answer.words.iter().map(numbers).collect(),
            })
        };
        look().map_err(|error: vlm::Error| api_error(&error))
    })
}

/// Attention on image tokens and on the null token when a token was predicted: the last two
/// features of any patch.
fn masses(features: &Features, token: usize) -> (f32, f32) {
    match features.patch(token, 0) {
        Some([.., mass, null]) => (mass.exp(), *null),
        _ => (0.0, 0.0),
    }
}

/// The raw attention of the row that predicts a word.
pub(crate) fn raw_map(
    engine: &mut Engine,
    subject: &Subject,
    request: &MapRequest,
    cancel: &Cancel,
) -> Result<RawMap, ApiError> {
    subject.sees()?;
    let word = subject.answer.words.get(request.word as usize).ok_or_else(|| {
        let message = format!("the answer has no word {}", request.word);
        failure("no_such_word", message, "Choose one of its words.")
    })?;
    let images = subject.pixels();
    engine.seeing(subject.seat, |model, _| {
        let all = all_heads(model);
        let wanted = match request.head {
            Some([layer, head]) => vec![(layer as usize, head as usize)],
            None => model.calibration.heads.heads.clone(),
        };
        let wanted: Vec<usize> =
            wanted.iter().filter_map(|head| all.iter().position(|other| other == head)).collect();
        let heads = EvidenceHeads { heads: all.clone(), ..model.calibration.heads.clone() };
        let mut every = Session::new(Calibration::from(heads));
        let asked = (subject.messages.as_slice(), images.as_slice());
        let said = subject.answer.text.trim();
        let features = every.features(model.both(), asked, said, cancel);
        let features = features.map_err(|error| api_error(&error))?;
        let token = word.tokens.0.min(features.tokens.len().saturating_sub(1));
        let attention = Attention::of(&features, all.len());
        let mut shares = attention.mean(token, &wanted);
        let sinks = attention.sinks(&wanted);
        let n_sinks = sinks.iter().filter(|sink| **sink).count();
        if !request.sinks {
            shares.iter_mut().zip(&sinks).filter(|(_, sink)| **sink).for_each(|(s, _)| *s = 0.0);
        }
        let maps = (0..images.len())
            .filter_map(|image| Some((image, grid(&features.cells, &shares, image)?)));
        let (image, map) =
            maps.max_by(|a, b| a.1.mass().total_cmp(&b.1.mass())).ok_or_else(|| {
                let message = "this model's pictures have no places to look at";
                failure("no_map", message, "Choose another model.")
            })?;
        let mass = |head: usize| attention.row(token, head).iter().sum();
        Ok(RawMap {
            words: says(subject, image, &map),
            image: subject.shown[image].id,
            heatmap: view(subject, image, &map),
            image_mass: (0..all.len()).map(mass).collect(),
            sinks: n_sinks as u32,
        })
    })
}

/// Every head of the layers that look at pictures, layer by layer.
fn all_heads(model: &Model) -> Vec<(usize, usize)> {
    let n_heads = model.vlm.config.text_config.num_attention_heads;
    let layers = model.vlm.config.evidence_layers().into_iter();
    layers.flat_map(|layer| (0..n_heads).map(move |head| (layer, head))).collect()
}

/// The attention in the features of an answer.
struct Attention<'a> {
    features: &'a Features,
    n_heads: usize,
}

impl<'a> Attention<'a> {
    fn of(features: &'a Features, n_heads: usize) -> Attention<'a> {
        Attention { features, n_heads }
    }

    /// Of one head on each image token, `(N)`.
    fn row(&self, token: usize, head: usize) -> Vec<f32> {
        let n = self.features.cells.len();
        // What the features add before the logarithm is taken.
        let floor = 1e-3 / n.max(1) as f32;
        let share = |cell| self.features.patch(token, cell).and_then(|patch| patch.get(head));
        (0..n).map(|cell| share(cell).map_or(0.0, |log| (log.exp() - floor).max(0.0))).collect()
    }

    /// The mean over heads, `(N)`.
    fn mean(&self, token: usize, heads: &[usize]) -> Vec<f32> {
        let mut mean = vec![0.0; self.features.cells.len()];
        for &head in heads.iter().filter(|head| **head < self.n_heads) {
            let row = self.row(token, head);
            mean.iter_mut().zip(row).for_each(|(sum, share)| *sum += share / heads.len() as f32);
        }
        mean
    }

    /// The image tokens that take attention whatever is said.
    fn sinks(&self, heads: &[usize]) -> Vec<bool> {
        let n = self.features.cells.len();
        let mut usual = vec![0.0; n];
        for token in 0..self.features.tokens.len() {
            let row = self.mean(token, heads);
            usual.iter_mut().zip(row).for_each(|(sum, share)| *sum += share);
        }
        let mean = usual.iter().sum::<f32>() / n.max(1) as f32;
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| usual[b].total_cmp(&usual[a]));
        let mut sinks = vec![false; n];
        let most = (n as f32 * SINK_SHARE).ceil() as usize;
        let stand_out = order.into_iter().take(most).filter(|&at| usual[at] > SINK_FACTOR * mean);
        stand_out.for_each(|at| sinks[at] = true);
        sinks
    }
}

/// Shares of image tokens as a map over picture `image`, as fine as the finest of them.
fn grid(cells: &[Cell], shares: &[f32], image: usize) -> Option<Heatmap> {
    let of_image = cells.iter().zip(shares).filter(|(cell, _)| cell.image == image);
    let boxes: Vec<([f32; 4], f32)> =
        of_image.filter_map(|(cell, &share)| Some((cell.bbox?, share))).collect();
    let mut source = boxes.first()?.0;
    let (mut w, mut h) = (f32::INFINITY, f32::INFINITY);
    for ([x0, y0, x1, y1], _) in &boxes {
        source = [source[0].min(*x0), source[1].min(*y0), source[2].max(*x1), source[3].max(*y1)];
        (w, h) = (w.min(x1 - x0), h.min(y1 - y0));
    }
    let side =
        |length: f32, cell: f32| ((length / cell.max(1e-3)).round() as usize).clamp(1, MAX_SIDE);
    let (rows, cols) = (side(source[3] - source[1], h), side(source[2] - source[0], w));
    let mut map = Heatmap { rows, cols, values: vec![0.0; rows * cols], source };
    for (bbox, share) in boxes {
        let area = ((bbox[2] - bbox[0]) * (bbox[3] - bbox[1])).max(f32::MIN_POSITIVE);
        for cell in 0..rows * cols {
            let under = map.cell_box(cell / cols, cell % cols);
            let across = bbox[2].min(under[2]) - bbox[0].max(under[0]);
            let down = bbox[3].min(under[3]) - bbox[1].max(under[1]);
            map.values[cell] += share * across.max(0.0) * down.max(0.0) / area;
        }
    }
    Some(map)
}

fn view(subject: &Subject, image: usize, map: &Heatmap) -> HeatmapView {
    let evidence =
        Evidence { image, bbox: map.source, score: 0.0, peak: (0.0, 0.0), heatmap: map.clone() };
    seen_in(subject.shown[image], &evidence).heatmap
}

fn says(subject: &Subject, image: usize, map: &Heatmap) -> String {
    let shown = subject.shown[image];
    let mass = percent(map.mass());
    match hull(map) {
        Some(bbox) => {
            let most = place(shown.in_original(bbox), shown.size.0, shown.size.1);
            format!("most {most}; {mass} of the attention is on the picture")
        }
        None => format!("{mass} of the attention is on the picture"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_any_size_make_one_map_and_lose_nothing() {
        let cell = |bbox| Cell { image: 0, bbox: Some(bbox) };
        let cells = [
            cell([0.0, 0.0, 10.0, 10.0]),
            cell([10.0, 0.0, 20.0, 10.0]),
            cell([0.0, 0.0, 20.0, 20.0]),
            Cell { image: 0, bbox: None },
        ];
        let map = grid(&cells, &[0.2, 0.1, 0.4, 0.3], 0).expect("a map");
        assert_eq!((map.rows, map.cols), (2, 2));
        for (found, expected) in map.values.iter().zip([0.3, 0.2, 0.1, 0.1]) {
            assert!((found - expected).abs() < 1e-6, "{:?}", map.values);
        }
        assert!(grid(&cells, &[0.0; 4], 1).is_none());
    }
}
