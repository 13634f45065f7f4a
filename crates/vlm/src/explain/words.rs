//! Tokens -> words, and which words carry content.

use super::calibration::MapWeights;
use super::features::{Captured, Habit, Piece, patch_features, patch_logits, word_features};
use super::heatmap::Canvas;
use super::logistic::sigmoid;
use super::region::region;
use super::{Calibration, Evidence, Heatmap};
use crate::generate::Step;
use crate::processor::ImageSpan;

/// Least share of attention, on a region or with a map on the picture, for trained heads to call
/// it evidence.
const MIN_TRAINED_SCORE: f32 = 0.2;
/// Memory for what a calibration needs of an answer's tokens; of a longer answer, the first tokens
/// stay as they were judged when they were said.
const MAX_BYTES: usize = 12 << 20;

/// A word of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// Its number in the answer.
    pub index: usize,
    /// The tokens it is made of, first and last.
    pub tokens: (usize, usize),
    /// Bytes of the answer.
    pub bytes: std::ops::Range<usize>,
    pub text: String,
    /// Only for content words; that of its best token.
    pub evidence: Option<Evidence>,
    /// That it is true of the picture, as far as one answer tells; only for content words of a
    /// model whose calibration knows.
    pub probability: Option<f32>,
}

/// Finds words and their evidence while tokens arrive.
pub struct WordFinder {
    calibration: Calibration,
    given: usize,
    /// The attention row of each token.
    rows: Vec<Option<Vec<f32>>>,
    /// The sum of the rows, as long as the first: pictures lie before what is said about them.
    sum: Vec<f32>,
    n_summed: usize,
    /// What a calibration needs of each token, while there is room.
    captured: Vec<Option<Captured>>,
    /// Bytes of it, and the first token that is still there.
    n_bytes: usize,
    first_kept: usize,
    habit: Habit,
    /// Words that `habit` has been shown.
    n_counted: usize,
    /// Of the pictures that the answer is about, once one is asked for.
    canvases: Vec<Canvas>,
    /// Image tokens that stand out in themselves, `(N)`; see `Lens::sinks`.
    sinks: Vec<bool>,
}

impl WordFinder {
    /// `sinks`: whether each image token stands out in itself, `(N)`.
    pub(crate) fn new(calibration: &Calibration, sinks: Vec<bool>) -> WordFinder {
        WordFinder {
            calibration: calibration.clone(),
            given: 0,
            rows: Vec::new(),
            sum: Vec::new(),
            n_summed: 0,
            captured: Vec::new(),
            n_bytes: 0,
            first_kept: 0,
            habit: Habit::default(),
            n_counted: 0,
            canvases: Vec::new(),
            sinks,
        }
    }

    /// What the next token rests on, from the attention row that predicts it.
    pub(crate) fn look(
        &mut self,
        (row, captured): (Option<Vec<f32>>, Option<Captured>),
        spans: &[ImageSpan],
    ) -> Option<Evidence> {
        if let Some(row) = &row {
            if self.n_summed == 0 {
                self.sum = vec![0.0; row.len()];
            }
            self.sum.iter_mut().zip(row).for_each(|(sum, share)| *sum += share);
            self.n_summed += 1;
        }
        if self.canvases.is_empty() && row.is_some() {
            self.canvases = Canvas::all(spans);
        }
        self.rows.push(row);
        self.n_bytes += captured.as_ref().map_or(0, Captured::n_bytes);
        self.captured.push(captured);
        while self.n_bytes > MAX_BYTES && self.first_kept + 1 < self.captured.len() {
            let oldest = self.captured[self.first_kept].take();
            self.n_bytes -= oldest.as_ref().map_or(0, Captured::n_bytes);
            self.first_kept += 1;
        }
        self.judge(self.rows.len() - 1, spans)
    }

    /// Whether tokens are judged otherwise once the whole answer is known.
    pub(crate) fn learns(&self) -> bool {
        !self.calibration.heads.trained || self.calibration.map.is_some()
    }

