//! WebDataset: a tar whose neighbouring members of one stem are one row, `0001.jpg` with
//! `0001.json` or `0001.txt`.
//!
//! Nothing is unpacked: a picture is a stretch of the tar, read when it is asked for.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use tar::{Archive, Entry, EntryType};

use crate::picture::is_picture_name;
use crate::row::{Origin, Place};
use crate::{Error, Picture};

use super::intake::{Draft, Fault, Intake};
use super::keys::Keys;
use super::places::{Places, is_inside};
use super::{record, text};

/// No row's text is longer.
const MAX_TEXT: u64 = 64 << 20;

/// Members of one stem, as far as they were read.
#[derive(Default)]
struct Sample {
    key: String,
    place: usize,
    pictures: Vec<Picture>,
    json: Option<Vec<u8>>,
    text: Option<Vec<u8>>,
}

/// Reads one shard.
pub(crate) fn read(path: &Path, intake: &mut Intake) -> Result<(), Error> {
    let opened = File::open(path).map_err(Error::read(path))?;
    let total = opened.metadata().map_err(Error::read(path))?.len();
    let mut archive = Archive::new(BufReader::new(opened));
    let entries = archive.entries().map_err(|error| Error::damaged(path, error))?;
    let shard = Shard {
        file: Arc::new(path.to_path_buf()),
        places: Places::of_archive(path, intake.source),
    };
    let (mut sample, mut n_samples) = (Sample::default(), 0);
    for entry in entries {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(_) if n_samples == 0 => return Err(Error::damaged(path, "it is no tar")),
            Err(error) => {
                let message = format!("the tar is damaged from here on: {error}");
                intake.fault(shard.at(n_samples), Fault::Malformed(message));
                break;
            }
        };
        intake.job.step(entry.raw_file_position(), total)?;
        if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !is_inside(&name) {
            let message = format!("the member `{name}` would lie outside of the tar");
            intake.fault(shard.at(n_samples + 1), Fault::Malformed(message));
            continue;
        }
        let (key, ending) = split_name(&name);
        if n_samples == 0 || key != sample.key {
            shard.finish(std::mem::take(&mut sample), intake)?;
            n_samples += 1;
            sample = Sample { key: key.to_owned(), place: n_samples, ..Sample::default() };
        }
        if let Err(reason) = shard.add(&mut sample, ending, &mut entry) {
            intake.fault(shard.at(n_samples), Fault::Malformed(format!("{name}: {reason}")));
        }
    }
    shard.finish(sample, intake)
}

/// The stem ends at the first dot of the file name: "a/b.0.jpg" is ("a/b", "0.jpg").
fn split_name(name: &str) -> (&str, &str) {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[start..].find('.') {
        Some(dot) => (&name[..start + dot], &name[start + dot + 1..]),
        None => (name, ""),
    }
}

struct Shard {
    file: Arc<PathBuf>,
    places: Places,
}

impl Shard {
    fn at(&self, place: usize) -> Origin {
        Origin::new(&self.file, Place::Row(place))
    }

    fn add<R: Read>(
        &self,
        sample: &mut Sample,
        ending: &str,
        entry: &mut Entry<R>,
    ) -> Result<(), String> {
        let last = ending.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        if is_picture_name(&format!(".{last}")) {
            let (offset, length) = (entry.raw_file_position(), entry.size());
            sample.pictures.push(Picture::Slice { file: self.file.clone(), offset, length });
            return Ok(());
        }
        let place = match last.as_str() {
            "json" => &mut sample.json,
            "txt" | "caption" => &mut sample.text,
            _ => return Ok(()),
        };
        let mut bytes = Vec::new();
        let read = entry.take(MAX_TEXT).read_to_end(&mut bytes);
        read.map_err(|error| error.to_string())?;
        *place = Some(bytes);
        Ok(())
    }

    fn finish(&self, sample: Sample, intake: &mut Intake) -> Result<(), Error> {
        if sample.place == 0 {
            return Ok(());
        }
        let is_row = sample.json.is_some() || sample.text.is_some() || !sample.pictures.is_empty();
        if !is_row {
            return Ok(());
        }
        let origin = self.at(sample.place);
        intake.take(origin, self.draft(sample))
    }

    fn draft(&self, sample: Sample) -> Result<Draft, Fault> {
        let caption = sample.text.as_deref().map(text::utf8).transpose()?;
        let mut record: Map<String, Value> = match &sample.json {
            Some(json) => serde_json::from_slice(json)
                .map_err(|error| format!("{}.json: {error}", sample.key))?,
            None => Map::new(),
        };
        if caption.is_none() && sample.json.is_none() {
            return Err(format!("no {0}.json and no {0}.txt beside the picture", sample.key).into());
        }
        record.entry("id").or_insert_with(|| sample.key.clone().into());
        let read = |record: &Map<String, Value>| {
            record::read(record, &Keys::any(), sample.pictures.clone(), &self.places)
        };
        match (read(&record), caption) {
            (Err(Fault::Malformed(_)), Some(caption)) => {
                record.insert("caption".into(), caption.trim().into());
                read(&record)
            }
            (draft, _) => draft,
        }
    }
}
