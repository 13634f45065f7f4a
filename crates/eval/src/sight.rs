//! The sight check: a few seconds of proof that a loaded model sees.
//!
//! A model can be loaded without an error and still be blind: a projector of other weights, a
//! tower read by half, a picture that is dropped on the way. It then answers fluently from the
//! question alone. So four drawn things are shown, and each once more taken away: the pictures
//! must give different embeddings, as many as there are picture tokens; each picture must raise
//! the likelihood of what is drawn in it above that of what the others show; and a question about
//! a thing must find yes likelier where the thing is. What it says of two of them must differ too:
//! a dead tower still tells colours apart, and is answered with one sentence whatever is shown.
//!
//! Likelihoods are compared between pictures, never between words, so that a model's favourite
//! words and manner of speaking cancel out. Weights that know no language cannot be asked: for
//! them the check says so and proves only that their pictures differ.

use std::fmt;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use image::RgbImage;
use scenes::{Colour, Mix, Options, Scene, SceneKind, class_named, classes};
use serde::{Deserialize, Serialize};
use vlm::Vlm;
use vlm::explain::EvidenceHeads;
use vlm::generate::{Branch, Cancel, GenerateOptions, Hidden, Session, Stop};
use vlm::processor::{Message, Processor};

use crate::{Error, stored};

/// What is drawn, one thing in each picture.
const THINGS: [Thing; 4] = [
    Thing { seed: 20_001_026, name: "car", colour: Colour::Red },
    Thing { seed: 20_001_060, name: "heart", colour: Colour::Blue },
    Thing { seed: 20_001_003, name: "umbrella", colour: Colour::Green },
    Thing { seed: 20_001_030, name: "shirt", colour: Colour::Yellow },
];
/// Of twice four guesses among four. By chance 0.4 % of blind models get there.
const NAMED_AT_LEAST: usize = 6;
/// Of the pictures that the model describes in its own words, and tokens of each description:
/// enough to get past how it usually begins.
const DESCRIBED: usize = 2;
const DESCRIBED_TOKENS: usize = 24;
/// Of four things, those missed in the picture without them.
const MISSED_AT_LEAST: usize = 3;
/// Embeddings of different pictures are further apart than this, relative to their length.
const APART: f32 = 1e-4;
/// A model that knows the language gives a token of the likeliest answer, on average, more than the
/// square root of what chance would: the logarithm is less than this share of chance's.
const FLUENT: f32 = 0.5;
/// A thing alone in a scene, in a colour of its own.
struct Thing {
    seed: u64,
    name: &'static str,
    colour: Colour,
}

impl Thing {
    fn scene(&self) -> Scene {
        let options = Options { kinds: Mix::only(SceneKind::Single), ..Options::default() };
        scenes::scene(self.seed, &options).recoloured(0, self.colour)
    }

    /// "a car"
    fn with_article(&self) -> String {
        self.described(None)
    }

    /// "a red car"
    fn phrase(&self) -> String {
        self.described(Some(self.colour.name()))
    }

    fn described(&self, adjective: Option<&str>) -> String {
        let class = class_named(self.name).map(|class| &classes()[class]);
        class.map_or(String::new(), |class| class.with_article(adjective))
    }
}

/// Whether a model may speak about pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It named what was drawn.
    Sees,
    /// Its pictures differ, but it knows too little language to be asked.
    Unproven,
    /// It answers without looking.
    Blind,
}

/// What the check found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sight {
    pub verdict: Verdict,
    /// What was seen or missed, in one sentence.
    pub reason: String,
    /// Picture tokens of one picture in the prompt, and embeddings that the picture gave.
    pub image_tokens: usize,
    pub image_embeds: usize,
    /// The smallest distance between the embeddings of two pictures, relative to their length.
    pub embeds_apart: f32,
    /// Pictures whose thing and colour were told from the others', of `2 × n`.
    pub named: usize,
    /// Things whose absence was noticed, of `n`.
    pub missed: usize,
    /// Whether what it says of different pictures differs.
    pub says_differently: bool,
    /// Pictures with a thing.
    pub n: usize,
    /// Mean log-probability of a token of the likeliest answer, over that of chance.
    pub language: f32,
    pub seconds: f32,
}