    /// Judges again, against the mean map or the function words of the whole answer, every token
    /// of which enough is kept. `words` loses those that are to be given anew.
    pub(crate) fn judge_again(
        &mut self,
        (steps, words): (&mut [Step], &mut Vec<Word>),
        spans: &[ImageSpan],
    ) {
        for (idx, step) in steps.iter_mut().enumerate().skip(self.first_kept) {
            step.evidence = self.judge(idx, spans);
        }
        words.retain(|word| word.tokens.0 < self.first_kept);
        self.given = words.len();
    }

    /// The words that became complete: those followed by something, or all when `ended`.
    pub(crate) fn complete(&mut self, text: &str, steps: &[Step], ended: bool) -> Vec<Word> {
        let found = split(text);
        let mut words = Vec::new();
        for (index, bytes) in found.iter().enumerate().skip(self.given) {
            if bytes.end == text.len() && !ended {
                break;
            }
            let mut word = word(index, bytes.clone(), text, steps);
            if index >= self.n_counted {
                self.count(&word);
            }
            if let (Some(seen), true) = (&self.calibration.seen, is_content_word(&word.text)) {
                let features = self.word_features(&word, text);
                word.probability = features.map(|features| seen.probability(&features));
            }
            words.push(word);
            self.given = index + 1;
        }
        words
    }

    /// Function words show where heads look anyway.
    fn count(&mut self, word: &Word) {
        self.n_counted = word.index + 1;
        if !is_content_word(&word.text) {
            let tokens = self.captured.get(word.tokens.0..=word.tokens.1).unwrap_or_default();
            tokens.iter().flatten().for_each(|captured| self.habit.add(captured));
        }
    }

    /// The features of every image token for token `idx`, `(N · F)`.
    pub(crate) fn patch_features(&self, idx: usize) -> Option<Vec<f32>> {
        let captured = self.captured.get(idx)?.as_ref()?;
        Some(patch_features(captured, &self.habit, self.sinks.len()))
    }

    /// `WORD_FEATURES` of a word of `text`; `None` where nothing was captured.
    pub(crate) fn word_features(&self, word: &Word, text: &str) -> Option<Vec<f32>> {
        let tokens = self.captured.get(word.tokens.0..=word.tokens.1)?;
        let piece = |captured| Piece { captured, peak: self.peak(captured) };
        let pieces: Vec<Piece> = tokens.iter().flatten().map(piece).collect();
        let said = word.text.to_lowercase();
        let mut before = split(&text[..word.bytes.start]).into_iter();
        let repeated = before.any(|bytes| text[bytes].to_lowercase() == said);
        word_features(&pieces, (word.tokens.0, repeated), self.sinks.len())
    }

    /// The log odds of a token's strongest patch; without a map, the log of its attention.
    fn peak(&self, captured: &Captured) -> f32 {
        let most = |values: &mut dyn Iterator<Item = f32>| values.fold(-20.0, f32::max);
        match &self.calibration.map {
            Some(map) => most(&mut self.logits(captured, map).into_iter()),
            None => most(&mut captured.heads.iter().map(|log| log.to_f32())),
        }
    }

    fn logits(&self, captured: &Captured, map: &MapWeights) -> Vec<f32> {
        let mut sinks = self.sinks.clone();
        if self.calibration.mask_sinks {
            let looked_at = self.habit.sinks(sinks.len());
            sinks.iter_mut().zip(looked_at).for_each(|(sink, looked_at)| *sink |= looked_at);
        }
        patch_logits(captured, &self.habit, &map.logistic, &sinks)
    }

    fn judge(&self, idx: usize, spans: &[ImageSpan]) -> Option<Evidence> {
        let row = self.rows[idx].as_ref()?;
        if let (Some(map), Some(captured)) = (&self.calibration.map, &self.captured[idx]) {
            return self.mapped(row, (captured, map), spans);
        }
        let heads = &self.calibration.heads;
        let (canvas, map) = self.strongest(|canvas| canvas.map(row))?;
        let image = canvas.image;
        if heads.trained {
            let strength = map.values.clone();
            let found = region(image, map, &strength, heads.outlined);
            return Some(found).filter(|e| e.score >= MIN_TRAINED_SCORE);
        }
        let strength = self.relative(&map, canvas);
        Some(region(image, map, &strength, false))
    }

