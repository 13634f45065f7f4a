//! Prompts letter for letter, and what templates written for Python count on.

use std::collections::BTreeMap;

use super::{ChatTemplate, Message, python};
use crate::family::{IDEFICS3_TEMPLATE, LLAVA_TEMPLATE};

fn render(source: &str, messages: &[Message]) -> String {
    let special = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    let chat = ChatTemplate::new(source, special, "<image>").expect("a template");
    chat.render(messages).expect("a prompt")
}

#[test]
fn conversations_are_laid_out_as_their_families_do() {
    let conversation = [
        Message::user(1, "What is this?"),
        Message::assistant("A dog."),
        Message::user(0, "Which colour?"),
    ];
    let rows = [
        (
            IDEFICS3_TEMPLATE,
            "<|im_start|>User:<image>What is this?<end_of_utterance>\n\
             Assistant: A dog.<end_of_utterance>\nUser: Which colour?<end_of_utterance>\n\
             Assistant:",
        ),
        (
            LLAVA_TEMPLATE,
            "USER: <image>\nWhat is this? ASSISTANT: A dog. USER: Which colour? ASSISTANT:",
        ),
        // Takes strings only: pictures are put before the words.
        (
            "{{ bos_token }}{% for m in messages %}[{{ m.content.strip() }}]{% endfor %}",
            "<s>[<image>\nWhat is this?][A dog.][Which colour?]",
        ),
        (
            "{% for m in messages %}{% generation %}{{ m.role }};{% endgeneration %}{% endfor %}",
            "user;assistant;user;",
        ),
    ];
    for (source, expected) in rows {
        assert_eq!(render(source, &conversation), expected);
    }
}

#[test]
fn python_parts_work() {
    let rows = [
        ("{{ {'a': [1, 'ä<']} | tojson }}", "{\"a\": [1, \"ä<\"]}"),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{{ 'a b'.split(' ')[1].upper() }}{{ 'xy'.startswith('x') }}", "BTrue"),
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}x{% endfor %}", ""),
    ];
    for (source, expected) in rows {
        let got = render(source, &[Message::user(0, "q")]);
        assert_eq!(got.to_lowercase(), expected.to_lowercase(), "{source}");
    }
    assert_eq!(python::strftime("%d %b %Y, %A", 1_764_000_000), "24 Nov 2025, Monday");
    assert_eq!(python::strftime("%Y-%m-%d %H:%M", 951_782_400), "2000-02-29 00:00");
}

#[test]
fn what_a_template_refuses_is_told() {
    let source = "{{ raise_exception('roles must alternate') }}";
    let chat = ChatTemplate::new(source, BTreeMap::new(), "<image>").expect("a template");
    let error = chat.render(&[Message::user(0, "q")]).expect_err("refused").to_string();
    assert!(error.contains("roles must alternate"), "{error}");
    assert!(ChatTemplate::new("{% if %}", BTreeMap::new(), "<image>").is_err());
}
