//! `models/catalog.toml`: known checkpoints, what they are good at and what they need.
//!
//! Only what is certain stands there; sizes and checksums it lacks are asked of the server.

use serde::Deserialize;

use crate::Error;

const TEXT: &str = include_str!("../../../models/catalog.toml");

/// Every known checkpoint, in the order of the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    #[serde(rename = "model")]
    pub entries: Vec<Entry>,
}

/// One known checkpoint.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is called here; also the name of its folder.
    pub name: String,
    /// `owner/name` on the Hub.
    pub repo: String,
    /// Branch, tag or commit.
    #[serde(default = "main_branch")]
    pub revision: String,
    /// Such as "SmolVLM".
    pub family: String,
    /// `model_type` of its `config.json`.
    pub model_type: String,
    /// Number of weights, rounded.
    pub parameters: u64,
    /// Bytes in memory, weights in 32 bits and a picture of 512 x 512 pixels; where it was
    /// worked out from the checkpoint's own `config.json`.
    pub memory: Option<u64>,
    /// As the model's page names it.
    pub licence: String,
    /// Its terms must be accepted on its page first.
    #[serde(default)]
    pub gated: bool,
    /// What it is good at, one short phrase each.
    pub good_at: Vec<String>,
    /// The files, where they are known; what the server has, otherwise.
    #[serde(default)]
    pub files: Vec<EntryFile>,
}

/// One file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryFile {
    pub path: String,
    pub size: Option<u64>,
    /// 64 hexadecimal digits.
    pub sha256: Option<String>,
}

fn main_branch() -> String {
    "main".into()
}

impl Catalogue {
    /// The catalogue that comes with the program.
    pub fn shipped() -> Result<Catalogue, Error> {
        Catalogue::parse(TEXT)
    }

    /// Errors: all that is wrong with the text, together.
    pub fn parse(text: &str) -> Result<Catalogue, Error> {
        let parsed: Catalogue =
            toml::from_str(text).map_err(|error| Error::Catalogue(error.to_string()))?;
        let problems = parsed.problems();
        if problems.is_empty() { Ok(parsed) } else { Err(Error::Catalogue(problems.join("; "))) }
    }

    /// The checkpoint of this name or repository, whatever its case.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        let is = |entry: &&Entry| {
            entry.name.eq_ignore_ascii_case(name) || entry.repo.eq_ignore_ascii_case(name)
        };
        self.entries.iter().find(is)
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (idx, entry) in self.entries.iter().enumerate() {
            let mut say = |what: &str| problems.push(format!("{}: {what}", entry.name));
            if !crate::files::is_plain(&entry.name) {
                say("the name cannot be a folder's");
            }
            if !is_repo(&entry.repo) {
                say("the repository is not `owner/name`");
            }
            if entry.parameters == 0 || entry.good_at.is_empty() {
                say("parameters and good_at are needed");
            }
            let is_hash =
                |hash: &String| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
            for file in &entry.files {
                if !crate::files::is_plain_path(&file.path) {
                    say("a file's path is not a plain name");
                }
                if file.sha256.as_ref().is_some_and(|hash| !is_hash(hash)) {
                    say("a sha256 is not 64 hexadecimal digits");
                }
            }
            if self.entries[..idx].iter().any(|other| other.name == entry.name) {
                say("the name is there twice");
            }
        }
        problems
    }
}

/// `owner/name`
pub(crate) fn is_repo(text: &str) -> bool {
    let parts = text.split_once('/');
    parts.is_some_and(|(owner, name)| crate::files::is_plain(owner) && crate::files::is_plain(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_catalogue_is_right_and_found_by_name_and_repository() {
        let catalogue = Catalogue::shipped().expect("the catalogue");
        for repo in [
            "openai/clip-vit-base-patch32",
            "google/siglip2-base-patch16-224",
            "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
            "Qwen/Qwen2-VL-2B-Instruct",
            "Qwen/Qwen2-VL-7B-Instruct",
            "Qwen/Qwen2.5-VL-7B-Instruct",
            "Qwen/Qwen3-VL-4B-Instruct",
            "Qwen/Qwen3-VL-8B-Instruct",
        ] {
            assert!(catalogue.find(repo).is_some(), "{repo}");
        }
        for entry in &catalogue.entries {
            assert_eq!(catalogue.find(&entry.name.to_lowercase()), Some(entry));
            assert_eq!(catalogue.find(&entry.repo), Some(entry));
        }
        assert!(catalogue.find("gpt").is_none());
    }

    #[test]
    fn what_is_wrong_is_said_together() {
        let text = r#"
            [[model]]
            name = "../up"
            repo = "nobody"
            family = "x"
            model_type = "x"
            parameters = 0
            licence = "mit"
            good_at = []
            files = [{ path = "a/../b", sha256 = "12" }]
        "#;
        let error = Catalogue::parse(text).expect_err("wrong").to_string();
        for part in ["folder's", "owner/name", "parameters", "plain name", "64 hexadecimal"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = Catalogue::parse("[[model]]\nnam = 'x'").expect_err("wrong").to_string();
        assert!(error.contains("nam"), "{error}");
    }
}
