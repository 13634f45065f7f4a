//! Which things an answer names, and which of them are not there.
//!
//! A thing is named by the name of its class, singular or plural, in the closed vocabulary of the
//! drawn world. It does not know who answered, and takes no notice of colours and places.
//!
//! CHAIR (Rohrbach et al. 2018; evidence.md, section 4) counts mentions: of all objects named,
//! those that are not in the picture. The first mention of a class that is there is never
//! hallucinated, whatever its number: a wrong number is another mistake. A further mention is
//! hallucinated where the numbers said before it already make up all things of the class.

use scenes::{NUMBERS, Scene, class_names, classes};
use std::ops::Range;

/// One or several things of a class, named in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Position in [`classes`].
    pub class: usize,
    /// How many; without a number before it 1, and 2 in the plural.
    pub number: usize,
    /// Bytes of the class's name in the answer.
    pub bytes: Range<usize>,
    /// Bytes of the number before it, where there is one.
    pub number_bytes: Option<Range<usize>>,
}

/// What `answer` names, in its order. What is named after "no" or "not" is denied, not named.
pub(crate) fn named(answer: &str) -> Vec<Named> {
    let lower = answer.to_ascii_lowercase();
    let words = scenes::words(&lower);
    let mut last_end = 0;
    let count = |(class, bytes): (usize, Range<usize>)| {
        let since = last_end..bytes.start;
        last_end = bytes.end;
        let before = words.iter().filter(|word| since.start <= word.start && word.end <= since.end);
        let said = number(&lower, &before.cloned().collect::<Vec<_>>());
        // "Dogs" are two at least.
        let name = &lower[bytes.clone()];
        let usual = if name == classes()[class].name { 1 } else { 2 };
        let (number, number_bytes) = said.map_or((usual, None), |(n, at)| (n, Some(at)));
        (number > 0).then_some(Named { class, number, bytes, number_bytes })
    };
    class_names(&lower).into_iter().filter_map(count).collect()
}

/// Whether each of the named things is not in the scene.
pub(crate) fn hallucinated(named: &[Named], scene: &Scene) -> Vec<bool> {
    let mut said = vec![0; classes().len()];
    let judge = |Named { class, number, .. }: &Named| {
        let (before, there) = (said[*class], scene.count(*class));
        said[*class] += number;
        before >= there
    };
    named.iter().map(judge).collect()
}

/// How many of the scene's things are among the named.
pub(crate) fn recalled(named: &[Named], scene: &Scene) -> usize {
    let said = |class| -> usize {
        named.iter().filter(|named| named.class == class).map(|named| named.number).sum()
    };
    (0..classes().len()).map(|class| scene.count(class).min(said(class))).sum()
}

/// The number said in the words before a name, the nearest: "three", or "3"; one adjective may
/// stand between.
fn number(text: &str, before: &[Range<usize>]) -> Option<(usize, Range<usize>)> {
    let of = |word: &Range<usize>| {
        let said = &text[word.clone()];
        let number = NUMBERS.iter().position(|number| *number == said);
        Some((number.or_else(|| said.parse().ok())?, word.clone()))
    };
    before.iter().rev().take(2).find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scenes::class_named;

    #[test]
    fn things_are_named_by_their_class() {
        let rows: &[(&str, &[(&str, usize)])] = &[
            ("A dog and a red car.", &[("dog", 1), ("car", 1)]),
            ("Two dogs, an ice cream and grapes.", &[("dog", 2), ("ice cream", 1), ("grapes", 1)]),
            ("3 blue balloons", &[("balloon", 3)]),
            ("Two dogs, bread", &[("dog", 2), ("bread", 1)]),
            ("An orange ball in the middle.", &[("ball", 1)]),
            ("Dogs and glasses.", &[("dog", 2), ("glasses", 1)]),
            ("There is no dog.", &[]),
            ("Firetruck, carpet", &[]),
            ("", &[]),
        ];
        for (answer, expected) in rows {
            let found = named(answer);
            let found: Vec<_> =
                found.iter().map(|named| (classes()[named.class].name, named.number)).collect();
            assert_eq!(found, *expected, "{answer}");
        }
        let text = "A light bulb.";
        assert_eq!(&text[named(text)[0].bytes.clone()], "light bulb");
    }

    #[test]
    fn a_thing_is_hallucinated_where_there_is_none_left() {
        let kinds = scenes::Mix::only(scenes::SceneKind::Count);
        let options = scenes::Options { kinds, ..Default::default() };
        let mut scene = scenes::scene(1, &options);
        let other = class_named("owl").expect("a class");
        let class = class_named("dog").expect("a class");
        scene.objects.truncate(1);
        scene.objects[0].class = class;
        let mut second = scene.objects[0].clone();
        scene.objects.push(second.clone());
        second.class = class_named("cat").expect("a class");
        scene.objects.push(second);
        assert_eq!((scene.count(class), scene.count(other)), (2, 0));
        let rows: &[(&str, &[bool], usize)] = &[
            ("A dog and an owl.", &[false, true], 1),
            ("A dog, a dog and a dog.", &[false, false, true], 2),
            ("Five dogs and a cat.", &[false, false], 3),
            ("Two dogs and a dog.", &[false, true], 2),
        ];
        for (answer, expected, n) in rows {
            let named = named(answer);
            assert_eq!(hallucinated(&named, &scene), *expected, "{answer}");
            assert_eq!(recalled(&named, &scene), *n, "{answer}");
        }
    }
}
