//! What each word depends on, found by taking parts of the picture away from it: image tokens
//! hidden in all layers, cell by cell, coarse and then finer where it mattered.
//!
//! A cell counts for a word by how much less likely the word is without it, and how much likelier
//! with nothing but it (necessity and sufficiency, the mean of both). Every pass tells about all
//! words at once. Later image tokens have mixed in the hidden ones when the picture was read, so
//! that the region found is confirmed on pixels (`cover`). It does not know how it is shown.

use std::collections::BTreeMap;
use std::ops::Range;

use image::RgbImage;

use super::check::pieces;
use super::cover::{Tested, cover};
use super::region::region;
use super::{Evidence, Heatmap, Word, is_content_word};
use crate::generate::{Answer, Branch, Cancel, Cell, Hidden, Session, said_tokens};
use crate::processor::{Message, Processor};
use crate::{Error, Vlm};

/// Cells along a side of the finer grid at most.
const MAX_SIDE: usize = 8;
/// Branches of one call, after which the maps so far are told.
const AT_ONCE: usize = 8;
/// A word has a region where hiding its strongest cell costs this much, nats.
const LEAST_DROP: f32 = 0.1;
/// How much more the words that are asked about count when the finer cells are chosen.
const SUBJECT_WEIGHT: f32 = 4.0;

/// What is put to the test.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub answer: &'a Answer,
    /// Numbers of the words whose region is then confirmed, first and last: those of a claim.
    pub words: (usize, usize),
}

/// Who is told how far it is, and may stop it.
pub struct Watch<'a> {
    /// Hears of the maps so far after every pass.
    pub progress: &'a mut dyn FnMut(&KnockOut),
    pub cancel: &'a Cancel,
}

/// What was found so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KnockOut {
    /// For each content word of the answer that any picture could be behind.
    pub influences: Vec<Influence>,
    /// Continuations told, of how many.
    pub done: usize,
    pub total: usize,
    /// At the end: what deleting the subject's region did.
    pub tested: Option<Tested>,
}

/// How a word depends on the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Influence {
    /// `Word::index`.
    pub word: usize,
    pub text: String,
    /// The natural log of its probability with the whole picture, less that with none of it.
    pub gain: f32,
    /// Where, once a cell of some picture matters; its map is in nats, at least 0, and its score
    /// the share of `gain` (at most 1) that the region explains.
    pub evidence: Option<Evidence>,
}

impl KnockOut {
    /// The words that depend on a spot of picture `image`, the most dependent first, with what
    /// the cell there counts for them in nats.
    pub fn at(&self, image: usize, (x, y): (f32, f32)) -> Vec<(usize, f32)> {
        let of = |influence: &Influence| {
            let evidence = influence.evidence.as_ref().filter(|e| e.image == image)?;
            Some((influence.word, evidence.heatmap.at(x, y)?))
        };
        let mut words: Vec<(usize, f32)> = self.influences.iter().filter_map(of).collect();
        words.retain(|(_, drop)| *drop >= LEAST_DROP);
        words.sort_by(|a, b| b.1.total_cmp(&a.1));
        words
    }
}

/// Finds what each word of an answer to the last of `messages` depends on, then deletes the region
/// of the subject's words from the picture and asks again.
///
/// Where a model's pictures are no tokens with places, the maps are missing, and the region is
/// that of the words' own evidence.
///
/// Errors: as [`Session::tell`]; a subject that is none of the answer's words.
pub fn knock_out(
    session: &mut Session,
    (vlm, processor): (&Vlm, &Processor),
    (messages, images): (&[Message], &[RgbImage]),
    subject: Subject,
    watch: Watch,
) -> Result<KnockOut, Error> {
    let model = (vlm, processor);
    let Subject { answer, words } = subject;
    if words.0 > words.1 || words.1 >= answer.words.len() {
        let found = vec![words.0, words.1];
        let expected = format!("two numbers of {} words, in order", answer.words.len());
        return Err(Error::Shape { tensor: "subject", expected, found });
    }
    let cells = Session::image_cells(processor, (messages, images))?;
    let mut found = KnockOut::default();
    if is_hidable(vlm, &cells) {
        let mut study = Study::new(processor, (messages, answer), words, cells)?;
        study.run(session, model, (messages, images), watch.cancel, &mut |study, left| {
            found.influences = study.influences();
            found.done = study.n_told;
            found.total = study.n_told + left;
            (watch.progress)(&found);
        })?;
    }
    let of_subject = |word: usize| (words.0..=words.1).contains(&word);
    let own = answer.words.iter().filter(|word| of_subject(word.index));
    let own = own.filter_map(|word| word.evidence.as_ref());
    let known = found.influences.iter().filter(|influence| of_subject(influence.word));
    let known = known.filter_map(|influence| influence.evidence.as_ref());
    let best = |all: &mut dyn Iterator<Item = Evidence>| {
        all.max_by(|a, b| peak(&a.heatmap).total_cmp(&peak(&b.heatmap)))
    };
    let region = best(&mut known.cloned()).or_else(|| best(&mut own.cloned()));
    if let Some(region) = region {
        let place = (region.image, region.bbox);
        found.tested =
            Some(cover(session, model, (messages, images), (subject, place), watch.cancel)?);
        (watch.progress)(&found);
    }
    Ok(found)
}

