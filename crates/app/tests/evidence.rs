//! What is done with the evidence of an answer, over a tiny random checkpoint: it answers nonsense,
//! and nonsense is covered, hidden and exported as sense is.
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use app::api::{
    AnswerRef, AskEvent, AskOptions, AskRequest, CoverRequest, ExportFormat, MapRequest, Region,
};
use app::{App, OpenOptions};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/fixtures/smolvlm-llama-square")
}

/// An application with a picture.
fn open() -> (App, u32) {
    let model = Some(fixture());
    let app = App::open(OpenOptions { model, device: "cpu".into(), ..Default::default() });
    app.wait_until_loaded().expect("the fixture loads");
    let image = app.attach_path(&fixture().join("image-0.png")).expect("a picture").id;
    (app, image)
}

/// How many tokens of the prompt were still known, and the answer.
fn ask(app: &App, chat: u32, question: &str, about: (&[u32], Option<Region>)) -> (u32, AnswerRef) {
    let (images, region) = (about.0.to_vec(), about.1);
    let options = AskOptions { max_new_tokens: Some(24), ..Default::default() };
    let request = AskRequest { chat, question: question.into(), images, region, options };
    let heard = Arc::new(Mutex::new((0, 0)));
    let hearing = heard.clone();
    let result = app.ask(request, move |event| {
        let mut heard = hearing.lock().unwrap();
        match event {
            AskEvent::Started { reused_tokens, .. } => heard.0 = reused_tokens,
            AskEvent::Finished { answer, .. } => heard.1 = answer,
            _ => {}
        }
        true
    });
    result.expect("an answer");
    let (reused, answer) = *heard.lock().unwrap();
    (reused, AnswerRef { chat, answer })
}

#[test]
fn what_is_tried_on_an_answer_leaves_the_conversation_as_it_was() {
    let (app, image) = open();
    let plain = app.new_chat();
    ask(&app, plain, "What is it?", (&[image], None));
    let (undisturbed, _) = ask(&app, plain, "And now?", (&[], None));

    let chat = app.new_chat();
    let (_, answer) = ask(&app, chat, "What is it?", (&[image], None));
    let size = app.image(image).expect("the picture");
    let (w, h) = (size.width as f32, size.height as f32);
    let region = Region { image, bbox: [0.0, 0.0, w / 2.0, h / 2.0] };

    let covered = app.cover(CoverRequest { answer, claim: None, region }, |_| true);
    let covered = covered.expect("an outcome");
    assert_eq!(covered.region.bbox, region.bbox);
    assert!((0.0..=1.0).contains(&covered.before.probability) && !covered.words.is_empty());
    let without = app.without(answer, |_| true).expect("an answer without the picture");
    let spot = app.spot(answer, image, [w / 4.0, h / 4.0]).expect("the words of a spot");
    assert_eq!(without.words.len(), spot.words.len());
    assert!(spot.words.iter().all(|word| (0.0..=1.0).contains(&word.weight)));
    let found = app.search_word(chat, image, "cat").expect("a search");
    assert!(found.words.contains("“cat”"), "{}", found.words);
    let check = app.check(answer).expect("a check");
    assert_eq!(app.chat(chat).expect("the chat").messages[1].check.as_ref(), Some(&check));

    let (reused, _) = ask(&app, chat, "And now?", (&[], None));
    assert_eq!(reused, undisturbed, "the cache of the conversation survives");
}

#[test]
fn the_raw_numbers_add_up() {
    let (app, image) = open();
    let chat = app.new_chat();
    let (_, answer) = ask(&app, chat, "What is it?", (&[image], None));
    let view = app.expert(answer).expect("numbers");
    let words = app.chat(chat).expect("the chat").messages[1].words.clone();
    assert_eq!(view.words.len(), words.len());
    for word in &view.words {
        assert!(word.logprob <= 0.0 && word.entropy >= 0.0, "{word:?}");
        assert!((0.0..=1.001).contains(&(word.image_mass + word.null_mass)), "{word:?}");
    }
    let request = MapRequest { answer, word: 0, head: None, sinks: true };
    let all = app.raw_map(request.clone()).expect("a map");
    assert_eq!(all.image_mass.len(), view.layers.len() * view.heads as usize);
    let head = Some([view.layers[0], 0]);
    let one = app.raw_map(MapRequest { head, ..request }).expect("the map of a head");
    let sum: f32 = one.heatmap.values.iter().sum();
    assert!((sum - one.image_mass[0]).abs() < 1e-2, "{sum} {}", one.image_mass[0]);
}

#[test]
fn a_question_about_a_part_stands_apart() {
    let (app, image) = open();
    let chat = app.new_chat();
    ask(&app, chat, "What is it?", (&[image], None));
    let part = Region { image, bbox: [2.0, 2.0, 20.0, 20.0] };
    let (reused, answer) = ask(&app, chat, "And here?", (&[], Some(part)));
    assert_eq!((reused, answer.answer), (0, 1), "nothing said before is told");
    let spot = app.spot(answer, image, [6.0, 6.0]).expect("a spot of the part");
    let [x0, y0, ..] = spot.region.bbox;
    assert!(x0 >= 2.0 && y0 >= 2.0, "in pixels of the whole picture: {:?}", spot.region);
    let (reused, _) = ask(&app, chat, "And now?", (&[], None));
    assert!(reused > 0, "the conversation goes on where it was");
    assert_eq!(app.forget_image(image).expect_err("it is used").code, "image_in_use");
}

#[test]
fn an_answer_is_exported_for_programs_and_for_people() {
    let (app, image) = open();
    let chat = app.new_chat();
    let (_, answer) = ask(&app, chat, "What is <it>?", (&[image], None));
    let folder = tempfile::tempdir().expect("a folder");
    let (json, html) = (folder.path().join("a.json"), folder.path().join("a.html"));
    app.export(answer, ExportFormat::Json, &json).expect("JSON");
    let facts: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&json).expect("a file")).expect("valid JSON");
    assert_eq!(facts["question"], "What is <it>?");
    assert!(facts["numbers"]["words"].is_array());
    app.export(answer, ExportFormat::Html, &html).expect("a page");
    let page = std::fs::read_to_string(&html).expect("a file");
    assert!(page.contains("What is &lt;it&gt;?") && page.contains("data:image/png;base64,"));
    assert!(!page.contains("<script") && !page.contains("src="), "it stands alone");
    let nowhere = folder.path().join("no/such/place.html");
    let error = app.export(answer, ExportFormat::Html, &nowhere).expect_err("no such folder");
    assert_eq!(error.code, "file_unwritable");
}

#[test]
fn what_cannot_be_done_is_said() {
    let (app, image) = open();
    let chat = app.new_chat();
    let (_, answer) = ask(&app, chat, "What is it?", (&[image], None));
    let other = AnswerRef { chat, answer: 7 };
    assert_eq!(app.check(other).expect_err("no answer").code, "no_such_answer");
    assert_eq!(app.spot(answer, 99, [0.0; 2]).expect_err("no picture").code, "no_such_image");
    assert_eq!(app.test(answer, 99, |_| true).expect_err("no claim").code, "no_such_claim");
    let stopped = app.without(answer, |_| false).expect_err("nobody listens");
    assert_eq!(stopped.code, "cancelled");
    let reliability = app.reliability().expect("what is known");
    assert!(!reliability.calibrated && reliability.marks.is_empty());
}
