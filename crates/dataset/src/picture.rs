//! A picture of a row: where its bytes are, and whether they are a picture.
//!
//! Bytes are read when they are asked for and never kept decoded, so that a data set of any size
//! fits into memory. It does not resize or normalise anything.

use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use image::{ImageFormat, ImageReader, Limits};
use sha2::{Digest, Sha256};

use crate::Error;

/// What the engine opens at most, so that a picture which passes here opens there.
const MAX_BYTES: u64 = 256 << 20;
const MAX_SIDE: u32 = 32_768;
const MAX_PIXELS: u64 = 120_000_000;
const MAX_DECODED: u64 = 768 << 20;

/// The encoded bytes of a picture, wherever they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Picture {
    File(PathBuf),
    /// A stretch of a file, such as a member of a tar.
    Slice {
        file: Arc<PathBuf>,
        offset: u64,
        length: u64,
    },
    /// Embedded in the row.
    Bytes(Arc<[u8]>),
}

/// SHA-256 of a picture's bytes.
pub(crate) type Fingerprint = [u8; 32];

impl Picture {
    /// The encoded bytes.
    ///
    /// Errors: a file that cannot be read, is empty, or is longer than 256 MiB.
    pub fn read(&self) -> Result<Vec<u8>, Error> {
        let bytes = match self {
            Picture::File(path) => {
                let file = File::open(path).map_err(Error::read(path))?;
                let mut bytes = Vec::new();
                file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::read(path))?;
                bytes
            }
            Picture::Slice { file: path, offset, length } => {
                let mut file = File::open(&**path).map_err(Error::read(path))?;
                file.seek(SeekFrom::Start(*offset)).map_err(Error::read(path))?;
                let mut bytes = Vec::new();
                let file = file.take((*length).min(MAX_BYTES + 1));
                let n_read = { file }.read_to_end(&mut bytes).map_err(Error::read(path))?;
                if (n_read as u64) < (*length).min(MAX_BYTES) {
                    return Err(self.fault("its file ends before it does"));
                }
                bytes
            }
            Picture::Bytes(bytes) => bytes.to_vec(),
        };
        match bytes.len() as u64 {
            0 => Err(self.fault("it has 0 bytes")),
            n if n > MAX_BYTES => Err(self.fault("it is longer than 256 MiB")),
            _ => Ok(bytes),
        }
    }

    /// Whether its file is there.
    pub fn exists(&self) -> bool {
        match self {
            Picture::File(path) => path.is_file(),
            Picture::Slice { file, .. } => file.is_file(),
            Picture::Bytes(_) => true,
        }
    }

    /// Decodes the bytes and lets the pixels go: (width, height).
    ///
    /// Errors: no picture, or one larger than 120 million pixels.
    pub(crate) fn size_when_decoded(&self, bytes: &[u8]) -> Result<(u32, u32), Error> {
        // The decoders of the field panic on some damaged files; that is one more broken picture.
        let decoded = catch_unwind(AssertUnwindSafe(|| decode(bytes)));
        match decoded {
            Ok(Ok(size)) => Ok(size),
            Ok(Err(reason)) => Err(self.fault(&reason)),
            Err(_) => Err(self.fault("its decoder gave up")),
        }
    }

    /// Width and height from its header alone.
    pub(crate) fn size(&self) -> Option<(u32, u32)> {
        let bytes = self.read().ok()?;
        let size = || Some(reader(&bytes).ok()?.into_dimensions().ok());
        catch_unwind(AssertUnwindSafe(size)).ok()?.flatten()
    }

    fn fault(&self, reason: &str) -> Error {
        Error::Picture { picture: self.to_string(), reason: reason.to_owned() }
    }
}

fn reader(bytes: &[u8]) -> std::io::Result<ImageReader<Cursor<&[u8]>>> {
    ImageReader::new(Cursor::new(bytes)).with_guessed_format()
}

fn decode(bytes: &[u8]) -> Result<(u32, u32), String> {
    let explain = |error: image::ImageError| error.to_string();
    let read = || reader(bytes).map_err(|error| error.to_string());
    let mut reader = read()?;
    if reader.format().is_none() {
        return Err("it is none of JPEG, PNG, WebP, GIF, BMP and TIFF".into());
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits);
    let (width, height) = read()?.into_dimensions().map_err(explain)?;
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("its {width} x {height} pixels are more than 120 million"));
    }
    let picture = reader.decode().map_err(explain)?;
    Ok((picture.width(), picture.height()))
}

pub(crate) fn fingerprint(bytes: &[u8]) -> Fingerprint {
    Sha256::digest(bytes).into()
}

/// What a file of these bytes is called: "jpg", or "bin" where they are no picture.
pub(crate) fn extension(bytes: &[u8]) -> &'static str {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => "jpg",
        Ok(format) => format.extensions_str().first().copied().unwrap_or("bin"),
        Err(_) => "bin",
    }
}

/// Whether a name ends as pictures do; also those that cannot be opened, which are to be told.
pub(crate) fn is_picture_name(name: &str) -> bool {
    const ENDINGS: &[&str] =
        &["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif", "bin"];
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// "cats/1.jpg", "shard.tar at byte 512", "an embedded picture"
impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Picture::File(path) => write!(f, "{}", path.display()),
            Picture::Slice { file, offset, .. } => {
                write!(f, "{} at byte {offset}", file.display())
            }
            Picture::Bytes(_) => write!(f, "an embedded picture"),
        }
    }
}