/// The words that depend on a spot: how much less likely each is, in nats, when the image tokens
/// that show part of `bbox` (pixels of picture `image`) are hidden. One pass; the most dependent
/// first.
///
/// Errors: as [`Session::tell`]; `Error::Unhidable`.
pub fn spot(
    session: &mut Session,
    (vlm, processor): (&Vlm, &Processor),
    (messages, images): (&[Message], &[RgbImage]),
    (answer, image, bbox): (&Answer, usize, [f32; 4]),
    cancel: &Cancel,
) -> Result<Vec<(usize, f32)>, Error> {
    let cells = Session::image_cells(processor, (messages, images))?;
    if !is_hidable(vlm, &cells) {
        return Err(Error::Unhidable);
    }
    let touches = |cell: &Cell| {
        cell.image == image
            && cell.bbox.is_some_and(|[x0, y0, x1, y1]| {
                x0 < bbox[2] && x1 > bbox[0] && y0 < bbox[3] && y1 > bbox[1]
            })
    };
    let hidden: Vec<bool> = cells.iter().map(touches).collect();
    let said = answer.text.trim();
    let branches = [Hidden::Nothing, Hidden::Tokens(hidden)].map(|hidden| Branch {
        messages,
        answer: said,
        hidden,
    });
    let told = session.tell((vlm, processor), images, &branches, cancel)?;
    let tokens = tokens_of_words(processor, messages, answer)?;
    let mut drops: Vec<(usize, f32)> = tokens
        .into_iter()
        .map(|(word, tokens)| {
            let of = |logprobs: &[f32]| logprobs[tokens.clone()].iter().sum::<f32>();
            (word, of(&told[0].logprobs) - of(&told[1].logprobs))
        })
        .collect();
    drops.retain(|(_, drop)| *drop >= LEAST_DROP);
    drops.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(drops)
}

/// Whether the image tokens are hidable, and each stands for a part.
fn is_hidable(vlm: &Vlm, cells: &[Cell]) -> bool {
    let apart = cells.iter().filter_map(|cell| cell.bbox).any(|bbox| Some(bbox) != cells[0].bbox);
    apart && !vlm.config.text_config.has_cross_attention()
}

fn peak(map: &Heatmap) -> f32 {
    map.values.iter().copied().fold(0.0, f32::max)
}

/// For each content word the tokens of the trimmed answer that say it.
pub(super) fn tokens_of_words(
    processor: &Processor,
    messages: &[Message],
    answer: &Answer,
) -> Result<Vec<(usize, Range<usize>)>, Error> {
    let tokens = said_tokens(processor, messages, answer.text.trim())?;
    let pieces = pieces(processor, &tokens, &answer.text)?;
    let content = answer.words.iter().filter(|word| is_content_word(&word.text));
    let of = |word: &Word| {
        let meets =
            |piece: &Range<usize>| piece.start < word.bytes.end && piece.end > word.bytes.start;
        let first = pieces.iter().position(meets)?;
        Some((word.index, first..pieces.iter().rposition(meets)? + 1))
    };
    Ok(content.filter_map(of).collect())
}

