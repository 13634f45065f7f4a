//! Questions about a scene with answers that are right by construction: each answer says one
//! fact in its one spelling and knows on which box each of its phrases rests.

use std::ops::Range;

use serde::Serialize;

use crate::class::{Grammar, classes};
use crate::place::{Place, placed};
use crate::rng::Rng;
use crate::scene::{Object, Scene, SceneKind};
use crate::{check, reading, relation};

/// What a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QaKind {
    /// What the one thing is.
    What,
    /// All things, left to right.
    List,
    /// All things with their places.
    Caption,
    /// Whether a thing is there.
    Exists(Existence),
    /// How many of a class.
    Count,
    Colour,
    /// Whether a thing has a colour.
    ColourCheck,
    /// In which of nine places a thing is.
    Where,
    /// What is in one of nine places.
    At,
    /// Where one thing is as seen from another.
    Relation,
    /// Whether that is so.
    RelationCheck,
    /// What stands beside a thing.
    RelationOf,
    /// The words on a sign.
    Read,
    /// A value on a receipt or in a table.
    DocumentField,
    /// Whether a line is on it.
    DocumentCheck,
    /// The value of a bar.
    ChartValue,
    /// The highest or lowest bar.
    ChartExtreme,
    /// Whether an answer that somebody gave is right.
    Verify,
    /// Whether a thing has a place.
    PlaceCheck,
    /// About something that is not there.
    Unseen,
    /// Of a picture from outside the drawn world.
    Strange,
}

/// How an existence question was made: a "no" is easier the stranger the thing is to the scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Existence {
    /// It is there.
    Present,
    /// Absent, any class.
    Random,
    /// Absent, one of the most common things.
    Popular,
    /// Absent, like something that is there.
    Adversarial,
}

impl QaKind {
    /// The name that recipes and tables use; one for all existence questions.
    pub fn name(self) -> &'static str {
        match self {
            QaKind::What => "what",
            QaKind::List => "list",
            QaKind::Caption => "caption",
            QaKind::Exists(_) => "exists",
            QaKind::Count => "count",
            QaKind::Colour => "colour",
            QaKind::ColourCheck => "colour_check",
            QaKind::Where => "where",
            QaKind::At => "at",
            QaKind::Relation => "relation",
            QaKind::RelationCheck => "relation_check",
            QaKind::RelationOf => "relation_of",
            QaKind::Read => "read",
            QaKind::DocumentField => "document_field",
            QaKind::DocumentCheck => "document_check",
            QaKind::ChartValue => "chart_value",
            QaKind::ChartExtreme => "chart_extreme",
            QaKind::Verify => "verify",
            QaKind::PlaceCheck => "place_check",
            QaKind::Unseen => "unseen",
            QaKind::Strange => "strange",
        }
    }
}

/// A question, its answer, and what the answer rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Qa {
    pub kind: QaKind,
    pub question: String,
    pub answer: String,
    pub mentions: Vec<Mention>,
}

/// A phrase of an answer and the box of the picture it rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mention {
    /// Bytes of the answer.
    pub span: Range<usize>,
    /// x0, y0, x1, y1 in pixels, the last two exclusive.
    pub bbox: [u32; 4],
}

/// Every question of a scene, one for each fact worth asking; `seed` chooses the facts and the
/// wording. Each "yes" comes with a "no" of the same kind.
pub fn questions(scene: &Scene, seed: u64) -> Vec<Qa> {
    let mut rng = Rng::new(scene.seed ^ seed.rotate_left(17), 3);
    let mut out = Vec::new();
    if !scene.texts.is_empty() {
        reading::ask(scene, &mut rng, &mut out);
    }
    if !scene.objects.is_empty() {
        names(scene, &mut rng, &mut out);
        existence(scene, &mut rng, &mut out);
        counts(scene, &mut rng, &mut out);
        colours(scene, &mut rng, &mut out);
        places(scene, &mut rng, &mut out);
        relation::ask(scene, &mut rng, &mut out);
    }
    let mut rng = Rng::new(scene.seed ^ seed.rotate_left(17), 4);
    match scene.kind {
        SceneKind::Strange => check::ask_about_strange(&mut rng, &mut out),
        _ => check::ask(scene, &mut rng, &mut out),
    }
    out
}

