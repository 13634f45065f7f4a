//! The one thread that owns the model.
//!
//! Everyone else sends it jobs over a bounded queue and hears of them through callbacks. A bug in
//! the model's code ends the job, not the thread.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;

use candle_core::Device;
use eval::{Sight, Verdict};
use image::RgbImage;
use vlm::explain::Calibration;
use vlm::generate::{Answer, Cancel, Event, GenerateOptions, Session};
use vlm::processor::{Message, Processor};
use vlm::{Config, Quantization, Vlm};

use crate::api::{ApiError, ModelCard};
use crate::failure::{api_error, failure};

/// Conversations whose cache is kept; older ones are read again when they go on.
const MAX_SESSIONS: usize = 4;

/// What other threads may know of the loaded model.
#[derive(Clone)]
pub(crate) struct Loaded {
    /// Counts the models loaded by this process.
    pub number: u64,
    pub folder: PathBuf,
    pub processor: Arc<Processor>,
    pub card: ModelCard,
    pub recommended: GenerateOptions,
    /// How its evidence is read.
    pub calibration: Arc<Calibration>,
    /// Whether regions may be shown that no test has confirmed.
    pub maps: bool,
    pub load_ms: f32,
}

pub(crate) type OnEvent = Box<dyn FnMut(Event) -> bool + Send>;

/// Whose memory is used: that of a chat, or of what was asked apart from it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    pub chat: u32,
    pub aside: bool,
}

pub(crate) struct Question {
    pub seat: Seat,
    pub messages: Vec<Message>,
    pub images: Vec<Arc<RgbImage>>,
    pub options: GenerateOptions,
    pub cancel: Cancel,
    /// Returns false when nobody listens any more.
    pub on_event: OnEvent,
}

pub(crate) enum Job {
    Load {
        folder: PathBuf,
        how: Quantization,
        reply: SyncSender<Result<Loaded, ApiError>>,
    },
    Ask {
        question: Question,
        reply: SyncSender<Result<Answer, ApiError>>,
    },
    /// Anything else that needs the model; it replies by itself.
    Work(Box<dyn FnOnce(&mut Engine) + Send>),
}

/// The body of the thread: works until every sender is gone.
pub(crate) fn work(jobs: Receiver<Job>, device: Device) {
    let mut engine = Engine { device, model: None, sessions: VecDeque::new(), n_loaded: 0 };
    while let Ok(job) = jobs.recv() {
        // A face that is gone no longer waits for the reply; that is not an error.
        match job {
            Job::Load { folder, how, reply } => {
                let _ = reply.send(guarded(|| engine.load(&folder, how)));
            }
            Job::Ask { question, reply } => {
                let seat = question.seat;
                let result = guarded(|| engine.ask(question));
                if result.is_err() {
                    engine.sessions.retain(|(of, _)| *of != seat);
                }
                let _ = reply.send(result);
            }
            Job::Work(work) => work(&mut engine),
        }
    }
}

/// A bug in the model's code is an error like others.
pub(crate) fn guarded<T>(job: impl FnOnce() -> Result<T, ApiError>) -> Result<T, ApiError> {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| {
        let hint = "Try again; if it stays, please report it with the model's name.";
        Err(failure("engine", "the model's code failed unexpectedly", hint))
    })
}

pub(crate) struct Engine {
    device: Device,
    model: Option<Model>,
    /// The latest last.
    sessions: VecDeque<(Seat, Session)>,
    n_loaded: u64,
}

pub(crate) struct Model {
    pub vlm: Vlm,
    pub processor: Arc<Processor>,
    /// How its evidence is read.
    pub calibration: Calibration,
    sight: Sight,
}

impl Engine {
    fn load(&mut self, folder: &Path, how: Quantization) -> Result<Loaded, ApiError> {
        let (model, card, load_ms) = read(folder, &self.device, how)?;
        self.n_loaded += 1;
        let loaded = Loaded {
            number: self.n_loaded,
            folder: folder.to_path_buf(),
            processor: model.processor.clone(),
            card,
            recommended: GenerateOptions::recommended(&model.vlm.config.generation),
            calibration: Arc::new(model.calibration.clone()),
            maps: eval::evidence::kept(folder).is_none_or(|report| report.maps_are_evidence),
            load_ms,
        };
        self.sessions.clear();
        self.model = Some(model);
        Ok(loaded)
    }

