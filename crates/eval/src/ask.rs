//! Asks a model about one scene, as a user would, and judges what it says and looks at.
//!
//! It does not know how the judgements of many scenes become figures.

use crate::Error;
use crate::region::Regions;
use crate::{judge, mentions};
use image::RgbImage;
use scenes::{Colour, Existence, Mention, Qa, QaKind, Scene, classes};
use std::path::Path;
use vlm::explain::{Calibration, Evidence};
use vlm::generate::{Answer, Cancel, GenerateOptions, Session, Stop};
use vlm::processor::{Message, Processor};
use vlm::{Config, Quantization, Vlm};

/// Answers are short; a model that goes on has lost its thread.
const MAX_NEW_TOKENS: usize = 64;
/// Larger numbers are a figure of their own.
const MOST_COUNTED: u32 = 5;

/// A model as the program runs it.
pub struct Model {
    pub vlm: Vlm,
    pub processor: Processor,
    pub calibration: Calibration,
    pub regions: Option<Regions>,
}

impl Model {
    /// Reads a model folder, its weights held as `quantization` says, on the CPU.
    pub fn load(model_dir: &Path, quantization: Quantization) -> Result<Model, Error> {
        let config = Config::load(model_dir)?;
        let processor = Processor::load(model_dir, &config)?;
        let calibration = calibration(model_dir, &config, quantization)?;
        let regions = Regions::load(model_dir, &processor)?;
        let (device, cache) = (candle_core::Device::Cpu, vlm::cache_folder());
        let vlm = Vlm::load_quantized(model_dir, &device, quantization, cache.as_deref())?;
        Ok(Model { vlm, processor, calibration, regions })
    }
}

/// How the evidence of a model is read: as the file beside it says, else as it was calibrated on
/// this machine with its weights held so, else as that of a model that nobody calibrated.
///
/// Errors: a file beside it that is not valid; a folder that cannot be read.
pub fn calibration(
    model_dir: &Path,
    config: &Config,
    quantization: Quantization,
) -> Result<Calibration, Error> {
    let own = Calibration::load(model_dir, config)?;
    if model_dir.join("evidence.json").exists() {
        return Ok(own);
    }
    let cached = crate::evidence::cached_at(model_dir, quantization)?;
    let cached = cached.filter(|path| path.exists());
    // A file of an older program counts as none.
    Ok(cached.and_then(|path| Calibration::read(&path, config).ok()).unwrap_or(own))
}

/// What was heard about one scene.
pub struct Heard {
    pub trials: Vec<Trial>,
    /// The text of every answer, in the order of the questions.
    pub answers: Vec<String>,
}

impl Heard {
    /// The judged answers alone, without where they look.
    pub fn only_answers(self) -> Vec<Trial> {
        let looks = ["attended_region_hit", "box_acc50"];
        self.trials.into_iter().filter(|trial| !looks.contains(&trial.figure)).collect()
    }
}

/// One judged question, region, word or mention.
pub struct Trial {
    /// The figure it counts into.
    pub figure: &'static str,
    /// 1 for questions whose answer is no, else 0.
    pub group: usize,
    pub hit: bool,
    /// The right answer, for the baseline of always giving the most frequent one.
    pub truth: String,
    /// How likely it is hit without looking, by the name of what does not look; where there are
    /// none, always giving the most frequent answer is the baseline.
    pub blind: Vec<(&'static str, f64)>,
}

impl Trial {
    fn answer(figure: &'static str, hit: bool, truth: &str) -> Trial {
        Trial { figure, group: 0, hit, truth: truth.to_owned(), blind: Vec::new() }
    }

    fn look(figure: &'static str, hit: bool, blind: Vec<(&'static str, f64)>) -> Trial {
        Trial { blind, ..Trial::answer(figure, hit, "") }
    }
}

