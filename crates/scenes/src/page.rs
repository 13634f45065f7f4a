//! Pictures with writing on them: signs, receipts, tables and bar charts. All sizes are in
//! pixels of a picture 192 wide and scaled to the real one.

use crate::background::Background;
use crate::colour::Colour;
use crate::compose::Composer;
use crate::rng::Rng;
use crate::scene::{Panel, PanelRole, TextRole};
use crate::text::{Line, N_FONTS, width};

/// A board with one to three words; often a thing beside it.
pub(crate) fn sign(composer: &mut Composer) {
    let side = composer.plan.side as f32;
    let rng = &mut composer.rng;
    let n_words = 1 + rng.weighted(&[60, 28, 12]);
    let words: Vec<String> = (0..n_words).map(|_| sign_word(rng)).collect();
    let case = rng.weighted(&[55, 25, 20]);
    let text = match case {
        0 => words.join(" ").to_uppercase(),
        1 => words.iter().map(|word| capitalised(word)).collect::<Vec<_>>().join(" "),
        _ => words.join(" "),
    };
    let font = rng.below(N_FONTS);
    let rows = if n_words > 1 && rng.chance(0.6) { wrapped(&text) } else { vec![text] };
    let mut em = rng.range(24.0, 44.0) * side / 192.0;
    let widest = |em: f32| rows.iter().map(|row| width(row, font, em)).fold(0.0, f32::max);
    em *= (side * 0.86 / widest(em)).min(1.0);
    let (pad, leading) = (em * rng.range(0.3, 0.6), em * 1.15);
    let board = (widest(em) + 2.0 * pad, rows.len() as f32 * leading + 2.0 * pad - em * 0.25);
    let x = rng.range(1.0, (side - board.0 - 1.0).max(2.0));
    let y = rng.range(1.0, (side - board.1 - 1.0).max(2.0));
    let colour = *rng.choose(&Colour::ALL);
    let paint = jittered(rng, colour);
    let ink = readable(paint);
    let radius = *rng.choose(&[0.0, 0.0, 4.0, 9.0]);
    composer.plan.panels.push(Panel {
        role: PanelRole::Sign,
        colour: Some(colour),
        bbox: [x, y, x + board.0, y + board.1].map(|v| (v.max(0.0) as u32).min(side as u32)),
        label: String::new(),
        value: 0,
        paint,
        radius,
    });
    for (i, row) in rows.iter().enumerate() {
        let left = x + (board.0 - width(row, font, em)) / 2.0;
        let base = y + pad + em * 0.74 + i as f32 * leading;
        let line = Line { text: row.clone(), font, em, x: left, y: base, paint: ink };
        composer.plan.lines.push((line, TextRole::Sign));
    }
    composer.taken.push([x, y, x + board.0, y + board.1]);
    if composer.rng.chance(0.55) {
        let class = composer.new_class(None);
        composer.place(class, (0.26, 0.4));
    }
}

/// Two rows, broken after the first word.
fn wrapped(text: &str) -> Vec<String> {
    match text.split_once(' ') {
        Some((first, rest)) => vec![first.to_string(), rest.to_string()],
        None => vec![text.to_string()],
    }
}

fn sign_word(rng: &mut Rng) -> String {
    match rng.weighted(&[72, 16, 12]) {
        0 => rng.choose(WORDS).to_string(),
        1 => rng.between(1, 999).to_string(),
        _ => {
            let classes = crate::classes();
            let name = classes[rng.below(classes.len())].name;
            name.split(' ').next().unwrap_or(name).to_string()
        }
    }
}

fn capitalised(word: &str) -> String {
    let mut word = word.to_string();
    if let Some(first) = word.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    word
}

fn jittered(rng: &mut Rng, colour: Colour) -> [f32; 3] {
    colour.rgb().map(|v| (f32::from(v) + rng.range(-10.0, 10.0)).clamp(0.0, 255.0))
}

/// Dark ink on light paint, light ink on dark.
fn readable(paint: [f32; 3]) -> [f32; 3] {
    let luminance = 0.299 * paint[0] + 0.587 * paint[1] + 0.114 * paint[2];
    if luminance > 135.0 { [18.0; 3] } else { [244.0; 3] }
}

/// A receipt with prices and their total, or a table of names and scores.
pub(crate) fn document(composer: &mut Composer) {
    let unit = composer.plan.side as f32 / 192.0;
    let rng = &mut composer.rng;
    let receipt = rng.chance(0.6);
    let paper = [0; 3].map(|_: i32| rng.range(236.0, 254.0));
    let font = *rng.choose(&[0, 1, 3, 4]);
    let em = rng.range(17.0, 21.0) * unit;
    let mut rows = rows(rng, receipt);
    let total: u32 = rows.iter().map(|(_, value)| value).sum();
    if receipt {
        rows.push(("total".to_string(), total));
    }
    let title = if receipt { *rng.choose(&["RECEIPT", "SHOP", "CAFE"]) } else { "SCORES" };
    let (left, right) = (12.0 * unit, 180.0 * unit);
    let mut y = rng.range(24.0, 34.0) * unit;
    composer.plan.background = Background::plain(paper);
    let mut write = |text: String, x: f32, y: f32, role: TextRole| {
        let line = Line { text, font, em, x, y, paint: [22.0; 3] };
        composer.plan.lines.push((line, role));
    };
    let mut rules = vec![y + em * 0.35];
    write(title.to_string(), left, y, TextRole::Title);
    for (i, (label, value)) in rows.iter().enumerate() {
        y += em * 1.45;
        if receipt && i + 1 == rows.len() {
            rules.push(y - em * 1.05);
        }
        let value = if receipt { price(*value) } else { value.to_string() };
        let start = right - width(&value, font, em);
        write(label.clone(), left, y, TextRole::Label);
        write(value, start, y, TextRole::Value);
    }
    for y in rules {
        composer.plan.panels.push(rule([left, y, right, y + 1.5 * unit]));
    }
}