/// One picture under test.
struct Grid {
    image: usize,
    /// The finer grid; its `values` are not used.
    fine: Heatmap,
    coarse: (usize, usize),
}

/// A group of image tokens that is hidden and shown as one: of which grid, finer or not, and which
/// cell of it.
type Group = (usize, bool, usize);

struct Study<'a> {
    answer: &'a Answer,
    words: (usize, usize),
    cells: Vec<Cell>,
    grids: Vec<Grid>,
    /// Tokens of each content word.
    tokens: Vec<(usize, Range<usize>)>,
    /// Log probabilities of the content words: all shown, none shown.
    whole: Vec<f32>,
    none: Vec<f32>,
    /// What each group counts for each content word, nats.
    counts: BTreeMap<Group, Vec<f32>>,
    n_told: usize,
}

impl<'a> Study<'a> {
    fn new(
        processor: &Processor,
        (messages, answer): (&[Message], &'a Answer),
        words: (usize, usize),
        cells: Vec<Cell>,
    ) -> Result<Study<'a>, Error> {
        let tokens = tokens_of_words(processor, messages, answer)?;
        let n_images = cells.iter().map(|cell| cell.image + 1).max().unwrap_or(0);
        let grids = (0..n_images).filter_map(|image| Grid::new(image, &cells)).collect();
        let (whole, none, counts) = (Vec::new(), Vec::new(), BTreeMap::new());
        Ok(Study { answer, words, cells, grids, tokens, whole, none, counts, n_told: 0 })
    }

    fn run(
        &mut self,
        session: &mut Session,
        model: (&Vlm, &Processor),
        (messages, images): (&[Message], &[RgbImage]),
        cancel: &Cancel,
        told: &mut dyn FnMut(&Study, usize),
    ) -> Result<(), Error> {
        let said = self.answer.text.trim();
        let mut ask = |hidden: Vec<Vec<bool>>| -> Result<Vec<Vec<f32>>, Error> {
            let branch = |hidden| Branch { messages, answer: said, hidden: Hidden::Tokens(hidden) };
            let branches: Vec<Branch> = hidden.into_iter().map(branch).collect();
            let told = session.tell(model, images, &branches, cancel)?;
            Ok(told.into_iter().map(|told| told.logprobs).collect())
        };
        let n = self.cells.len();
        let ends = ask(vec![vec![false; n], vec![true; n]])?;
        (self.whole, self.none) = (self.of_words(&ends[0]), self.of_words(&ends[1]));
        self.n_told = 2;
        for finer in [false, true] {
            let groups = self.groups(finer);
            for (i, some) in groups.chunks(AT_ONCE / 2).enumerate() {
                let masks = some.iter().flat_map(|group| {
                    let inside = self.inside(*group);
                    [inside.clone(), inside.iter().map(|inside| !inside).collect()]
                });
                let logprobs = ask(masks.collect())?;
                for (group, pair) in some.iter().zip(logprobs.chunks_exact(2)) {
                    let (without, only) = (self.of_words(&pair[0]), self.of_words(&pair[1]));
                    let count = |word: usize| {
                        let necessary = self.whole[word] - without[word];
                        let sufficient = only[word] - self.none[word];
                        (necessary + sufficient) / 2.0
                    };
                    let counts = (0..self.tokens.len()).map(count).collect();
                    self.counts.insert(*group, counts);
                }
                self.n_told += 2 * some.len();
                let later = groups.len() - (i * AT_ONCE / 2 + some.len());
                let finer_left = if finer { 0 } else { self.n_finer() };
                told(self, 2 * (later + finer_left));
            }
        }
        Ok(())
    }

    /// Log probability of each content word.
    fn of_words(&self, logprobs: &[f32]) -> Vec<f32> {
        let of = |(_, tokens): &(usize, Range<usize>)| logprobs[tokens.clone()].iter().sum();
        self.tokens.iter().map(of).collect()
    }

    /// Which image tokens a group has, `(N)`.
    fn inside(&self, (grid, finer, idx): Group) -> Vec<bool> {
        let of = &self.grids[grid];
        let is_inside = |cell: &Cell| {
            cell.image == of.image && of.group(cell, finer).is_some_and(|group| group == idx)
        };
        self.cells.iter().map(is_inside).collect()
    }

