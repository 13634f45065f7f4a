//! A repository of the Hub: which commit a revision is, and which of its files make a model.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::catalogue::is_repo;
use crate::{Checksum, Client, Entry, Error};

/// What is to be fetched: files of one commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The folder's name.
    pub name: String,
    pub repo: String,
    /// The commit, so that a fetch that goes on later gets the same files.
    pub commit: String,
    pub licence: Option<String>,
    pub files: Vec<RemoteFile>,
}

/// One file of a repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoteFile {
    pub path: String,
    pub size: u64,
    pub checksum: Checksum,
}

/// `api/models/{repo}/revision/{revision}`
#[derive(Deserialize)]
struct About {
    sha: String,
    #[serde(default, rename = "cardData")]
    card: Option<Card>,
}

#[derive(Deserialize)]
struct Card {
    license: Option<serde_json::Value>,
}

/// An item of `api/models/{repo}/tree/{revision}`
#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    /// SHA-256 of the content.
    oid: String,
    size: u64,
}

impl Plan {
    /// The files of a checkpoint: of the catalogue's entry, else by name.
    ///
    /// Errors: the server cannot be reached, refuses, or has no such repository; no weights.
    /// `wait` is asked while nothing comes and returns false to stop.
    pub fn of(
        client: &Client,
        entry: &Entry,
        wait: &mut dyn FnMut() -> bool,
    ) -> Result<Plan, Error> {
        let Entry { repo, revision, .. } = entry;
        crate::files::check_name(&entry.name)?;
        let what = format!("{repo}@{revision}");
        let address = format!("/api/models/{repo}/revision/{}", encoded(revision));
        let about: About = client.json(&what, &client.whole(&what, &address, wait)?.0)?;
        if !is_commit(&about.sha) {
            return Err(client.answer(&what, "it names no commit"));
        }
        let listed = client.tree(repo, &about.sha, wait)?;
        let chosen = choose(entry, &listed).ok_or_else(|| Error::NoWeights { repo: repo.clone() });
        let mut files = Vec::new();
        for path in chosen? {
            let found = listed.iter().find(|file| file.path == path).cloned();
            files.push(found.ok_or_else(|| Error::NotFound {
                host: client.host(),
                what: format!("{repo}/{path}"),
            })?);
        }
        check_against(entry, &files)?;
        let licence = about.card.and_then(|card| card.license);
        let licence = licence.and_then(|value| value.as_str().map(str::to_owned));
        let (name, repo) = (entry.name.clone(), repo.clone());
        Ok(Plan { name, repo, commit: about.sha, licence, files })
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// A small file's content as it is on the server; `None` where the plan has none of that name.
    pub fn read(
        &self,
        client: &Client,
        path: &str,
        wait: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Vec<u8>>, Error> {
        if !self.files.iter().any(|file| file.path == path) {
            return Ok(None);
        }
        let what = format!("{}/{path}", self.repo);
        client.whole(&what, &address(&self.repo, &self.commit, path), wait).map(|(b, _)| Some(b))
    }
}

impl Entry {
    /// A checkpoint that is in no catalogue: `owner/name`, with a revision after an `@`.
    ///
    /// Errors: not of that form.
    pub fn of_repo(text: &str) -> Result<Entry, Error> {
        let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
        let name = repo.split_once('/').map(|(_, name)| name).filter(|_| is_repo(repo));
        let Some(name) = name.filter(|_| !revision.is_empty()) else {
            return Err(Error::Repo { text: text.into() });
        };
        Ok(Entry {
            name: name.into(),
            repo: repo.into(),
            revision: revision.into(),
            family: String::new(),
            model_type: String::new(),
            parameters: 0,
            memory: None,
            licence: String::new(),
            gated: false,
            good_at: Vec::new(),
            files: Vec::new(),
        })
    }
}

/// Where a file's content is.
pub(crate) fn address(repo: &str, commit: &str, path: &str) -> String {
    format!("/{repo}/resolve/{}/{path}", encoded(commit))
}

impl Client {
    fn tree(
        &self,
        repo: &str,
        commit: &str,
        wait: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<RemoteFile>, Error> {
        let what = format!("{repo}@{commit}");
        let mut files = Vec::new();
        let mut page = Some(format!("/api/models/{repo}/tree/{commit}?recursive=true"));
        while let Some(address) = page {
            let (body, next) = self.whole(&what, &address, wait)?;
            let items: Vec<Item> = self.json(&what, &body)?;
            let plain =
                |item: &Item| item.kind == "file" && crate::files::is_plain_path(&item.path);
            files.extend(items.into_iter().filter(plain).map(|item| match item.lfs {
                Some(lfs) => {
                    let checksum = Checksum::Sha256(lfs.oid);
                    RemoteFile { path: item.path, size: lfs.size, checksum }
                }
                None => {
                    let checksum = Checksum::GitBlob(item.oid);
                    RemoteFile { path: item.path, size: item.size, checksum }
                }
            }));
            page = next.filter(|_| files.len() < 10_000);
        }
        Ok(files)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, what: &str, body: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|error| self.answer(what, &error.to_string()))
    }

    fn answer(&self, what: &str, reason: &str) -> Error {
        Error::Answer { host: self.host(), what: what.into(), reason: reason.into() }
    }
}

/// The files that make a model: settings, vocabulary, one set of weights; `None` without weights.
fn choose(entry: &Entry, listed: &[RemoteFile]) -> Option<Vec<String>> {
    if !entry.files.is_empty() {
        return Some(entry.files.iter().map(|file| file.path.clone()).collect());
    }
    const SINGLE: &str = "model.safetensors";
    let has = |name: &str| listed.iter().any(|file| file.path == name);
    let is_shard = |path: &str| path.starts_with("model-") && path.ends_with(".safetensors");
    let settings = |path: &str| {
        let ends = [".json", ".jinja"].iter().any(|end| path.ends_with(end));
        ends && !path.ends_with(".index.json")
    };
    // Beside the files of the folder itself only those of a second tokenizer (InstructBLIP's).
    let near = |path: &str| path.rsplit_once('/').is_none_or(|(dir, _)| dir.ends_with("tokenizer"));
    let words = ["merges.txt", "vocab.txt", "README.md", "LICENSE", "LICENSE.txt", "NOTICE"];
    let mut chosen: BTreeSet<String> = BTreeSet::new();
    for path in listed.iter().map(|file| file.path.as_str()) {
        let sharded = !has(SINGLE) && (is_shard(path) || path == "model.safetensors.index.json");
        let name = path.rsplit('/').next().unwrap_or(path);
        let small = near(path) && (settings(path) || words.contains(&name));
        if path == SINGLE || sharded || small {
            chosen.insert(path.to_owned());
        }
    }
    let has_weights = chosen.iter().any(|path| path.ends_with(".safetensors"));
    has_weights.then(|| chosen.into_iter().collect())
}

/// Where the catalogue knows a size or checksum, the server must agree.
fn check_against(entry: &Entry, files: &[RemoteFile]) -> Result<(), Error> {
    for known in &entry.files {
        let Some(file) = files.iter().find(|file| file.path == known.path) else { continue };
        let path = format!("{}/{}", entry.repo, file.path);
        let differs = |kind, expected: String, found: String| {
            Err(Error::Damaged { file: path.clone(), kind, expected, found })
        };
        if let Some(size) = known.size.filter(|size| *size != file.size) {
            return differs("size", size.to_string(), file.size.to_string());
        }
        if let (Some(sha256), Checksum::Sha256(found)) = (&known.sha256, &file.checksum)
            && !sha256.eq_ignore_ascii_case(found)
        {
            return differs("SHA-256", sha256.clone(), found.clone());
        }
    }
    Ok(())
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A revision as one part of a path: `refs/pr/4` has slashes.
fn encoded(revision: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let bytes = revision.bytes();
    bytes.map(|b| if safe(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(paths: &[&str]) -> Option<Vec<String>> {
        let entry = Entry::of_repo("a/b").expect("a repository");
        let file = |path: &&str| RemoteFile {
            path: path.to_string(),
            size: 1,
            checksum: Checksum::GitBlob(String::new()),
        };
        choose(&entry, &paths.iter().map(file).collect::<Vec<_>>())
    }

    #[test]
    fn one_set_of_weights_is_taken_and_no_foreign_format() {
        let foreign = ["pytorch_model.bin", "tf_model.h5", "consolidated.safetensors", "a.gguf"];
        let single = ["config.json", "model.safetensors", "model.safetensors.index.json"];
        let others = ["model-00001-of-00002.safetensors", "x.jinja", "onnx/config.json"];
        let all = [&foreign[..], &single, &others, &["q_tokenizer/tokenizer.json"]].concat();
        let expected =
            ["config.json", "model.safetensors", "q_tokenizer/tokenizer.json", "x.jinja"];
        assert_eq!(chosen(&all), Some(expected.map(String::from).to_vec()));
        let sharded = ["model.safetensors.index.json", "model-00001-of-00001.safetensors"];
        assert_eq!(chosen(&sharded).map(|files| files.len()), Some(2));
        assert_eq!(chosen(&[&foreign[..], &["config.json"]].concat()), None);
    }

    #[test]
    fn a_repository_is_named_with_its_revision() {
        let entry = Entry::of_repo("owner/Some-Model@refs/pr/4").expect("a repository");
        assert_eq!((entry.name.as_str(), entry.revision.as_str()), ("Some-Model", "refs/pr/4"));
        assert_eq!(encoded("refs/pr/4"), "refs%2Fpr%2F4");
        for wrong in ["model", "a/b/c", "/b", "a/", "../b", "a/b@"] {
            let error = Entry::of_repo(wrong).expect_err(wrong).to_string();
            let expected = format!("`{wrong}` is not of the form OWNER/NAME[@REVISION]; ");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