    /// The region of a calibrated map. Where attention follows outlines, the region still does:
    /// how much of a cell is covered is not how likely it is.
    fn mapped(
        &self,
        row: &[f32],
        (captured, map): (&Captured, &MapWeights),
        spans: &[ImageSpan],
    ) -> Option<Evidence> {
        let logits = self.logits(captured, map);
        let peak = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // A model with a place for words that rest on nothing says so itself.
        let rests = match self.calibration.heads.trained {
            true => captured.mass >= MIN_TRAINED_SCORE,
            false => peak >= map.threshold,
        };
        if !rests {
            return None;
        }
        let curve = map.score.as_ref().and_then(|curve| curve.at(peak));
        let score = curve.unwrap_or_else(|| sigmoid(peak));
        let positions = spans.iter().flat_map(|span| span.tokens.clone());
        let mut values = vec![0.0; spans.last()?.tokens.end];
        positions.zip(logits).for_each(|(position, logit)| values[position] = sigmoid(logit));
        let (canvas, map) = self.strongest(|canvas| canvas.mean(&values))?;
        let outlined = self.calibration.heads.outlined;
        // Weighed with the probabilities, outer cells would count for less than they are covered.
        let strength = match outlined {
            false => map.values.clone(),
            true => canvas.map(row).values,
        };
        Some(Evidence { score, ..region(canvas.image, map, &strength, outlined) })
    }

    /// The picture whose map has the highest peak, and that map.
    fn strongest(&self, map: impl Fn(&Canvas) -> Heatmap) -> Option<(&Canvas, Heatmap)> {
        let peak = |map: &Heatmap| map.values.iter().copied().fold(0.0, f32::max);
        let maps = self.canvases.iter().map(|canvas| (canvas, map(canvas)));
        maps.max_by(|a, b| peak(&a.1).total_cmp(&peak(&b.1)))
    }

    /// The map divided by the answer's own mean map.
    fn relative(&self, map: &Heatmap, canvas: &Canvas) -> Vec<f32> {
        if self.n_summed <= 1 {
            return map.values.clone();
        }
        let mean = canvas.map(&self.sum).values;
        let floor = 0.1 * mean.iter().sum::<f32>() / mean.len() as f32;
        map.values.iter().zip(&mean).map(|(value, mean)| value / (mean + floor + 1e-9)).collect()
    }
}

fn word(index: usize, bytes: std::ops::Range<usize>, text: &str, steps: &[Step]) -> Word {
    let mut start = 0;
    let mut tokens: Vec<usize> = Vec::new();
    for (idx, step) in steps.iter().enumerate() {
        let end = start + step.text.len();
        if start < bytes.end && end > bytes.start {
            tokens.push(idx);
        }
        start = end;
    }
    let content = is_content_word(&text[bytes.clone()]);
    let evidences = tokens.iter().filter_map(|&idx| steps[idx].evidence.as_ref());
    let evidence = evidences.max_by(|a, b| a.score.total_cmp(&b.score));
    let evidence = evidence.filter(|_| content).cloned();
    let first = tokens.first().copied().unwrap_or(0);
    let last = tokens.last().copied().unwrap_or(first);
    let text = text[bytes.clone()].to_string();
    Word { index, tokens: (first, last), bytes, text, evidence, probability: None }
}

/// Byte ranges of the words of `text`: letters and digits, with `'`, `-`, `.` and `,` inside.
pub(crate) fn split(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut words: Vec<std::ops::Range<usize>> = Vec::new();
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    for (i, &(at, c)) in chars.iter().enumerate() {
        let next = chars.get(i + 1).is_some_and(|(_, c)| c.is_alphanumeric());
        let open = words.last().is_some_and(|word| word.end == at);
        let decimal = matches!(c, '.' | ',') && digit_before(text, at);
        let joins = decimal || matches!(c, '\'' | '’' | '-');
        if c.is_alphanumeric() || (joins && open && next) {
            match words.last_mut().filter(|word| word.end == at) {
                Some(word) => word.end = at + c.len_utf8(),
                None => words.push(at..at + c.len_utf8()),
            }
        }
    }
    words
}

