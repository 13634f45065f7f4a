//! The application as its faces use it, over a tiny random checkpoint.
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use app::api::{ApiError, AskEvent, AskOptions, AskRequest, ChatRole, ModelState, Quantization};
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
    AskRequest { chat, question: question.into(), images: images.to_vec(), region: None, options }
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

#[test]
fn weights_are_held_as_chosen_the_chat_goes_on_and_the_choice_is_remembered() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Some(folder.path().join("settings.json"));
    let options = || OpenOptions {
        model: Some(fixture("smolvlm-llama-square")),
        device: "cpu".into(),
        settings: settings.clone(),
        ..Default::default()
    };
    let app = App::open(options());
    let card = app.wait_until_loaded().expect("the fixture loads");
    assert_eq!(card.quantization, Quantization::None);
    let (chat, image) = (app.new_chat(), picture(&app));
    ask(&app, request(chat, "What is it?", &[image]), usize::MAX).1.expect("an answer");
    let card = app.set_quantization(Quantization::Q4_0).expect("it loads in 4 bits");
    assert_eq!(card.quantization, Quantization::Q4_0);
    ask(&app, request(chat, "And now?", &[]), usize::MAX).1.expect("an answer in 4 bits");
    assert_eq!(app.chat(chat).expect("the chat").messages.len(), 4);
    let card = app.open_model(&fixture("llava-clip-llama")).expect("another model");
    assert_eq!(card.quantization, Quantization::Q4_0, "the next model is held the same way");

    let again = App::open(options()).wait_until_loaded().expect("it loads");
    assert_eq!(again.quantization, Quantization::Q4_0, "remembered");
    let said = OpenOptions { quantization: Some(app::Quantization::Q8_0), ..options() };
    let card = App::open(said).wait_until_loaded().expect("it loads");
    assert_eq!(card.quantization, Quantization::Q8_0, "what is said goes before it");
    let nowhere = OpenOptions { settings: None, ..options() };
    let card = App::open(nowhere).wait_until_loaded().expect("it loads");
    assert_eq!(card.quantization, Quantization::None);
}

#[test]
fn the_card_of_the_shipped_model_tells_what_quantising_costs() {
    let model = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano"));
    let app = App::open(OpenOptions { model, device: "cpu".into(), ..Default::default() });
    app.wait_until_loaded().expect("the shipped model loads");
    let card = app.quantization().expect("a card");
    assert!(card.choosable && card.command.contains("eval quantization --model"));
    let formats = &card.formats;
    let kinds: Vec<Quantization> = formats.iter().map(|format| format.quantization).collect();
    assert_eq!(kinds, [Quantization::None, Quantization::Q8_0, Quantization::Q4_0]);
    assert!(formats[0].bytes > 3.0 * formats[1].bytes && formats[1].bytes > formats[2].bytes);
    assert!(card.measured.expect("it was measured before it was shipped").scenes >= 300);
    for format in formats {
        let figures = [&format.perplexity, &format.existence, &format.evidence];
        for figure in figures.into_iter().chain([&format.same_answer]) {
            let figure = figure.as_ref().expect("a figure");
            assert!(figure.n > 0 && figure.value > 0.0);
            assert_eq!(figure.loss.is_none(), format.quantization == Quantization::None);
            if let Some(loss) = &figure.loss {
                assert!(loss.interval[0] <= loss.lost && loss.lost <= loss.interval[1], "{loss:?}");
            }
        }
    }
}

#[test]
fn a_model_that_was_never_measured_says_so_and_measuring_it_can_be_stopped() {
    let app = open();
    let folder = tempfile::tempdir().expect("a folder");
    for file in std::fs::read_dir(fixture("smolvlm-llama-square")).expect("files").flatten() {
        std::fs::copy(file.path(), folder.path().join(file.file_name())).expect("a copy");
    }
    // A space more makes it a model that nobody has measured.
    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).expect("a config");
    std::fs::write(&config, format!("{text} \n\n")).expect("a config");
    app.open_model(folder.path()).expect("the copy loads");
    let card = app.quantization().expect("a card");
    assert!(card.measured.is_none());
    assert!(card.formats.iter().all(|format| format.bytes > 0.0 && format.perplexity.is_none()));
    let stopped = app.measure_quantization(|progress| {
        assert!(progress.done <= progress.all);
        false
    });
    assert_eq!(stopped.expect_err("nobody listened").code, "cancelled");
    assert!(app.quantization().expect("a card").measured.is_none(), "half a measurement is none");
    app.cancel_measuring();
}