/// Asks everything about one scene. In one session the picture is encoded once.
///
/// Errors: those of the engine; `Error::Cancelled` when the user stops.
pub fn ask(
    model: &Model,
    session: &mut Session,
    scene: &Scene,
    cancel: &Cancel,
) -> Result<Heard, Error> {
    let mut heard = ask_only(model, session, (scene, &|_| true), cancel)?;
    if let Some(regions) = model.regions.as_ref().filter(|_| !scene.objects.is_empty()) {
        let said = regions.name(&model.vlm, &model.processor, scene)?;
        for (object, said) in scene.objects.iter().zip(said) {
            let hit = said == object.class;
            heard.trials.push(Trial::answer("region_top1", hit, &object.name));
        }
    }
    Ok(heard)
}

/// Asks the questions of the wanted kinds about one scene.
///
/// Errors: as [`ask`].
pub fn ask_only(
    model: &Model,
    session: &mut Session,
    (scene, wanted): (&Scene, &dyn Fn(QaKind) -> bool),
    cancel: &Cancel,
) -> Result<Heard, Error> {
    let mut heard = Heard { trials: Vec::new(), answers: Vec::new() };
    for qa in chosen(scene).into_iter().filter(|qa| wanted(qa.kind)) {
        let answer = answer(model, session, (&scene.image, &qa.question, true), cancel)?;
        judge_answer(&qa, &answer.text, &mut heard.trials);
        judge_mentions(&qa, &answer.text, scene, &mut heard.trials);
        judge_evidence(&qa, &answer, scene, &mut heard.trials);
        heard.answers.push(answer.text);
    }
    Ok(heard)
}

/// How likely the model finds the true answers to the same questions: for each token of theirs,
/// the natural logarithm of its probability.
///
/// Errors: as [`ask`].
pub fn score(
    model: &Model,
    session: &mut Session,
    scene: &Scene,
    cancel: &Cancel,
) -> Result<Vec<f32>, Error> {
    let images = std::slice::from_ref(&scene.image);
    let mut scores = Vec::new();
    for qa in chosen(scene) {
        let messages = [Message::user(1, &qa.question)];
        let how = (&model.vlm, &model.processor);
        match session.score(how, (&messages, images), &qa.answer, cancel) {
            Err(vlm::Error::Cancelled) => return Err(Error::Cancelled),
            scored => scores.extend(scored?),
        }
    }
    Ok(scores)
}

/// The first question of each kind; "yes" and "no", and "0" and other numbers apart.
fn chosen(scene: &Scene) -> Vec<Qa> {
    let mut kinds = Vec::new();
    let mut first = |qa: &Qa| {
        let kind = (qa.kind, qa.answer.starts_with("Yes"), qa.answer == "0");
        let new = !kinds.contains(&kind);
        kinds.push(kind);
        new
    };
    scenes::questions(scene, scene.seed).into_iter().filter(|qa| first(qa)).collect()
}

/// Greedy, as a user asks; with or without evidence.
pub(crate) fn answer(
    model: &Model,
    session: &mut Session,
    (picture, question, evidence): (&RgbImage, &str, bool),
    cancel: &Cancel,
) -> Result<Answer, Error> {
    let max_new_tokens = MAX_NEW_TOKENS;
    let options = GenerateOptions { max_new_tokens, evidence, ..Default::default() };
    let messages = [Message::user(1, question)];
    let images = std::slice::from_ref(picture);
    let model = (&model.vlm, &model.processor);
    let answer = session.ask(model, (&messages, images), &options, cancel, &mut |_| {})?;
    match answer.stop {
        Stop::Cancelled => Err(Error::Cancelled),
        _ => Ok(answer),
    }
}

