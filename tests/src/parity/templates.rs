//! Published chat templates: what transformers makes of each of them, letter for letter.
//!
//! The prompts were made by `tests/parity/templates.py`; the templates are test material.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use vlm::processor::{ChatTemplate, Message, Part, Role};

use super::real_settings::material;

#[derive(Deserialize)]
struct Row {
    file: String,
    prompts: BTreeMap<String, Option<String>>,
}

/// How templates write today's date.
const DATES: [&str; 3] = ["%d %B %Y", "%d %b %Y", "%Y-%m-%d"];

fn question() -> Message {
    Message::user(1, "What is this?")
}

fn system() -> Message {
    Message { role: Role::System, content: vec![Part::Text("Be brief.".into())] }
}

/// As `CONVERSATIONS` of the script has them.
fn conversation(name: &str) -> Vec<Message> {
    match name {
        "question" => vec![question()],
        "follow-up" => {
            vec![question(), Message::assistant("A dog."), Message::user(0, "Its colour? ")]
        }
        "system" => vec![system(), question()],
        "two pictures" => vec![Message::user(2, "Which is larger?\n<b>\"Größe\"</b>")],
        "words only" => vec![Message::user(0, "Hello")],
        other => panic!("{other} is no conversation of this test"),
    }
}

fn template(source: &str) -> ChatTemplate {
    let special = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let special = special.map(|(key, token)| (key.to_owned(), token.to_owned())).into();
    ChatTemplate::new(source, special, "<image>").expect("a template")
}

fn without_date(prompt: String) -> String {
    DATES.iter().fold(prompt, |prompt, form| {
        let today = template(&format!("{{{{ strftime_now('{form}') }}}}")).render(&[]);
        prompt.replace(&today.expect("a date"), "<today>")
    })
}

#[test]
fn published_chat_templates_render_as_the_reference() {
    let Some(folder) = material("") else { return };
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/templates.json");
    let rows = std::fs::read_to_string(fixture).expect("the fixture");
    let rows: Vec<Row> = serde_json::from_str(&rows).expect("rows");
    assert!(rows.len() >= 50, "{} templates", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let text = std::fs::read_to_string(folder.join(&row.file)).expect(&row.file);
        let source = match row.file.ends_with(".json") {
            true => {
                let json: serde_json::Value = serde_json::from_str(&text).expect(&row.file);
                json["chat_template"].as_str().expect("a template").to_owned()
            }
            false => text,
        };
        let chat = template(&source);
        for (name, expected) in &row.prompts {
            let found = chat.render(&conversation(name)).ok().map(without_date);
            if found != *expected {
                wrong.push(format!("{} {name}:\n{expected:?}\n{found:?}", row.file));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