/// Labels and values; prices are in cents.
fn rows(rng: &mut Rng, receipt: bool) -> Vec<(String, u32)> {
    let mut labels: Vec<&str> = if receipt { ITEMS.to_vec() } else { NAMES.to_vec() };
    rng.shuffle(&mut labels);
    let n = 2 + rng.below(3);
    let mut rows: Vec<(String, u32)> = Vec::new();
    for label in labels.into_iter().take(n) {
        let value = if receipt { rng.between(2, 18) * 50 } else { rng.between(1, 99) } as u32;
        rows.push((label.to_string(), value));
    }
    rows
}

fn price(cents: u32) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn rule(bbox: [f32; 4]) -> Panel {
    Panel {
        role: PanelRole::Rule,
        colour: None,
        bbox: bbox.map(|v| v.max(0.0) as u32),
        label: String::new(),
        value: 0,
        paint: [70.0; 3],
        radius: 0.0,
    }
}

/// Two to five bars, each of another colour and height, lettered from A, with their values.
pub(crate) fn chart(composer: &mut Composer) {
    let unit = composer.plan.side as f32 / 192.0;
    let rng = &mut composer.rng;
    let n = 2 + rng.below(4);
    let paper = [0; 3].map(|_: i32| rng.range(232.0, 254.0));
    let mut colours: Vec<Colour> =
        Colour::ALL.into_iter().filter(|&colour| colour != Colour::White).collect();
    rng.shuffle(&mut colours);
    let mut values: Vec<u32> = (1..=9).collect();
    rng.shuffle(&mut values);
    let step = 176.0 / n as f32;
    let bar_width = (step * rng.range(0.5, 0.75)).min(52.0);
    let (font, em) = (*rng.choose(&[0, 1, 4]), 20.0 * unit);
    composer.plan.background = Background::plain(paper);
    for i in 0..n {
        let middle = 8.0 + (i as f32 + 0.5) * step;
        let top = 164.0 - values[i] as f32 * 14.5;
        let label = char::from(b'A' + i as u8).to_string();
        let bbox = [middle - bar_width / 2.0, top, middle + bar_width / 2.0, 164.0];
        composer.plan.panels.push(Panel {
            role: PanelRole::Bar,
            colour: Some(colours[i]),
            bbox: bbox.map(|v| (v * unit) as u32),
            label: label.clone(),
            value: values[i],
            paint: jittered(rng, colours[i]),
            radius: 0.0,
        });
        let texts =
            [(label, 184.0, TextRole::Label), (values[i].to_string(), top - 4.0, TextRole::Value)];
        for (text, y, role) in texts {
            let x = middle * unit - width(&text, font, em) / 2.0;
            let line = Line { text, font, em, x, y: y * unit, paint: [22.0; 3] };
            composer.plan.lines.push((line, role));
        }
    }
    composer.plan.panels.push(rule([6.0, 164.0, 186.0, 165.5].map(|v| v * unit)));
}

/// What receipts list.
pub(crate) const ITEMS: &[&str] = &[
    "milk", "bread", "rice", "tea", "coffee", "cake", "soup", "juice", "salt", "sugar", "eggs",
    "beans", "pasta", "soap", "butter", "honey",
];

/// Who has scores.
pub(crate) const NAMES: &[&str] = &[
    "Anna", "Ben", "Carl", "Dora", "Emma", "Finn", "Gina", "Hugo", "Ida", "Jack", "Kate", "Leo",
    "Mia", "Noah", "Olga", "Paul",
];

const WORDS: &[&str] = &[
    "open", "closed", "stop", "exit", "sale", "free", "push", "pull", "cafe", "menu", "hotel",
    "taxi", "bank", "shop", "fresh", "milk", "bread", "water", "north", "south", "east", "west",
    "park", "zoo", "farm", "danger", "slow", "wait", "go", "left", "right", "happy", "new", "hot",
    "cold", "office", "room", "gate", "news", "city", "map", "love", "home", "school", "music",
    "art", "film", "game", "team", "best", "market", "tea", "soup", "wifi", "price", "total",
    "cash", "card", "entry", "staff", "only", "quiet", "please", "thank", "you", "welcome",
    "hello", "world", "peace", "friend", "summer", "winter", "spring", "monday", "friday",
    "sunday", "april", "june", "july", "street", "bridge", "beach", "lake", "river", "road",
    "garden", "kitchen", "library", "museum", "station",
];
