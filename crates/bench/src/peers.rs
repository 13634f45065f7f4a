//! The peers, driven through a Python script in an environment of its own.
//!
//! The script comes with the program and is written beside the environment, so that an installed
//! program measures as a checkout does. A peer that is not there is left out with the reason.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use vlm::Quantization;

use crate::Error;
use crate::checkpoint::{Checkpoint, Cut};
use crate::machine::has_bf16;
use crate::work::{Sample, TRAINED, Work};

/// The script that is run, and those that it reads.
const SCRIPTS: [(&str, &str); 4] = [
    ("peers.py", include_str!("../peers/peers.py")),
    ("convert.py", include_str!("../peers/convert.py")),
    ("timing.py", include_str!("../peers/timing.py")),
    ("training.py", include_str!("../peers/training.py")),
];
const REQUIREMENTS: &str = include_str!("../peers/requirements.txt");

/// Another engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Peer {
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    #[serde(rename = "torch-f32")]
    TorchF32,
    #[serde(rename = "torch-bf16")]
    TorchBf16,
    #[serde(rename = "mistral.rs")]
    MistralRs,
}

impl Peer {
    pub const ALL: [Peer; 4] = [Peer::LlamaCpp, Peer::TorchF32, Peer::TorchBf16, Peer::MistralRs];

    /// As the script and the table name it.
    pub fn name(self) -> &'static str {
        match self {
            Peer::LlamaCpp => "llama.cpp",
            Peer::TorchF32 => "torch-f32",
            Peer::TorchBf16 => "torch-bf16",
            Peer::MistralRs => "mistral.rs",
        }
    }

    /// Whether it has the format and does the work: PyTorch has its own formats only, which stand
    /// beside our 8-bit one, and the others do not train.
    pub(crate) fn can(self, quantization: Quantization, work: &[Work]) -> bool {
        match self {
            Peer::LlamaCpp | Peer::MistralRs => work != [Work::Train],
            Peer::TorchF32 | Peer::TorchBf16 => quantization != Quantization::Q4_0,
        }
    }
}

/// The environment of the peers.
pub struct Peers {
    folder: PathBuf,
}

#[derive(Default, Deserialize)]
struct Info {
    torch: Option<String>,
    transformers: Option<String>,
    llama_cpp: Option<String>,
    mistralrs: Option<String>,
}

impl Peers {
    /// The environment in the folder `cache`.
    pub fn new(cache: &Path) -> Peers {
        Peers { folder: cache.join("peers") }
    }

    fn python(&self) -> PathBuf {
        self.folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" })
    }

    /// Makes the environment: some minutes, about 2 GB; llama.cpp is compiled for this processor.
    ///
    /// # Errors
    /// No Python, or the installer failed; it has said why on the terminal.
    pub fn install(&self) -> Result<(), Error> {
        let folder = self.folder.as_os_str();
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let requirements = self.write("requirements.txt", REQUIREMENTS)?;
        run(Command::new(self.python()).args(["-m", "pip", "install", "-r"]).arg(requirements))
    }

    /// The peers that can be measured here with their versions, and why the others cannot.
    ///
    /// # Errors
    /// When the script cannot be written.
    pub fn present(&self) -> Result<(Vec<(Peer, String)>, Vec<String>), Error> {
        let (mut found, mut absent) = (Vec::new(), Vec::new());
        let missing = |what: &str| {
            format!("{what} is not installed: `sightline bench --install-peers` installs it")
        };
        if !self.python().exists() {
            let names = Peer::ALL.iter().map(|peer| missing(peer.name()));
            return Ok((found, names.collect()));
        }
        let mut info = None;
        self.script(&["info"], &mut |line| info = serde_json::from_str::<Info>(line).ok())?;
        let info = info.unwrap_or_default();
        let torch = info.torch.zip(info.transformers);
        let torch = torch.map(|(torch, hub)| format!("PyTorch {torch}, transformers {hub}"));
        let llama = info.llama_cpp.map(|version| format!("llama-cpp-python {version}"));
        let mistral = info.mistralrs.map(|version| format!("mistral.rs {version}"));
        for peer in Peer::ALL {
            let version = match peer {
                Peer::LlamaCpp => &llama,
                Peer::MistralRs => &mistral,
                Peer::TorchF32 | Peer::TorchBf16 => &torch,
            };
            match version {
                None => absent.push(missing(peer.name())),
                Some(_) if peer == Peer::TorchBf16 && !has_bf16() => absent.push(
                    "torch-bf16 is left out: this processor has no bf16 instructions, and without \
                     them it is several times slower than torch-f32"
                        .into(),
                ),
                Some(version) => found.push((peer, version.clone())),
            }
        }
        Ok((found, absent))
    }

