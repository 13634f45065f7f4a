//! What can be done with an answer that was given: checking its claims, covering, testing,
//! hiding, searching, the raw numbers, the report. Each runs on the engine's thread and can be
//! stopped; what a check or a test finds is kept with the answer.

use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;

use vlm::generate::Cancel;

use crate::api::{
    AnswerRef, ApiError, ChatMessage, ChatRole, CheckView, ClaimView, CoverRequest, CoverView,
    ExpertView, ExportFormat, MapRequest, RawMap, SpotView, TestView, TrialEvent, WithoutView,
    WordSearch,
};
use crate::chats::{Shot, conversation};
use crate::engine::{Engine, Job, Seat, guarded};
use crate::evidence::{self, Facts, OnTrial, PictureFacts, Subject};
use crate::failure::failure;

use super::{App, lock, stopped};

/// What is being tried, so that it can be stopped.
#[derive(Default)]
pub(crate) struct Trials(Mutex<Vec<Cancel>>);

impl Trials {
    /// Asks all of them to stop.
    pub fn stop(&self) {
        lock(&self.0).drain(..).for_each(|cancel| cancel.cancel());
    }

    fn begin(&self) -> Cancel {
        let cancel = Cancel::new();
        let mut running = lock(&self.0);
        running.retain(|cancel| !cancel.is_cancelled());
        running.push(cancel.clone());
        cancel
    }
}

impl App {
    /// The claims of an answer, each put to the test; blocks, as all of these do.
    pub fn check(&self, answer: AnswerRef) -> Result<CheckView, ApiError> {
        let subject = self.subject(answer)?;
        let work = move |engine: &mut Engine, cancel: &Cancel, _: OnTrial| {
            evidence::check(engine, &subject, cancel)
        };
        let view = self.try_it(|_| true, work)?;
        let check = Some(view.clone());
        lock(&self.shared.chats).keep(answer, |message| message.check = check);
        Ok(view)
    }

    /// Covers a region and asks again, and so with a region of the same size elsewhere.
    pub fn cover(
        &self,
        request: CoverRequest,
        on_event: impl FnMut(TrialEvent) -> bool + Send + 'static,
    ) -> Result<CoverView, ApiError> {
        let subject = self.subject(request.answer)?;
        let claim = request.claim.map(|claim| self.claim(request.answer, claim)).transpose()?;
        let (followed, region) = (claim.clone(), request.region);
        let view = self.try_it(on_event, move |engine, cancel, _| {
            evidence::cover(engine, &subject, (followed.as_ref(), region), cancel)
        })?;
        // A claim's own region, and not one that somebody drew, is what its badge speaks of.
        let own = claim.filter(|claim| {
            claim.evidence.as_ref().is_some_and(|evidence| evidence.bbox == region.bbox)
        });
        if let Some(claim) = own {
            self.keep_claim(request.answer, ClaimView { tested: Some(view.clone()), ..claim });
        }
        Ok(view)
    }

    /// Tests one claim thoroughly; tells what every word rests on as it becomes known.
    pub fn test(
        &self,
        answer: AnswerRef,
        claim: u32,
        on_event: impl FnMut(TrialEvent) -> bool + Send + 'static,
    ) -> Result<TestView, ApiError> {
        let (subject, claim) = (self.subject(answer)?, self.claim(answer, claim)?);
        let view = self.try_it(on_event, move |engine, cancel, on| {
            evidence::test(engine, &subject, &claim, (cancel, on))
        })?;
        self.keep_claim(answer, view.claim.clone());
        Ok(view)
    }

    /// What is said, and how likely what was said is, when nothing is seen.
    pub fn without(
        &self,
        answer: AnswerRef,
        on_event: impl FnMut(TrialEvent) -> bool + Send + 'static,
    ) -> Result<WithoutView, ApiError> {
        let subject = self.subject(answer)?;
        self.try_it(on_event, move |engine, cancel, on| {
            evidence::without(engine, &subject, (cancel, on))
        })
    }

    /// Which words of an answer depend on the part of a picture around `at`, px of the original.
    pub fn spot(&self, answer: AnswerRef, image: u32, at: [f32; 2]) -> Result<SpotView, ApiError> {
        let subject = self.subject(answer)?;
        self.try_it(
            |_| true,
            move |engine, cancel, _| evidence::spot(engine, &subject, (image, at), cancel),
        )
    }

    /// Where a picture reads as a word.
    pub fn search_word(&self, chat: u32, image: u32, query: &str) -> Result<WordSearch, ApiError> {
        let asked = conversation(&self.chat(chat)?.messages);
        let known = asked.shots.iter().position(|shot| shot.image == image);
        let known = known.filter(|_| !asked.aside);
        let alone = [Shot { image, part: None }];
        let (messages, shots, picture) = match known {
            Some(picture) => (asked.messages, asked.shots.as_slice(), picture),
            None => (vec![vlm::processor::Message::user(1, "")], &alone[..], 0),
        };
        let seat = Seat { chat, aside: known.is_none() };
        let shots = shots.iter().map(|shot| self.shot(shot));
        let (images, shown) = shots.collect::<Result<(Vec<_>, Vec<_>), ApiError>>()?;
        let query = query.trim().to_string();
        self.try_it(
            |_| true,
            move |engine, cancel, _| {
                let images: Vec<_> = images.iter().map(|image| (**image).clone()).collect();
                let what = (picture, query.as_str());
                evidence::search(engine, (seat, &messages), (&images, &shown), what, cancel)
            },
        )
    }

    /// The raw numbers of an answer.
    pub fn expert(&self, answer: AnswerRef) -> Result<ExpertView, ApiError> {
        let subject = self.subject(answer)?;
        self.try_it(|_| true, move |engine, cancel, _| evidence::expert(engine, &subject, cancel))
    }

