//! What is tried on an answer: a region covered, words tested one by one, the picture left out, a
//! spot hidden; and what came of it, in plain words.

use std::time::Instant;

use vlm::explain::{self, KnockOut, Tested, Watch};
use vlm::generate::{Branch, Cancel, Cell, Event, GenerateOptions, Hidden, Session, Told};
use vlm::processor::Message;

use crate::api::{
    ApiError, ClaimView, CoverView, Region, Said, SpotView, TestView, TrialEvent, WithoutView,
    WordRegion, WordShift, WordWeight,
};
use crate::engine::{Engine, Model};
use crate::failure::api_error;

use super::check::says;
use super::phrase::{joined, listed, percent};
use super::subject::{Subject, inside, mean};

/// Hears of a trial; returns false when nobody listens any more.
pub(crate) type OnTrial<'a> = &'a mut (dyn FnMut(TrialEvent) -> bool + Send);

/// A spot reaches this part of the longer side each way.
const REACH: f32 = 1.0 / 14.0;
/// Words are said to depend on a spot that takes this part of their probability.
const DEPENDS: f32 = 0.1;
/// Words need the picture that keep less than this without it, and do not that keep so much.
const NEEDS: f32 = 0.5;
const KEEPS: f32 = 0.8;

/// Paints over `region` and asks again; follows the words of `claim`, else the whole answer.
pub(crate) fn cover(
    engine: &mut Engine,
    subject: &Subject,
    (claim, region): (Option<&ClaimView>, Region),
    cancel: &Cancel,
) -> Result<CoverView, ApiError> {
    subject.sees()?;
    let picture = subject.picture(region.image)?;
    let place = (picture, subject.shown[picture].in_shot(region.bbox));
    let of = explain::Subject { answer: &subject.answer, words: words_of(subject, claim) };
    let images = subject.pixels();
    let tested = engine.seeing(subject.seat, |model, session| {
        let asked = (subject.messages.as_slice(), images.as_slice());
        let tested = explain::cover(session, model.both(), asked, (of, place), cancel);
        tested.map_err(|error| api_error(&error))
    })?;
    Ok(outcome(subject, claim, tested))
}

/// Finds out what each word depends on and proves it for one claim.
pub(crate) fn test(
    engine: &mut Engine,
    subject: &Subject,
    claim: &ClaimView,
    (cancel, on): (&Cancel, OnTrial),
) -> Result<TestView, ApiError> {
    subject.sees()?;
    let of = explain::Subject { answer: &subject.answer, words: words_of(subject, Some(claim)) };
    let (begun, images) = (Instant::now(), subject.pixels());
    let mut progress = |so_far: &KnockOut| {
        let (done, all) = (so_far.done as u32, so_far.total as u32);
        let each = begun.elapsed().as_secs_f32() / done.max(1) as f32;
        let seconds_left = (done > 2).then_some(each * all.saturating_sub(done) as f32);
        on(TrialEvent::Progress { done, all, seconds_left });
        on(TrialEvent::Regions { words: regions(subject, so_far) });
    };
    let found = engine.seeing(subject.seat, |model, session| {
        let asked = (subject.messages.as_slice(), images.as_slice());
        let watch = Watch { progress: &mut progress, cancel };
        let found = explain::knock_out(session, model.both(), asked, of, watch);
        found.map_err(|error| api_error(&error))
    })?;
    let words = regions(subject, &found);
    let tested = found.tested.map(|tested| outcome(subject, Some(claim), tested));
    let mut claim = claim.clone();
    // What was proven on pixels is what the claim rests on from now on.
    if let Some(tested) = tested.as_ref().filter(|tested| tested.holds) {
        let of_claim = (of.words.0 as u32)..=(of.words.1 as u32);
        let mine = words.iter().filter(|word| of_claim.contains(&word.word));
        let best = mine.filter_map(|word| word.evidence.as_ref());
        let best = best.filter(|evidence| evidence.image == tested.region.image);
        let best = best.max_by(|a, b| a.score.total_cmp(&b.score)).cloned();
        claim.evidence = best.or(claim.evidence);
        claim.words = says(claim.evidence.as_ref(), claim.probability);
    }
    claim.tested = tested;
    Ok(TestView { claim, words })
}

/// What is said without the pictures, and how likely what was said is then.
pub(crate) fn without(
    engine: &mut Engine,
    subject: &Subject,
    (cancel, on): (&Cancel, OnTrial),
) -> Result<WithoutView, ApiError> {
    subject.sees()?;
    let images = subject.pixels();
    engine.seeing(subject.seat, |model, session| {
        let mut look = || {
            let told = blinded(model, session, (subject, &images), cancel)?;
            Ok((shifts(model, subject, &told)?, blind_answer(model, subject, (cancel, on))?))
        };
        let (words, text) = look().map_err(|error: vlm::Error| api_error(&error))?;
        Ok(WithoutView { summary: needed(&words), text, words })
    })
}

