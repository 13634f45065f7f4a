//! Which things an answer names, and which of them are not there.
//!
//! A thing is named by the name of its class, singular or plural, in the closed vocabulary of the
//! drawn world. It does not know who answered, and takes no notice of colours and places.
//!
//! CHAIR (Rohrbach et al. 2018; evidence.md, section 4) counts mentions: of all objects named,
//! those that are not in the picture. The first mention of a class that is there is never
//! hallucinated, whatever its number: a wrong number is another mistake. A further mention is
//! hallucinated where the numbers said before it already make up all things of the class.

use scenes::{Scene, classes};
use std::ops::Range;

/// "no" to "nine", by number.
pub(crate) const NUMBERS: [&str; 10] =
    ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/// One or several things of a class, named in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Position in [`classes`].
    pub class: usize,
    /// How many: 1 unless a number stands before it.
    pub number: usize,
    /// Bytes of the class's name in the answer.
    pub bytes: Range<usize>,
    /// Bytes of the number before it, where there is one.
    pub number_bytes: Option<Range<usize>>,
}

/// What `answer` names, in its order. What is named after "no" or "not" is denied, not named.
pub(crate) fn named(answer: &str) -> Vec<Named> {
    let lower = answer.to_ascii_lowercase();
    let words = words(&lower);
    let mut found = Vec::new();
    let (mut at, mut last_end) = (0, 0);
    while at < words.len() {
        match class_at(&lower, &words[at..]) {
            Some((class, n_words)) => {
                let bytes = words[at].start..words[at + n_words - 1].end;
                let before = &words[last_end.max(at.saturating_sub(2))..at];
                let said = number(&lower, before);
                let (number, number_bytes) = said.map_or((1, None), |(n, at)| (n, Some(at)));
                if number > 0 {
                    found.push(Named { class, number, bytes, number_bytes });
                }
                at += n_words;
                last_end = at;
            }
            None => at += 1,
        }
    }
    found
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

/// Byte ranges of words: letters and digits.
fn words(text: &str) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    for (at, c) in text.char_indices().filter(|(_, c)| c.is_alphanumeric()) {
        match words.last_mut().filter(|word| word.end == at) {
            Some(word) => word.end = at + c.len_utf8(),
            None => words.push(at..at + c.len_utf8()),
        }
    }
    words
}

/// The class whose name these words begin with, and of how many words the name is; of several
/// the longest.
fn class_at(text: &str, words: &[Range<usize>]) -> Option<(usize, usize)> {
    let length = |name: &str| {
        let parts: Vec<&str> = name.split(' ').collect();
        let here = words.iter().map(|word| &text[word.clone()]).take(parts.len());
        here.eq(parts.iter().copied()).then_some(parts.len())
    };
    let found = classes().iter().enumerate().filter_map(|(class, info)| {
        Some((class, length(info.name).or_else(|| length(info.plural))?))
    });
    found.max_by_key(|(_, n_words)| *n_words)
}

/// The number said in the words before a name, the nearest: "three", or "3"; one adjective may
/// stand between.
fn number(text: &str, before: &[Range<usize>]) -> Option<(usize, Range<usize>)> {
    let of = |word: &Range<usize>| {
        let said = &text[word.clone()];
        let number = NUMBERS.iter().position(|number| *number == said);
        Some((number.or_else(|| said.parse().ok())?, word.clone()))
    };
    before.iter().rev().find_map(of)
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
