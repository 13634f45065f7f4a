//! Laws of tested claims: a check says something of every claim in every family, what the shipped
//! model sees stands above what it does not, and taking parts away is told as it goes and stops
//! when asked to.

use std::ops::Range;

use image::RgbImage;
use vlm::Error;
use vlm::explain::{
    Claim, ClaimKind, KnockOut, N_CLAIM_FEATURES, State, Subject, Watch, Word, check, claims,
    knock_out, search_word, spot,
};
use vlm::generate::{Answer, Cancel, GenerateOptions, Session};
use vlm::processor::Message;

use crate::evidence::nano;
use crate::laws::{CHECKPOINTS, Model, model, picture};

/// An answer of which only the text is known, one word for each run of letters.
fn answer(text: &str) -> Answer {
    let mut words: Vec<Word> = Vec::new();
    for (at, part) in text.split_inclusive([' ', '.', ',']).scan(0, |end, part| {
        *end += part.len();
        Some((*end - part.len(), part))
    }) {
        let part = part.trim_end_matches([' ', '.', ',']);
        let bytes: Range<usize> = at..at + part.len();
        if !part.is_empty() {
            let (index, text) = (words.len(), part.to_string());
            let (evidence, probability) = (None, None);
            words.push(Word { index, tokens: (0, 0), bytes, text, evidence, probability });
        }
    }
    Answer { text: text.to_string(), words, ..Answer::default() }
}

fn claims_of(question: &str, answer: &Answer) -> Vec<Claim> {
    claims(question, &answer.text, &answer.words)
}

#[test]
fn every_family_checks_every_claim() {
    let said = answer("a red car at the top left and two dogs.");
    let found = claims_of("Describe the picture.", &said);
    assert_eq!(found.len(), 2);
    for name in CHECKPOINTS {
        let model = model(name);
        let messages = [Message::user(1, "Describe the picture.")];
        let given = (&model.vlm, &model.processor);
        let images = [picture(90)];
        let mut session = Session::new(model.heads.clone());
        let asked = (&messages[..], &images[..]);
        let checked = check(&mut session, given, asked, (&said, &found), &Cancel::new());
        let checked = checked.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(checked.len(), found.len(), "{name}");
        for (checked, claim) in checked.iter().zip(&found) {
            assert_eq!(&checked.claim, claim, "{name}");
            assert_eq!(checked.features.len(), N_CLAIM_FEATURES, "{name}");
            assert!(checked.features.iter().all(|value| value.is_finite()), "{name}");
            for p in [checked.probability, checked.with, checked.without] {
                assert!((0.0..=1.0).contains(&p), "{name}: {checked:?}");
            }
        }
        assert!(checked.iter().any(|c| c.with != c.without), "{name}: the picture counts");
        let blind = (&[Message::user(0, "Describe it.")][..], &[][..]);
        let none = check(&mut session, given, blind, (&said, &found), &Cancel::new());
        assert_eq!(none.expect("nothing to check"), [], "{name}");
    }
}

/// The shipped model's own description, and one of something else.
#[test]
fn what_is_seen_stands_above_what_is_not() {
    let (model, calibration, image) = nano();
    let question = "Is there a zebra in the picture?";
    let messages = [Message::user(1, "What is in the picture?")];
    let images = [image];
    let given = (&model.vlm, &model.processor);
    let asked = (&messages[..], &images[..]);
    let mut session = Session::new(calibration);
    let options = GenerateOptions { max_new_tokens: 64, ..Default::default() };
    let own = session.ask(given, asked, &options, &Cancel::new(), &mut |_| {}).expect("an answer");
    let mut true_claims = claims_of("What is in the picture?", &own);
    true_claims.retain(|claim| claim.kind == ClaimKind::Object);
    assert!(!true_claims.is_empty(), "{}", own.text);
    let own = (&own, &true_claims[..]);
    let seen = check(&mut session, given, asked, own, &Cancel::new()).expect("checked");
    let wrong = answer("A violin and a zebra.");
    let false_claims = claims_of(question, &wrong);
    let wrong = (&wrong, &false_claims[..]);
    let unseen = check(&mut session, given, asked, wrong, &Cancel::new()).expect("checked");
    let least = seen.iter().map(|c| c.probability).fold(1.0, f32::min);
    let most = unseen.iter().map(|c| c.probability).fold(0.0, f32::max);
    assert!(least > most, "{seen:?} {unseen:?}");
    assert!(unseen.iter().all(|c| c.state == State::Unsupported), "{unseen:?}");
}

