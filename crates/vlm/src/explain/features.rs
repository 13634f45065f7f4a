//! The numbers that evidence is calibrated on: of a token and an image token, and of a word.
//!
//! With `S` calibrated heads a token `t` and an image token `j` have, in this order,
//! - `S` numbers: the log of each head's attention from the row that predicts `t` to `j`;
//! - `S` numbers: the same less its mean over the function words of the answer, which rest on
//!   nothing and show where a head looks anyway; of an answer without function words, less its
//!   mean over the image tokens;
//! - the lens: the log probability of the token read at `j`, less its mean over the image tokens;
//! - the log of all attention on image tokens, mean over the heads;
//! - the attention on the null token, mean over the heads.
//!
//! Words have [`WORD_FEATURES`]. Nothing here knows the model.
//!
//! Shapes: `S` heads, `N` image tokens, `F` features.

use half::f16;

use super::logistic::Logistic;

/// The features of a word, in this order. Of a word of several tokens, those of the token whose
/// map has the highest peak, unless said otherwise.
pub const WORD_FEATURES: [&str; 13] = [
    // Natural logs of the probabilities of its tokens: their sum, and the least.
    "logprob",
    "least_logprob",
    // Of the first token: nats, and the log odds to the second choice.
    "entropy",
    "margin",
    // The lens before its mean is taken off: at its strongest image token, over the strongest
    // 6 %, and weighted with attention.
    "lens_peak",
    "lens_top",
    "lens_seen",
    // The log of attention on the picture; attention on the null token; the share of the
    // picture's attention in its strongest 6 %.
    "mass",
    "null",
    "focus",
    // The log odds of the map's strongest patch; without a map the log of its attention.
    "map_peak",
    // The log of one more than the number of tokens before it; whether it was said before.
    "position",
    "repeated",
];

/// Share of the image tokens that count as the strongest.
const TOP: f32 = 0.06;
/// Share of image tokens that can be sinks because function words look at them.
const SINKS: f32 = 0.02;
/// Such a sink has so many times the mean of the picture.
const SINK_FACTOR: f32 = 4.0;
/// Function words needed to tell sinks.
const MIN_FUNCTION_TOKENS: usize = 8;

/// How many features an image token has with `n_heads` calibrated heads.
pub fn n_patch_features(n_heads: usize) -> usize {
    2 * n_heads + 3
}

/// What is kept of a token while an answer is made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Captured {
    pub logprob: f32,
    pub entropy: f32,
    pub margin: f32,
    /// `(S · N)`: logs of attention.
    pub heads: Vec<f16>,
    /// `(N)`: log probabilities of the token; empty without a lens.
    pub lens: Vec<f32>,
    /// Attention on all image tokens, and on the null token, mean over the heads.
    pub mass: f32,
    pub null: f32,
}

impl Captured {
    /// `rows`: the attention of each head over all positions; `positions` those of image tokens.
    pub fn new(rows: &[Vec<f32>], positions: &[usize], null_token: usize) -> Captured {
        let at = |row: &[f32], position: usize| row.get(position).copied().unwrap_or(0.0);
        let floor = 1e-3 / positions.len().max(1) as f32;
        let (mut heads, mut mass, mut null) = (Vec::new(), 0.0, 0.0);
        for row in rows {
            let seen = positions.iter().map(|&position| at(row, position));
            mass += seen.clone().sum::<f32>();
            null += at(row, null_token);
            heads.extend(seen.map(|share| f16::from_f32((share + floor).ln())));
        }
        let n = rows.len().max(1) as f32;
        Captured { heads, mass: mass / n, null: null / n, ..Captured::default() }
    }

    /// `(N)`: mean attention over the heads.
    fn attention(&self, n: usize) -> Vec<f32> {
        let mut mean = vec![0.0; n];
        let s = self.heads.len() / n.max(1);
        for (i, log) in self.heads.iter().enumerate() {
            mean[i % n] += log.to_f32().exp() / s as f32;
        }
        mean
    }

    /// The lens less its mean, `(N)`; zeros without one.
    fn relative_lens(&self, n: usize) -> Vec<f32> {
        if self.lens.len() != n {
            return vec![0.0; n];
        }
        let mean = self.lens.iter().sum::<f32>() / n as f32;
        self.lens.iter().map(|value| value - mean).collect()
    }
}

/// Where heads look anyway: the mean of the logs over function words, `(S · N)`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Habit {
    sum: Vec<f32>,
    n_tokens: usize,
}

impl Habit {
    /// Counts a token of a function word.
    pub fn add(&mut self, captured: &Captured) {
        self.sum.resize(captured.heads.len(), 0.0);
        self.sum.iter_mut().zip(&captured.heads).for_each(|(sum, log)| *sum += log.to_f32());
        self.n_tokens += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.n_tokens == 0
    }

