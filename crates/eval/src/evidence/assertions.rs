//! What an answer asserts, and whether the scene bears it out: things, their colours, numbers and
//! places in captions and lists, and the one fact of a short answer.
//!
//! The scene is the judge; it does not know what the model thinks of its own words.

use std::ops::Range;

use scenes::{Colour, Place, Qa, QaKind, Scene, classes};

use super::facts;
use crate::mentions::{self, Named};

/// What is asserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// That a thing is there.
    Object,
    /// Its colour.
    Attribute,
    Count,
    /// Where it is in the picture.
    Place,
    /// How it stands to another thing.
    Relation,
    /// Something written or drawn as a value.
    Text,
}

impl Kind {
    pub const ALL: [Kind; 6] =
        [Kind::Object, Kind::Attribute, Kind::Count, Kind::Place, Kind::Relation, Kind::Text];

    /// As in the names of figures.
    pub fn name(self) -> &'static str {
        ["object", "attribute", "count", "place", "relation", "text"][self as usize]
    }
}

/// A piece of an answer that is true or false.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Assertion {
    pub kind: Kind,
    /// Bytes of the answer.
    pub bytes: Range<usize>,
    pub holds: bool,
    /// Whether the same class was named before.
    pub repeated: bool,
    /// The class of the thing that it is about, where one is named.
    pub class: Option<usize>,
    /// The thing it is about, where its class is in the scene once.
    pub object: Option<usize>,
}

impl Assertion {
    /// For strata: the theme of a thing, else a number for the kind.
    pub fn word_class(&self) -> usize {
        match (self.kind, self.class) {
            (Kind::Object, Some(class)) => classes()[class].theme as usize,
            (kind, _) => 100 + kind as usize,
        }
    }
}

/// What `said`, the answer to `qa`, asserts. Colours, numbers and places of things that are not
/// there are not judged beside the things.
pub(crate) fn assertions(qa: &Qa, said: &str, scene: &Scene) -> Vec<Assertion> {
    let kind = match qa.kind {
        QaKind::Caption | QaKind::List if scene.texts.is_empty() => {
            return of_things(said, scene);
        }
        QaKind::What | QaKind::At | QaKind::RelationOf => Kind::Object,
        QaKind::Colour => Kind::Attribute,
        QaKind::Count => Kind::Count,
        QaKind::Where => Kind::Place,
        QaKind::Relation => Kind::Relation,
        QaKind::Read | QaKind::DocumentField | QaKind::ChartValue => Kind::Text,
        _ => return Vec::new(),
    };
    let bytes = 0..said.trim_end_matches(['.', ' ']).len();
    let object = match qa.mentions.as_slice() {
        [mention] => scene.objects.iter().position(|object| object.bbox == mention.bbox),
        _ => None,
    };
    let class = mentions::named(said).first().map(|named| named.class);
    let holds = facts::is_right(qa, said);
    vec![Assertion { kind, bytes, holds, repeated: false, class, object }]
}

fn of_things(said: &str, scene: &Scene) -> Vec<Assertion> {
    let named = mentions::named(said);
    let hallucinated = mentions::hallucinated(&named, scene);
    let mut out = Vec::new();
    for (i, thing) in named.iter().enumerate() {
        let repeated = named[..i].iter().any(|before| before.class == thing.class);
        let object = scene.objects.iter().position(|object| object.class == thing.class);
        let object = object.filter(|_| scene.count(thing.class) == 1);
        let holds = !hallucinated[i];
        let (bytes, class) = (thing.bytes.clone(), Some(thing.class));
        out.push(Assertion { kind: Kind::Object, bytes, holds, repeated, class, object });
        if holds {
            let from = if i == 0 { 0 } else { named[i - 1].bytes.end };
            let to = named.get(i + 1).map_or(said.len(), |next| next.bytes.start);
            out.extend(of_thing((thing, repeated, object), (said, from..to), scene));
        }
    }
    out
}

/// Colour and number before the name of a thing that is there, its place after it.
fn of_thing(
    (thing, repeated, object): (&Named, bool, Option<usize>),
    (said, around): (&str, Range<usize>),
    scene: &Scene,
) -> Vec<Assertion> {
    let all = || scene.objects.iter().filter(|object| object.class == thing.class);
    let make = |kind: Kind, bytes: Range<usize>, holds: bool| Assertion {
        kind,
        bytes,
        holds,
        repeated,
        class: Some(thing.class),
        object,
    };
    let (before, after) = (around.start..thing.bytes.start, thing.bytes.end..around.end);
    let mut out = Vec::new();
    let adjective = last_word(said, before);
    let colour = adjective.and_then(|bytes| {
        let named = |colour: &&Colour| said[bytes.clone()].eq_ignore_ascii_case(colour.name());
        Some((*Colour::ALL.iter().find(named)?, bytes))
    });
    if let Some((colour, bytes)) = colour {
        out.push(make(Kind::Attribute, bytes, all().any(|o| o.colour == Some(colour))));
    }
    if let Some(bytes) = thing.number_bytes.clone().filter(|_| thing.number > 1) {
        let bytes = bytes.start..thing.bytes.end;
        out.push(make(Kind::Count, bytes, all().count() == thing.number));
    }
    let place = Place::ALL.into_iter().filter_map(|place| {
        let at = said[after.clone()].find(place.phrase())?;
        let bytes = after.start + at..after.start + at + place.phrase().len();
        Some((place, bytes))
    });
    // "at the top" is also the beginning of "at the top left".
    if let Some((place, bytes)) = place.max_by_key(|(_, bytes)| bytes.len()) {
        let holds = all().any(|object| Place::of(object, scene.size()) == place);
        out.push(make(Kind::Place, bytes, holds));
    }
    out
}

/// The last word of a part of the text.
fn last_word(text: &str, part: Range<usize>) -> Option<Range<usize>> {
    let trimmed = text[part.clone()].trim_end();
    let mut others = trimmed.char_indices().rev().filter(|(_, c)| !c.is_alphanumeric());
    let start = others.next().map_or(0, |(at, c)| at + c.len_utf8());
    (start < trimmed.len()).then(|| part.start + start..part.start + trimmed.len())
}

#[cfg(test)]
mod tests {
    use super::last_word;

    #[test]
    fn the_last_word_of_any_text_is_found() {
        let rows =
            [("a red ", "red"), ("red", "red"), ("\u{fffd}\u{fffd}red", "red"), ("größe", "größe")];
        for (text, expected) in rows {
            let found = last_word(text, 0..text.len()).expect(text);
            assert_eq!(&text[found], expected, "{text}");
        }
        assert_eq!(last_word("\u{fffd}", 0..3), None);
    }
}
