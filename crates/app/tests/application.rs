//! The application as its faces use it, over a tiny random checkpoint.
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use app::api::{ApiError, AskEvent, AskOptions, AskRequest, ChatRole, ModelState};
use app::{App, OpenOptions};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/fixtures").join(name)
}

fn open() -> App {
    let model = Some(fixture("smolvlm-llama-square"));
    let app = App::open(OpenOptions { model, device: "cpu".into(), ..Default::default() });
    app.wait_until_loaded().expect("the fixture loads");
    app
}

fn request(chat: u32, question: &str, images: &[u32]) -> AskRequest {
    let options = AskOptions { max_new_tokens: Some(6), ..Default::default() };
    AskRequest { chat, question: question.into(), images: images.to_vec(), options }
}

/// Asks and keeps every event; stops listening after `patience` tokens.
fn ask(app: &App, request: AskRequest, patience: usize) -> (Vec<AskEvent>, Result<(), ApiError>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = events.clone();
    let result = app.ask(request, move |event| {
        let mut heard = heard.lock().unwrap();
        heard.push(event);
        tokens(&heard) < patience
    });
    let events = events.lock().unwrap().clone();
    (events, result)
}

fn tokens(events: &[AskEvent]) -> usize {
    events.iter().filter(|event| matches!(event, AskEvent::Token { .. })).count()
}

fn picture(app: &App) -> u32 {
    app.attach_path(&fixture("smolvlm-llama-square").join("image-0.png")).expect("a picture").id
}

#[test]
fn a_question_is_answered_in_order_and_remembered() {
    let app = open();
    let (chat, image) = (app.new_chat(), picture(&app));
    let (events, result) = ask(&app, request(chat, "What is it?", &[image]), usize::MAX);
    result.expect("an answer");
    assert!(matches!(events[0], AskEvent::Started { image_tokens: 4, reused_tokens: 0, .. }));
    let Some(AskEvent::Finished { text, cancelled: false, tokens: n, .. }) = events.last() else {
        panic!("the last event is {:?}", events.last());
    };
    assert_eq!(*n as usize, tokens(&events));
    let messages = app.chat(chat).expect("the chat").messages;
    assert_eq!(messages.len(), 2);
    assert_eq!((messages[1].role, &messages[1].text), (ChatRole::Assistant, text));

    let (events, _) = ask(&app, request(chat, "And now?", &[]), usize::MAX);
    let Some(AskEvent::Started { image_tokens, reused_tokens, .. }) = events.first() else {
        panic!("the first event is {:?}", events.first());
    };
    assert_eq!(*image_tokens, 4, "the picture stays in the conversation");
    assert!(*reused_tokens > 4, "a follow-up reads the picture again: {reused_tokens}");
    assert_eq!(app.chat(chat).expect("the chat").messages.len(), 4);
    assert!(app.forget_image(image).is_err_and(|error| error.code == "image_in_use"));
}

#[test]
fn the_same_question_gives_the_same_answer_and_regenerate_replaces_it() {
    let app = open();
    let image = picture(&app);
    let answer = |events: &[AskEvent]| match events.last() {
        Some(AskEvent::Finished { text, .. }) => text.clone(),
        other => panic!("the last event is {other:?}"),
    };
    let first = app.new_chat();
    let one = answer(&ask(&app, request(first, "Why?", &[image]), usize::MAX).0);
    let second = app.new_chat();
    assert_ne!(first, second);
    let two = answer(&ask(&app, request(second, "Why?", &[image]), usize::MAX).0);
    assert_eq!(one, two);
    app.regenerate(second, AskOptions::default(), |_| true).expect("another answer");
    assert_eq!(app.chat(second).expect("the chat").messages.len(), 2);
}

#[test]
fn a_face_that_is_gone_stops_its_answer_and_the_next_question_works() {
    let app = open();
    let (chat, image) = (app.new_chat(), picture(&app));
    let mut long = request(chat, "What is it?", &[image]);
    long.options.max_new_tokens = Some(10_000);
    let (events, result) = ask(&app, long, 2);
    result.expect("stopping is not an error");
    assert!(tokens(&events) <= 3, "{} tokens after nobody listened", tokens(&events));
    assert!(!app.chat(chat).expect("the chat").busy);
    app.cancel(chat);
    app.cancel(999);
    ask(&app, request(chat, "And?", &[]), usize::MAX).1.expect("an answer");
}

#[test]
fn pictures_are_shown_as_they_are_and_as_the_model_sees_them() {
    let app = open();
    let image = app.image(picture(&app)).expect("the picture");
    let shown = app.image_png(image.id).expect("a PNG");
    let shown = vlm::processor::image::decode("shown", &shown).expect("a picture");
    assert_eq!(shown.dimensions(), (image.width, image.height));
    let seen = app.seen_png(image.id).expect("a PNG");
    let seen = vlm::processor::image::decode("seen", &seen).expect("a picture");
    assert_eq!(image.tiles.len(), 1);
    assert_eq!(image.tiles[0].seen, [0, 0, seen.width(), seen.height()]);
}

#[test]
fn what_goes_wrong_is_said_and_nothing_is_lost() {
    let app = open();
    let chat = app.new_chat();
    let code = |result: Result<(), ApiError>| result.expect_err("an error").code;
    let long = "again ".repeat(20_000);
    let rows = [
        (request(chat, "  ", &[]), "no_question"),
        (request(chat, "What?", &[77]), "no_such_image"),
        (request(99, "What?", &[]), "no_such_chat"),
        (request(chat, &long, &[]), "prompt_too_long"),
    ];
    for (request, expected) in rows {
        let (events, result) = ask(&app, request, usize::MAX);
        assert_eq!(code(result), expected);
        assert!(matches!(events.last(), Some(AskEvent::Failed(error)) if error.code == expected));
    }
    assert!(app.chat(chat).expect("the chat").messages.is_empty());
    let failed = app.attach_bytes("empty.png", &[]).expect_err("an error");
    assert_eq!(failed.code, "image_unreadable");
    assert!(failed.message.contains("empty.png") && !failed.hint.is_empty(), "{failed:?}");
    let failed = app.open_model(Path::new("nowhere")).expect_err("an error");
    assert_eq!(failed.code, "model_missing");
    assert!(matches!(app.state().model, ModelState::Ready(_)), "the old model stays");
    assert_eq!(code(app.regenerate(chat, AskOptions::default(), |_| true)), "nothing_to_repeat");
}