/// An answer while it is being written.
#[derive(Default)]
pub(crate) struct Answer {
    text: String,
    mentions: Vec<Mention>,
}

impl Answer {
    pub fn say(&mut self, words: &str) -> &mut Answer {
        self.text.push_str(words);
        self
    }

    /// Words that rest on a box.
    pub fn rest(&mut self, words: &str, bbox: [u32; 4]) -> &mut Answer {
        let start = self.text.len();
        self.text.push_str(words);
        self.mentions.push(Mention { span: start..self.text.len(), bbox });
        self
    }

    /// Words that rest on several boxes: one mention for each.
    pub fn rest_on_all(
        &mut self,
        words: &str,
        boxes: impl Iterator<Item = [u32; 4]>,
    ) -> &mut Answer {
        let span = self.text.len()..self.text.len() + words.len();
        self.text.push_str(words);
        self.mentions.extend(boxes.map(|bbox| Mention { span: span.clone(), bbox }));
        self
    }

    /// "a red car", where "red car" rests on the object.
    pub fn thing(&mut self, object: &Object) -> &mut Answer {
        let full = object.with_article();
        let phrase = object.phrase();
        let lead = full.len() - phrase.len();
        self.say(&full[..lead]).rest(&phrase, object.bbox)
    }

    /// The sentence: first letter large, full stop.
    pub fn sentence(&mut self, kind: QaKind, question: String) -> Qa {
        self.text.push('.');
        if let Some(first) = self.text.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        self.verbatim(kind, question)
    }

    /// The text as it is.
    pub fn verbatim(&mut self, kind: QaKind, question: String) -> Qa {
        let Answer { text, mentions } = std::mem::take(self);
        Qa { kind, question, answer: text, mentions }
    }
}

/// "Yes." resting on the boxes, or "No." resting on nothing.
pub(crate) fn yes_no(kind: QaKind, question: String, yes_on: Option<&[[u32; 4]]>) -> Qa {
    let (answer, boxes) = match yes_on {
        Some(boxes) => ("Yes.", boxes),
        None => ("No.", &[][..]),
    };
    let mentions = boxes.iter().map(|&bbox| Mention { span: 0..3, bbox }).collect();
    Qa { kind, question, answer: answer.to_string(), mentions }
}

/// One of several wordings, `{}` replaced.
pub(crate) fn worded(rng: &mut Rng, wordings: &[&str], word: &str) -> String {
    rng.choose(wordings).replace("{}", word)
}

fn names(scene: &Scene, rng: &mut Rng, out: &mut Vec<Qa>) {
    if let [object] = scene.objects.as_slice()
        && scene.texts.is_empty()
    {
        let wordings =
            ["What is this?", "What is in the picture?", "What do you see?", "Name the object."];
        let question = worded(rng, &wordings, "");
        out.push(Answer::default().thing(object).sentence(QaKind::What, question));
    }
    let groups = groups(scene);
    let few = groups.len() <= 4 && scene.texts.is_empty();
    if few && scene.objects.len() > 1 {
        let question = worded(
            rng,
            &[
                "What is in the picture?",
                "What do you see?",
                "List the objects.",
                "Name everything.",
            ],
            "",
        );
        let mut answer = Answer::default();
        for (i, group) in groups.iter().enumerate() {
            answer.say(joint(i, groups.len()));
            say_group(&mut answer, group);
        }
        out.push(answer.sentence(QaKind::List, question));
    }
    if few && groups.iter().all(|group| group.len() == 1) {
        caption(scene, &groups, rng, out);
    }
}