    /// The coarse groups; or the finer ones inside the better half of the coarse, best first.
    fn groups(&self, finer: bool) -> Vec<Group> {
        let mut groups = Vec::new();
        for (grid, of) in self.grids.iter().enumerate() {
            let (rows, cols) = of.coarse;
            let coarse = (0..rows * cols).map(|idx| (grid, false, idx));
            groups.extend(coarse.filter(|group| self.inside(*group).contains(&true)));
        }
        if !finer {
            return groups;
        }
        groups.sort_by(|a, b| self.worth(*b).total_cmp(&self.worth(*a)));
        groups.truncate(groups.len().div_ceil(2));
        let parts = groups.into_iter().flat_map(|(grid, _, idx)| {
            let parts = self.grids[grid].parts(idx).into_iter();
            parts.map(move |part| (grid, true, part))
        });
        parts.filter(|group| self.inside(*group).contains(&true)).collect()
    }

    /// How many finer groups are still to come at most.
    fn n_finer(&self) -> usize {
        let n = |grid: &Grid| grid.fine.rows * grid.fine.cols / 2;
        self.grids.iter().map(n).sum()
    }

    /// How much a group matters for all words, each relative to its own gain.
    fn worth(&self, group: Group) -> f32 {
        let Some(counts) = self.counts.get(&group) else { return 0.0 };
        let worth = |(i, (word, _)): (usize, &(usize, Range<usize>))| {
            let gain = (self.whole[i] - self.none[i]).abs().max(LEAST_DROP);
            let subject = (self.words.0..=self.words.1).contains(word);
            let weight = if subject { SUBJECT_WEIGHT } else { 1.0 };
            weight * (counts[i] / gain).clamp(0.0, 1.0)
        };
        self.tokens.iter().enumerate().map(worth).sum()
    }

    fn influences(&self) -> Vec<Influence> {
        let influence = |(i, (word, _)): (usize, &(usize, Range<usize>))| {
            let text = self.answer.words.get(*word).map_or("", |word| &word.text).to_string();
            let gain = self.whole[i] - self.none[i];
            Influence { word: *word, text, gain, evidence: self.evidence(i, gain) }
        };
        self.tokens.iter().enumerate().map(influence).collect()
    }

    /// The region of the `i`-th content word, in the picture that matters most for it.
    fn evidence(&self, i: usize, gain: f32) -> Option<Evidence> {
        let map = |(idx, grid): (usize, &Grid)| {
            let mut map = grid.fine.clone();
            for (cell, value) in map.values.iter_mut().enumerate() {
                let coarse = grid.coarse_of(cell);
                let parts = grid.parts(coarse).len().max(1) as f32;
                let coarse = self.counts.get(&(idx, false, coarse)).map(|counts| counts[i] / parts);
                let fine = self.counts.get(&(idx, true, cell)).map(|counts| counts[i]);
                *value = fine.or(coarse).unwrap_or(0.0).max(0.0);
            }
            (grid.image, map)
        };
        let maps = self.grids.iter().enumerate().map(map);
        let (image, map) = maps.max_by(|a, b| peak(&a.1).total_cmp(&peak(&b.1)))?;
        if peak(&map) < LEAST_DROP / 4.0 {
            return None;
        }
        let strength = map.values.clone();
        let total = map.values.iter().sum::<f32>().max(gain).max(LEAST_DROP);
        let shares = map.values.iter().map(|value| value / total).collect();
        let found = region(image, Heatmap { values: shares, ..map.clone() }, &strength, false);
        Some(Evidence { heatmap: map, ..found })
    }
}

impl Grid {
    /// `None` where no token shows a part of the picture.
    fn new(image: usize, cells: &[Cell]) -> Option<Grid> {
        let boxes: Vec<[f32; 4]> =
            cells.iter().filter(|cell| cell.image == image).filter_map(|cell| cell.bbox).collect();
        let mut source = *boxes.first()?;
        let mut smallest = [f32::INFINITY; 2];
        for [x0, y0, x1, y1] in boxes {
            source = [source[0].min(x0), source[1].min(y0), source[2].max(x1), source[3].max(y1)];
            smallest = [smallest[0].min(x1 - x0), smallest[1].min(y1 - y0)];
        }
        let side = |length: f32, cell: f32| sides((length / cell.max(1e-3)).round() as usize);
        let (cols, coarse_cols) = side(source[2] - source[0], smallest[0]);
        let (rows, coarse_rows) = side(source[3] - source[1], smallest[1]);
        let fine = Heatmap { rows, cols, values: vec![0.0; rows * cols], source };
        Some(Grid { image, fine, coarse: (coarse_rows, coarse_cols) })
    }

