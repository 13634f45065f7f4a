//! [`App`]: every function of the application, callable from any thread, cheap to clone.

mod getting;
mod quantization;
mod reliability;
mod shots;
mod trials;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use image::RgbImage;
use vlm::generate::{Answer, Cancel, Event, GenerateOptions};

use crate::api::{
    ApiError, AppState, AskEvent, AskOptions, AskRequest, Chat, ChatMessage, ChatRole, ImageRef,
    ModelCard, ModelRef, ModelState, Tile,
};
use crate::chats::{Asked, Chats, Kept, conversation, n_answers};
use crate::engine::{self, Job, Loaded, Question, Seat};
use crate::failure::{api_error, failure};
use crate::library::{Library, LibraryOptions};
use crate::models;
use crate::pictures::{Picture, Pictures, png};
use crate::settings;
use crate::telling::Teller;

/// Jobs that may wait for the engine.
const MAX_QUEUE: usize = 8;
/// How an answer is made anew when nothing else is said: the likeliest one was just given.
const REGENERATE_TEMPERATURE: f64 = 0.8;

/// How to start.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// The model's folder; the shipped model where absent.
    pub model: Option<PathBuf>,
    /// "cpu", "cuda", "metal", or "auto" where empty.
    pub device: String,
    /// How weights are held in memory; as it is remembered where absent.
    pub quantization: Option<vlm::Quantization>,
    /// Where the user's choices are remembered; nowhere where absent.
    pub settings: Option<PathBuf>,
}

/// The running application. Clones share everything.
#[derive(Clone)]
pub struct App {
    shared: Arc<Shared>,
}

struct Shared {
    device: String,
    jobs: SyncSender<Job>,
    model: Mutex<Model>,
    /// Told when loading has ended.
    settled: Condvar,
    pictures: Mutex<Pictures>,
    chats: Mutex<Chats>,
    n_regenerated: std::sync::atomic::AtomicU64,
    settings: Option<PathBuf>,
    library: Library,
    /// Packed weights run on the CPU only.
    can_quantize: bool,
    trials: trials::Trials,
    /// Stops the measurement that is running.
    measuring: Mutex<Option<Cancel>>,
}

struct Model {
    state: ModelState,
    loaded: Option<Loaded>,
    /// The folder that was asked for first, then the one that is loaded.
    folder: Option<PathBuf>,
    quantization: vlm::Quantization,
}

impl App {
    /// Starts the engine thread, which begins to load the model; returns at once.
    pub fn open(options: OpenOptions) -> App {
        let name = if options.device.is_empty() { "auto" } else { &options.device };
        let device = name.parse().and_then(vlm::choose);
        let device_name = match &device {
            Ok(device) => device_name(device),
            Err(_) => options.device.clone(),
        };
        let (jobs, queue) = sync_channel(MAX_QUEUE);
        let folder = options.model.map_or_else(models::shipped_model, Ok);
        let name = folder.as_ref().map(|folder| models::name_of(folder)).unwrap_or_default();
        let can_quantize = device.as_ref().is_ok_and(candle_core::Device::is_cpu);
        let remembered = options.settings.as_deref().map(settings::read).unwrap_or_default();
        let remembered = if can_quantize { remembered.quantization } else { Default::default() };
        let quantization = options.quantization.unwrap_or(remembered);
        let state = ModelState::Loading { name };
        let asked = folder.as_ref().ok().cloned();
        let model = Model { state, loaded: None, folder: asked, quantization };
        let remembering = options.settings.clone();
        let shared = Shared {
            library: Library::open(LibraryOptions { settings: remembering, ..Default::default() }),
            device: device_name,
            jobs,
            model: Mutex::new(model),
            settled: Condvar::new(),
            pictures: Mutex::new(Pictures::default()),
            chats: Mutex::new(Chats::new()),
            n_regenerated: Default::default(),
            settings: options.settings,
            can_quantize,
            trials: Default::default(),
            measuring: Mutex::default(),
        };
        let app = App { shared: Arc::new(shared) };
        match device {
            Ok(device) => {
                // Deep graphs are walked and dropped recursively.
                let thread = std::thread::Builder::new().name("engine".into());
                let spawned = thread.stack_size(64 << 20).spawn(|| engine::work(queue, device));
                if let Err(error) = spawned {
                    let message = format!("the engine thread cannot start: {error}");
                    app.settle(Err(failure("engine", message, "Close other programs.")));
                    return app;
                }
                app.begin(folder);
            }
            Err(error) => app.settle(Err(api_error(&error))),
        }
        app
    }

