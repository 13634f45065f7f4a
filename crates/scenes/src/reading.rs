//! Questions about what is written: signs, receipts, tables and charts.

use crate::class::article;
use crate::page::{ITEMS, NAMES};
use crate::question::{Answer, Qa, QaKind, worded, yes_no};
use crate::rng::Rng;
use crate::scene::{Panel, PanelRole, Scene, SceneKind, TextItem, TextRole};

pub(crate) fn ask(scene: &Scene, rng: &mut Rng, out: &mut Vec<Qa>) {
    match scene.kind {
        SceneKind::Sign => sign(scene, rng, out),
        SceneKind::Document => document(scene, rng, out),
        SceneKind::Chart => chart(scene, rng, out),
        _ => {}
    }
}

fn sign(scene: &Scene, rng: &mut Rng, out: &mut Vec<Qa>) {
    let wordings =
        ["What does the sign say?", "Read the text.", "What is written here?", "Read the sign."];
    let mut answer = Answer::default();
    say_words(&mut answer, scene);
    out.push(answer.verbatim(QaKind::Read, worded(rng, &wordings, "")));
    let Some((board, colour)) = scene.panels.first().and_then(|p| Some((p, p.colour?))) else {
        return;
    };
    let wordings =
        ["What colour is the sign?", "Which colour is the sign?", "What color is the sign?"];
    let mut answer = Answer::default();
    answer.rest(colour.name(), board.bbox);
    out.push(answer.sentence(QaKind::Colour, worded(rng, &wordings, "")));
    let mut answer = Answer::default();
    answer.say(article(colour.name())).say(" ");
    answer.rest(&format!("{} sign", colour.name()), board.bbox).say(" that says ");
    say_words(&mut answer, scene);
    if let [object] = scene.objects.as_slice() {
        answer.say(" and ").thing(object);
    }
    let wordings = ["Describe the picture.", "Describe this.", "What is in the picture?"];
    out.push(answer.sentence(QaKind::Caption, worded(rng, &wordings, "")));
}

/// The words of the sign as they are written, each resting on its box.
fn say_words(answer: &mut Answer, scene: &Scene) {
    for (i, word) in scene.texts.iter().enumerate() {
        answer.say(if i == 0 { "" } else { " " }).rest(&word.text, word.bbox);
    }
}

/// Labels with the values that belong to them.
fn fields(scene: &Scene) -> Vec<(&TextItem, &TextItem)> {
    let pairs = scene.texts.windows(2);
    pairs
        .filter(|pair| pair[0].role == TextRole::Label && pair[1].role == TextRole::Value)
        .map(|pair| (&pair[0], &pair[1]))
        .collect()
}

fn document(scene: &Scene, rng: &mut Rng, out: &mut Vec<Qa>) {
    let mut fields = fields(scene);
    let receipt = fields.last().is_some_and(|(label, _)| label.text == "total");
    if receipt && let Some((_, value)) = fields.pop() {
        let question = worded(rng, &["What is the total?", "How much is the total?"], "");
        let mut answer = Answer::default();
        answer.rest(&value.text, value.bbox);
        out.push(answer.verbatim(QaKind::DocumentField, question));
    }
    rng.shuffle(&mut fields);
    let wordings: &[&str] = if receipt {
        &["How much is the {}?", "What does the {} cost?", "What is the price of the {}?"]
    } else {
        &["What is the score of {}?", "What score does {} have?"]
    };
    for (label, value) in fields.iter().take(2) {
        let mut answer = Answer::default();
        answer.rest(&value.text, value.bbox);
        out.push(answer.verbatim(QaKind::DocumentField, worded(rng, wordings, &label.text)));
    }
    let pool = if receipt { ITEMS } else { NAMES };
    let name = if receipt { "receipt" } else { "list" };
    let absent: Vec<&&str> =
        pool.iter().filter(|item| fields.iter().all(|(label, _)| label.text != **item)).collect();
    if let Some((label, _)) = fields.first() {
        let ask = |item: &str| format!("Is {item} on the {name}?");
        out.push(yes_no(QaKind::DocumentCheck, ask(&label.text), Some(&[label.bbox])));
        out.push(yes_no(QaKind::DocumentCheck, ask(rng.choose::<&&str>(&absent)), None));
    }
    let mut answer = Answer::default();
    answer.rest_on_all(&fields.len().to_string(), fields.iter().map(|(label, _)| label.bbox));
    let wordings: &[&str] = if receipt {
        &["How many items are listed?", "How many items are on the receipt?"]
    } else {
        &["How many names are listed?", "How many names are on the list?"]
    };
    out.push(answer.verbatim(QaKind::Count, worded(rng, wordings, "")));
}

fn chart(scene: &Scene, rng: &mut Rng, out: &mut Vec<Qa>) {
    let mut bars: Vec<&Panel> =
        scene.panels.iter().filter(|panel| panel.role == PanelRole::Bar).collect();
    let n = bars.len();
    let mut answer = Answer::default();
    answer.rest_on_all(&n.to_string(), bars.iter().map(|bar| bar.bbox));
    out.push(answer.verbatim(QaKind::Count, "How many bars are there?".to_string()));
    rng.shuffle(&mut bars);
    for bar in bars.iter().take(2) {
        let wordings = ["What is the value of {}?", "How high is bar {}?"];
        let mut answer = Answer::default();
        answer.rest(&bar.value.to_string(), bar.bbox);
        out.push(answer.verbatim(QaKind::ChartValue, worded(rng, &wordings, &bar.label)));
    }
    if let Some(bar) = bars.last()
        && let Some(colour) = bar.colour
    {
        let mut answer = Answer::default();
        answer.rest(colour.name(), bar.bbox);
        let wordings = ["What colour is bar {}?", "What color is bar {}?"];
        out.push(answer.sentence(QaKind::Colour, worded(rng, &wordings, &bar.label)));
    }
    let highest = bars.iter().max_by_key(|bar| bar.value);
    let lowest = bars.iter().min_by_key(|bar| bar.value);
    for (bar, word) in [(highest, "highest"), (lowest, "lowest")] {
        let Some(bar) = bar else { continue };
        let mut answer = Answer::default();
        if rng.chance(0.5) {
            answer.rest(&bar.label, bar.bbox);
            let question = format!("Which bar is the {word}?");
            out.push(answer.sentence(QaKind::ChartExtreme, question));
        } else if let Some(colour) = bar.colour {
            answer.rest(colour.name(), bar.bbox);
            let question = format!("What colour is the {word} bar?");
            out.push(answer.sentence(QaKind::ChartExtreme, question));
        }
    }
}
