//! What a file must be: SHA-256, or git's name of a blob, which is what the Hub knows of the small
//! files that it keeps in git itself.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::Error;

/// In hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    Sha256(String),
    /// SHA-1 over "blob LENGTH\0" and the content.
    GitBlob(String),
}

impl Checksum {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Checksum::Sha256(_) => "SHA-256",
            Checksum::GitBlob(_) => "git blob",
        }
    }

    pub(crate) fn digits(&self) -> &str {
        match self {
            Checksum::Sha256(digits) | Checksum::GitBlob(digits) => digits,
        }
    }
}

/// Both checksums of one file.
pub(crate) struct Sums {
    pub sha256: String,
    git_blob: String,
}

impl Sums {
    /// Reads `path` to its end. `on` is told of the bytes read; false stops it.
    pub fn of(path: &Path, on: &mut dyn FnMut(u64) -> bool) -> Result<Sums, Error> {
        let mut file = std::fs::File::open(path).map_err(Error::read(path))?;
        let length = file.metadata().map_err(Error::read(path))?.len();
        let (mut sha256, mut git) = (Sha256::new(), Sha1::new());
        git.update(format!("blob {length}\0"));
        // Only small files are kept in git; a second sum over gigabytes would be for nothing.
        let is_small = length < 1 << 28;
        let mut chunk = vec![0; 1 << 20];
        loop {
            let n = file.read(&mut chunk).map_err(Error::read(path))?;
            if n == 0 {
                break;
            }
            sha256.update(&chunk[..n]);
            if is_small {
                git.update(&chunk[..n]);
            }
            if !on(n as u64) {
                return Err(Error::Cancelled);
            }
        }
        Ok(Sums { sha256: hex(&sha256.finalize()), git_blob: hex(&git.finalize()) })
    }

    /// The found digits of the same kind.
    pub fn like(&self, expected: &Checksum) -> &str {
        match expected {
            Checksum::Sha256(_) => &self.sha256,
            Checksum::GitBlob(_) => &self.git_blob,
        }
    }

    pub fn fit(&self, expected: &Checksum) -> bool {
        self.like(expected).eq_ignore_ascii_case(expected.digits())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sums_are_those_of_sha256sum_and_git() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hello.txt");
        std::fs::write(&path, "hello\n").expect("a file");
        let sums = Sums::of(&path, &mut |_| true).expect("sums");
        let git = Checksum::GitBlob("ce013625030ba8dba906f756967f9e9ca394464a".into());
        let sha = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert!(sums.fit(&git) && sums.fit(&Checksum::Sha256(sha.to_uppercase())));
        assert!(!sums.fit(&Checksum::Sha256("00".into())));
    }
}
