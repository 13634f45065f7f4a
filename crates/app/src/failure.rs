//! The engine's errors, said for people: a code for programs, one sentence, and what to do.

use vlm::Error;

use crate::api::ApiError;

/// An error of the application's own.
pub fn failure(code: &str, message: impl Into<String>, hint: impl Into<String>) -> ApiError {
    ApiError { code: code.into(), message: message.into(), hint: hint.into() }
}

/// What the engine reports. Its sentences end with "; what to do", which becomes the hint.
pub fn api_error(error: &Error) -> ApiError {
    let (code, otherwise) = match error {
        Error::Io { .. } => ("file_unreadable", "Check that the file exists and can be read."),
        Error::Json { .. } => ("file_invalid", "Download the file again."),
        Error::Config { .. } => ("model_config", "Use the config.json saved with the model."),
        Error::Unsupported { .. } => ("model_unsupported", "Choose a model of a supported kind."),
        Error::DualEncoder { .. } => ("model_unsupported", "Open a model that answers questions."),
        Error::Weights { .. } => ("model_weights", "Download the model's weights again."),
        Error::Tensors(_) => ("model_tensors", "Download the whole model folder again."),
        Error::Shape { .. } | Error::ImageTokens { .. } | Error::TokenId { .. } => {
            ("model_mismatch", "Use config.json, tokenizer and weights of the same model.")
        }
        Error::ContextOverflow { .. } => {
            ("prompt_too_long", "Start a new chat, or shorten the question.")
        }
        Error::TextOnly => ("model_text_only", ""),
        Error::Image { .. } => ("image_unreadable", "Open the picture elsewhere and save it anew."),
        Error::Processor { .. } => ("model_processor", "Download the model's small files again."),
        Error::Device { .. } => ("device", "Choose the device cpu, which is always there."),
        Error::Cancelled => ("cancelled", ""),
        _ => ("engine", "Try again; if it stays, please report it with this message."),
    };
    let text = error.to_string();
    match text.rsplit_once("; ") {
        Some((message, hint)) if !matches!(error, Error::Unsupported { .. }) => {
            failure(code, message, sentence(hint))
        }
        _ => failure(code, text, otherwise),
    }
}

/// What went wrong with getting a model; its sentences end with "; what to do" too.
pub(crate) fn hub_error(error: &hub::Error) -> ApiError {
    use hub::Error as E;
    let code = match error {
        E::Offline => "offline",
        E::Setting { .. } => "setting",
        E::Unreachable { .. } => "unreachable",
        E::Refused { .. } => "refused",
        E::NotFound { .. } | E::NoModel { .. } => "model_unknown",
        E::Status { .. } | E::Answer { .. } => "server",
        E::Damaged { .. } => "damaged",
        E::NoWeights { .. } => "no_weights",
        E::DiskTooSmall { .. } | E::DiskFull { .. } => "disk_full",
        E::Write { .. } => "folder_unwritable",
        E::Read { .. } => "file_unreadable",
        E::Manifest { .. } | E::Catalogue(_) => "manifest",
        E::Taken { .. } => "name_taken",
        E::Busy { .. } => "model_busy",
        E::Name { .. } | E::Repo { .. } => "name",
        E::NoOrigin { .. } => "no_origin",
        E::Cancelled => "cancelled",
    };
    let text = error.to_string();
    let (message, hint) = text.rsplit_once("; ").unwrap_or((&text, ""));
    failure(code, message, if hint.is_empty() { String::new() } else { sentence(hint) })
}

/// "check it" -> "Check it."
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_thing_and_say_what_to_do() {
        let rows = [
            (
                Error::Image {
                    name: "a.png".into(),
                    message: "the file is empty (0 bytes); copy it again".into(),
                },
                "image_unreadable | cannot open image a.png: the file is empty (0 bytes) | \
                 Copy it again.",
            ),
            (
                Error::ContextOverflow {
                    tokens: 900,
                    limit: 512,
                    hint: "shorten the question or start a new chat".into(),
                },
                "prompt_too_long | 900 tokens do not fit into the model's context of 512 | \
                 Shorten the question or start a new chat.",
            ),
            (
                Error::Device { device: "cuda".into(), reason: "no driver".into() },
                "device | device `cuda` cannot be used: no driver | \
                 Choose the device cpu, which is always there.",
            ),
        ];
        for (error, expected) in rows {
            let found = api_error(&error);
            assert_eq!(format!("{} | {} | {}", found.code, found.message, found.hint), expected);
        }
    }
}