fn study(
    model: &Model,
    (session, image): (&mut Session, &RgbImage),
    (question, said): (&str, &Answer),
    cancel: &Cancel,
    progress: &mut dyn FnMut(&KnockOut),
) -> Result<KnockOut, Error> {
    let messages = [Message::user(1, question)];
    let given = (&model.vlm, &model.processor);
    let asked = (&messages[..], std::slice::from_ref(image));
    let subject = Subject { answer: said, words: (0, said.words.len() - 1) };
    knock_out(session, given, asked, subject, Watch { progress, cancel })
}

#[test]
fn every_family_is_taken_apart_as_far_as_it_can_be() {
    let said = answer("a red car");
    for name in CHECKPOINTS {
        let model = model(name);
        let mut session = Session::new(model.heads.clone());
        let mut told = 0;
        let found = study(
            &model,
            (&mut session, &picture(90)),
            ("what is this", &said),
            &Cancel::new(),
            &mut |so_far| {
                assert!(so_far.done <= so_far.total && so_far.done >= told, "{name}");
                told = so_far.done;
            },
        );
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        let has_places = !["mllama", "blip-2", "instructblip"].iter().any(|f| name.starts_with(f));
        assert_eq!(!found.influences.is_empty(), has_places, "{name}");
        for influence in &found.influences {
            assert!(influence.gain.is_finite(), "{name}");
            let Some(evidence) = &influence.evidence else { continue };
            let map = &evidence.heatmap.values;
            assert!(map.iter().all(|drop| drop.is_finite() && *drop >= 0.0), "{name}");
        }
        let asked = (&[Message::user(1, "what is this")][..], &[picture(90)][..]);
        let given = (&model.vlm, &model.processor);
        let place = (&said, 0, [0.0, 0.0, 25.0, 20.0]);
        let spotted = spot(&mut session, given, asked, place, &Cancel::new());
        match has_places {
            true => drop(spotted.expect("a spot")),
            false => assert!(matches!(spotted, Err(Error::Unhidable)), "{name}"),
        }
        let maps = search_word(&mut session, given, asked, "car", &Cancel::new()).expect("maps");
        assert_eq!(maps.len(), usize::from(has_places), "{name}");
        for map in maps {
            assert!((0.0..=1.0).contains(&map.peak), "{name}: {}", map.peak);
        }
    }
}

#[test]
fn taking_parts_away_stops_and_refuses_words_that_are_not_there() {
    let (model, calibration, image) = nano();
    let said = answer("a red car");
    let mut session = Session::new(calibration);
    let cancel = Cancel::new();
    let found =
        study(&model, (&mut session, &image), ("What is this?", &said), &cancel, &mut |_| {
            cancel.cancel()
        });
    assert!(matches!(found, Err(Error::Cancelled)), "{found:?}");
    let asked = (&[Message::user(1, "What is this?")][..], &[image][..]);
    let subject = Subject { answer: &said, words: (2, 3) };
    let watch = Watch { progress: &mut |_| {}, cancel: &Cancel::new() };
    let found = knock_out(&mut session, (&model.vlm, &model.processor), asked, subject, watch);
    let error = found.expect_err("no fourth word").to_string();
    assert!(error.contains("two numbers of 3 words"), "{error}");
    let word =
        search_word(&mut session, (&model.vlm, &model.processor), asked, "  ", &Cancel::new());
    assert!(word.is_err());
}

/// The engine does not know the drawn world, and asks as the trainer does.
#[test]
fn an_answer_is_put_to_the_test_in_the_words_that_were_trained() {
    for seed in 0..40 {
        let scene = scenes::scene(seed, &scenes::Options::default());
        for scenes::Qa { question, answer, .. } in scenes::questions(&scene, seed) {
            let trained = scenes::verification(&question, &answer);
            assert_eq!(vlm::explain::verification(&question, &answer), trained);
        }
    }
}
