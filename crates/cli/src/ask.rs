//! `sightline ask`: a question about pictures, answered as it is thought.
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use app::api::{
    AnswerRef, AskEvent, AskOptions, AskRequest, CheckView, ClaimView, EvidenceView, ExportFormat,
    Timings, Word,
};
use app::{App, OpenOptions};
use serde_json::{Value, json};

use crate::draw::{self, Item, Panel};
use crate::problem::Problem;

/// Ask a question about one or more pictures.
#[derive(clap::Args)]
pub struct Ask {
    /// Picture files, then the question as the last word (in quotes). A model named by `--model`
    /// may be asked without a picture.
    #[arg(required = true, value_name = "IMAGE... QUESTION")]
    items: Vec<String>,
    /// Print one JSON object instead of streaming the answer.
    #[arg(long)]
    json: bool,
    /// The model's folder or .gguf file; the shipped model otherwise.
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Always take the likeliest token.
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p"])]
    greedy: bool,
    /// The same seed gives the same answer.
    #[arg(long)]
    seed: Option<u32>,
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: Option<u32>,
    /// 0 is greedy; higher is more varied.
    #[arg(long, value_parser = temperature)]
    temperature: Option<f32>,
    /// Choose among the K likeliest tokens.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top_k: Option<u32>,
    /// Choose among the likeliest tokens that together have this probability.
    #[arg(long, value_name = "P", value_parser = probability)]
    top_p: Option<f32>,
    /// Draw the pictures with the regions the answer rests on.
    #[arg(long, value_name = "FILE.png")]
    evidence: Option<PathBuf>,
    /// Write the answer with its evidence as one page for any browser, or as JSON.
    #[arg(long, value_name = "FILE.html|FILE.json", value_parser = report)]
    report: Option<PathBuf>,
    /// auto, cpu, cuda or metal.
    #[arg(long, default_value = "auto")]
    device: String,
    /// none, q8_0 or q4_0: hold the weights in 8 or 4 bits, faster and smaller on a CPU.
    #[arg(long, default_value = "none")]
    quantization: app::Quantization,
}

/// What was heard while the answer was made.
#[derive(Default)]
struct Heard {
    text: String,
    tokens: Vec<(String, f32, Option<EvidenceView>)>,
    words: Vec<Word>,
    timings: Timings,
    image_tokens: u32,
    unwritten: Option<std::io::Error>,
}

impl Ask {
    pub fn run(self) -> Result<(), Problem> {
        let (question, pictures) = self.split()?;
        let device = self.device.clone();
        let (model, quantization) = (self.model.clone(), Some(self.quantization));
        let app = App::open(OpenOptions { model, device, quantization, settings: None });
        let images = pictures.iter().map(|path| Ok(app.attach_path(path)?.id));
        let images = images.collect::<Result<Vec<u32>, Problem>>()?;
        let card = app.wait_until_loaded()?;
        let stop = app.clone();
        // Without the handler Ctrl-C simply ends the program.
        let _ = ctrlc::set_handler(move || stop.cancel_all());
        let chat = app.new_chat();
        let options = self.options();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hearing = heard.clone();
        let streaming = !self.json;
        let request = AskRequest { chat, question, images: images.clone(), region: None, options };
        app.ask(request, move |event| {
            hearing.lock().is_ok_and(|mut heard| heard.hear(event, streaming))
        })?;
        let heard = std::mem::take(&mut *heard.lock().map_err(|_| broken())?);
        if let Some(error) = heard.unwritten {
            return Err(crate::output::unwritable(Path::new("the answer"), &error));
        }
        let text = heard.text.trim().to_string();
        if !self.json {
            print("\n")?;
        }
        let shows = self.json || self.evidence.is_some() || self.report.is_some();
        let calibrated = app.reliability()?.calibrated;
        let answer = AnswerRef { chat, answer: 0 };
        let check = (shows && calibrated && !images.is_empty() && !text.is_empty())
            .then(|| app.check(answer))
            .transpose()?;
        if self.json {
            let facts = heard.json(&text, (&card.name, calibrated), &images, check.as_ref());
            print(&format!("{facts}\n"))?;
        }
        if let Some(path) = &self.report {
            app.export(answer, format_of(path), path)?;
            eprintln!("report: {}", path.display());
        }
        let claims = check.map(|check| check.claims).unwrap_or_default();
        self.draw_evidence(&app, &images, (&text, &items(&claims, &heard.words)))
    }

