//! What an answer claims: the pieces of it that can be true or false of the picture, each with a
//! question that puts it to the test.
//!
//! A small grammar of English over closed word classes: it needs no model, gives nothing for text
//! that it does not understand, and never fails. Answers to a question (a colour, a number, a
//! place) are one claim; descriptions are taken apart into things with their places, numbers,
//! colours, relations and printed text. It knows neither picture nor model.

mod lexicon;
mod phrase;
#[cfg(test)]
mod tests;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Word;
use lexicon::*;
use phrase::{Noun, Token, noun, place, reads, relation, tokens};

/// What a claim is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimKind {
    /// A thing, with its attributes and its place.
    Object,
    Colour,
    /// How many, or another number.
    Count,
    Place,
    /// How one thing stands to another.
    Relation,
    /// Printed words.
    Text,
    YesNo,
}

/// A piece of an answer that can be true or false.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    pub kind: ClaimKind,
    /// Bytes of the answer.
    pub bytes: Range<usize>,
    /// The words it is made of, first and last, by `Word::index`.
    pub words: (usize, usize),
    pub text: String,
    /// A question about the picture alone.
    pub probe: String,
    /// What the answer to it is if the claim holds.
    pub expects_yes: bool,
    /// Bytes of the number, where things are counted: without it they are still named.
    #[serde(default)]
    pub number: Option<Range<usize>>,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// A description.
    Open,
    YesNo,
    /// One fact.
    Fact(ClaimKind),
}

/// Words that an answer of one fact has at most.
const MAX_FACT_WORDS: usize = 14;

/// The claims of `answer` to `question`, in the order of the text; `words` are the answer's.
pub fn claims(question: &str, answer: &str, words: &[Word]) -> Vec<Claim> {
    let question = question.trim();
    let mut drafts: Vec<Claim> = Vec::new();
    for (i, bytes) in sentences(answer).into_iter().enumerate() {
        let sentence = Sentence::new(answer, bytes);
        if sentence.is_about_oneself() {
            continue;
        }
        match (asked(question), i) {
            (Asked::YesNo, 0) if sentence.says_yes_or_no().is_some() => {
                sentence.yes_no(question, &mut drafts);
                sentence.describe(1, &mut drafts);
            }
            (Asked::Fact(kind), 0) if sentence.tokens.len() <= MAX_FACT_WORDS => {
                sentence.fact(kind, question, &mut drafts);
            }
            _ => sentence.describe(0, &mut drafts),
        }
    }
    let mut kept: Vec<Claim> = Vec::new();
    drafts.sort_by_key(|claim| claim.bytes.start);
    for mut claim in drafts {
        let inside =
            |word: &&Word| word.bytes.start < claim.bytes.end && word.bytes.end > claim.bytes.start;
        let mut of_claim = words.iter().filter(inside).map(|word| word.index);
        let Some(first) = of_claim.next() else { continue };
        claim.words = (first, of_claim.next_back().unwrap_or(first));
        if kept.iter().all(|known| known.probe != claim.probe) {
            kept.push(claim);
        }
    }
    kept
}

/// How an answer is put to the test: as `scenes::verification` writes it, which the shipped model
/// was trained on.
pub fn verification(question: &str, answer: &str) -> String {
    let stop = if answer.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{question} {answer}{stop} Is that right?")
}