fn judge_answer(qa: &Qa, said: &str, trials: &mut Vec<Trial>) {
    let figure = match qa.kind {
        QaKind::Exists(how) => return judge_existence(how, said, trials),
        QaKind::What => "object_accuracy",
        QaKind::Colour => "colour_accuracy",
        QaKind::Count if qa.answer.parse().is_ok_and(|n: u32| n > MOST_COUNTED) => {
            "large_count_accuracy"
        }
        QaKind::Count => "count_accuracy",
        QaKind::Where => "position_accuracy",
        QaKind::At => "named_at_position_accuracy",
        QaKind::Relation | QaKind::RelationOf => "relation_accuracy",
        QaKind::Read => "reading_exact",
        QaKind::List => "list_accuracy",
        QaKind::Caption => "caption_accuracy",
        QaKind::DocumentField => "document_field_accuracy",
        QaKind::ChartValue => "chart_accuracy",
        QaKind::ChartExtreme => "chart_extreme_accuracy",
        QaKind::Unseen => "unseen_accuracy",
        QaKind::Strange => "outside_world",
        QaKind::Verify => "verify_accuracy",
        QaKind::ColourCheck
        | QaKind::RelationCheck
        | QaKind::DocumentCheck
        | QaKind::PlaceCheck => "check_accuracy",
    };
    trials.push(Trial::answer(figure, is_right(qa, said), &qa.answer));
}

/// Whether `said` answers the question rightly.
pub(crate) fn is_right(qa: &Qa, said: &str) -> bool {
    let truth = qa.answer.as_str();
    match qa.kind {
        QaKind::What | QaKind::At | QaKind::Relation | QaKind::RelationOf => {
            let colours: Vec<&str> = Colour::ALL.iter().map(|colour| colour.name()).collect();
            judge::same_object(said, truth, &colours)
        }
        QaKind::Read => judge::same_print(said, truth),
        QaKind::DocumentField | QaKind::ChartValue | QaKind::ChartExtreme => {
            judge::same_text(said, truth)
        }
        QaKind::Exists(_)
        | QaKind::Verify
        | QaKind::ColourCheck
        | QaKind::RelationCheck
        | QaKind::DocumentCheck
        | QaKind::PlaceCheck => judge::yes(said).is_some() && judge::yes(said) == judge::yes(truth),
        _ => judge::same(said, truth),
    }
}

/// "Is there ...?": a yes-question counts beside each kind of no-question. What is neither yes
/// nor no is wrong, and no yes.
fn judge_existence(how: Existence, said: &str, trials: &mut Vec<Trial>) {
    let said = judge::yes(said);
    let truth = how == Existence::Present;
    let (group, name) = if truth { (0, "yes") } else { (1, "no") };
    let mut count = |figure, hit, always_yes| {
        let blind = vec![("always yes", f64::from(always_yes))];
        trials.push(Trial { group, truth: name.to_owned(), ..Trial::look(figure, hit, blind) });
    };
    count("existence_yes_share", said == Some(true), true);
    count("existence_balanced_accuracy", said == Some(truth), truth);
    let f1 = |of: Existence| match of {
        Existence::Random => Some("existence_f1_random"),
        Existence::Popular => Some("existence_f1_popular"),
        Existence::Adversarial => Some("existence_f1_adversarial"),
        Existence::Present => None,
    };
    let absent = [Existence::Random, Existence::Popular, Existence::Adversarial];
    for figure in absent.into_iter().filter(|&of| truth || of == how).filter_map(f1) {
        count(figure, said == Some(truth), truth);
    }
}

/// CHAIR and recall of captions and lists. Where something is written the words of a sign would
/// pass for things, so these pictures are left out.
fn judge_mentions(qa: &Qa, said: &str, scene: &Scene, trials: &mut Vec<Trial>) {
    if !matches!(qa.kind, QaKind::Caption | QaKind::List) || !scene.texts.is_empty() {
        return;
    }
    let named = mentions::named(said);
    let there = (0..classes().len()).filter(|&class| scene.count(class) > 0).count();
    let absent = 1.0 - there as f64 / classes().len() as f64;
    for hallucinated in mentions::hallucinated(&named, scene) {
        trials.push(Trial::look("chair_i", hallucinated, vec![("any class", absent)]));
    }
    let recalled = mentions::recalled(&named, scene);
    for idx in 0..scene.objects.len() {
        let any_class = ("any class", 1.0 / classes().len() as f64);
        trials.push(Trial::look("caption_recall", idx < recalled, vec![any_class]));
    }
}