    /// Waits until the model is loaded or has failed to.
    pub fn wait_until_loaded(&self) -> Result<ModelCard, ApiError> {
        let mut model = lock(&self.shared.model);
        loop {
            match &model.state {
                ModelState::Ready(card) => return Ok(card.clone()),
                ModelState::Failed(error) => return Err(error.clone()),
                ModelState::Loading { .. } => {
                    let settled = self.shared.settled.wait(model);
                    model = settled.unwrap_or_else(|poisoned| poisoned.into_inner());
                }
            }
        }
    }

    /// Everything a face needs to draw itself.
    pub fn state(&self) -> AppState {
        let ids = lock(&self.shared.pictures).ids();
        // Bound here: as a part of the expression below its lock would be held to the end of it.
        let model = lock(&self.shared.model).state.clone();
        AppState {
            version: env!("CARGO_PKG_VERSION").into(),
            device: self.shared.device.clone(),
            model,
            images: ids.into_iter().filter_map(|id| self.image(id).ok()).collect(),
            chats: lock(&self.shared.chats).all(),
            install: models::install_text(self.shared.library.store().root()),
            models_folder: self.shared.library.settings().folder,
        }
    }

    /// Model folders found: shipped ones, then the user's own.
    pub fn models(&self) -> Vec<ModelRef> {
        let current = self.loaded().map(|loaded| loaded.folder);
        models::find(&self.shared.library.store(), current.as_deref())
    }

    /// Loads another model and waits for it. On failure the one before stays.
    pub fn open_model(&self, folder: &Path) -> Result<ModelCard, ApiError> {
        let how = lock(&self.shared.model).quantization;
        self.replace(folder, how)
    }

    /// Opens a picture from a file.
    pub fn attach_path(&self, path: &Path) -> Result<ImageRef, ApiError> {
        let image = vlm::processor::image::open(path).map_err(|error| api_error(&error))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.attach(&name.unwrap_or_else(|| path.display().to_string()), image, false)
    }

    /// Opens a picture from the bytes of a file (paste, browser).
    pub fn attach_bytes(&self, name: &str, bytes: &[u8]) -> Result<ImageRef, ApiError> {
        let image = vlm::processor::image::decode(name, bytes).map_err(|e| api_error(&e))?;
        self.attach(name, image, false)
    }

    /// One open picture.
    pub fn image(&self, id: u32) -> Result<ImageRef, ApiError> {
        let picture = lock(&self.shared.pictures).get(id)?;
        let tiles = self.tiles(id, &picture);
        Ok(picture.reference(id, tiles))
    }

    /// Closes a picture that no chat uses.
    pub fn forget_image(&self, id: u32) -> Result<(), ApiError> {
        if lock(&self.shared.chats).uses_image(id) {
            let hint = "It stays with its chat; start a new chat to be without it.";
            return Err(failure("image_in_use", "a chat still speaks about this picture", hint));
        }
        lock(&self.shared.pictures).remove(id);
        Ok(())
    }

    /// PNG of the upright original, at most 2048 px a side.
    pub fn image_png(&self, id: u32) -> Result<Vec<u8>, ApiError> {
        let picture = lock(&self.shared.pictures).get(id)?;
        picture.display_png()
    }

    /// PNG of the exact pixels that the model receives; see `ImageRef::tiles`.
    pub fn seen_png(&self, id: u32) -> Result<Vec<u8>, ApiError> {
        let picture = lock(&self.shared.pictures).get(id)?;
        let Some(loaded) = self.loaded() else {
            let hint = "Wait until the model is loaded.";
            return Err(failure("no_model", "no model has seen this picture yet", hint));
        };
        png(&picture.name, &picture.seen(&loaded.processor).0)
    }

    /// The upright original itself, shared.
    pub fn pixels(&self, id: u32) -> Result<Arc<RgbImage>, ApiError> {
        Ok(lock(&self.shared.pictures).get(id)?.image)
    }

    /// Starts an empty chat and returns its number.
    pub fn new_chat(&self) -> u32 {
        lock(&self.shared.chats).start()
    }

    /// One chat with its messages.
    pub fn chat(&self, id: u32) -> Result<Chat, ApiError> {
        lock(&self.shared.chats).get(id)
    }

    /// Answers a question. Blocks until the answer is complete; call it from a thread of its own.
    /// `on_event` returns false when nobody listens any more, which stops the answer.
    /// An error is reported both as `AskEvent::Failed` and as the result.
    pub fn ask(
        &self,
        request: AskRequest,
        mut on_event: impl FnMut(AskEvent) -> bool + Send + 'static,
    ) -> Result<(), ApiError> {
        let cancel = Cancel::new();
        if let Err(error) = self.begin_ask(&request, cancel.clone()) {
            on_event(AskEvent::Failed(error.clone()));
            return Err(error);
        }
        let options = |loaded: &Loaded| with(&request.options, loaded.recommended.clone());
        let result = self.answer(request.chat, options, cancel, Box::new(on_event));
        let drop_question = result.is_err();
        let message = result.as_ref().ok().cloned();
        lock(&self.shared.chats).end(request.chat, message, drop_question);
        result.map(|_| ())
    }