fn asked(question: &str) -> Asked {
    let lower = question.to_lowercase();
    let has = |all: &[&str]| all.iter().any(|part| lower.contains(part));
    let starts = |all: &[&str]| all.iter().any(|part| lower.starts_with(part));
    let first = lower.split([' ', ',']).next().unwrap_or_default();
    const AUXILIARIES: &[&str] = &[
        "is", "are", "was", "were", "do", "does", "did", "can", "could", "has", "have", "will",
        "would", "should", "am", "isn't", "aren't",
    ];
    if AUXILIARIES.contains(&first) && !starts(&["can you describe", "could you describe"]) {
        return if has(&[" or "]) { Asked::Fact(ClaimKind::Object) } else { Asked::YesNo };
    }
    let fact = if has(&["what colo", "which colo", "color of", "colour of"]) {
        ClaimKind::Colour
    } else if has(&["how many", "number of", "how much", "how high", "how tall", "how old"])
        || starts(&["count "])
        || has(&["cost?", "price", "the total", "the value", "the score", "what score", "amount"])
    {
        ClaimKind::Count
    } else if has(&["relative to", "compared to", "which side of"]) {
        ClaimKind::Relation
    } else if starts(&["where", "in which part", "on which side"]) {
        ClaimKind::Place
    } else if starts(&["read"]) || has(&["written", "what text", "which word", " say?", " says?"]) {
        ClaimKind::Text
    } else if starts(&["what is in", "what's in", "what is this", "what's this", "what is that"])
        || starts(&["what is shown", "what is where", "what are these", "what is visible"])
        || has(&["do you see", "can you see", "describe", "happening", "going on"])
        || !starts(&["what", "which", "who", "whose"])
    {
        return Asked::Open;
    } else {
        ClaimKind::Object
    };
    Asked::Fact(fact)
}

/// Byte ranges of the sentences, lines and list items of `text`, without what ends them.
fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    for (i, &(at, c)) in chars.iter().enumerate() {
        let next = chars.get(i + 1).map(|(_, c)| *c);
        let decimal = c == '.' && next.is_some_and(|c| c.is_alphanumeric());
        if (matches!(c, '.' | '!' | '?') && !decimal) || matches!(c, '\n' | ';') {
            found.push(start..at);
            start = at + c.len_utf8();
        }
    }
    found.push(start..text.len());
    found.retain(|bytes| text[bytes.clone()].chars().any(char::is_alphanumeric));
    found
}

struct Sentence<'a> {
    answer: &'a str,
    tokens: Vec<Token<'a>>,
    /// Bytes of the answer in quotation marks.
    quoted: Vec<Range<usize>>,
}

