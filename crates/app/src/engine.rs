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
use vlm::explain::EvidenceHeads;
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
    pub load_ms: f32,
}

pub(crate) type OnEvent = Box<dyn FnMut(Event) -> bool + Send>;

pub(crate) struct Question {
    pub chat: u32,
    pub messages: Vec<Message>,
    pub images: Vec<Arc<RgbImage>>,
    pub options: GenerateOptions,
    pub cancel: Cancel,
    /// Returns false when nobody listens any more.
    pub on_event: OnEvent,
}

pub(crate) enum Job {
    Load { folder: PathBuf, how: Quantization, reply: SyncSender<Result<Loaded, ApiError>> },
    Ask { question: Question, reply: SyncSender<Result<Answer, ApiError>> },
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
                let chat = question.chat;
                let result = guarded(|| engine.ask(question));
                if result.is_err() {
                    engine.sessions.retain(|(of, _)| *of != chat);
                }
                let _ = reply.send(result);
            }
        }
    }
}

fn guarded<T>(job: impl FnOnce() -> Result<T, ApiError>) -> Result<T, ApiError> {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| {
        let hint = "Try again; if it stays, please report it with the model's name.";
        Err(failure("engine", "the model's code failed unexpectedly", hint))
    })
}

struct Engine {
    device: Device,
    model: Option<Model>,
    /// Chat and its session, the latest last.
    sessions: VecDeque<(u32, Session)>,
    n_loaded: u64,
}

struct Model {
    vlm: Vlm,
    processor: Arc<Processor>,
    heads: EvidenceHeads,
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
            load_ms,
        };
        self.sessions.clear();
        self.model = Some(model);
        Ok(loaded)
    }

    fn ask(&mut self, mut question: Question) -> Result<Answer, ApiError> {
        let Some(model) = &self.model else {
            let hint = "Open a model folder first.";
            return Err(failure("no_model", "no model is loaded", hint));
        };
        // A model that reads text only says so itself.
        let sees = model.sight.verdict != Verdict::Blind || !model.vlm.config.sees();
        if !sees && !question.images.is_empty() {
            let hint = "Load its weights again from where they came, or choose another model; \
                        `sightline eval sight` shows what was tried.";
            let message = format!("this model does not see: {}", model.sight.reason);
            return Err(failure("blind", message, hint));
        }
        let mut session = match self.sessions.iter().position(|(chat, _)| *chat == question.chat) {
            Some(idx) => self.sessions.remove(idx).map(|(_, session)| session),
            None => None,
        }
        .unwrap_or_else(|| Session::new(model.heads.clone()));
        let images: Vec<RgbImage> = question.images.iter().map(|image| (**image).clone()).collect();
        let cancel = question.cancel.clone();
        let mut on_event = |event: Event| {
            if !(question.on_event)(event) {
                cancel.cancel();
            }
        };
        let answer = session.ask(
            (&model.vlm, &model.processor),
            (&question.messages, &images),
            &question.options,
            &question.cancel,
            &mut on_event,
        );
        self.sessions.push_back((question.chat, session));
        if self.sessions.len() > MAX_SESSIONS {
            self.sessions.pop_front();
        }
        answer.map_err(|error| api_error(&error))
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
        let heads = EvidenceHeads::load(folder, &config)?;
        let processor = Processor::load(folder, &config)?;
        let cache = vlm::cache_folder();
        let vlm = Vlm::load_quantized(folder, device, how, cache.as_deref())?;
        Ok((vlm, processor, heads))
    };
    let (vlm, processor, heads) = load().map_err(|error: vlm::Error| api_error(&error))?;
    let load_ms = begun.elapsed().as_secs_f32() * 1000.0;
    let held = format!("{} {}", how.name(), vlm::device::name(device));
    let check = || eval::sight::check((&vlm, &processor), &heads, &Cancel::new());
    let sight = eval::sight::known_or_check(folder, &held, check).map_err(|error| match error {
        eval::Error::Vlm(error) => api_error(&error),
        error => failure("sight", error.to_string(), "Open the model again."),
    })?;
    let card = crate::card::card(folder, (&vlm.config, &heads), (how, &sight));
    Ok((Model { vlm, processor: Arc::new(processor), heads, sight }, card, load_ms))
}
