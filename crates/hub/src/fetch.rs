//! One file, from the server to its place: into `NAME.part`, on from where it broke off, checked
//! as a whole, then renamed. A file under its own name is always complete and right.

use std::path::{Path, PathBuf};

use crate::checksum::Sums;
use crate::client::{Client, Head, Listening, Piece, is_passing};
use crate::files::length;
use crate::meter::{Meter, Phase};
use crate::repository::address;
use crate::{Disk, Error, RemoteFile};

/// Where files come from and go to.
pub(crate) struct Fetch<'a> {
    pub client: &'a Client,
    pub disk: &'a Disk,
    pub repo: &'a str,
    pub commit: &'a str,
    pub folder: &'a Path,
}

/// How one request ended.
enum Ended {
    /// Every byte is there.
    Whole,
    /// More may come when it is tried again.
    Cut(String),
    /// What is there does not go on with what the server has.
    Afresh(String),
}

impl Fetch<'_> {
    /// Fetches one file; returns its SHA-256. What is there already, whole or in part, is used.
    ///
    /// Errors: damaged twice, no space, refused, unreachable, cancelled. A part stays for next time
    /// but where it was damaged.
    pub fn file(&self, file: &RemoteFile, meter: &mut Meter) -> Result<String, Error> {
        let before = meter.done();
        let (path, part) = (self.folder.join(&file.path), part_of(self.folder, &file.path));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::write(parent))?;
        }
        if path.exists() {
            match self.check(file, &path, meter)? {
                Ok(sha256) => return Ok(sha256),
                Err(_) => meter.back_to(before),
            }
        }
        for last in [false, true] {
            meter.begin(Phase::Downloading, &file.path, before)?;
            self.download(file, &part, meter)?;
            match self.check(file, &part, meter)? {
                Ok(sha256) => {
                    std::fs::rename(&part, &path).map_err(Error::write(&path))?;
                    forget(&etag_of(&part))?;
                    return Ok(sha256);
                }
                Err(error) => {
                    forget(&part)?;
                    forget(&etag_of(&part))?;
                    if last {
                        return Err(error);
                    }
                }
            }
            meter.back_to(before);
        }
        Err(Error::Cancelled)
    }

    /// The SHA-256 of a file that is what it should be; the inner error says what it is instead.
    fn check(
        &self,
        file: &RemoteFile,
        path: &Path,
        meter: &mut Meter,
    ) -> Result<Result<String, Error>, Error> {
        let differs = |kind, expected: &str, found: &str| Error::Damaged {
            file: file.path.clone(),
            kind,
            expected: expected.into(),
            found: found.into(),
        };
        let size = length(path);
        if size != file.size {
            return Ok(Err(differs("size", &file.size.to_string(), &size.to_string())));
        }
        meter.phase(Phase::Verifying)?;
        let sums = Sums::of(path, &mut |_| meter.tick().is_ok())?;
        if sums.fit(&file.checksum) {
            return Ok(Ok(sums.sha256));
        }
        let expected = &file.checksum;
        Ok(Err(differs(expected.kind(), expected.digits(), sums.like(expected))))
    }

    /// Brings `part` to the file's size, with as many requests as it takes.
    fn download(&self, file: &RemoteFile, part: &Path, meter: &mut Meter) -> Result<(), Error> {
        let start = meter.done();
        let mut failures = 0;
        let mut ranges = true;
        loop {
            let mut have = length(part);
            if have > file.size || !ranges {
                forget(part)?;
                have = 0;
            }
            meter.back_to(start);
            meter.begin(Phase::Downloading, &file.path, start + have)?;
            if have == file.size {
                // An empty file has no bytes that would make it.
                (self.disk.append)(part).map(drop).map_err(Error::write(part))?;
                return Ok(());
            }
            let reason = match self.request(file, part, have, meter)? {
                Ended::Whole => return Ok(()),
                Ended::Cut(reason) => reason,
                Ended::Afresh(reason) => {
                    ranges = false;
                    reason
                }
            };
            let got_on = length(part) > have;
            failures = if got_on { 1 } else { failures + 1 };
            if got_on {
                ranges = true;
            }
            if failures >= self.client.pace.attempts {
                return Err(Error::Unreachable { host: self.client.host(), reason });
            }
            meter.phase(Phase::Waiting)?;
            self.client.back_off(failures, &mut || meter.tick().is_ok())?;
        }
    }

    /// One request from byte `have` on.
    fn request(
        &self,
        file: &RemoteFile,
        part: &Path,
        have: u64,
        meter: &mut Meter,
    ) -> Result<Ended, Error> {
        let what = format!("{}/{}", self.repo, file.path);
        let pieces = self.client.get(&address(self.repo, self.commit, &file.path), have)?;
        let mut listening = Listening::new(pieces, self.client.pace.stall);
        let head = match listening.next(&mut || meter.tick().is_ok())? {
            Piece::Head(head) => head,
            Piece::Broken(reason) => return Ok(Ended::Cut(reason)),
            Piece::Data(_) | Piece::End => return Ok(Ended::Cut("an empty answer".into())),
        };
        if is_passing(head.status) {
            return Ok(Ended::Cut(format!("HTTP {}", head.status)));
        }
        if head.status == 416 {
            return Ok(Ended::Afresh("the server cannot go on from there".into()));
        }
        if let Some(error) = self.client.refusal(&what, head.status) {
            return Err(error);
        }
        if let Some(reason) = self.goes_on(file, part, have, &head) {
            return Ok(Ended::Afresh(reason));
        }
        let mut at = have;
        if have > 0 && head.status == 200 {
            // The server does not know ranges and sends everything again.
            forget(part)?;
            meter.back_to(meter.done() - have);
            at = 0;
        }
        if let Some(etag) = &head.etag {
            std::fs::write(etag_of(part), etag).map_err(Error::write(part))?;
        }
        self.body(&mut listening, (part, at, file.size), meter)
    }

    /// Why the answer does not go on where the part ends, if it does not.
    fn goes_on(&self, file: &RemoteFile, part: &Path, have: u64, head: &Head) -> Option<String> {
        if head.status != 206 {
            return None;
        }
        let Some((first, whole)) = head.range else {
            return Some("the server does not say which part it sends".into());
        };
        if first != have || whole.is_some_and(|whole| whole != file.size) {
            return Some(format!("the server sends another part than asked ({first}, not {have})"));
        }
        let known = std::fs::read_to_string(etag_of(part)).ok();
        let changed = known.zip(head.etag.clone()).is_some_and(|(known, now)| known != now);
        changed.then(|| "the file has changed on the server".into())
    }

    /// Writes what comes, from byte `at` of `size` on.
    fn body(
        &self,
        listening: &mut Listening,
        (part, mut at, size): (&Path, u64, u64),
        meter: &mut Meter,
    ) -> Result<Ended, Error> {
        let mut out = (self.disk.append)(part).map_err(Error::write(part))?;
        loop {
            match listening.next(&mut || meter.tick().is_ok())? {
                Piece::Data(data) => {
                    let data = &data[..data.len().min((size - at) as usize)];
                    out.write_all(data).map_err(Error::write(part))?;
                    at += data.len() as u64;
                    meter.add(data.len() as u64)?;
                    if at == size {
                        // More than promised would show in nothing but the checksum of the rest.
                        out.flush().map_err(Error::write(part))?;
                        return sync(part).map(|()| Ended::Whole);
                    }
                }
                Piece::Head(_) | Piece::End => return Ok(Ended::Cut("the answer ended".into())),
                Piece::Broken(reason) => return Ok(Ended::Cut(reason)),
            }
        }
    }
}

/// Where a file is while it is not complete.
pub(crate) fn part_of(folder: &Path, path: &str) -> PathBuf {
    folder.join(format!("{path}.part"))
}

/// What the server called the content of a part.
fn etag_of(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(".etag");
    name.into()
}

fn sync(path: &Path) -> Result<(), Error> {
    let file = std::fs::File::options().append(true).open(path).map_err(Error::write(path))?;
    file.sync_all().map_err(Error::write(path))
}

/// Removes a file; harmless where there is none.
pub(crate) fn forget(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::write(path)(error))
        }
        _ => Ok(()),
    }
}