/// "A dog at the top left and a red car on the right."
fn caption(scene: &Scene, groups: &[Vec<&Object>], rng: &mut Rng, out: &mut Vec<Qa>) {
    let places: Option<Vec<Place>> =
        groups.iter().map(|group| placed(group[0], scene.size())).collect();
    let Some(places) = places else { return };
    let wordings = ["Describe the picture.", "Describe this.", "What is where?"];
    let mut answer = Answer::default();
    for (i, (group, place)) in groups.iter().zip(places).enumerate() {
        answer.say(joint(i, groups.len())).thing(group[0]).say(" ");
        answer.rest(place.phrase(), group[0].bbox);
    }
    out.push(answer.sentence(QaKind::Caption, worded(rng, &wordings, "")));
}

/// The objects by class, ordered by their left edges.
fn groups(scene: &Scene) -> Vec<Vec<&Object>> {
    let mut groups: Vec<Vec<&Object>> = Vec::new();
    let mut ordered: Vec<&Object> = scene.objects.iter().collect();
    ordered.sort_by_key(|object| (object.bbox[0], object.bbox[1]));
    for object in ordered {
        match groups.iter_mut().find(|group| group[0].class == object.class) {
            Some(group) => group.push(object),
            None => groups.push(vec![object]),
        }
    }
    groups
}

fn say_group(answer: &mut Answer, group: &[&Object]) {
    match group {
        [object] => answer.thing(object),
        _ => {
            let number = NUMBERS.get(group.len()).copied().unwrap_or("many");
            let phrase = format!("{number} {}", classes()[group[0].class].plural);
            answer.rest_on_all(&phrase, group.iter().map(|object| object.bbox))
        }
    };
}

/// What stands before the `i`-th of `n` parts.
fn joint(i: usize, n: usize) -> &'static str {
    match i {
        0 => "",
        _ if i + 1 == n => " and ",
        _ => ", ",
    }
}

/// "no" to "nine", by number.
pub const NUMBERS: [&str; 10] =
    ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/// The classes that "popular" negatives are taken from.
const POPULAR: [&str; 16] = [
    "dog", "cat", "car", "tree", "house", "sun", "apple", "book", "chair", "ball", "fish", "bus",
    "circle", "star", "horse", "clock",
];

const EXISTS: [&str; 4] =
    ["Is there {} in the picture?", "Is there {} here?", "Do you see {}?", "Can you see {}?"];

fn existence(scene: &Scene, rng: &mut Rng, out: &mut Vec<Qa>) {
    let pairs = if scene.objects.len() > 1 { 2 } else { 1 };
    let mut order: Vec<usize> = (0..scene.objects.len()).collect();
    rng.shuffle(&mut order);
    for &i in order.iter().take(pairs) {
        let object = &scene.objects[i];
        let wording = *rng.choose(&EXISTS);
        let boxes: Vec<_> =
            scene.objects.iter().filter(|o| o.class == object.class).map(|o| o.bbox).collect();
        let question = existence_question(wording, object.class);
        out.push(yes_no(QaKind::Exists(Existence::Present), question, Some(&boxes)));
        let (absent, how) = absent_class(scene, object, rng);
        let question = existence_question(wording, absent);
        out.push(yes_no(QaKind::Exists(how), question, None));
    }
}

/// "Is there a dog here?", "Are there scissors here?"
fn existence_question(wording: &str, class: usize) -> String {
    let info = &classes()[class];
    let wording = match info.grammar {
        Grammar::Plural => wording.replace("Is there", "Are there"),
        _ => wording.to_string(),
    };
    wording.replace("{}", &info.with_article(None))
}

