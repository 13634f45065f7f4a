//! What the engine says while it answers -> what a face hears.

use vlm::explain::{self, Evidence, Heatmap, place};
use vlm::generate::{Answer, Event, Stop};

use crate::api::{AskEvent, EvidenceView, HeatmapView, Timings, Word};
use crate::outline::outline;

/// A picture of the conversation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shown {
    pub id: u32,
    /// Pixels of the original.
    pub size: (u32, u32),
    /// Where the part that the model sees begins, px of the original.
    pub from: (f32, f32),
}

/// Translates the events of one answer.
pub(crate) struct Teller {
    pub shown: Vec<Shown>,
    pub load_ms: f32,
    /// Whether regions may be shown that no test has confirmed.
    maps: bool,
    text: String,
    n_tokens: u32,
    /// The words so far, the latest of each number.
    pub words: Vec<Word>,
}

impl Teller {
    pub fn new(shown: Vec<Shown>, maps: bool, load_ms: f32) -> Teller {
        Teller { shown, load_ms, maps, text: String::new(), n_tokens: 0, words: Vec::new() }
    }

    pub fn event(&mut self, event: Event) -> AskEvent {
        match event {
            Event::Started { image_tokens, prompt_tokens, reused_tokens } => AskEvent::Started {
                image_tokens: image_tokens as u32,
                prompt_tokens: prompt_tokens as u32,
                reused_tokens: reused_tokens as u32,
            },
            Event::Step(step) => {
                self.text.push_str(&step.text);
                let index = self.n_tokens;
                self.n_tokens += 1;
                let evidence = step.evidence.as_ref().and_then(|e| self.evidence(e));
                AskEvent::Token { index, text: step.text, logprob: step.logprob, evidence }
            }
            Event::Word(word) => {
                let word = self.word(&word);
                self.words.truncate(word.index as usize);
                self.words.push(word.clone());
                AskEvent::Word(word)
            }
        }
    }

    /// `number`: which answer of the chat it is.
    pub fn finished(&self, number: u32, answer: &Answer) -> AskEvent {
        let timings = answer.timings;
        AskEvent::Finished {
            answer: number,
            text: answer.text.clone(),
            timings: Timings {
                load_ms: self.load_ms,
                encode_ms: timings.encode_ms,
                prefill_ms: timings.prefill_ms,
                first_token_ms: timings.first_token_ms,
                decode_tokens_per_second: timings.decode_tokens_per_second,
            },
            tokens: answer.steps.len() as u32,
            cancelled: answer.stop == Stop::Cancelled,
            cut: answer.stop == Stop::Length,
        }
    }

    fn word(&self, word: &explain::Word) -> Word {
        let utf16 = |end: usize| {
            let before = self.text.get(..end).unwrap_or(&self.text);
            before.encode_utf16().count() as u32
        };
        let start = utf16(word.bytes.start);
        Word {
            index: word.index as u32,
            first_token: word.tokens.0 as u32,
            last_token: word.tokens.1 as u32,
            text: word.text.clone(),
            start,
            end: start + word.text.encode_utf16().count() as u32,
            evidence: word.evidence.as_ref().and_then(|e| self.evidence(e)),
            probability: word.probability,
        }
    }

    /// In pixels of the picture that is shown, cut at its edges.
    fn evidence(&self, evidence: &Evidence) -> Option<EvidenceView> {
        self.shown.get(evidence.image).filter(|_| self.maps).map(|&shown| seen_in(shown, evidence))
    }
}

/// Evidence as a face sees it.
pub(crate) fn seen_in(shown: Shown, evidence: &Evidence) -> EvidenceView {
    let Shown { id: image, size: (width, height), .. } = shown;
    let [x0, y0, x1, y1] = shown.in_original(evidence.bbox);
    let (w, h) = (width as f32, height as f32);
    let bbox = [x0.clamp(0.0, w), y0.clamp(0.0, h), x1.clamp(0.0, w), y1.clamp(0.0, h)];
    let map =
        &Heatmap { source: shown.in_original(evidence.heatmap.source), ..evidence.heatmap.clone() };
    let outline = outline(map, (width, height));
    let words = format!("{}, {}", place(bbox, width, height), part(outline.area));
    EvidenceView {
        image,
        bbox,
        outline: outline.rings,
        area: outline.area,
        score: evidence.score,
        words,
        heatmap: HeatmapView {
            rows: map.rows as u32,
            cols: map.cols as u32,
            values: map.values.clone(),
            source: map.source,
        },
    }
}

impl Shown {
    /// A box of what the model sees, in pixels of the original.
    pub fn in_original(&self, [x0, y0, x1, y1]: [f32; 4]) -> [f32; 4] {
        let (x, y) = self.from;
        [x0 + x, y0 + y, x1 + x, y1 + y]
    }

    /// A box of the original, in pixels of what the model sees.
    pub fn in_shot(&self, [x0, y0, x1, y1]: [f32; 4]) -> [f32; 4] {
        let (x, y) = self.from;
        [x0 - x, y0 - y, x1 - x, y1 - y]
    }
}

/// "18 % of the picture"
fn part(area: f32) -> String {
    match area {
        _ if area < 0.005 => "less than 1 % of the picture".to_string(),
        _ => format!("{:.0} % of the picture", 100.0 * area),
    }
}