impl<'a> Sentence<'a> {
    fn new(answer: &'a str, bytes: Range<usize>) -> Sentence<'a> {
        let text = &answer[bytes.clone()];
        let marks = text.char_indices().filter(|(_, c)| matches!(c, '"' | '“' | '”' | '«' | '»'));
        let marks: Vec<(usize, char)> = marks.collect();
        let pairs = marks.chunks_exact(2);
        let inside = |pair: &[(usize, char)]| {
            bytes.start + pair[0].0 + pair[0].1.len_utf8()..bytes.start + pair[1].0
        };
        let quoted = pairs.map(inside).filter(|range| !range.is_empty()).collect();
        Sentence { answer, tokens: tokens(text, bytes.start), quoted }
    }

    fn lower(&self, i: usize) -> &str {
        self.tokens.get(i).map_or("", |token| token.lower.as_str())
    }

    fn bytes(&self, range: Range<usize>) -> Range<usize> {
        self.tokens[range.start].bytes.start..self.tokens[range.end - 1].bytes.end
    }

    /// The text of some tokens as it stands inside a sentence.
    fn text(&self, range: Range<usize>) -> String {
        let text = &self.answer[self.bytes(range.clone())];
        let first = &self.tokens[range.start];
        let shouts = first.text.chars().filter(|c| c.is_uppercase()).count() > 1;
        match range.start == 0 && !shouts {
            true => format!("{}{}", first.lower, &text[first.text.len()..]),
            false => text.to_string(),
        }
    }

    fn claim(&self, kind: ClaimKind, bytes: Range<usize>, probe: String) -> Claim {
        let text = self.answer[bytes.clone()].to_string();
        Claim { kind, bytes, words: (0, 0), text, probe, expects_yes: true, number: None }
    }

    /// "I cannot see one.", "Sorry, …": about the speaker, not the picture.
    fn is_about_oneself(&self) -> bool {
        let speaker = ["i", "i'm", "sorry", "unfortunately", "we"].contains(&self.lower(0));
        let verbs = ["see", "can", "notice", "spot", "observe"];
        let denies = self.tokens.iter().take(5).any(|token| {
            is_negation(&token.lower) || matches!(token.lower.as_str(), "cannot" | "nothing")
        });
        speaker && (denies || !verbs.contains(&self.lower(1)))
    }

    fn says_yes_or_no(&self) -> Option<bool> {
        match self.lower(0) {
            "yes" | "yeah" | "yep" | "correct" | "true" => Some(true),
            "no" | "nope" | "incorrect" | "false" => Some(false),
            _ => None,
        }
    }

    /// The question itself, which was answered so.
    fn yes_no(&self, question: &str, out: &mut Vec<Claim>) {
        let claim = self.claim(ClaimKind::YesNo, self.bytes(0..1), question.to_string());
        out.push(Claim { expects_yes: self.says_yes_or_no() == Some(true), ..claim });
    }

    /// The whole sentence as the answer to the question.
    fn fact(&self, kind: ClaimKind, question: &str, out: &mut Vec<Claim>) {
        let all = self.bytes(0..self.tokens.len());
        // A currency sign or the like belongs to what was said.
        let before = self.answer[..all.start].trim_end_matches(|c: char| "$€£#-".contains(c));
        let after = self.answer[all.end..].trim_start_matches(|c: char| "%€$°".contains(c));
        let bytes = before.len()..self.answer.len() - after.len();
        let said = &self.answer[bytes.clone()];
        let is_number = |token: &Token| {
            number(&token.lower).is_some() || token.text.contains(|c: char| c.is_ascii_digit())
        };
        let kind = match kind {
            ClaimKind::Count if !self.tokens.iter().any(is_number) => ClaimKind::Text,
            kind => kind,
        };
        out.push(self.claim(kind, bytes, verification(question, said)));
    }

    /// Takes a description apart, from token `from` on.
    fn describe(&self, from: usize, out: &mut Vec<Claim>) {
        for bytes in &self.quoted {
            let probe = verification("What is written here?", &self.answer[bytes.clone()]);
            out.push(self.claim(ClaimKind::Text, bytes.clone(), probe));
        }
        let mut subject: Option<Thing> = None;
        // What a verb is said of: in "a woman in a dress is beside a lamp" not the dress.
        let mut topic: Option<Noun> = None;
        let mut leading: Option<Range<usize>> = None;
        let mut i = from;
        while i < self.tokens.len() {
            let at = self.tokens[i].bytes.start;
            if let Some(quoted) = self.quoted.iter().find(|quoted| quoted.contains(&at)) {
                i += self.tokens[i..].iter().take_while(|t| t.bytes.start < quoted.end).count();
            } else if let Some(end) = self.says(i, out) {
                i = end;
            } else if is_negation(self.lower(i)) {
                i = self.negated(i, out);
            } else if let Some(words) = place(&self.tokens, i) {
                match subject.as_mut().filter(|thing| thing.end == i) {
                    Some(thing) => thing.place = Some(words.clone()),
                    None => leading = Some(words.clone()),
                }
                subject.iter_mut().for_each(|thing| thing.end = words.end);
                i = words.end;
            } else if let (Some(words), Some(thing)) = (relation(&self.tokens, i), &subject) {
                let verb = (thing.noun.tokens.end..i).any(|at| is_verb(self.lower(at)));
                let of = topic.as_ref().filter(|_| verb).unwrap_or(&thing.noun).clone();
                i = if thing.no_thing { words.end } else { self.related(&of, words, out) };
            } else if let Some(end) = self.coloured(i, subject.as_ref(), out) {
                i = end;
            } else if let Some(found) = self.thing(i) {
                i = found.noun.tokens.end;
                subject.take().into_iter().for_each(|thing| self.object(&thing, out));
                let start = found.noun.tokens.start;
                let hangs_on =
                    start.checked_sub(1).is_some_and(|at| is_preposition(self.lower(at)));
                if topic.is_none() || !hangs_on {
                    topic = Some(found.noun.clone());
                }
                subject = Some(Thing { place: leading.take(), ..found });
            } else {
                if let Some(thing) = subject.as_mut().filter(|thing| thing.end == i)
                    && (is_copula(self.lower(i)) || self.lower(i).ends_with("ed"))
                {
                    thing.end = i + 1; // "The car is on the left."
                }
                i += 1;
            }
        }
        subject.into_iter().for_each(|thing| self.object(&thing, out));
    }

    /// A thing in the picture that is named at `i`.
    fn thing(&self, i: usize) -> Option<Thing> {
        let lower = |at: usize| self.lower(at);
        let item = i == 0 || self.tokens[i].after_break || matches!(lower(i - 1), "and" | "or");
        let found = noun(&self.tokens, i, true)?;
        let last = lower(found.core.end - 1);
        let head = (found.core.clone()).take_while(|&at| lower(at) != "of").last()?;
        if !found.certain {
            let verbless = !self.tokens.iter().any(|token| is_verb(&token.lower));
            let exists = (0..i).any(|at| is_existential(lower(at)));
            let single = found.core.len() == 1;
            let participle = last.ends_with("ing") || last.ends_with("ed");
            let takes = is_determiner(lower(found.core.end)); // "creating a mood"
            let verb = single && participle && last.len() > 4 && (takes || !item);
            let odd = last.ends_with("ly") || verb;
            if odd || !(verbless || exists || is_plural(last)) {
                return None;
            }
        }
        if is_adjective(last) || last.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        // "the left": skipped as a whole, so that no part of it is taken for a thing.
        let end = found.tokens.end;
        Some(Thing { no_thing: is_no_thing(lower(head)), end, noun: found, place: None })
    }

    fn object(&self, thing: &Thing, out: &mut Vec<Claim>) {
        if thing.no_thing {
            return;
        }
        let noun = &thing.noun;
        let end = thing.place.as_ref().map_or(noun.tokens.end, |place| place.end);
        let start = thing.place.as_ref().map_or(noun.tokens.start, |place| place.start);
        let bytes = self.bytes(start.min(noun.tokens.start)..end.max(noun.tokens.end));
        let place = thing.place.clone().map(|place| self.text(place));
        let claim = match noun.number.filter(|&n| n != 1) {
            Some(n) => {
                let question = how_many(&self.text(noun.core.clone()), place);
                let probe = verification(&question, &n.to_string());
                let mut before = noun.tokens.start..noun.core.start;
                let at = before.find(|&at| number(self.lower(at)).is_some());
                let number = at.map(|at| self.bytes(at..at + 1));
                Claim { number, ..self.claim(ClaimKind::Count, bytes, probe) }
            }
            None => {
                let probe = self.another(noun, place.clone(), out);
                let probe = probe.unwrap_or_else(|| self.existence(noun, place));
                self.claim(ClaimKind::Object, bytes, probe)
            }
        };
        out.push(claim);
    }

    /// "a dog and a dog": whether there are as many as were said by now.
    fn another(&self, noun: &Noun, place: Option<String>, said: &[Claim]) -> Option<String> {
        let core = self.text(noun.core.clone());
        let head = self.lower(noun.core.end - 1);
        if noun.definite || !noun.certain || is_plural(head) || is_mass(head) {
            return None;
        }
        let first = self.existence(noun, place.clone());
        let question = how_many(&plural(&core), place);
        let same = |claim: &&Claim| claim.probe == first || claim.probe.starts_with(&question);
        let n = said.iter().filter(same).count();
        (n > 0).then(|| verification(&question, &(n + 1).to_string()))
    }

    /// "Is there a red car at the top left?", "Are there dogs in the picture?"
    fn existence(&self, noun: &Noun, place: Option<String>) -> String {
        let core = self.text(noun.core.clone());
        let place = place.unwrap_or_else(|| "in the picture".to_string());
        let head = noun.core.clone().take_while(|&at| self.lower(at) != "of").last();
        let head = head.map_or("", |at| self.lower(at));
        match (is_plural(head), is_mass(head)) {
            (true, _) => format!("Are there {core} {place}?"),
            (_, true) => format!("Is there {core} {place}?"),
            _ => format!("Is there {} {core} {place}?", article(&core)),
        }
    }

    /// "no dogs": nothing of the kind is there; of other negations nothing is claimed.
    fn negated(&self, i: usize, out: &mut Vec<Claim>) -> usize {
        let Some(noun) = noun(&self.tokens, i + 1, true) else { return i + 1 };
        let end = noun.tokens.end;
        if matches!(self.lower(i), "no" | "without") && !is_no_thing(self.lower(end - 1)) {
            let probe = self.existence(&noun, None);
            let claim = self.claim(ClaimKind::Object, self.bytes(i..end), probe);
            out.push(Claim { expects_yes: false, ..claim });
        }
        end
    }

    /// "… left of the car": how `noun` stands to what follows.
    fn related(&self, one: &Noun, words: Range<usize>, out: &mut Vec<Claim>) -> usize {
        let Some(other) = noun(&self.tokens, words.end, false) else { return words.end };
        let end = other.tokens.end;
        if is_no_thing(self.lower(end - 1)) {
            return end;
        }
        let how = match reads(&self.tokens, words.start, &["to", "the"])
            || reads(&self.tokens, words.start, &["on", "the"])
        {
            true => self.text(words.start + 2..words.end), // "left of"
            false => self.text(words.clone()),
        };
        let verb = self.verb(one);
        let (one, two) = (self.text(one.core.clone()), self.text(other.core));
        let probe = format!("{verb} the {one} {how} the {two}?");
        out.push(self.claim(ClaimKind::Relation, self.bytes(words.start..end), probe));
        end
    }

    fn verb(&self, noun: &Noun) -> &'static str {
        let many = noun.number.is_some_and(|n| n != 1);
        if many || is_plural(self.lower(noun.core.end - 1)) { "Are" } else { "Is" }
    }

