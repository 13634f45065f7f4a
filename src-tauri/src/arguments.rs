//! What the window is started with: pictures, and which model. Knows no window.
use std::ffi::OsString;
use std::path::PathBuf;

use app::OpenOptions;

const USAGE: &str = "usage: sightline-app [--model DIR] [--device cpu|cuda|metal] \
                     [--quantization none|q8_0|q4_0] [PICTURE...]";

/// The command line, understood.
#[derive(Debug, Default)]
pub struct Arguments {
    /// Pictures to open at once.
    pub pictures: Vec<PathBuf>,
    /// Which model, and where it runs.
    pub open: OpenOptions,
}

impl Arguments {
    /// Reads the arguments after the program's name; the error is one line for people.
    pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
        let mut arguments = Arguments::default();
        let mut words = words;
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--model") => {
                    let folder = words.next().ok_or(format!("--model needs a folder. {USAGE}"))?;
                    arguments.open.model = Some(folder.into());
                }
                Some("--device") => {
                    let device = words.next().ok_or(format!("--device needs a name. {USAGE}"))?;
                    arguments.open.device = device.to_string_lossy().into_owned();
                }
                Some("--quantization") => {
                    let name =
                        words.next().ok_or(format!("--quantization needs a name. {USAGE}"))?;
                    let parsed = name.to_string_lossy().parse();
                    let wrong = |error| format!("--quantization: {error}. {USAGE}");
                    arguments.open.quantization = Some(parsed.map_err(wrong)?);
                }
                Some(flag) if flag.starts_with("--") => {
                    return Err(format!("{flag} is not known. {USAGE}"));
                }
                _ => arguments.pictures.push(word.into()),
            }
        }
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(words.iter().map(Into::into))
    }

    #[test]
    fn pictures_and_model_are_told_apart() {
        let arguments = parse(&["a b.png", "--model", "m", "c.jpg"]).unwrap();
        assert_eq!(arguments.pictures.len(), 2);
        assert_eq!(arguments.open.model.unwrap().to_str(), Some("m"));
    }

    #[test]
    fn mistakes_are_named() {
        for words in [
            &["--model"] as &[&str],
            &["--fast"],
            &["--device"],
            &["--quantization"],
            &["--quantization", "q5"],
        ] {
            assert!(parse(words).unwrap_err().contains("usage:"), "{words:?}");
        }
    }
}
