//! True answers with one wrong thing put in: another thing, colour, number, place or side.
//!
//! A good model makes few mistakes of its own, and a detector must be measured on mistakes. Put-in
//! ones are not what the model would say by itself, so figures keep the two apart. Nothing here
//! asks a model.

use std::ops::Range;

use scenes::{Colour, Grammar, NUMBERS, Object, Place, Qa, QaKind, Scene, classes, other_answers};

use crate::metric::SplitMix;

/// The true answer of `qa` with one thing in it made wrong; None where nothing in it can be.
pub(crate) fn forced(qa: &Qa, scene: &Scene, random: &mut SplitMix) -> Option<String> {
    match qa.kind {
        QaKind::Caption | QaKind::List if scene.texts.is_empty() => wrong_thing(qa, scene, random),
        QaKind::What | QaKind::At | QaKind::RelationOf => wrong_thing(qa, scene, random),
        _ => pick(other_answers(qa).into_iter(), random),
    }
}

fn wrong_thing(qa: &Qa, scene: &Scene, random: &mut SplitMix) -> Option<String> {
    let mention = qa.mentions.get(random.below(qa.mentions.len().max(1)))?;
    let object = scene.objects.iter().find(|object| object.bbox == mention.bbox)?;
    let (answer, span) = (qa.answer.as_str(), mention.span.clone());
    let n = qa.mentions.iter().filter(|other| other.span == span).count();
    let said = answer.get(span.clone())?;
    if let Some(place) =
        Place::ALL.into_iter().find(|place| place.phrase().eq_ignore_ascii_case(said))
    {
        let others = Place::ALL.into_iter().filter(|other| *other != place);
        let phrase = pick(others.map(|other| other.phrase().to_owned()), random)?;
        return Some(put(answer, span, &phrase));
    }
    let with = match (object.colour, random.below(3)) {
        (_, 0) if n > 1 => {
            let number = pick([n - 1, n + 1, n + 2].into_iter().filter(|&m| m > 1), random)?;
            format!("{} {}", NUMBERS.get(number)?, classes()[object.class].plural)
        }
        (Some(colour), 0) => {
            let other = pick(Colour::ALL.into_iter().filter(|other| *other != colour), random)?;
            classes()[object.class].with_article(Some(other.name()))
        }
        _ => absent(object, n, scene, random)?,
    };
    Some(put(answer, span, &with))
}

/// A thing that is not in the scene, of the same theme half of the time: as many as there were.
fn absent(like: &Object, n: usize, scene: &Scene, random: &mut SplitMix) -> Option<String> {
    let theme = (random.below(2) == 0).then(|| classes()[like.class].theme);
    let fits = |class: &usize| {
        let info = &classes()[*class];
        scene.count(*class) == 0
            && theme.is_none_or(|theme| info.theme == theme)
            && (n == 1 || info.grammar == Grammar::Count)
    };
    let class = &classes()[pick((0..classes().len()).filter(fits), random)?];
    if n > 1 {
        return Some(format!("{} {}", NUMBERS.get(n)?, class.plural));
    }
    let colour = Colour::ALL[random.below(Colour::ALL.len())];
    Some(class.with_article(class.tintable.then(|| colour.name())))
}

/// `answer` with other words instead of those of `span` and the article before them.
fn put(answer: &str, span: Range<usize>, with: &str) -> String {
    let before = &answer[..span.start];
    let lower = before.to_ascii_lowercase();
    let article = ["a ", "an "].into_iter().find(|article| {
        lower.strip_suffix(article).is_some_and(|rest| rest.is_empty() || rest.ends_with(' '))
    });
    let before = &before[..before.len() - article.map_or(0, str::len)];
    let mut text = format!("{before}{with}{}", &answer[span.end..]);
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

fn pick<T>(all: impl Iterator<Item = T>, random: &mut SplitMix) -> Option<T> {
    let mut all: Vec<T> = all.collect();
    (!all.is_empty()).then(|| all.swap_remove(random.below(all.len())))
}

#[cfg(test)]
mod tests {
    use super::super::assertions::{Kind, assertions};
    use super::*;

    #[test]
    fn words_are_put_in_with_their_article() {
        let rows = [
            ("A dog and a red car.", 12..19, "an owl", "A dog and an owl."),
            ("A dog and a red car.", 2..5, "grapes", "Grapes and a red car."),
            ("Grapes and bread.", 0..6, "an apple", "An apple and bread."),
            ("Two dogs and a cat.", 0..8, "two owls", "Two owls and a cat."),
            ("A dog at the top.", 6..16, "in the middle", "A dog in the middle."),
        ];
        for (answer, span, with, expected) in rows {
            assert_eq!(put(answer, span, with), expected);
        }
    }

    #[test]
    fn what_is_put_in_is_wrong_and_what_was_true_is_not() {
        let mut random = SplitMix::new(1);
        let mut wrong = [0; Kind::ALL.len()];
        for seed in 0..300 {
            let scene = scenes::scene(seed, &Default::default());
            for qa in scenes::questions(&scene, seed) {
                let truth = assertions(&qa, &qa.answer, &scene);
                let false_ones = truth.iter().filter(|assertion| !assertion.holds);
                assert_eq!(false_ones.count(), 0, "{} {truth:?}", qa.answer);
                let Some(said) = forced(&qa, &scene, &mut random) else { continue };
                let judged = assertions(&qa, &said, &scene);
                let false_ones = judged.iter().filter(|assertion| !assertion.holds);
                let kinds: Vec<Kind> = false_ones.map(|assertion| assertion.kind).collect();
                assert!(!kinds.is_empty(), "{:?}: {} -> {said}", qa.kind, qa.answer);
                kinds.into_iter().for_each(|kind| wrong[kind as usize] += 1);
            }
        }
        let [object, attribute, count, place, relation, _] = wrong;
        let few = [object, attribute, count, place, relation].into_iter().min();
        assert!(few.is_some_and(|few| few > 30), "{wrong:?}");
    }
}