    fn ask(&mut self, mut question: Question) -> Result<Answer, ApiError> {
        let images: Vec<RgbImage> = question.images.iter().map(|image| (**image).clone()).collect();
        self.seeing(question.seat, |model, session| {
            model.can_look_at(&images)?;
            let cancel = question.cancel.clone();
            let mut on_event = |event: Event| {
                if !(question.on_event)(event) {
                    cancel.cancel();
                }
            };
            let answer = session.ask(
                model.both(),
                (&question.messages, &images),
                &question.options,
                &question.cancel,
                &mut on_event,
            );
            answer.map_err(|error| api_error(&error))
        })
    }

    /// Works with the model and what is kept of a conversation.
    pub fn seeing<T>(
        &mut self,
        seat: Seat,
        work: impl FnOnce(&Model, &mut Session) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let Some(model) = &self.model else {
            let hint = "Open a model folder first.";
            return Err(failure("no_model", "no model is loaded", hint));
        };
        let known = self.sessions.iter().position(|(of, _)| *of == seat);
        let session = known.and_then(|idx| self.sessions.remove(idx));
        let mut session = session.map_or_else(|| model.session(), |(_, session)| session);
        let result = work(model, &mut session);
        self.sessions.push_back((seat, session));
        if self.sessions.len() > MAX_SESSIONS {
            self.sessions.pop_front();
        }
        result
    }
}

impl Model {
    /// What the engine's functions take.
    pub fn both(&self) -> (&Vlm, &Processor) {
        (&self.vlm, &self.processor)
    }

    /// A conversation that nothing was said in.
    pub fn session(&self) -> Session {
        Session::new(self.calibration.clone())
    }

    /// An error for pictures before a model that does not see.
    fn can_look_at(&self, images: &[RgbImage]) -> Result<(), ApiError> {
        // A model that reads text only says so itself.
        let sees = self.sight.verdict != Verdict::Blind || !self.vlm.config.sees();
        if sees || images.is_empty() {
            return Ok(());
        }
        let hint = "Load its weights again from where they came, or choose another model; \
                    `sightline eval sight` shows what was tried.";
        let message = format!("this model does not see: {}", self.sight.reason);
        Err(failure("blind", message, hint))
    }
}

/// A model, proven to see, its card, and how long its loading took in milliseconds.
fn read(
    folder: &Path,
    device: &Device,
    how: Quantization,
) -> Result<(Model, ModelCard, f32), ApiError> {
    if !vlm::Checkpoint::is_there(folder) {
        return Err(failure(
            "model_missing",
            format!("{} is no model: it has no config.json and no *.gguf", folder.display()),
            "Choose the folder that holds config.json, tokenizer.json and *.safetensors, or a \
             .gguf file.",
        ));
    }
    let begun = Instant::now();
    let load = || {
        let config = Config::load(folder)?;
        let calibration = eval::calibration(folder, &config, how)?;
        let processor = Processor::load(folder, &config)?;
        let cache = vlm::cache_folder();
        let vlm = Vlm::load_quantized(folder, device, how, cache.as_deref())?;
        Ok((vlm, processor, calibration))
    };
    let (vlm, processor, calibration) = load().map_err(eval_error)?;
    let load_ms = begun.elapsed().as_secs_f32() * 1000.0;
    let held = format!("{} {}", how.name(), vlm::device::name(device));
    let check = || eval::sight::check((&vlm, &processor), &calibration.heads, &Cancel::new());
    let sight = eval::sight::known_or_check(folder, &held, check).map_err(eval_error)?;
    let card = crate::card::card(folder, (&vlm.config, &calibration), (how, &sight));
    Ok((Model { vlm, processor: Arc::new(processor), calibration, sight }, card, load_ms))
}

fn eval_error(error: eval::Error) -> ApiError {
    match error {
        eval::Error::Vlm(error) => api_error(&error),
        error => failure("sight", error.to_string(), "Open the model again."),
    }
}
