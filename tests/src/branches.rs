//! Laws of branches: what several continuations of one prompt tell, they tell alone and as an
//! answer too; what is hidden counts; and the conversation does not notice.

use std::path::Path;

use candle_core::Device;
use image::RgbImage;
use vlm::explain::EvidenceHeads;
use vlm::generate::{Branch, Cancel, Hidden, Session, Told};
use vlm::processor::{Message, Processor};
use vlm::{Config, Error, Vlm};

use crate::laws::{
    CHECKPOINTS, Model, ask, assert_same, model, options, picture, reads_the_question,
};

fn models() -> impl Iterator<Item = (&'static str, Model)> {
    let tiny = CHECKPOINTS.into_iter().map(|name| (name, model(name)));
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano");
    let config = Config::load(&dir).expect("a good config");
    let nano = Model {
        vlm: Vlm::load(&dir, &Device::Cpu).expect("good weights"),
        processor: Processor::load(&dir, &config).expect("a good processor"),
        heads: EvidenceHeads::load(&dir, &config).expect("heads"),
    };
    tiny.chain([("nano", nano)])
}

/// Whether pictures are tokens of the prompt, which can be hidden.
fn has_tokens(name: &str) -> bool {
    !name.starts_with("mllama")
}

fn tell(model: &Model, session: &mut Session, branches: &[Branch]) -> Result<Vec<Told>, Error> {
    session.tell((&model.vlm, &model.processor), &[picture(90)], branches, &Cancel::new())
}

/// Every other image token.
fn half(model: &Model) -> Hidden {
    Hidden::Tokens(cells(model).iter().enumerate().map(|(i, _)| i % 2 == 0).collect())
}

fn cells(model: &Model) -> Vec<vlm::generate::Cell> {
    let asked = (&[Message::user(1, "what")][..], &[picture(90)][..]);
    Session::image_cells(&model.processor, asked).expect("cells")
}

fn close(a: &Told, b: &Told, what: &str) {
    assert_eq!(a.tokens, b.tokens, "{what}");
    let pairs = [(&a.logprobs, &b.logprobs), (&a.entropies, &b.entropies)];
    let rest = [(&a.first_logits, &b.first_logits)];
    for (a, b) in pairs.into_iter().chain(rest) {
        assert_eq!(a.len(), b.len(), "{what}");
        let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let largest = b.iter().fold(1f32, |most, value| most.max(value.abs()));
        assert!(apart <= 1e-4 * largest, "{what}: {apart} of {largest}");
    }
}

#[test]
fn one_branch_tells_what_scoring_finds() {
    for (name, model) in models() {
        let messages = [Message::user(1, "what is this")];
        for answer in ["a red car at the top", "no", ""] {
            let branch = Branch { messages: &messages, answer, hidden: Hidden::Nothing };
            let told = tell(&model, &mut Session::new(model.heads.clone()), &[branch]);
            let told = told.expect("told").remove(0);
            let scores = Session::new(model.heads.clone()).score(
                (&model.vlm, &model.processor),
                (&messages, &[picture(90)]),
                answer,
                &Cancel::new(),
            );
            let scores = scores.expect("scores");
            assert!(told.tokens.len() <= scores.len(), "{name}");
            for (a, b) in told.logprobs.iter().zip(&scores) {
                assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{name}, {answer}: {a} {b}");
            }
            assert_eq!(told.logprobs.len(), told.tokens.len(), "{name}");
            assert!(told.first_logits.iter().all(|logit| logit.is_finite()), "{name}");
        }
    }
}

#[test]
fn branches_together_tell_what_each_tells_alone() {
    for (name, model) in models() {
        let questions = ["what is this", "is there a cat here", "where"];
        let messages = questions.map(|question| [Message::user(1, question)]);
        let hidden = match has_tokens(name) {
            true => [Hidden::Nothing, half(&model), Hidden::Everything],
            false => [Hidden::Nothing, Hidden::Everything, Hidden::Nothing],
        };
        let mut branches = Vec::new();
        for (messages, answer) in messages.iter().zip(["a red car", "", "it is at the top left"]) {
            let of = |hidden: &Hidden| Branch { messages, answer, hidden: hidden.clone() };
            branches.extend(hidden.iter().map(of));
        }
        let mut session = Session::new(model.heads.clone());
        let together = tell(&model, &mut session, &branches).expect("told");
        let again = tell(&model, &mut session, &branches).expect("told");
        for (i, branch) in branches.into_iter().enumerate() {
            let mut session = Session::new(model.heads.clone());
            let alone = tell(&model, &mut session, &[branch]).expect("told").remove(0);
            close(&together[i], &alone, &format!("{name}, branch {i}"));
            close(&again[i], &alone, &format!("{name}, branch {i}, again"));
        }
    }
}

