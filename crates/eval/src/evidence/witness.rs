//! A model that is asked about pictures, and the maps of what it says.
//!
//! It does not know what is true.

use image::RgbImage;
use vlm::explain::{
    Calibration, Checked, Evidence, KnockOut, Subject, Watch, Word, check, claims, is_content_word,
    knock_out,
};
use vlm::generate::{Answer, Branch, Cancel, Features, Hidden, Session, Told};
use vlm::processor::Message;

use super::localisation::Map;
use crate::Error;
use crate::ask::{self, Model};

/// A model and a session of its own.
pub(crate) struct Witness<'a> {
    pub model: &'a Model,
    pub session: Session,
    pub cancel: &'a Cancel,
}

/// An answer, the model's own or given, and how unlikely the model found each word: nats.
pub(crate) struct Said {
    pub answer: Answer,
    pub surprise: Vec<f64>,
}

impl From<Answer> for Said {
    fn from(answer: Answer) -> Said {
        let surprise = |word: &Word| {
            let steps = answer.steps.get(word.tokens.0..=word.tokens.1).unwrap_or_default();
            -steps.iter().map(|step| f64::from(step.logprob)).sum::<f64>()
        };
        let surprise = answer.words.iter().map(surprise).collect();
        Said { answer, surprise }
    }
}

impl<'a> Witness<'a> {
    /// One whose evidence is read as the model's calibration says.
    pub fn new(model: &'a Model, cancel: &'a Cancel) -> Witness<'a> {
        Witness::with(model, model.calibration.clone(), cancel)
    }

    /// One whose evidence is read otherwise.
    pub fn with(
        model: &'a Model,
        calibration: impl Into<Calibration>,
        cancel: &'a Cancel,
    ) -> Witness<'a> {
        Witness { model, session: Session::new(calibration), cancel }
    }

    /// Greedy, as a user asks.
    pub fn ask(&mut self, picture: &RgbImage, question: &str) -> Result<Said, Error> {
        Ok(Said::from(self.answer(picture, question, true)?))
    }

    /// An answer that is given, with the evidence it has as if the model had said it.
    pub fn retell(&mut self, picture: &RgbImage, asked: (&str, &str)) -> Result<Said, Error> {
        Ok(Said::from(self.features(picture, asked)?.answer))
    }

    /// What the evidence of a given answer is made of.
    pub fn features(
        &mut self,
        picture: &RgbImage,
        (question, answer): (&str, &str),
    ) -> Result<Features, Error> {
        let messages = [Message::user(1, question)];
        let shown = (messages.as_slice(), std::slice::from_ref(picture));
        let model = (&self.model.vlm, &self.model.processor);
        Ok(self.session.features(model, shown, answer, self.cancel)?)
    }

    /// Tier 1: what an answer claims, put to the test.
    pub fn check(
        &mut self,
        picture: &RgbImage,
        question: &str,
        answer: &Answer,
    ) -> Result<Vec<Checked>, Error> {
        let claims = claims(question, &answer.text, &answer.words);
        let messages = [Message::user(1, question)];
        let shown = (messages.as_slice(), std::slice::from_ref(picture));
        let model = (&self.model.vlm, &self.model.processor);
        Ok(check(&mut self.session, model, shown, (answer, &claims), self.cancel)?)
    }

    /// Tier 2: what every word of an answer depends on; the region of one of them is tested.
    pub fn knock_out(
        &mut self,
        picture: &RgbImage,
        question: &str,
        (answer, word): (&Answer, usize),
    ) -> Result<KnockOut, Error> {
        let messages = [Message::user(1, question)];
        let shown = (messages.as_slice(), std::slice::from_ref(picture));
        let model = (&self.model.vlm, &self.model.processor);
        let subject = Subject { answer, words: (word, word) };
        let watch = Watch { progress: &mut |_| {}, cancel: self.cancel };
        Ok(knock_out(&mut self.session, model, shown, subject, watch)?)
    }

    /// The same, with or without evidence.
    pub fn answer(
        &mut self,
        picture: &RgbImage,
        question: &str,
        evidence: bool,
    ) -> Result<Answer, Error> {
        let asked = (picture, question, evidence);
        ask::answer(self.model, &mut self.session, asked, self.cancel)
    }

    /// What the model makes of an answer that is given.
    pub fn told(
        &mut self,
        picture: &RgbImage,
        (question, answer): (&str, &str),
    ) -> Result<Told, Error> {
        let messages = [Message::user(1, question)];
        let branches = [Branch { messages: &messages, answer, hidden: Hidden::Nothing }];
        let model = (&self.model.vlm, &self.model.processor);
        let pictures = std::slice::from_ref(picture);
        let mut told = self.session.tell(model, pictures, &branches, self.cancel)?;
        Ok(told.swap_remove(0))
    }

    /// The probability of a given answer: of all its tokens together.
    pub fn probability(&mut self, picture: &RgbImage, asked: (&str, &str)) -> Result<f64, Error> {
        let told = self.told(picture, asked)?;
        Ok(told.logprobs.iter().map(|&logprob| f64::from(logprob)).sum::<f64>().exp())
    }
}

/// A word's map over cells of the picture.
#[derive(Clone, Debug)]
pub(crate) struct WordMap {
    pub cells: Vec<[f32; 4]>,
    pub values: Vec<f32>,
}

impl WordMap {
    /// That of a word's evidence.
    pub fn of(evidence: &Evidence) -> WordMap {
        let map = &evidence.heatmap;
        let cells = 0..map.rows * map.cols;
        let cells = cells.map(|cell| map.cell_box(cell / map.cols, cell % map.cols)).collect();
        WordMap { cells, values: map.values.clone() }
    }

    pub fn map(&self) -> Map<'_> {
        Map { cells: &self.cells, values: &self.values }
    }

    /// The strongest cells that together make up this share of a picture's area.
    pub fn strongest(&self, share: f32, picture: &RgbImage) -> Vec<[f32; 4]> {
        let wanted = share * picture.width() as f32 * picture.height() as f32;
        let mut area = 0.0;
        let order = super::faithfulness::strongest_first(&self.values).into_iter();
        let strongest = order.map(|cell| self.cells[cell]).take_while(|[x0, y0, x1, y1]| {
            let before = area;
            area += (x1 - x0) * (y1 - y0);
            before < wanted - 1.0
        });
        strongest.collect()
    }
}

/// The content word with the strongest evidence among those in these bytes.
pub(crate) fn strongest<'a>(words: &'a [Word], bytes: &std::ops::Range<usize>) -> Option<&'a Word> {
    let score = |word: &&Word| word.evidence.as_ref().map_or(-1.0, |evidence| evidence.score);
    let inside = words.iter().filter(|word| touches(&word.bytes, bytes));
    let content = inside.filter(|word| is_content_word(&word.text));
    content.max_by(|a, b| score(a).total_cmp(&score(b)))
}

/// Whether two ranges share a byte.
pub(crate) fn touches(a: &std::ops::Range<usize>, b: &std::ops::Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}