/// Which words depend on the part of picture `image` around `at`.
pub(crate) fn spot(
    engine: &mut Engine,
    subject: &Subject,
    (image, at): (u32, [f32; 2]),
    cancel: &Cancel,
) -> Result<SpotView, ApiError> {
    subject.sees()?;
    let picture = subject.picture(image)?;
    let (shown, images) = (subject.shown[picture], subject.pixels());
    let (width, height) = images[picture].dimensions();
    let reach = (REACH * width.max(height) as f32).max(1.0);
    let [x, y, ..] = shown.in_shot([at[0], at[1], at[0], at[1]]);
    let around = [x - reach, y - reach, x + reach, y + reach];
    let asked = (subject.messages.as_slice(), images.as_slice());
    let (drops, cells) = engine.seeing(subject.seat, |model, session| {
        let mut look = || {
            let spot = (&*subject.answer, picture, around);
            let drops = explain::spot(session, model.both(), asked, spot, cancel)?;
            Ok((drops, Session::image_cells(&model.processor, asked)?))
        };
        look().map_err(|error: vlm::Error| api_error(&error))
    })?;
    let hidden = cells.iter().filter(|cell| cell.image == picture);
    let hidden = hidden.filter_map(|cell: &Cell| cell.bbox.filter(|b| overlap(*b, around)));
    let hull =
        hidden.reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]);
    let [x0, y0, x1, y1] = hull.unwrap_or(around);
    let (w, h) = (width as f32, height as f32);
    let bbox = [x0.clamp(0.0, w), y0.clamp(0.0, h), x1.clamp(0.0, w), y1.clamp(0.0, h)];
    let weight = |word: &explain::Word| {
        let drop = drops.iter().find(|(of, _)| *of == word.index).map_or(0.0, |(_, drop)| *drop);
        let weight = 1.0 - (-drop.max(0.0)).exp();
        WordWeight { word: word.index as u32, text: word.text.clone(), weight }
    };
    let words: Vec<WordWeight> = subject.content().map(weight).collect();
    let region = Region { image, bbox: shown.in_original(bbox) };
    Ok(SpotView { region, summary: depends(&words), words })
}

fn overlap(a: [f32; 4], b: [f32; 4]) -> bool {
    a[0] < b[2] && a[2] > b[0] && a[1] < b[3] && a[3] > b[1]
}

/// First and last word of a claim; of the whole answer where there is none.
fn words_of(subject: &Subject, claim: Option<&ClaimView>) -> (usize, usize) {
    let words = &subject.answer.words;
    let last = words.len().saturating_sub(1);
    let Some(claim) = claim else { return (0, last) };
    let inside = |word: &&explain::Word| {
        subject.utf16(word.bytes.start) >= claim.start && subject.utf16(word.bytes.end) <= claim.end
    };
    let of_claim = words.iter().filter(inside).map(|word| word.index);
    let (first, last) = (of_claim.clone().min(), of_claim.max());
    first.zip(last).unwrap_or((0, words.len().saturating_sub(1)))
}

fn regions(subject: &Subject, found: &KnockOut) -> Vec<WordRegion> {
    let of = |influence: &explain::Influence| WordRegion {
        word: influence.word as u32,
        evidence: influence.evidence.as_ref().and_then(|evidence| subject.view(evidence)),
    };
    found.influences.iter().map(of).collect()
}

/// The answer as it was given, and with everything hidden.
pub(super) fn blinded(
    model: &Model,
    session: &mut Session,
    (subject, images): (&Subject, &[image::RgbImage]),
    cancel: &Cancel,
) -> Result<[Told; 2], vlm::Error> {
    let messages = subject.messages.as_slice();
    let answer = subject.answer.text.trim();
    let hidden = [Hidden::Nothing, Hidden::Everything];
    let branches = hidden.map(|hidden| Branch { messages, answer, hidden });
    let mut told = session.tell(model.both(), images, &branches, cancel)?.into_iter();
    Ok([told.next().unwrap_or_default(), told.next().unwrap_or_default()])
}

/// How likely each content word is with and without the picture.
fn shifts(
    model: &Model,
    subject: &Subject,
    told: &[Told; 2],
) -> Result<Vec<WordShift>, vlm::Error> {
    let tokens = explain::pieces(&model.processor, &told[0].tokens, &subject.answer.text)?;
    let shift = |word: &explain::Word| {
        let [with, without] = [&told[0], &told[1]].map(|told| {
            let logprobs = inside(&told.logprobs, &tokens, &word.bytes);
            mean(&logprobs.iter().map(|logprob| logprob.exp()).collect::<Vec<f32>>())
        });
        WordShift { word: word.index as u32, text: word.text.clone(), with, without }
    };
    Ok(subject.content().map(shift).collect())
}