fn digit_before(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_some_and(|c| c.is_ascii_digit())
}

/// True for words that can rest on a region: not articles, pronouns, auxiliaries, prepositions
/// and the like.
pub fn is_content_word(word: &str) -> bool {
    let word = word.to_lowercase();
    !word.is_empty() && !FUNCTION_WORDS.contains(&word.as_str())
}

const FUNCTION_WORDS: &[&str] = &[
    "a", "an", "the", "this", "that", "these", "those", "it", "its", "it's", "he", "she", "they",
    "them", "his", "her", "their", "i", "you", "we", "my", "your", "our", "me", "us", "him", "is",
    "are", "was", "were", "be", "been", "being", "am", "has", "have", "had", "do", "does", "did",
    "can", "could", "will", "would", "shall", "should", "may", "might", "must", "there", "here",
    "and", "or", "but", "nor", "so", "if", "then", "than", "as", "of", "to", "in", "on", "at",
    "by", "for", "from", "with", "into", "onto", "over", "under", "about", "between", "which",
    "who", "whom", "whose", "what", "where", "when", "how", "why", "not", "no", "also", "very",
    "some", "any", "such", "both", "each", "other", "while", "some", "image", "picture", "photo",
    "shows", "appears", "seems",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_people_read_them() {
        let rows: [(&str, &[&str]); 4] = [
            ("A red car.", &["A", "red", "car"]),
            ("It's 12.50, two-door", &["It's", "12.50", "two-door"]),
            ("", &[]),
            (" Größe: 3", &["Größe", "3"]),
        ];
        for (text, expected) in rows {
            let found: Vec<&str> = split(text).into_iter().map(|bytes| &text[bytes]).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn sub_word_tokens_make_one_word_given_once_it_is_complete() {
        let steps: Vec<Step> = ["A", " zeb", "ra", "."]
            .iter()
            .map(|text| Step { token: 0, text: text.to_string(), logprob: 0.0, evidence: None })
            .collect();
        let heads = crate::explain::EvidenceHeads {
            heads: vec![(0, 0)],
            null_token: 0,
            trained: true,
            outlined: false,
        };
        let mut finder = WordFinder::new(&heads.into(), Vec::new());
        let (mut text, mut words) = (String::new(), Vec::new());
        for n in 1..=steps.len() {
            text.push_str(&steps[n - 1].text);
            words.extend(finder.complete(&text, &steps[..n], false));
        }
        let found: Vec<_> = words.iter().map(|word| (word.text.as_str(), word.tokens)).collect();
        assert_eq!(found, [("A", (0, 0)), ("zebra", (1, 2))]);
        assert!(finder.complete(&text, &steps, true).is_empty());
        assert!(is_content_word("Zebra") && is_content_word("Yes") && !is_content_word("The"));
    }

    /// An answer too long to keep all of: the first words stay as they were.
    #[test]
    fn of_a_long_answer_the_end_is_judged_again() {
        let heads = crate::explain::EvidenceHeads {
            heads: vec![(0, 0)],
            null_token: 0,
            trained: false,
            outlined: false,
        };
        let n = 64_000;
        let mut finder = WordFinder::new(&heads.into(), vec![false; n]);
        let positions: Vec<usize> = (0..n).collect();
        let (mut steps, mut words, mut text) = (Vec::new(), Vec::new(), String::new());
        for i in 0..120 {
            let captured = Captured::new(&[vec![1e-5; n]], &positions, 0);
            finder.look((None, Some(captured)), &[]);
            let said = format!(" w{i}");
            text.push_str(&said);
            steps.push(Step { token: 0, text: said, logprob: 0.0, evidence: None });
            words.extend(finder.complete(&text, &steps, false));
        }
        assert!(finder.n_bytes <= MAX_BYTES && finder.first_kept > 0);
        finder.judge_again((&mut steps, &mut words), &[]);
        assert_eq!(words.len(), finder.first_kept);
        words.extend(finder.complete(&text, &steps, true));
        let found: Vec<usize> = words.iter().map(|word| word.index).collect();
        assert_eq!(found, (0..120).collect::<Vec<_>>());
    }
}