    /// Answers the last question of a chat again, differently unless `options` say how.
    pub fn regenerate(
        &self,
        chat: u32,
        options: AskOptions,
        mut on_event: impl FnMut(AskEvent) -> bool + Send + 'static,
    ) -> Result<(), ApiError> {
        let cancel = Cancel::new();
        let begun = lock(&self.shared.chats).begin_again(chat, cancel.clone());
        let before = match begun {
            Ok(before) => before,
            Err(error) => {
                on_event(AskEvent::Failed(error.clone()));
                return Err(error);
            }
        };
        let count = &self.shared.n_regenerated;
        let seed = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let options = |loaded: &Loaded| {
            let mut default = loaded.recommended.clone();
            default.temperature = default.temperature.max(REGENERATE_TEMPERATURE);
            default.seed = seed;
            with(&options, default)
        };
        let result = self.answer(chat, options, cancel, Box::new(on_event));
        let message = result.as_ref().ok().cloned().or(before);
        lock(&self.shared.chats).end(chat, message, false);
        result.map(|_| ())
    }

    /// Stops the answer of a chat after the token it is at. Harmless where none is running.
    pub fn cancel(&self, chat: u32) {
        lock(&self.shared.chats).cancel(chat);
    }

    /// Stops every answer, measurement and download: the window is closing.
    pub fn cancel_all(&self) {
        lock(&self.shared.chats).cancel_all();
        self.shared.library.stop_all();
        self.stop_trial();
        self.cancel_measuring();
    }
}

impl App {
    /// Opens the example picture and loads the model on a thread that nobody waits for.
    fn begin(&self, folder: Result<PathBuf, ApiError>) {
        let folder = match folder {
            Ok(folder) => folder,
            Err(error) => return self.settle(Err(error)),
        };
        let example = folder.join("example.png");
        if let Ok(image) = vlm::processor::image::open(&example) {
            // Without the example everything else still works.
            let _ = lock(&self.shared.pictures).add("example.png", image, true);
        }
        let app = self.clone();
        std::thread::spawn(move || {
            let how = lock(&app.shared.model).quantization;
            let loaded = app.load(&folder, how);
            app.settle(loaded);
        });
    }

    /// Loads a model in place of the present one, which stays on failure.
    fn replace(&self, folder: &Path, how: vlm::Quantization) -> Result<ModelCard, ApiError> {
        let before = {
            let mut model = lock(&self.shared.model);
            let name = models::name_of(folder);
            std::mem::replace(&mut model.state, ModelState::Loading { name })
        };
        let result = self.load(folder, how);
        let mut model = lock(&self.shared.model);
        match &result {
            Ok(_) => (model.folder, model.quantization) = (Some(folder.to_path_buf()), how),
            Err(_) if matches!(before, ModelState::Ready(_)) => {
                model.state = before;
                self.shared.settled.notify_all();
                return result.map(|loaded| loaded.card);
            }
            Err(_) => {}
        }
        drop(model);
        self.settle(result.clone());
        result.map(|loaded| loaded.card)
    }

    fn load(&self, folder: &Path, how: vlm::Quantization) -> Result<Loaded, ApiError> {
        let (reply, result) = sync_channel(1);
        let job = Job::Load { folder: folder.to_path_buf(), how, reply };
        self.shared.jobs.send(job).map_err(|_| stopped())?;
        result.recv().map_err(|_| stopped())?
    }

    fn settle(&self, result: Result<Loaded, ApiError>) {
        let mut model = lock(&self.shared.model);
        match result {
            Ok(loaded) => {
                model.state = ModelState::Ready(loaded.card.clone());
                model.loaded = Some(loaded);
            }
            Err(error) => model.state = ModelState::Failed(error),
        }
        self.shared.settled.notify_all();
    }

    fn loaded(&self) -> Option<Loaded> {
        lock(&self.shared.model).loaded.clone()
    }

    fn attach(&self, name: &str, image: RgbImage, example: bool) -> Result<ImageRef, ApiError> {
        let id = lock(&self.shared.pictures).add(name, image, example)?;
        self.image(id)
    }