pub(crate) fn absent_class(scene: &Scene, like: &Object, rng: &mut Rng) -> (usize, Existence) {
    let how = match rng.weighted(&[40, 30, 30]) {
        0 => Existence::Random,
        1 => Existence::Popular,
        _ => Existence::Adversarial,
    };
    let theme = classes()[like.class].theme;
    for _ in 0..100 {
        let class = match how {
            Existence::Popular => crate::class_named(rng.choose::<&str>(&POPULAR)).unwrap_or(0),
            _ => rng.below(classes().len()),
        };
        let fits = how != Existence::Adversarial || classes()[class].theme == theme;
        if fits && scene.count(class) == 0 {
            return (class, how);
        }
    }
    let class = (0..classes().len()).find(|&class| scene.count(class) == 0);
    (class.unwrap_or(0), Existence::Random)
}

fn counts(scene: &Scene, rng: &mut Rng, out: &mut Vec<Qa>) {
    let mut asked = Vec::new();
    let wanted = if scene.kind == SceneKind::Count { 2 } else { 1 };
    for group in groups(scene) {
        if classes()[group[0].class].grammar == Grammar::Count {
            asked.push((group[0].class, group.iter().map(|o| o.bbox).collect::<Vec<_>>()));
        }
    }
    if scene.kind == SceneKind::Count {
        asked.sort_by_key(|(_, boxes)| std::cmp::Reverse(boxes.len()));
    } else {
        rng.shuffle(&mut asked);
    }
    let wordings =
        ["How many {} are there?", "How many {} are in the picture?", "How many {} do you see?"];
    for (class, boxes) in asked.into_iter().take(wanted) {
        let question = worded(rng, &wordings, classes()[class].plural);
        let mut answer = Answer::default();
        answer.rest_on_all(&boxes.len().to_string(), boxes.iter().copied());
        out.push(answer.verbatim(QaKind::Count, question));
    }
}

/// Objects that are the only ones of their class, so that "the dog" means one thing.
pub(crate) fn unique(scene: &Scene) -> Vec<&Object> {
    scene.objects.iter().filter(|object| scene.count(object.class) == 1).collect()
}

fn colours(scene: &Scene, rng: &mut Rng, out: &mut Vec<Qa>) {
    let mut coloured = unique(scene);
    coloured.retain(|object| object.colour.is_some());
    rng.shuffle(&mut coloured);
    for (i, object) in coloured.into_iter().take(3).enumerate() {
        let Some(colour) = object.colour else { continue };
        let wordings =
            ["What colour is the {}?", "Which colour is the {}?", "What color is the {}?"];
        let question = worded(rng, &wordings, &object.name);
        out.push(
            Answer::default().rest(colour.name(), object.bbox).sentence(QaKind::Colour, question),
        );
        if i == 0 {
            let mut other = *rng.choose(&crate::Colour::ALL);
            while other == colour {
                other = *rng.choose(&crate::Colour::ALL);
            }
            let ask = |colour: crate::Colour| format!("Is the {} {}?", object.name, colour.name());
            out.push(yes_no(QaKind::ColourCheck, ask(colour), Some(&[object.bbox])));
            out.push(yes_no(QaKind::ColourCheck, ask(other), None));
        }
    }
}

fn places(scene: &Scene, rng: &mut Rng, out: &mut Vec<Qa>) {
    let mut found: Vec<(&Object, Place)> = unique(scene)
        .into_iter()
        .filter_map(|object| Some((object, placed(object, scene.size())?)))
        .collect();
    rng.shuffle(&mut found);
    for (object, place) in found.iter().take(2) {
        let class = &classes()[object.class];
        let question = format!("Where {} the {}?", class.verb(), class.name);
        let mut answer = Answer::default();
        answer.rest(place.answer(), object.bbox);
        out.push(answer.sentence(QaKind::Where, question));
    }
    rng.shuffle(&mut found);
    let all: Vec<Place> = scene.objects.iter().map(|o| Place::of(o, scene.size())).collect();
    let alone = found.iter().find(|(_, place)| all.iter().filter(|p| *p == place).count() == 1);
    if let Some((object, place)) = alone
        && scene.panels.is_empty()
    {
        let question = format!("What is {}?", place.phrase());
        out.push(Answer::default().thing(object).sentence(QaKind::At, question));
    }
}