impl Sight {
    /// There is nothing to look with, so nothing is shown.
    fn text_only() -> Sight {
        Sight {
            verdict: Verdict::Blind,
            reason: "it reads text only".to_string(),
            image_tokens: 0,
            image_embeds: 0,
            embeds_apart: 0.0,
            named: 0,
            missed: 0,
            says_differently: false,
            n: 0,
            language: 0.0,
            seconds: 0.0,
        }
    }
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Sees => "sees",
            Verdict::Unproven => "not proven",
            Verdict::Blind => "blind",
        };
        writeln!(f, "{verdict}: {}", self.reason)?;
        writeln!(f, "picture tokens in the prompt   {}", self.image_tokens)?;
        writeln!(f, "embeddings of the picture      {}", self.image_embeds)?;
        writeln!(f, "pictures apart                 {:.4} of their length", self.embeds_apart)?;
        writeln!(f, "names and colours told apart   {} of {}", self.named, 2 * self.n)?;
        writeln!(f, "  a blind model by chance      {} of {}", self.n / 2, 2 * self.n)?;
        writeln!(f, "things missed when taken away  {} of {}", self.missed, self.n)?;
        let said = if self.says_differently { "differ" } else { "are the same" };
        writeln!(f, "descriptions of two pictures   {said}")?;
        writeln!(f, "surprise at a plain answer     {:.2} of chance's", self.language)?;
        write!(f, "took {:.1} s", self.seconds)
    }
}

/// Shows the drawn things to a model.
///
/// # Errors
/// What the engine reports, and [`vlm::Error::Cancelled`].
pub fn check(
    (vlm, processor): (&Vlm, &Processor),
    heads: &EvidenceHeads,
    cancel: &Cancel,
) -> Result<Sight, Error> {
    if !vlm.config.sees() {
        return Ok(Sight::text_only());
    }
    let begun = std::time::Instant::now();
    let processor = &processor.overview();
    let mut eyes = Eyes { vlm, processor, session: Session::new(heads.clone()), cancel };
    let mut seen = Seen::default();
    for (i, shown) in THINGS.iter().map(Thing::scene).enumerate() {
        eyes.study(i, &shown.image, &mut seen)?;
        let gone = eyes.yes(i, &shown.without(0).image)?;
        seen.missed += usize::from(seen.yes > gone);
    }
    let fluent = seen.named.fluency().max(seen.coloured.fluency());
    let chance = -(vlm.config.text_config.vocab_size as f32).ln();
    let mut sight = Sight {
        verdict: Verdict::Sees,
        reason: String::new(),
        image_tokens: seen.tokens,
        image_embeds: seen.embeds.first().map_or(Ok(0), |embeds| embeds.dim(0))?,
        embeds_apart: closest(&seen.embeds)?,
        named: seen.named.told_apart() + seen.coloured.told_apart(),
        missed: seen.missed,
        says_differently: seen.said.windows(2).any(|pair| pair[0] != pair[1]),
        n: THINGS.len(),
        language: fluent / chance,
        seconds: begun.elapsed().as_secs_f32(),
    };
    (sight.verdict, sight.reason) = judge(&sight);
    Ok(sight)
}

/// As [`check`], or what it found before of the same files, held in the same way by the same
/// program on the same device: `how` names the last two.
///
/// # Errors
/// As [`check`].
pub fn known_or_check(
    folder: &Path,
    how: &str,
    check: impl FnOnce() -> Result<Sight, Error>,
) -> Result<Sight, Error> {
    stored::once(kept(folder, how).as_deref(), check)
}

/// Where the check of such a load is kept.
fn kept(folder: &Path, how: &str) -> Option<PathBuf> {
    let mut files = stored::model_files(folder).ok()?;
    files.push(std::env::current_exe().ok()?);
    stored::in_cache("sight", &files, how)
}

fn judge(sight: &Sight) -> (Verdict, String) {
    let Sight { named, missed, n, .. } = sight;
    if sight.image_tokens != sight.image_embeds {
        let Sight { image_tokens, image_embeds, .. } = sight;
        let reason = format!("a picture has {image_tokens} tokens but gives {image_embeds}");
        return (Verdict::Blind, reason);
    }
    if sight.embeds_apart.is_nan() || sight.embeds_apart <= APART {
        let reason = "different pictures look the same to it".to_string();
        return (Verdict::Blind, reason);
    }
    let knows_language = !sight.language.is_nan() && sight.language <= FLUENT;
    if knows_language && !sight.says_differently {
        let reason = "it says the same of different pictures".to_string();
        return (Verdict::Blind, reason);
    }
    let found = format!(
        "it told {named} of {} names and colours of drawn things apart, and noticed when {missed} \
         of {n} were taken away",
        2 * n
    );
    if *named >= NAMED_AT_LEAST && *missed >= MISSED_AT_LEAST {
        return (Verdict::Sees, found);
    }
    if !knows_language {
        let reason = "pictures differ for it, but it knows too little language to be asked: the \
                      weights seem untrained"
            .to_string();
        return (Verdict::Unproven, reason);
    }
    (Verdict::Blind, found)
}