    /// "The car is red": the colour of `subject`, said after it.
    fn coloured(&self, i: usize, subject: Option<&Thing>, out: &mut Vec<Claim>) -> Option<usize> {
        let thing = subject.filter(|thing| !thing.no_thing && thing.end == i)?;
        if !is_copula(self.lower(i)) {
            return None;
        }
        let first = i + 1;
        let goes_on = |at: &usize| {
            let joins = self.lower(*at) == "and" && is_colour(self.lower(at + 1));
            is_colour(self.lower(*at)) || (joins && *at > first)
        };
        let end = first + (first..self.tokens.len()).take_while(goes_on).count();
        if end == first || noun(&self.tokens, end, true).is_some() {
            return None;
        }
        let (core, colour) = (self.text(thing.noun.core.clone()), self.text(first..end));
        let probe = format!("{} the {core} {colour}?", self.verb(&thing.noun));
        out.push(self.claim(ClaimKind::Colour, self.bytes(first..end), probe));
        Some(end)
    }

    /// "… that says STOP HERE": printed words without quotation marks, to the next break.
    fn says(&self, i: usize, out: &mut Vec<Claim>) -> Option<usize> {
        let said = matches!(self.lower(i), "says" | "reads" | "labeled" | "labelled" | "saying");
        let first = i + 1;
        let starts_quoted = |at: usize| {
            self.quoted.iter().any(|quoted| quoted.contains(&self.tokens[at].bytes.start))
        };
        if !said || first >= self.tokens.len() || starts_quoted(first) {
            return None;
        }
        let goes_on = |at: &usize| {
            let lower = self.lower(*at);
            let and = lower == "and" && is_determiner(self.lower(at + 1));
            !(and || (*at > first && self.tokens[*at].after_break))
                && place(&self.tokens, *at).is_none()
        };
        let end = first + (first..self.tokens.len()).take_while(goes_on).count();
        if end == first {
            return None;
        }
        let bytes = self.bytes(first..end);
        let probe = verification("What is written here?", &self.answer[bytes.clone()]);
        out.push(self.claim(ClaimKind::Text, bytes, probe));
        Some(end)
    }
}

/// A thing that was named, until it is known where it is.
struct Thing {
    noun: Noun,
    place: Option<Range<usize>>,
    /// The token after it and what only says that it is.
    end: usize,
    /// It names the picture or a part of it.
    no_thing: bool,
}

fn how_many(things: &str, place: Option<String>) -> String {
    let place = place.map_or_else(String::new, |place| format!(" {place}"));
    format!("How many {things} are there{place}?")
}

fn article(phrase: &str) -> &'static str {
    if phrase.to_lowercase().starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