/// Whether the word that stands for a mention looks at the mention's box. Only mentions that the
/// model said too are judged, and in answers about one thing its strongest word whatever it said.
fn judge_evidence(qa: &Qa, answer: &Answer, scene: &Scene, trials: &mut Vec<Trial>) {
    let denied = judge::yes(&answer.text) == Some(false);
    if denied {
        return;
    }
    for mention in &qa.mentions {
        let Some(words) = qa.answer.get(mention.span.clone()) else { continue };
        let alone = qa.mentions.len() == 1;
        let evidence = match find(&answer.text, words) {
            Some(span) => strongest(answer, &span),
            None if alone => strongest(answer, &(0..answer.text.len())),
            None => continue,
        };
        let hit = evidence.is_some_and(|evidence| inside(evidence.peak, mention.bbox));
        let on_one = qa.mentions.iter().filter(|other| other.span == mention.span).count() == 1;
        if on_one {
            let good = evidence.is_some_and(|evidence| iou(evidence.bbox, mention.bbox) >= 0.5);
            let central = iou(middle(scene), mention.bbox) >= 0.5;
            let blind = vec![("picture's centre", f64::from(central))];
            trials.push(Trial::look("box_acc50", good, blind));
        }
        trials.push(Trial::look("attended_region_hit", hit, blind(mention, scene)));
    }
}

/// Bytes of the first place where `words` stand, case aside.
fn find(text: &str, words: &str) -> Option<std::ops::Range<usize>> {
    let start = text.to_ascii_lowercase().find(&words.to_ascii_lowercase())?;
    Some(start..start + words.len())
}

/// The evidence with the highest score among the words in these bytes.
fn strongest<'a>(answer: &'a Answer, span: &std::ops::Range<usize>) -> Option<&'a Evidence> {
    let touches = |bytes: &std::ops::Range<usize>| bytes.start < span.end && span.start < bytes.end;
    let words = answer.words.iter().filter(|word| touches(&word.bytes));
    words.filter_map(|word| word.evidence.as_ref()).max_by(|a, b| a.score.total_cmp(&b.score))
}

fn inside((x, y): (f32, f32), [x0, y0, x1, y1]: [u32; 4]) -> bool {
    x >= x0 as f32 && x < x1 as f32 && y >= y0 as f32 && y < y1 as f32
}

/// Shared area of two boxes over their joint area.
fn iou(a: [f32; 4], b: [u32; 4]) -> f32 {
    let b = b.map(|v| v as f32);
    let side = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    let area = |[x0, y0, x1, y1]: [f32; 4]| (x1 - x0) * (y1 - y0);
    let shared = side(0) * side(1);
    shared / (area(a) + area(b) - shared).max(f32::MIN_POSITIVE)
}

/// The middle of the picture, half as wide and high.
fn middle(scene: &Scene) -> [f32; 4] {
    let (width, height) = scene.image.dimensions();
    let (w, h) = (width as f32, height as f32);
    [w / 4.0, h / 4.0, w * 0.75, h * 0.75]
}

/// How often looking at the middle, or anywhere, would hit.
fn blind(mention: &Mention, scene: &Scene) -> Vec<(&'static str, f64)> {
    let (width, height) = scene.image.dimensions();
    let centre = inside((width as f32 / 2.0, height as f32 / 2.0), mention.bbox);
    let [x0, y0, x1, y1] = mention.bbox;
    let area = f64::from((x1 - x0) * (y1 - y0)) / f64::from(width * height);
    vec![("picture's centre", f64::from(centre)), ("random place", area)]
}