#[test]
fn what_is_hidden_counts() {
    for (name, model) in models() {
        let messages = [Message::user(1, "what is this")];
        let n = cells(&model).len();
        let say = |hidden: Hidden| {
            let branch = Branch { messages: &messages, answer: "a red car", hidden };
            tell(&model, &mut Session::new(model.heads.clone()), &[branch])
        };
        let seeing = say(Hidden::Nothing).expect("told").remove(0);
        let nothing_hidden = say(Hidden::Tokens(vec![false; n])).expect("told").remove(0);
        close(&nothing_hidden, &seeing, name);
        let blind = say(Hidden::Tokens(vec![true; n])).expect("told").remove(0);
        close(&say(Hidden::Everything).expect("told").remove(0), &blind, name);
        assert!(blind.first_logits != seeing.first_logits, "{name}");
        let half = say(half(&model));
        match has_tokens(name) {
            true => {
                let half = half.expect("told").remove(0);
                assert!(half.first_logits != seeing.first_logits, "{name}");
                assert!(half.first_logits != blind.first_logits, "{name}");
                let error =
                    say(Hidden::Tokens(vec![true; n + 1])).expect_err("too many").to_string();
                assert!(error.contains("one for each image token"), "{name}: {error}");
            }
            false => assert!(matches!(half, Err(Error::Unhidable)), "{name}: {half:?}"),
        }
    }
}

/// What is told between two questions changes neither what is reused nor what is said; and a
/// question about the same picture after others is told as in a fresh session.
#[test]
fn the_conversation_does_not_notice() {
    for (name, model) in models() {
        let mut messages = vec![Message::user(1, "what is this")];
        let mut session = Session::new(model.heads.clone());
        let mut undisturbed = Session::new(model.heads.clone());
        let first = ask(&model, &mut session, &messages, &options());
        ask(&model, &mut undisturbed, &messages, &options());
        messages.push(Message::assistant(first.text.clone()));
        messages.push(Message::user(0, "and where"));
        let probe = [Message::user(1, "is there a dog")];
        // The picture that `ask` shows.
        let images: [RgbImage; 1] = [picture(0)];
        let branches = [
            Branch { messages: &probe, answer: "yes", hidden: Hidden::Nothing },
            Branch { messages: &messages[..1], answer: &first.text, hidden: Hidden::Everything },
        ];
        let given = (&model.vlm, &model.processor);
        let told = session.tell(given, &images, &branches, &Cancel::new()).expect("told");
        let mut fresh = Session::new(model.heads.clone());
        let alone = fresh.tell(given, &images, &branches, &Cancel::new()).expect("told");
        told.iter().zip(&alone).for_each(|(told, alone)| close(told, alone, name));
        let after = ask(&model, &mut session, &messages, &options());
        let expected = ask(&model, &mut undisturbed, &messages, &options());
        if !reads_the_question(name) {
            assert_eq!(after.reused_tokens, expected.reused_tokens, "{name}");
        }
        assert_same(&after, &expected, name);
    }
}

#[test]
fn telling_stops_when_asked_to() {
    let model = model(CHECKPOINTS[0]);
    let messages = [Message::user(1, "what is this")];
    let branch = Branch { messages: &messages, answer: "a car", hidden: Hidden::Nothing };
    let cancel = Cancel::new();
    cancel.cancel();
    let mut session = Session::new(model.heads.clone());
    let given = (&model.vlm, &model.processor);
    let told = session.tell(given, &[picture(9)], &[branch], &cancel);
    assert!(matches!(told, Err(Error::Cancelled)), "{told:?}");
}