    /// The tiles as the present model receives them; worked out once for each model.
    fn tiles(&self, id: u32, picture: &Picture) -> Vec<Tile> {
        let Some(loaded) = self.loaded() else { return Vec::new() };
        if let Some(tiles) = picture.tiles(loaded.number) {
            return tiles;
        }
        let tiles = picture.seen(&loaded.processor).1;
        lock(&self.shared.pictures).set_tiles(id, loaded.number, tiles.clone());
        tiles
    }

    fn begin_ask(&self, request: &AskRequest, cancel: Cancel) -> Result<(), ApiError> {
        if request.question.trim().is_empty() {
            let hint = "Type a question about the picture.";
            return Err(failure("no_question", "the question is empty", hint));
        }
        self.wait_until_loaded()?;
        for image in request.images.iter().copied().chain(request.region.map(|r| r.image)) {
            lock(&self.shared.pictures).get(image)?;
        }
        let question = ChatMessage {
            role: ChatRole::User,
            text: request.question.trim().to_string(),
            images: request.images.clone(),
            region: request.region,
            words: Vec::new(),
            check: None,
            cancelled: false,
        };
        lock(&self.shared.chats).begin(request.chat, question, cancel)
    }

    /// Has the engine answer the chat as it stands, tells every event, and returns the message.
    fn answer(
        &self,
        chat: u32,
        options: impl Fn(&Loaded) -> GenerateOptions,
        cancel: Cancel,
        on_event: Box<dyn FnMut(AskEvent) -> bool + Send>,
    ) -> Result<Kept, ApiError> {
        let ears = Arc::new(Mutex::new(on_event));
        let result = self.run(chat, options, cancel, ears.clone());
        let (last, result) = match result {
            Ok((kept, event)) => (event, Ok(kept)),
            Err(error) => (AskEvent::Failed(error.clone()), Err(error)),
        };
        (lock(&ears))(last);
        result
    }

    fn run(
        &self,
        chat: u32,
        options: impl Fn(&Loaded) -> GenerateOptions,
        cancel: Cancel,
        ears: Arc<Mutex<Box<dyn FnMut(AskEvent) -> bool + Send>>>,
    ) -> Result<(Kept, AskEvent), ApiError> {
        let loaded = self.loaded().ok_or_else(stopped)?;
        let so_far = self.chat(chat)?;
        let number = n_answers(&so_far);
        let Asked { messages, shots, aside } = conversation(&so_far.messages);
        let shots = shots.iter().map(|shot| self.shot(shot));
        let (images, shown) = shots.collect::<Result<(Vec<_>, Vec<_>), ApiError>>()?;
        let teller = Arc::new(Mutex::new(Teller::new(shown, loaded.maps, loaded.load_ms)));
        let telling = teller.clone();
        let on_event = move |event: Event| {
            let event = lock(&telling).event(event);
            (lock(&ears))(event)
        };
        let options = options(&loaded);
        let on_event = Box::new(on_event);
        let seat = Seat { chat, aside };
        let question = Question { seat, messages, images, options, cancel, on_event };
        let (reply, result) = sync_channel(1);
        self.shared.jobs.send(Job::Ask { question, reply }).map_err(|_| stopped())?;
        let answer: Answer = result.recv().map_err(|_| stopped())??;
        let teller = lock(&teller);
        let finished = teller.finished(number, &answer);
        let message = ChatMessage {
            role: ChatRole::Assistant,
            text: answer.text.clone(),
            images: Vec::new(),
            region: None,
            words: teller.words.clone(),
            check: None,
            cancelled: matches!(finished, AskEvent::Finished { cancelled: true, .. }),
        };
        Ok(((message, Arc::new(answer)), finished))
    }
}

/// `default` with what the user decided.
fn with(options: &AskOptions, default: GenerateOptions) -> GenerateOptions {
    GenerateOptions {
        max_new_tokens: options.max_new_tokens.map_or(default.max_new_tokens, |n| n as usize),
        temperature: options.temperature.map_or(default.temperature, f64::from),
        top_k: options.top_k.map(|k| k as usize).or(default.top_k),
        top_p: options.top_p.map(f64::from).or(default.top_p),
        repetition_penalty: options.repetition_penalty.unwrap_or(default.repetition_penalty),
        seed: options.seed.map_or(default.seed, u64::from),
        evidence: default.evidence,
    }
}

fn device_name(device: &candle_core::Device) -> String {
    let name = vlm::device::name(device);
    match std::thread::available_parallelism() {
        Ok(n) if device.is_cpu() => format!("{name}, {n} threads"),
        _ => name.to_string(),
    }
}

fn no_model() -> ApiError {
    failure("no_model", "no model is loaded", "Open a model folder first.")
}

fn stopped() -> ApiError {
    failure("engine", "the engine has stopped", "Start the program again.")
}

/// A panic elsewhere must not take every other function with it.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
