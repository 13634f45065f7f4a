//! What went wrong, as a terminal shows it: one line, a hint, an exit code.
use std::process::ExitCode;

use app::api::ApiError;

/// A failed command.
#[derive(Debug)]
pub struct Problem {
    pub message: String,
    pub hint: String,
    /// 2 for a command typed wrongly, else 1.
    pub exit: u8,
}

impl Problem {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem { message: message.into(), hint: hint.into(), exit: 1 }
    }

    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem { exit: 2, ..Problem::new(message, hint) }
    }

    /// Prints it.
    pub fn report(&self) -> ExitCode {
        eprintln!("sightline: {}", self.message.replace('\n', " "));
        if !self.hint.is_empty() {
            eprintln!("hint: {}", self.hint);
        }
        ExitCode::from(self.exit)
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Problem {
        Problem::new(error.message, error.hint)
    }
}

impl From<vlm::Error> for Problem {
    fn from(error: vlm::Error) -> Problem {
        app::api_error(&error).into()
    }
}

impl From<candle_core::Error> for Problem {
    fn from(error: candle_core::Error) -> Problem {
        vlm::Error::from(error).into()
    }
}

/// Help and version as they are; errors in our own form.
pub fn usage(error: &clap::Error) -> ExitCode {
    let helps = clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !error.use_stderr() || error.kind() == helps {
        // Nobody can be told when the terminal is gone.
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
    }
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let end = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
    let message = lines[..end].join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let tip = lines.iter().find_map(|line| line.strip_prefix("tip: "));
    let form = lines.iter().find_map(|line| line.strip_prefix("Usage: "));
    let hint = match (tip, form) {
        (Some(tip), _) => tip.to_string(),
        (None, Some(form)) => format!("usage: {form}"),
        (None, None) => "see `sightline --help`".to_string(),
    };
    Problem::usage(message, hint).report()
}
