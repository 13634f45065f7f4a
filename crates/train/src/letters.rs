//! Letters on patches: a linear head on the vision features says which letter is printed on the
//! left and on the right half of each patch, so that the tower learns to read before the decoder
//! learns to spell. The head teaches only; it is not shipped.
//!
//! Shapes: `N` pictures, `P` patches, `D_v` vision features, `C` letters and one for none.

use candle_core::{Device, Tensor};
use scenes::Scene;
use vlm::model::nn::cross_entropy;

use crate::Error;
use crate::grounding::Grid;

/// What can be printed; place 0 is for nothing.
pub(crate) const LETTERS: &str = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.";
/// Letters to a patch.
const SLOTS: usize = 2;

/// The head's weights.
pub(crate) struct LetterHead {
    /// `(2 C, D_v)`
    pub(crate) weight: Tensor,
    /// `(2 C,)`
    pub(crate) bias: Tensor,
}

impl LetterHead {
    pub(crate) fn parameter_shapes(width: usize) -> Vec<(String, Vec<usize>)> {
        let n = SLOTS * LETTERS.len();
        vec![("letter_head.weight".into(), vec![n, width]), ("letter_head.bias".into(), vec![n])]
    }

    /// Cross-entropy over slots with letters and as many without; `None` where nothing is
    /// written. `flat (N P, D_v)`.
    pub(crate) fn loss(
        &self,
        flat: &Tensor,
        (scenes, grid): (&[Scene], Grid),
    ) -> Result<Option<Tensor>, Error> {
        let (rows, targets) = printed(scenes, grid);
        if rows.is_empty() {
            return Ok(None);
        }
        let (cpu, n) = (&Device::Cpu, rows.len());
        // Row r of the slots is patch r / 2, side r % 2.
        let patches: Vec<u32> = rows.iter().map(|row| row / SLOTS as u32).collect();
        let sides: Vec<u32> =
            (0..n as u32).map(|i| i * SLOTS as u32 + rows[i as usize] % 2).collect();
        let features = flat.index_select(&Tensor::new(patches, cpu)?, 0)?; // (R, D_v)
        let logits = features.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?;
        let logits = logits.reshape((n * SLOTS, LETTERS.len()))?;
        let logits = logits.index_select(&Tensor::new(sides, cpu)?, 0)?; // (R, C)
        Ok(Some(cross_entropy(&logits, &Tensor::new(targets, cpu)?)?))
    }
}

/// Slots to learn from, as `(i P + patch) 2 + side`, and the letter of each.
fn printed(scenes: &[Scene], grid: Grid) -> (Vec<u32>, Vec<u32>) {
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for (i, scene) in scenes.iter().enumerate() {
        let mut slots: Vec<Option<u32>> = vec![None; grid.len() * SLOTS];
        let letters = scene.texts.iter().flat_map(|text| &text.letters);
        for letter in letters {
            let Some(known) = LETTERS.chars().position(|c| c == letter.letter) else { continue };
            let (x, y) = (letter.x / grid.cell * SLOTS as f32, letter.y / grid.cell);
            let (column, row) = (x as usize, y as usize);
            if x >= 0.0 && y >= 0.0 && column < grid.side * SLOTS && row < grid.side {
                slots[row * grid.side * SLOTS + column] = Some(known as u32);
            }
        }
        let first = i * slots.len();
        let mut bare = 0usize;
        for (slot, letter) in slots.iter().enumerate() {
            let next = slots.get(slot + 1).copied().flatten();
            match letter {
                Some(_) => bare += 1,
                // Gaps inside words and the patch before one, as many as there are letters.
                None if bare > 0 || next.is_some() => bare = bare.saturating_sub(1),
                None => continue,
            }
            rows.push((first + slot) as u32);
            targets.push(letter.unwrap_or(0));
        }
    }
    (rows, targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_lie_in_the_halves_of_patches() {
        let kinds = scenes::Mix::only(scenes::SceneKind::Document);
        let scene = scenes::scene(1, &scenes::Options { kinds, ..Default::default() });
        let n: usize = scene.texts.iter().map(|text| text.text.len()).sum();
        let (rows, targets) = printed(std::slice::from_ref(&scene), Grid::new(192, 12));
        let found = targets.iter().filter(|&&letter| letter > 0).count();
        assert!(found * 10 >= n * 8, "{found} of {n} letters have a slot of their own");
        assert!(rows.windows(2).all(|pair| pair[0] < pair[1]));
        let letter = &scene.texts[0].letters[0];
        let slot = (letter.y / 16.0) as u32 * 24 + (letter.x / 8.0) as u32;
        let at = rows.iter().position(|&row| row == slot).expect("the first letter");
        assert_eq!(LETTERS.chars().nth(targets[at] as usize), Some(letter.letter));
    }
}
