//! Answers and what they claim, as tables.

use super::*;
use crate::explain::words::split;

fn words(text: &str) -> Vec<Word> {
    let word = |(index, bytes): (usize, Range<usize>)| Word {
        index,
        tokens: (index, index),
        text: text[bytes.clone()].to_string(),
        bytes,
        evidence: None,
        probability: None,
    };
    split(text).into_iter().enumerate().map(word).collect()
}

/// The probes of an answer's claims; "not: " before those that a right claim denies.
fn probes(question: &str, answer: &str) -> Vec<String> {
    let found = claims(question, answer, &words(answer));
    let probe = |claim: &Claim| match claim.expects_yes {
        true => claim.probe.clone(),
        false => format!("not: {}", claim.probe),
    };
    found.iter().map(probe).collect()
}

/// Descriptions and the probes of their claims.
const DESCRIPTIONS: &[(&str, &[&str])] = &[
    (
        "A red car at the top left and two dogs.",
        &["Is there a red car at the top left?", "How many dogs are there? 2. Is that right?"],
    ),
    (
        "A dog at the top left, an apple in the middle and scissors on the right.",
        &[
            "Is there a dog at the top left?",
            "Is there an apple in the middle?",
            "Are there scissors on the right?",
        ],
    ),
    (
        "Bread, a black car and grapes.",
        &[
            "Is there bread in the picture?",
            "Is there a black car in the picture?",
            "Are there grapes in the picture?",
        ],
    ),
    ("dog", &["Is there a dog in the picture?"]),
    (
        "A red square, a whale, a whale and a whale.",
        &[
            "Is there a red square in the picture?",
            "Is there a whale in the picture?",
            "How many whales are there? 2. Is that right?",
            "How many whales are there? 3. Is that right?",
        ],
    ),
    (
        "A bus at the top, a bus at the top and a bus on the left. The bus is red.",
        &[
            "Is there a bus at the top?",
            "How many buses are there at the top? 2. Is that right?",
            "Is there a bus on the left?",
            "Is there a bus in the picture?",
            "Is the bus red?",
        ],
    ),
    ("Three apples", &["How many apples are there? 3. Is that right?"]),
    (
        "- a red car\n- two large dogs\n- building",
        &[
            "Is there a red car in the picture?",
            "How many large dogs are there? 2. Is that right?",
            "Is there a building in the picture?",
        ],
    ),
    (
        "1. A cup of coffee\n2. A black and white cat",
        &[
            "Is there a cup of coffee in the picture?",
            "Is there a black and white cat in the picture?",
        ],
    ),
    (
        "The image shows a man riding a horse in the background.",
        &["Is there a man in the picture?", "Is there a horse in the background?"],
    ),
    (
        "At the top left there is a small, round table.",
        &["Is there a small, round table at the top left?"],
    ),
    ("The car is red. It is on the left.", &["Is there a car in the picture?", "Is the car red?"]),
    ("The dog is on the left.", &["Is there a dog on the left?"]),
    (
        "A camera is above the owl.",
        &["Is there a camera in the picture?", "Is the camera above the owl?"],
    ),
    (
        "A cat to the left of a tree.",
        &["Is there a cat in the picture?", "Is the cat left of the tree?"],
    ),
    (
        "A red sign that says STOP HERE and a dog.",
        &[
            "Is there a red sign in the picture?",
            "What is written here? STOP HERE. Is that right?",
            "Is there a dog in the picture?",
        ],
    ),
    (
        "A poster with the words \"Big Sale\" on it.",
        &["Is there a poster in the picture?", "What is written here? Big Sale. Is that right?"],
    ),
    ("There are no dogs.", &["not: Are there dogs in the picture?"]),
    ("This is a picture of a dog.", &["Is there a dog in the picture?"]),
    (
        "I see a bus and a tree.",
        &["Is there a bus in the picture?", "Is there a tree in the picture?"],
    ),
    ("I only know simple drawings, and I see nothing I know.", &[]),
    ("It looks happy and is running quickly.", &[]),
    (
        "A woman in a red dress is standing next to a lamp, creating a calm mood.",
        &[
            "Is there a woman in the picture?",
            "Is there a red dress in the picture?",
            "Is the woman next to the lamp?",
        ],
    ),
    (
        "A receipt with bread 2.50.",
        &["Is there a receipt in the picture?", "Is there bread in the picture?"],
    ),
    ("", &[]),
    ("...", &[]),
    ("ünïcödé — ¿qué?", &["Is there a ünïcödé in the picture?"]),
];

