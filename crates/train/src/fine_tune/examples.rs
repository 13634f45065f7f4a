//! What is learned from, by number.

use image::RgbImage;
use vlm::processor::Message;

use crate::Error;
use crate::parameters::Random;

/// A conversation about some pictures, with its answers.
#[derive(Clone, Debug)]
pub struct Example {
    /// Those of the messages' `Part::Image`s, in order.
    pub images: Vec<RgbImage>,
    pub messages: Vec<Message>,
}

/// Where examples come from. The same number always gives the same one, so that a run which was
/// stopped goes on as if it had not been.
pub trait Examples: Sync {
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// # Errors
    /// A picture that cannot be read.
    fn get(&self, idx: usize) -> Result<Example, Error>;
}

/// Those in memory.
impl Examples for Vec<Example> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn get(&self, idx: usize) -> Result<Example, Error> {
        let all = self.as_slice().len();
        let missing = || Error::Model(format!("example {idx} of {all}"));
        self.as_slice().get(idx).cloned().ok_or_else(missing)
    }
}

/// The order in which examples are taken: each once before any is taken again, every time in
/// another order. It follows from the seed alone.
pub(super) struct Shuffled {
    seed: u64,
    len: usize,
    round: Option<(u64, Vec<usize>)>,
}

impl Shuffled {
    pub fn new(seed: u64, len: usize) -> Self {
        Shuffled { seed, len, round: None }
    }

    /// The number of the `nth` example taken; `len` must not be 0.
    pub fn at(&mut self, nth: u64) -> usize {
        let (round, within) = (nth / self.len as u64, (nth % self.len as u64) as usize);
        if self.round.as_ref().is_none_or(|(known, _)| *known != round) {
            let mut order: Vec<usize> = (0..self.len).collect();
            let mut random = Random::new(self.seed ^ round.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            for i in (1..self.len).rev() {
                order.swap(i, (random.uniform() * (i + 1) as f64) as usize);
            }
            self.round = Some((round, order));
        }
        self.round.as_ref().map_or(0, |(_, order)| order[within])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_takes_every_example_once_in_another_order() {
        let mut order = Shuffled::new(7, 50);
        let mut round = |r: u64| -> Vec<usize> { (0..50).map(|i| order.at(50 * r + i)).collect() };
        let (first, second, again) = (round(0), round(1), round(0));
        assert_eq!(first, again);
        assert_ne!(first, second);
        for mut taken in [first, second] {
            taken.sort_unstable();
            assert_eq!(taken, (0..50).collect::<Vec<_>>());
        }
    }
}