/// One model and what it was shown.
struct Eyes<'a> {
    vlm: &'a Vlm,
    processor: &'a Processor,
    session: Session,
    cancel: &'a Cancel,
}

/// What was found about the pictures so far.
#[derive(Default)]
struct Seen {
    tokens: usize,
    /// `(tokens, D)` of each picture.
    embeds: Vec<Tensor>,
    named: Choice,
    coloured: Choice,
    /// How much likelier yes is than no to the question for the last picture's thing.
    yes: f32,
    missed: usize,
    /// What it says of the first pictures.
    said: Vec<String>,
}

/// How likely each answer is, for each picture: natural logarithms, sum and mean over its tokens.
type Rows = Vec<Vec<Said>>;

#[derive(Clone, Copy)]
struct Said {
    sum: f32,
    mean: f32,
}

/// One question to every picture, with the right answers of all of them in two manners of
/// speaking: a model knows one better than the other.
#[derive(Default)]
struct Choice {
    brief: Rows,
    long: Rows,
}

impl Choice {
    /// Pictures whose answer was told from the others', in the manner that the model finds
    /// likelier whatever is shown.
    fn told_apart(&self) -> usize {
        let likely = |rows: &Rows| rows.iter().flatten().map(|said| said.mean).sum::<f32>();
        diagonal(if likely(&self.brief) >= likely(&self.long) { &self.brief } else { &self.long })
    }

    /// The mean log-probability of a token of the likeliest answer.
    fn fluency(&self) -> f32 {
        let all = self.brief.iter().chain(&self.long).flatten();
        all.map(|said| said.mean).fold(f32::NEG_INFINITY, f32::max)
    }
}

impl Eyes<'_> {
    /// Asks everything about the `i`-th picture, which is encoded once.
    fn study(&mut self, i: usize, picture: &RgbImage, seen: &mut Seen) -> Result<(), Error> {
        let (what, name) = ("What is in the picture?", THINGS[i].name);
        let shown = [Message::user(1, what)];
        let shown = (shown.as_slice(), std::slice::from_ref(picture));
        let look = self.session.look((self.vlm, self.processor), shown, self.cancel)?;
        seen.tokens = look.n_tokens;
        seen.embeds.push(look.embeds);

        if i < DESCRIBED {
            seen.said.push(self.describe(shown)?);
        }

        let (all, colour) = (THINGS.each_ref(), format!("What colour is the {name}?"));
        let asked: [(&str, [String; 4]); 4] = [
            (what, all.map(|thing| format!("{}.", capital(&thing.phrase())))),
            (what, all.map(|thing| format!("The picture shows {}.", thing.phrase()))),
            (&colour, all.map(|thing| format!("{}.", capital(thing.colour.name())))),
            (&colour, all.map(|thing| format!("The {name} is {}.", thing.colour.name()))),
        ];
        let pairs = asked.iter().flat_map(|(asked, answers)| answers.iter().map(|a| (*asked, a)));
        let pairs: Vec<(&str, &str)> = pairs.map(|(asked, a)| (asked, a.as_str())).collect();
        let said = self.likelihoods(picture, &pairs)?;
        let rows = [
            &mut seen.named.brief,
            &mut seen.named.long,
            &mut seen.coloured.brief,
            &mut seen.coloured.long,
        ];
        for (rows, said) in rows.into_iter().zip(said.chunks(THINGS.len())) {
            rows.push(said.to_vec());
        }
        seen.yes = self.yes(i, picture)?;
        Ok(())
    }

    /// The beginning of the model's own answer.
    fn describe(&mut self, asked: (&[Message], &[RgbImage])) -> Result<String, Error> {
        let (max_new_tokens, evidence) = (DESCRIBED_TOKENS, false);
        let options = GenerateOptions { max_new_tokens, evidence, ..Default::default() };
        let model = (self.vlm, self.processor);
        let answer = self.session.ask(model, asked, &options, self.cancel, &mut |_| {})?;
        match answer.stop {
            Stop::Cancelled => Err(vlm::Error::Cancelled.into()),
            _ => Ok(answer.text.trim().to_owned()),
        }
    }

    /// How much likelier yes is than no when asked for the `i`-th thing.
    fn yes(&mut self, i: usize, picture: &RgbImage) -> Result<f32, Error> {
        let asked = format!("Is there {} in the picture?", THINGS[i].with_article());
        let said = self.likelihoods(picture, &[(&asked, "Yes."), (&asked, "No.")])?;
        Ok(said[0].sum - said[1].sum)
    }

    /// Of each answer to its question, all in one pass behind the picture.
    fn likelihoods(
        &mut self,
        picture: &RgbImage,
        asked: &[(&str, &str)],
    ) -> Result<Vec<Said>, Error> {
        let messages: Vec<[Message; 1]> =
            asked.iter().map(|(asked, _)| [Message::user(1, *asked)]).collect();
        let branches: Vec<Branch> = messages
            .iter()
            .zip(asked)
            .map(|(messages, (_, answer))| Branch { messages, answer, hidden: Hidden::Nothing })
            .collect();
        let model = (self.vlm, self.processor);
        let told =
            self.session.tell(model, std::slice::from_ref(picture), &branches, self.cancel)?;
        let said = told.iter().map(|told| {
            let sum: f32 = told.logprobs.iter().sum();
            Said { sum, mean: sum / told.logprobs.len().max(1) as f32 }
        });
        Ok(said.collect())
    }
}