    fn options(&self) -> AskOptions {
        AskOptions {
            max_new_tokens: self.max_new_tokens,
            temperature: if self.greedy { Some(0.0) } else { self.temperature },
            top_k: self.top_k,
            top_p: self.top_p,
            repetition_penalty: None,
            seed: self.seed,
        }
    }

    /// The question and the pictures.
    fn split(&self) -> Result<(String, Vec<PathBuf>), Problem> {
        let form = "usage: sightline ask IMAGE... \"QUESTION\"";
        let Some((question, pictures)) = self.items.split_last() else {
            return Err(Problem::usage("a picture and a question are missing", form));
        };
        if Path::new(question).is_file() {
            return Err(Problem::usage("the question is missing after the pictures", form));
        }
        // Some models read text only; the shipped one is there for pictures.
        if pictures.is_empty() && self.model.is_none() {
            return Err(Problem::usage("the picture is missing before the question", form));
        }
        if question.trim().is_empty() {
            return Err(Problem::usage("the question is empty", form));
        }
        Ok((question.clone(), pictures.iter().map(PathBuf::from).collect()))
    }

    fn draw_evidence(
        &self,
        app: &App,
        images: &[u32],
        (text, items): (&str, &[Item]),
    ) -> Result<(), Problem> {
        let Some(path) = &self.evidence else { return Ok(()) };
        let mut panels = Vec::new();
        for &id in images {
            panels.push(Panel { id, image: app.pixels(id)? });
        }
        let picture = draw::evidence(&panels, text, items);
        let mut png = std::io::Cursor::new(Vec::new());
        picture
            .write_to(&mut png, image::ImageFormat::Png)
            .map_err(|error| Problem::new(format!("the evidence cannot be drawn: {error}"), ""))?;
        crate::output::write(path, png.get_ref())?;
        eprintln!("evidence: {}", path.display());
        Ok(())
    }
}

impl Heard {
    /// Returns false when nobody can be told any more.
    fn hear(&mut self, event: AskEvent, streaming: bool) -> bool {
        match event {
            AskEvent::Started { image_tokens, .. } => self.image_tokens = image_tokens,
            AskEvent::Token { text, logprob, evidence, .. } => {
                let first = self.text.is_empty();
                self.text.push_str(&text);
                let shown = if first { text.trim_start() } else { &text };
                if streaming && let Err(error) = write_out(shown) {
                    self.unwritten = Some(error);
                }
                self.tokens.push((text, logprob, evidence));
            }
            AskEvent::Word(word) => {
                self.words.truncate(word.index as usize);
                self.words.push(word);
            }
            AskEvent::Finished { text, timings, .. } => {
                self.text = text;
                self.timings = timings;
            }
            AskEvent::Failed(_) => {}
        }
        self.unwritten.is_none()
    }