/// The likeliest answer to the question without its pictures, told as it comes.
fn blind_answer(
    model: &Model,
    subject: &Subject,
    (cancel, on): (&Cancel, OnTrial),
) -> Result<String, vlm::Error> {
    let messages: Vec<Message> = subject.messages.iter().map(Message::without_images).collect();
    let max_new_tokens = 2 * subject.answer.steps.len() + 16;
    let options = GenerateOptions { max_new_tokens, evidence: false, ..GenerateOptions::default() };
    let mut text = String::new();
    let mut hear = |event: Event| {
        if let Event::Step(step) = event {
            text.push_str(&step.text);
            on(TrialEvent::Saying { text: text.trim_start().to_string() });
        }
    };
    let asked = (messages.as_slice(), &[] as &[image::RgbImage]);
    let answer = model.session().ask(model.both(), asked, &options, cancel, &mut hear)?;
    if cancel.is_cancelled() {
        return Err(vlm::Error::Cancelled);
    }
    Ok(answer.text.trim().to_string())
}

fn outcome(subject: &Subject, claim: Option<&ClaimView>, tested: Tested) -> CoverView {
    let Tested { before, after, control, .. } = tested;
    let shown = subject.shown[tested.image.min(subject.shown.len() - 1)];
    let place = |bbox| Region { image: shown.id, bbox: shown.in_original(bbox) };
    let said = |text: &str, probability| Said { text: text.trim().to_string(), probability };
    let what = claim.map_or("the answer".to_string(), |claim| format!("“{}”", claim.text));
    CoverView {
        region: place(tested.region),
        control: place(tested.control_region),
        words: verdict(&what, [before, after, control], tested.confirmed),
        before: said(&subject.answer.text, before),
        covered: said(&tested.answer_after, after),
        elsewhere: said(&tested.answer_control, control),
        holds: tested.confirmed,
    }
}

fn verdict(what: &str, [before, after, control]: [f32; 3], confirmed: bool) -> String {
    let [was, is, other] = [before, after, control].map(percent);
    match (confirmed, after < before / 2.0) {
        (true, _) => format!(
            "How likely {what} is goes from {was} to {is} when this is covered, and to {other} \
             when as much is covered elsewhere."
        ),
        (false, true) => format!(
            "How likely {what} is falls to {is} when this is covered, but also to {other} when as \
             much is covered elsewhere: that tells nothing of this region."
        ),
        (false, false) => format!(
            "How likely {what} is goes from {was} to {is} when this is covered: it does not rest \
             on this region alone."
        ),
    }
}

fn needed(words: &[WordShift]) -> String {
    let those = |which: &dyn Fn(&WordShift) -> bool| -> Vec<&str> {
        let words = words.iter().filter(|word| which(word)).map(|word| word.text.as_str());
        words.take(4).collect()
    };
    let needs = those(&|word| word.without < NEEDS * word.with);
    let free = those(&|word| word.without >= KEEPS * word.with);
    let verb = |words: &[&str], one: &str, many: &str| {
        format!("{} {}", listed(words), if words.len() == 1 { one } else { many })
    };
    let needs = (!needs.is_empty()).then(|| verb(&needs, "needs", "need") + " the picture");
    let said = |words: &[&str]| verb(words, "is", "are") + " said as readily without it";
    let free = (!free.is_empty()).then(|| said(&free));
    match (needs, free) {
        (Some(needs), Some(free)) => format!("{needs}; {free}."),
        (Some(one), None) | (None, Some(one)) => one + ".",
        (None, None) => "Every word is less likely without the picture, none by half.".into(),
    }
}

fn depends(words: &[WordWeight]) -> String {
    let mut depends: Vec<&WordWeight> = words.iter().filter(|w| w.weight >= DEPENDS).collect();
    depends.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let parts = depends.iter().take(3).map(|w| format!("“{}” by {}", w.text, percent(w.weight)));
    let parts: Vec<String> = parts.collect();
    match parts.is_empty() {
        true => "No word depends on this spot.".into(),
        false => format!("Without this spot less likely: {}.", joined(&parts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_said_in_words() {
        let word =
            |text: &str, with, without| WordShift { word: 0, text: text.into(), with, without };
        let words = [word("car", 0.9, 0.1), word("dog", 0.3, 0.3), word("in", 0.9, 0.6)];
        assert_eq!(needed(&words), "“car” needs the picture; “dog” is said as readily without it.");
        assert_eq!(needed(&words[..1]), "“car” needs the picture.");
        let weight = |text: &str, weight| WordWeight { word: 0, text: text.into(), weight };
        let words = [weight("red", 0.46), weight("car", 0.81), weight("a", 0.02)];
        let said = "Without this spot less likely: “car” by 81 % and “red” by 46 %.";
        assert_eq!(depends(&words), said);
        assert_eq!(depends(&words[2..]), "No word depends on this spot.");
        for (figures, confirmed, says) in [
            ([0.91, 0.04, 0.9], true, "goes from 91 % to 4 %"),
            ([0.91, 0.04, 0.1], false, "but also to 10 %"),
            ([0.91, 0.85, 0.9], false, "does not rest on this region alone"),
        ] {
            assert!(verdict("“a car”", figures, confirmed).contains(says), "{figures:?}");
        }
    }
}