/// The pictures whose own answer stands out most, once what an answer is worth in any picture is
/// taken off.
fn diagonal(rows: &Rows) -> usize {
    let n = rows.len() as f32;
    let usual = |word: usize| rows.iter().map(|row| row[word].sum).sum::<f32>() / n;
    let stands_out = |i: &usize| {
        let above = |word: usize| rows[*i][word].sum - usual(word);
        (0..rows[*i].len()).all(|word| word == *i || above(*i) > above(word))
    };
    (0..rows.len()).filter(stands_out).count()
}

/// The smallest relative distance between two of these.
fn closest(embeds: &[Tensor]) -> Result<f32, Error> {
    let norm = |t: &Tensor| -> Result<f32, Error> {
        Ok(t.to_device(&Device::Cpu)?.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt())
    };
    let mut closest = f32::INFINITY;
    for (i, a) in embeds.iter().enumerate() {
        for b in &embeds[i + 1..] {
            // Pictures of one size have as many tokens.
            let apart = norm(&(a - b)?)? / norm(a)?;
            closest = if apart.is_nan() { apart } else { closest.min(apart) };
        }
    }
    Ok(closest)
}

fn capital(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenes_show_what_they_are_said_to() {
        for thing in &THINGS {
            let scene = thing.scene();
            let shown: Vec<_> = scene.objects.iter().map(|o| (o.name.as_str(), o.colour)).collect();
            assert_eq!(shown, [(thing.name, Some(thing.colour))], "seed {}", thing.seed);
            assert!(scene.without(0).objects.is_empty());
        }
    }

    fn said(rows: [[f32; 2]; 2]) -> Vec<Vec<Said>> {
        let row = |row: [f32; 2]| row.map(|sum| Said { sum, mean: sum }).to_vec();
        rows.map(row).to_vec()
    }

    #[test]
    fn a_favourite_word_is_no_sight() {
        // "Red" is always likelier than "blue", and likeliest where red is drawn.
        assert_eq!(diagonal(&said([[-1.0, -5.0], [-2.0, -5.0]])), 2);
        assert_eq!(diagonal(&said([[-2.0, -5.0], [-1.0, -5.0]])), 0);
        assert_eq!(diagonal(&said([[-1.0, -5.0], [-1.0, -5.0]])), 0);
        assert_eq!(diagonal(&said([[f32::NAN; 2]; 2])), 0);
    }

    #[test]
    fn every_verdict_has_its_cause() {
        let sees = Sight {
            verdict: Verdict::Sees,
            reason: String::new(),
            image_tokens: 36,
            image_embeds: 36,
            embeds_apart: 0.3,
            named: 8,
            missed: 4,
            says_differently: true,
            n: 4,
            language: 0.1,
            seconds: 1.0,
        };
        let verdict = |sight: Sight| judge(&sight).0;
        assert_eq!(verdict(sees.clone()), Verdict::Sees);
        assert_eq!(verdict(Sight { image_embeds: 35, ..sees.clone() }), Verdict::Blind);
        assert_eq!(verdict(Sight { embeds_apart: 0.0, ..sees.clone() }), Verdict::Blind);
        assert_eq!(verdict(Sight { embeds_apart: f32::NAN, ..sees.clone() }), Verdict::Blind);
        assert_eq!(verdict(Sight { named: 5, ..sees.clone() }), Verdict::Blind);
        assert_eq!(verdict(Sight { missed: 2, ..sees.clone() }), Verdict::Blind);
        assert_eq!(verdict(Sight { says_differently: false, ..sees.clone() }), Verdict::Blind);
        assert_eq!(verdict(Sight { named: 5, language: 0.9, ..sees }), Verdict::Unproven);
    }
}