    /// The GGUF files of a checkpoint.
    ///
    /// # Errors
    /// When the script fails.
    pub fn convert(&self, checkpoint: &Checkpoint) -> Result<PathBuf, Error> {
        let model = checkpoint.folder(Cut::OneTile);
        let out = model.parent().unwrap_or(model).join("gguf");
        let words = ["convert", "--model", &text(model), "--out", &text(&out)];
        self.script(&words, &mut |_| {})?;
        Ok(out)
    }

    /// Has `peer` do some work in a process of its own.
    ///
    /// # Errors
    /// When the script fails.
    pub fn work(
        &self,
        (peer, quantization): (Peer, Quantization),
        (model, gguf): (&Path, &Path),
        (work, repeats): (&[Work], usize),
        found: &mut dyn FnMut(Sample),
    ) -> Result<(), Error> {
        let is_training = work == [Work::Train];
        let name = |work: &Work| serde_json::to_value(work).ok()?.as_str().map(str::to_string);
        let ours = [Work::DecodeCaptured, Work::SecondQuestion, Work::Memory];
        let names = work.iter().filter(|work| !ours.contains(work)).filter_map(name);
        let names = names.collect::<Vec<_>>().join(",");
        let threads = rayon::current_num_threads().to_string();
        let (model, gguf) = (text(model), text(gguf));
        let repeats = repeats.to_string();
        let (pictures, tokens) = TRAINED;
        let (pictures, tokens) = (pictures.to_string(), tokens.to_string());
        let common = [
            ["--engine", peer.name(), "--model", &model].as_slice(),
            &["--threads", &threads, "--repeats", &repeats],
        ]
        .concat();
        let words = match is_training {
            true => vec!["train", "--batch", &pictures, "--tokens", &tokens],
            false => {
                vec!["run", "--gguf", &gguf, "--format", quantization.name(), "--work", &names]
            }
        };
        let words = [words.as_slice(), &common];
        self.script(&words.concat(), &mut |line| {
            if let Ok(sample) = serde_json::from_str::<Sample>(line) {
                found(sample);
            }
        })
    }

    fn script(&self, words: &[&str], on_line: &mut dyn FnMut(&str)) -> Result<(), Error> {
        for (name, text) in SCRIPTS {
            self.write(name, text)?;
        }
        let mut command = Command::new(self.python());
        command
            .arg(self.folder.join(SCRIPTS[0].0))
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        lines(command, on_line)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.folder.join(name);
        let writing = |source| Error::File { path: path.clone(), source };
        std::fs::create_dir_all(&self.folder).map_err(writing)?;
        std::fs::write(&path, text).map_err(writing)?;
        Ok(path)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn run(command: &mut Command) -> Result<(), Error> {
    let name = format!("{command:?}");
    let failed = |reason: String| Error::Process { command: name.clone(), reason };
    let status = command.status().map_err(|e| failed(e.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(status.to_string())) }
}

/// Runs a command and hands over each line it prints.
pub(crate) fn lines(mut command: Command, on_line: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |reason: String| Error::Process { command: name.clone(), reason };
    let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
    let said = child.stderr.take().map(|stderr| {
        // Read beside the output, so that neither pipe fills up.
        std::thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            lines.last().unwrap_or_default()
        })
    });
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| on_line(&line));
    }
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    let last = said.and_then(|said| said.join().ok()).unwrap_or_default();
    if status.success() { Ok(()) } else { Err(failed(format!("{status}: {last}"))) }
}