    /// The image tokens that function words look at most, `(N)`.
    pub fn sinks(&self, n: usize) -> Vec<bool> {
        let mut sinks = vec![false; n];
        if self.n_tokens < MIN_FUNCTION_TOKENS || n == 0 {
            return sinks;
        }
        let mut means = vec![0f32; n];
        for (i, sum) in self.sum.iter().enumerate() {
            means[i % n] += (sum / self.n_tokens as f32).exp();
        }
        let usual = means.iter().sum::<f32>() / n as f32;
        for idx in strongest(&means, SINKS) {
            sinks[idx] = means[idx] > SINK_FACTOR * usual;
        }
        sinks
    }

    fn mean(&self, idx: usize) -> f32 {
        self.sum[idx] / self.n_tokens as f32
    }
}

/// The features of every image token, `(N · F)`.
pub(crate) fn patch_features(captured: &Captured, habit: &Habit, n: usize) -> Vec<f32> {
    let s = captured.heads.len() / n.max(1);
    let lens = captured.relative_lens(n);
    let logs: Vec<f32> = captured.heads.iter().map(|log| log.to_f32()).collect();
    let own_mean = |head: usize| logs[head * n..(head + 1) * n].iter().sum::<f32>() / n as f32;
    let own_means: Vec<f32> = (0..s).map(own_mean).collect();
    let mut features = Vec::with_capacity(n * n_patch_features(s));
    for (j, lens) in lens.iter().enumerate() {
        features.extend((0..s).map(|head| logs[head * n + j]));
        features.extend((0..s).map(|head| {
            let anyway = match habit.is_empty() {
                true => own_means[head],
                false => habit.mean(head * n + j),
            };
            logs[head * n + j] - anyway
        }));
        features.extend([*lens, (captured.mass + 1e-6).ln(), captured.null]);
    }
    features
}

/// The log odds that the token rests on each image token, `(N)`; sinks have none.
pub(crate) fn patch_logits(
    captured: &Captured,
    habit: &Habit,
    map: &Logistic,
    sinks: &[bool],
) -> Vec<f32> {
    let n = sinks.len();
    let features = patch_features(captured, habit, n);
    let width = n_patch_features(captured.heads.len() / n.max(1));
    let rows = features.chunks_exact(width).zip(sinks);
    rows.map(|(row, &sink)| if sink { -20.0 } else { map.logit(row) }).collect()
}

/// A token of a word.
pub(crate) struct Piece<'a> {
    pub captured: &'a Captured,
    /// The log odds of its strongest patch.
    pub peak: f32,
}

/// [`WORD_FEATURES`] of a word of these tokens; `before`: how many tokens the answer has before
/// it, `n` image tokens.
pub(crate) fn word_features(
    pieces: &[Piece],
    (before, repeated): (usize, bool),
    n: usize,
) -> Option<Vec<f32>> {
    let best = pieces.iter().max_by(|a, b| a.peak.total_cmp(&b.peak))?;
    let first = &pieces.first()?.captured;
    let logprobs = pieces.iter().map(|piece| piece.captured.logprob.max(-30.0));
    let attention = best.captured.attention(n);
    let total = attention.iter().sum::<f32>().max(f32::MIN_POSITIVE);
    let focus = strongest(&attention, TOP).map(|idx| attention[idx]).sum::<f32>() / total;
    let lens = &best.captured.lens;
    let [lens_peak, lens_top, lens_seen] = match lens.len() == n && n > 0 {
        false => [0.0; 3],
        true => {
            let top: Vec<f32> = strongest(lens, TOP).map(|idx| lens[idx]).collect();
            let seen = lens.iter().zip(&attention).map(|(lens, share)| lens * share).sum::<f32>();
            let peak = lens.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            [peak, top.iter().sum::<f32>() / top.len() as f32, seen / total]
        }
    };
    Some(vec![
        logprobs.clone().sum(),
        logprobs.fold(0.0, f32::min),
        first.entropy,
        first.margin,
        lens_peak,
        lens_top,
        lens_seen,
        (best.captured.mass + 1e-6).ln(),
        best.captured.null,
        focus,
        best.peak,
        (1.0 + before as f32).ln(),
        f32::from(u8::from(repeated)),
    ])
}

/// The places of the highest `share` of `values`, at least one.
fn strongest(values: &[f32], share: f32) -> impl Iterator<Item = usize> + use<> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let n = ((values.len() as f32 * share).ceil() as usize).max(1);
    order.into_iter().take(n)
}

