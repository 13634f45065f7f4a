//! What is kept out of the training of maps, so that it can be shown that they generalise: three
//! classes and a fifth of the combinations of a class with a colour. Answers are trained on all.

use crate::class::classes;
use crate::colour::Colour;
use crate::rng::mix;

/// An animal, a food and a shape.
const CLASSES: [&str; 3] = ["owl", "pineapple", "diamond"];

/// Whether maps of such a thing are never shown in training. `class` is a position in
/// [`classes`].
pub fn is_held_out(class: usize, colour: Option<Colour>) -> bool {
    let combination = |colour: Colour| mix((class * 64 + colour as usize) as u64).is_multiple_of(5);
    CLASSES.contains(&classes()[class].name) || colour.is_some_and(combination)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_combinations_and_three_classes_are_held_out() {
        let painted = |(_, class): &(usize, &crate::Class)| class.tintable;
        let all = classes().iter().enumerate().filter(painted);
        let all = all.flat_map(|(i, _)| Colour::ALL.map(|colour| is_held_out(i, Some(colour))));
        let all: Vec<bool> = all.collect();
        let share = all.iter().filter(|&&held_out| held_out).count() as f64 / all.len() as f64;
        assert!((0.15..0.30).contains(&share), "{share}");
        let plain = (0..classes().len()).filter(|&class| is_held_out(class, None)).count();
        assert_eq!(plain, CLASSES.len());
    }
}