    fn json(
        &self,
        text: &str,
        (model, calibrated): (&str, bool),
        images: &[u32],
        check: Option<&CheckView>,
    ) -> Value {
        let place = |evidence: &EvidenceView| {
            let image = images.iter().position(|&id| id == evidence.image);
            json!({
                "image": image,
                "box": evidence.bbox,
                "score": evidence.score,
                "outline": evidence.outline,
                "area": evidence.area,
                "words": evidence.words,
            })
        };
        let claims = check.map_or(&[] as &[ClaimView], |check| &check.claims).iter().map(|claim| {
            json!({
                "kind": claim.kind,
                "text": claim.text,
                "state": claim.state,
                "probability": claim.probability,
                "with": claim.with,
                "without": claim.without,
                "trusted": claim.trusted,
                "words": claim.words,
                "evidence": claim.evidence.as_ref().map(place),
            })
        });
        let tokens = self.tokens.iter().enumerate().map(|(idx, (text, logprob, evidence))| {
            let content = self.words.iter().any(|word| {
                let tokens = word.first_token..=word.last_token;
                word.evidence.is_some() && tokens.contains(&(idx as u32))
            });
            let evidence = evidence.as_ref().filter(|_| content).map(place);
            json!({ "text": text, "logprob": logprob, "evidence": evidence })
        });
        json!({
            "text": text,
            "tokens": tokens.collect::<Vec<_>>(),
            "calibrated": calibrated,
            "claims": claims.collect::<Vec<_>>(),
            "without_unsupported": check.map(|check| &check.cleaned),
            "timings": {
                "load_ms": self.timings.load_ms,
                "encode_ms": self.timings.encode_ms,
                "prefill_ms": self.timings.prefill_ms,
                "first_token_ms": self.timings.first_token_ms,
                "decode_tokens_per_second": self.timings.decode_tokens_per_second,
            },
            "model": model,
            "image_tokens": self.image_tokens,
        })
    }
}

/// What is drawn: the claims, or the words of a model whose claims cannot be judged.
fn items(claims: &[ClaimView], words: &[Word]) -> Vec<Item> {
    let claim = |claim: &ClaimView| {
        let state = match claim.state {
            app::api::ClaimState::Seen => "seen",
            app::api::ClaimState::Guessed => "guessed",
            app::api::ClaimState::Unsupported => "not supported",
        };
        Item {
            text: claim.text.clone(),
            // Never rounded up to certainty.
            label: format!(
                "{}: {state} {:.0} %",
                claim.text,
                (100.0 * claim.probability).min(99.0)
            ),
            note: format!("{}: {state}; {}.", claim.text, claim.words),
            evidence: claim.evidence.clone(),
        }
    };
    let word = |word: &Word| Item {
        text: word.text.clone(),
        label: match &word.evidence {
            Some(evidence) => format!("{} {:.0} %", word.text, 100.0 * evidence.score),
            None => word.text.clone(),
        },
        note: String::new(),
        evidence: word.evidence.clone(),
    };
    let trusted = claims.iter().filter(|claim| claim.trusted).map(claim);
    let claims: Vec<Item> = trusted.collect();
    if claims.is_empty() { words.iter().map(word).collect() } else { claims }
}

fn report(text: &str) -> Result<PathBuf, String> {
    match text.ends_with(".html") || text.ends_with(".json") {
        true => Ok(PathBuf::from(text)),
        false => Err("give a file that ends in .html or .json".into()),
    }
}

fn format_of(path: &Path) -> ExportFormat {
    match path.extension().is_some_and(|ending| ending == "json") {
        true => ExportFormat::Json,
        false => ExportFormat::Html,
    }
}

fn temperature(text: &str) -> Result<f32, String> {
    number(text).filter(|t| (0.0..=10.0).contains(t)).ok_or("give a number from 0 to 10".into())
}

fn probability(text: &str) -> Result<f32, String> {
    number(text).filter(|p| *p > 0.0 && *p <= 1.0).ok_or("give a number above 0, at most 1".into())
}

fn number(text: &str) -> Option<f32> {
    text.parse().ok()
}

/// Prints to stdout, as an error where it cannot.
pub fn print(text: &str) -> Result<(), Problem> {
    write_out(text).map_err(|error| crate::output::unwritable(Path::new("the output"), &error))
}

fn write_out(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

fn broken() -> Problem {
    Problem::new("the answer was lost", "Ask again.")
}