/// Entropy (nats) of the softmax of `logits`, and the log odds of its first to its second choice.
pub(crate) fn certainty(logits: &[f32]) -> (f32, f32) {
    let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for &logit in logits {
        if logit > first {
            (first, second) = (logit, first);
        } else if logit > second {
            second = logit;
        }
    }
    let (mut sum, mut weighted) = (0f64, 0f64);
    for logit in logits {
        let x = f64::from(logit - first);
        sum += x.exp();
        weighted += x * x.exp();
    }
    ((sum.ln() - weighted / sum) as f32, (first - second).min(30.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two heads over a null token and four image tokens.
    fn captured(shares: [f32; 4]) -> Captured {
        let row = |scale: f32| {
            let seen: f32 = shares.iter().sum::<f32>() * scale;
            let seen_shares = shares.iter().map(|share| share * scale);
            [1.0 - seen].into_iter().chain(seen_shares).collect::<Vec<f32>>()
        };
        Captured::new(&[row(1.0), row(0.5)], &[1, 2, 3, 4], 0)
    }

    #[test]
    fn patches_have_attention_contrast_lens_mass_and_null() {
        let mut said = captured([0.4, 0.1, 0.1, 0.0]);
        said.lens = vec![-1.0, -3.0, -3.0, -5.0];
        let mut habit = Habit::default();
        habit.add(&captured([0.1, 0.1, 0.1, 0.1]));
        let features = patch_features(&said, &habit, 4);
        assert_eq!(features.len(), 4 * n_patch_features(2));
        let expected = [0.4f32.ln(), 0.2f32.ln(), 4f32.ln(), 4f32.ln(), 2.0, 0.45f32.ln(), 0.55];
        for (found, expected) in features.iter().zip(expected) {
            assert!((found - expected).abs() < 2e-2, "{features:?}");
        }
        let map = Logistic { weights: vec![0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0], bias: -1.0 };
        let logits = patch_logits(&said, &habit, &map, &[false, false, false, true]);
        assert_eq!(logits, [1.0, -1.0, -1.0, -20.0]);
    }

    #[test]
    fn words_have_their_features_named() {
        let mut piece = captured([0.4, 0.1, 0.1, 0.0]);
        piece.lens = vec![-1.0, -3.0, -3.0, -5.0];
        (piece.logprob, piece.entropy, piece.margin) = (-0.5, 0.7, 2.0);
        let mut other = captured([0.0; 4]);
        other.logprob = -1.5;
        let pieces =
            [Piece { captured: &piece, peak: 2.0 }, Piece { captured: &other, peak: -2.0 }];
        let features = word_features(&pieces, (4, true), 4).expect("features");
        assert_eq!(features.len(), WORD_FEATURES.len());
        let of = |name| features[WORD_FEATURES.iter().position(|n| *n == name).expect("a name")];
        let rows = [
            ("logprob", -2.0),
            ("least_logprob", -1.5),
            ("entropy", 0.7),
            ("margin", 2.0),
            ("lens_peak", -1.0),
            ("lens_top", -1.0),
            ("lens_seen", -(0.4 + 0.3 + 0.3) / 0.6),
            ("null", 0.55),
            ("focus", 4.0 / 6.0),
            ("map_peak", 2.0),
            ("position", 5f32.ln()),
            ("repeated", 1.0),
        ];
        for (name, expected) in rows {
            assert!((of(name) - expected).abs() < 2e-2, "{name}: {}", of(name));
        }
    }

    #[test]
    fn sinks_are_what_function_words_look_at() {
        let mut habit = Habit::default();
        let shares = |i: usize| if i == 3 { 0.5 } else { 0.005 };
        let row: Vec<f32> = (0..100).map(shares).collect();
        let positions: Vec<usize> = (0..100).collect();
        for _ in 0..MIN_FUNCTION_TOKENS {
            assert!(!habit.sinks(100).contains(&true));
            habit.add(&Captured::new(&[row.clone()], &positions, 0));
        }
        let sinks = habit.sinks(100);
        assert!(sinks[3] && sinks.iter().filter(|sink| **sink).count() == 1);
    }

    #[test]
    fn certainty_is_entropy_and_margin() {
        let rows = [
            (vec![0.0, 0.0], (2f32.ln(), 0.0)),
            (vec![5.0; 8], (8f32.ln(), 0.0)),
            (vec![1000.0, 0.0], (0.0, 30.0)),
            (vec![2f32.ln(), 0.0, 0.0], (1.5 * 2f32.ln(), 2f32.ln())),
        ];
        for (logits, expected) in rows {
            let found = certainty(&logits);
            assert!((found.0 - expected.0).abs() < 1e-6, "{logits:?}");
            assert!((found.1 - expected.1).abs() < 1e-6, "{logits:?}");
        }
    }
}
