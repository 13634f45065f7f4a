//! Questions that check what was said: whether an answer is right, whether a thing with a colour
//! or at a place is there, and questions about what is not there, which nobody can answer.
//!
//! They come after all others and from a stream of their own, so that the questions a seed had
//! before they existed stay what they were.

use crate::class::{Class, Grammar, classes};
use crate::colour::Colour;
use crate::place::{Place, placed};
use crate::question::{Qa, QaKind, absent_class, unique, worded, yes_no};
use crate::rng::Rng;
use crate::scene::{Object, Scene};

/// The answer to a question about something that is not in the picture.
pub const UNSEEN: &str = "I cannot see one.";
/// The answer about a picture from outside the drawn world.
pub const STRANGE: &str = "I only know simple drawings, and I see nothing I know.";

/// Appends the checks of a scene, whose other questions are in `out`.
pub(crate) fn ask(scene: &Scene, rng: &mut Rng, out: &mut Vec<Qa>) {
    verify(rng, out);
    if scene.objects.is_empty() {
        return;
    }
    phrases(scene, rng, out);
    unseen(scene, rng, out);
}

/// "Where is the dog? Top left. Is that right?" of a true answer and of one from another scene's
/// mouth: another colour, place, number or thing of the same kind.
fn verify(rng: &mut Rng, out: &mut Vec<Qa>) {
    let known = out.iter().filter_map(|qa| Some((qa.clone(), other(qa, rng)?)));
    let mut known: Vec<(Qa, String)> = known.collect();
    rng.shuffle(&mut known);
    for (qa, wrong) in known.into_iter().take(2) {
        let mut boxes: Vec<[u32; 4]> = qa.mentions.iter().map(|m| m.bbox).collect();
        boxes.dedup();
        for (answer, right) in [(&qa.answer, true), (&wrong, false)] {
            out.push(yes_no(
                QaKind::Verify,
                verification(&qa.question, answer),
                right.then_some(&boxes[..]),
            ));
        }
    }
}

/// How an answer is put to the test: the question, the answer, and whether that is right.
pub fn verification(question: &str, answer: &str) -> String {
    let stop = if answer.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{question} {answer}{stop} Is that right?")
}

/// An answer of the same kind that is not the true one.
fn other(qa: &Qa, rng: &mut Rng) -> Option<String> {
    match qa.kind {
        QaKind::What | QaKind::At | QaKind::RelationOf => {
            let class = &classes()[rng.below(classes().len())];
            let thing = class.with_article(class.tintable.then(|| rng.choose(&Colour::ALL).name()));
            let wrong = sentence(&thing);
            (!qa.answer.ends_with(&format!(" {}.", class.name)) && wrong != qa.answer)
                .then_some(wrong)
        }
        _ => {
            let others = other_answers(qa);
            (!others.is_empty()).then(|| rng.choose(&others).clone())
        }
    }
}

/// The other answers that a question for a colour, a place, a side or a number could have; none
/// of other questions.
pub fn other_answers(qa: &Qa) -> Vec<String> {
    let all: Vec<String> = match qa.kind {
        QaKind::Colour => Colour::ALL.iter().map(|colour| sentence(colour.name())).collect(),
        QaKind::Where => Place::ALL.iter().map(|place| sentence(place.answer())).collect(),
        QaKind::Relation => {
            ["To the left.", "To the right.", "Above.", "Below."].map(String::from).into()
        }
        QaKind::Count => {
            let n: usize = qa.answer.parse().unwrap_or(0);
            let near = [n.saturating_sub(2), n.saturating_sub(1), n + 1, n + 2];
            near.iter().filter(|&&other| other > 0).map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    };
    all.into_iter().filter(|other| *other != qa.answer).collect()
}

fn sentence(words: &str) -> String {
    let mut text = format!("{words}.");
    text[..1].make_ascii_uppercase();
    text
}

/// "Is there a red car here?", "Is there a dog at the top left?": yes, and no where the thing is
/// there in another colour or elsewhere.
fn phrases(scene: &Scene, rng: &mut Rng, out: &mut Vec<Qa>) {
    let mut things = unique(scene);
    rng.shuffle(&mut things);
    let coloured = things.iter().find_map(|object| Some((*object, object.colour?)));
    if let Some((object, colour)) = coloured {
        let mut wrong = *rng.choose(&Colour::ALL);
        while wrong == colour {
            wrong = *rng.choose(&Colour::ALL);
        }
        for (colour, boxes) in [(colour, Some([object.bbox])), (wrong, None)] {
            let thing = classes()[object.class].with_article(Some(colour.name()));
            let question = format!("Is there {thing} in the picture?");
            out.push(yes_no(QaKind::ColourCheck, question, boxes.as_ref().map(|b| &b[..])));
        }
    }
    let with_place = things.iter().find_map(|o| Some((*o, placed(o, scene.size())?)));
    if let Some((object, place)) = with_place {
        let wrong = elsewhere(place, rng);
        for (place, boxes) in [(place, Some([object.bbox])), (wrong, None)] {
            let question = at_place(object, place);
            out.push(yes_no(QaKind::PlaceCheck, question, boxes.as_ref().map(|b| &b[..])));
        }
    }
}

fn at_place(object: &Object, place: Place) -> String {
    let verb = if classes()[object.class].grammar == Grammar::Plural { "Are" } else { "Is" };
    format!("{verb} there {} {}?", object.with_article(), place.phrase())
}

fn elsewhere(place: Place, rng: &mut Rng) -> Place {
    loop {
        let other = *rng.choose(&Place::ALL);
        if other != place {
            return other;
        }
    }
}

/// The colour, the place, the neighbour and the number of something that is not there.
fn unseen(scene: &Scene, rng: &mut Rng, out: &mut Vec<Qa>) {
    let like = &scene.objects[rng.below(scene.objects.len())];
    let (class, _) = absent_class(scene, like, rng);
    let Class { name, tintable, .. } = classes()[class];
    let verb = classes()[class].verb();
    let question = match rng.below(3) {
        0 if tintable => worded(rng, &["What colour is the {}?", "Which colour is the {}?"], name),
        1 => format!("Where {verb} the {name} relative to the {}?", like.name),
        _ => format!("Where {verb} the {name}?"),
    };
    let (kind, answer) = (QaKind::Unseen, UNSEEN.to_string());
    out.push(Qa { kind, question, answer, mentions: Vec::new() });
    let (class, _) = absent_class(scene, like, rng);
    if classes()[class].grammar == Grammar::Count {
        let wordings = ["How many {} are there?", "How many {} are in the picture?"];
        let question = worded(rng, &wordings, classes()[class].plural);
        let (kind, answer) = (QaKind::Count, "0".to_string());
        out.push(Qa { kind, question, answer, mentions: Vec::new() });
    }
}

/// What is said of a picture from outside the drawn world, whatever was asked.
pub(crate) fn ask_about_strange(rng: &mut Rng, out: &mut Vec<Qa>) {
    let wordings = ["What is this?", "What is in the picture?", "What do you see?"];
    let more = ["Describe the picture.", "Describe this.", "List the objects.", "Read the text."];
    for wordings in [&wordings[..], &more] {
        let (kind, answer) = (QaKind::Strange, STRANGE.to_string());
        let question = worded(rng, wordings, "");
        out.push(Qa { kind, question, answer, mentions: Vec::new() });
    }
    let class = &classes()[rng.below(classes().len())];
    let question = format!("Where {} the {}?", class.verb(), class.name);
    let (kind, answer) = (QaKind::Unseen, UNSEEN.to_string());
    out.push(Qa { kind, question, answer, mentions: Vec::new() });
}