    /// The cell that an image token belongs to, by its middle.
    fn group(&self, cell: &Cell, finer: bool) -> Option<usize> {
        let [x0, y0, x1, y1] = cell.bbox?;
        let fine = self.fine.cell_at((x0 + x1) / 2.0, (y0 + y1) / 2.0)?;
        Some(if finer { fine } else { self.coarse_of(fine) })
    }

    /// The coarse cell that holds a finer one.
    fn coarse_of(&self, fine: usize) -> usize {
        let (row, col) = (fine / self.fine.cols, fine % self.fine.cols);
        let (rows, cols) = self.coarse;
        (row * rows / self.fine.rows) * cols + col * cols / self.fine.cols
    }

    /// The finer cells of a coarse one.
    fn parts(&self, coarse: usize) -> Vec<usize> {
        let all = 0..self.fine.rows * self.fine.cols;
        all.filter(|&fine| self.coarse_of(fine) == coarse).collect()
    }
}

/// Cells of the finer and of the coarse grid along a side of `n` image tokens: the finer ones of
/// equally many tokens where that leaves enough of them.
fn sides(n: usize) -> (usize, usize) {
    let n = n.max(1);
    let even = (1..=MAX_SIDE.min(n)).rev().find(|side| n.is_multiple_of(*side)).unwrap_or(1);
    let fine = if even > MAX_SIDE / 2 { even } else { MAX_SIDE.min(n) };
    (fine, fine.div_ceil(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_even_where_they_can_be() {
        for (n, expected) in [(12, (6, 3)), (8, (8, 4)), (6, (6, 3)), (13, (8, 4)), (1, (1, 1))] {
            assert_eq!(sides(n), expected, "{n}");
        }
    }

    #[test]
    fn every_token_is_in_one_cell_and_every_cell_in_one_coarse_cell() {
        let cell = |i: usize| {
            let (x, y) = ((i % 12) as f32 * 16.0, (i / 12) as f32 * 16.0);
            Cell { image: 0, bbox: Some([x, y, x + 16.0, y + 16.0]) }
        };
        let mut cells: Vec<Cell> = (0..144).map(cell).collect();
        cells.push(Cell { image: 0, bbox: None });
        let grid = Grid::new(0, &cells).expect("a grid");
        assert_eq!((grid.fine.rows, grid.fine.cols, grid.coarse), (6, 6, (3, 3)));
        let mut sizes = vec![0; 36];
        for cell in &cells {
            if let Some(group) = grid.group(cell, true) {
                sizes[group] += 1;
            }
        }
        assert_eq!(sizes, vec![4; 36]);
        let mut all: Vec<usize> = (0..9).flat_map(|coarse| grid.parts(coarse)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..36).collect::<Vec<_>>());
        assert!(Grid::new(1, &cells).is_none());
    }

    #[test]
    fn a_spot_has_the_words_that_depend_on_it() {
        let influence = |word: usize, values: Vec<f32>| Influence {
            word,
            text: String::new(),
            gain: 1.0,
            evidence: Some(Evidence {
                image: 0,
                bbox: [0.0; 4],
                score: 1.0,
                peak: (0.0, 0.0),
                heatmap: Heatmap { rows: 1, cols: 2, values, source: [0.0, 0.0, 20.0, 10.0] },
            }),
        };
        let influences = vec![influence(1, vec![0.5, 0.0]), influence(4, vec![2.0, 0.3])];
        let found = KnockOut { influences, ..KnockOut::default() };
        assert_eq!(found.at(0, (3.0, 3.0)), [(4, 2.0), (1, 0.5)]);
        assert_eq!(found.at(0, (13.0, 3.0)), [(4, 0.3)]);
        assert!(found.at(1, (3.0, 3.0)).is_empty() && found.at(0, (-3.0, 3.0)).is_empty());
    }
}