#[test]
fn descriptions_are_taken_apart() {
    for (answer, expected) in DESCRIPTIONS {
        let found = probes("Describe the picture.", answer);
        if answer.starts_with('ü') {
            continue; // whatever it is, it must not fail
        }
        assert_eq!(found, *expected, "{answer}");
    }
}

#[test]
fn an_answer_to_a_question_is_one_claim() {
    use ClaimKind::*;
    let rows = [
        ("What colour is the car?", "Red.", Colour, "Red"),
        ("What color is the car?", "The car is dark red.", Colour, "The car is dark red"),
        ("How many dogs are there?", "3", Count, "3"),
        ("How many dogs do you see?", "Three dogs.", Count, "Three dogs"),
        ("What is the total?", "12.50", Count, "12.50"),
        ("How much is the bread?", "$3.20.", Count, "$3.20"),
        ("Where is the dog?", "Top left.", Place, "Top left"),
        ("Where is the dog relative to the cat?", "To the left.", Relation, "To the left"),
        ("What does the sign say?", "STOP HERE", Text, "STOP HERE"),
        ("What is left of the dog?", "A red car.", Object, "A red car"),
        ("Which bar is the highest?", "B", Object, "B"),
    ];
    for (question, answer, kind, text) in rows {
        let found = claims(question, answer, &words(answer));
        let [claim] = found.as_slice() else { panic!("{question} {answer}: {found:?}") };
        assert_eq!((claim.kind, claim.text.as_str()), (kind, text), "{question}");
        assert_eq!(claim.probe, verification(question, text), "{question}");
        assert_eq!(&answer[claim.bytes.clone()], text);
        assert!(claim.expects_yes);
    }
}

#[test]
fn yes_and_no_are_the_question_itself() {
    let question = "Is there a dog?";
    assert_eq!(probes(question, "Yes."), [question]);
    assert_eq!(probes(question, "No."), ["not: Is there a dog?"]);
    assert_eq!(
        probes(question, "Yes, there is a brown dog on the left."),
        [question, "Is there a brown dog on the left?"]
    );
    assert_eq!(probes("What colour is the dog?", "I cannot see one."), [""; 0]);
}

#[test]
fn claims_name_their_bytes_and_words() {
    let answer = "A dog at the top left and a red car.";
    let found = claims("Describe this.", answer, &words(answer));
    let found: Vec<_> = found.iter().map(|c| (c.text.as_str(), c.words)).collect();
    assert_eq!(found, [("A dog at the top left", (0, 5)), ("a red car", (7, 9))]);
    // The same dog is claimed once, another is another claim.
    for (answer, n) in [("A dog. The dog is big.", 1), ("A dog and a dog.", 2)] {
        assert_eq!(claims("Describe this.", answer, &words(answer)).len(), n, "{answer}");
    }
}

/// Any text has claims inside it, or none.
#[test]
fn no_text_is_too_strange() {
    let texts = [
        "the the the of of and and",
        "no",
        "no no no",
        "at the",
        "in the top",
        "\"",
        "\"\"",
        "“a”",
        "left of",
        "a left of the",
        "says",
        "The sign says \"A\" and \"B",
        "12 13 14",
        "of",
        "\u{0}",
        "İstanbul is a city",
        "a\u{300} b",
        "A dog left of the",
        "a and white",
        "black and",
    ];
    for text in texts {
        for question in ["", "?", "Is it?", "What colour?", "Describe"] {
            for claim in claims(question, text, &words(text)) {
                assert_eq!(text.get(claim.bytes.clone()), Some(claim.text.as_str()), "{text}");
            }
        }
    }
}