    /// The raw attention behind one word.
    pub fn raw_map(&self, request: MapRequest) -> Result<RawMap, ApiError> {
        let subject = self.subject(request.answer)?;
        self.try_it(
            |_| true,
            move |engine, cancel, _| evidence::raw_map(engine, &subject, &request, cancel),
        )
    }

    /// Writes an answer with its evidence to a file.
    pub fn export(
        &self,
        answer: AnswerRef,
        format: ExportFormat,
        path: &Path,
    ) -> Result<(), ApiError> {
        let facts = self.facts(answer)?;
        let text = match format {
            ExportFormat::Json => evidence::json(&facts),
            ExportFormat::Html => evidence::html(&facts),
        };
        std::fs::write(path, text).map_err(|error| {
            let message = format!("{} cannot be written: {error}", path.display());
            failure("file_unwritable", message, "Choose another place.")
        })
    }

    /// Stops whatever is being tried on an answer. Harmless where nothing is.
    pub fn stop_trial(&self) {
        self.shared.trials.stop();
    }

    fn facts(&self, answer: AnswerRef) -> Result<Facts, ApiError> {
        let card = self.wait_until_loaded()?;
        let message = self.answered(answer)?;
        let subject = self.subject(answer)?;
        let numbers = (!subject.images.is_empty()).then(|| self.expert(answer)).transpose()?;
        let reliability = self.reliability()?;
        let pictures = subject.shown.iter().map(|shown| {
            let picture = lock(&self.shared.pictures).get(shown.id)?;
            let (width, height) = picture.image.dimensions();
            let png = picture.display_png()?;
            Ok(PictureFacts { id: shown.id, name: picture.name, width, height, png })
        });
        Ok(Facts {
            program: format!("Sightline {}", env!("CARGO_PKG_VERSION")),
            model: card.name,
            quantization: vlm::Quantization::from(card.quantization).name().to_string(),
            question: subject.question.clone(),
            answer: message.text,
            words: message.words,
            check: message.check,
            numbers,
            marks: reliability.marks,
            measured: reliability.measured,
            pictures: pictures.collect::<Result<_, ApiError>>()?,
        })
    }

    /// An answer and what led to it.
    fn subject(&self, answer: AnswerRef) -> Result<Subject, ApiError> {
        let chat = self.chat(answer.chat)?;
        let made = lock(&self.shared.chats).answer(answer).ok_or_else(|| missing(answer))?;
        let answers = chat.messages.iter().enumerate();
        let answers = answers.filter(|(_, message)| message.role == ChatRole::Assistant);
        let at = answers.map(|(at, _)| at).nth(answer.answer as usize);
        let at = at.filter(|at| *at > 0).ok_or_else(|| missing(answer))?;
        let asked = conversation(&chat.messages[..at]);
        let shots = asked.shots.iter().map(|shot| self.shot(shot));
        let (images, shown) = shots.collect::<Result<(Vec<_>, Vec<_>), ApiError>>()?;
        Ok(Subject {
            seat: Seat { chat: chat.id, aside: asked.aside },
            messages: asked.messages,
            images,
            shown,
            question: chat.messages[at - 1].text.trim().to_string(),
            answer: made,
            maps: self.shows_maps(),
        })
    }

    fn answered(&self, answer: AnswerRef) -> Result<ChatMessage, ApiError> {
        let messages = self.chat(answer.chat)?.messages.into_iter();
        let mut answers = messages.filter(|message| message.role == ChatRole::Assistant);
        answers.nth(answer.answer as usize).ok_or_else(|| missing(answer))
    }

    /// A claim of an answer that was checked.
    fn claim(&self, answer: AnswerRef, index: u32) -> Result<ClaimView, ApiError> {
        let claims = self.answered(answer)?.check.map(|check| check.claims).unwrap_or_default();
        claims.into_iter().find(|claim| claim.index == index).ok_or_else(|| {
            let message = format!("the answer has no claim {index} that was checked");
            failure("no_such_claim", message, "Check the answer first.")
        })
    }

    fn keep_claim(&self, answer: AnswerRef, claim: ClaimView) {
        lock(&self.shared.chats).keep(answer, |message| {
            let claims = message.check.iter_mut().flat_map(|check| &mut check.claims);
            for kept in claims.filter(|kept| kept.index == claim.index) {
                *kept = claim.clone();
            }
        });
    }

    /// Runs something that can be stopped on the engine's thread and waits for it.
    fn try_it<T: Send + 'static>(
        &self,
        mut on_event: impl FnMut(TrialEvent) -> bool + Send + 'static,
        work: impl FnOnce(&mut Engine, &Cancel, OnTrial) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.wait_until_loaded()?;
        let cancel = self.shared.trials.begin();
        self.on_engine(move |engine| {
            let gone = cancel.clone();
            let mut hear = move |event| {
                let heard = on_event(event);
                if !heard {
                    gone.cancel();
                }
                heard
            };
            let result = match cancel.is_cancelled() {
                true => Err(failure("cancelled", "it was stopped", "")),
                false => work(engine, &cancel, &mut hear),
            };
            cancel.cancel(); // it is over
            result
        })
    }

    pub(crate) fn on_engine<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (reply, result) = sync_channel(1);
        let job = move |engine: &mut Engine| {
            // A face that is gone no longer waits for the reply; that is not an error.
            let _ = reply.send(guarded(|| work(engine)));
        };
        self.shared.jobs.send(Job::Work(Box::new(job))).map_err(|_| stopped())?;
        result.recv().map_err(|_| stopped())?
    }
}

fn missing(answer: AnswerRef) -> ApiError {
    let message = format!("chat {} has no answer {}", answer.chat, answer.answer);
    failure("no_such_answer", message, "Ask the question again.")
}
