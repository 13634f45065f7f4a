//! Files and bytes -> RGB pictures, within bounds.
//!
//! Why: everything a user drops on the window passes here first, so a bomb, a broken download or a
//! camera's sideways photo has to become either upright RGB pixels or one sentence that names the
//! file and says what to do. Knows nothing of models: resizing and normalising come afterwards.

use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::error::ImageError;
use image::{
    DynamicImage, ImageBuffer, ImageDecoder, ImageFormat, ImageReader, Limits, Rgb, RgbImage,
};

use super::jpeg::JpegDecoder;
use crate::Error;

/// Longest side accepted, in pixels.
pub const MAX_SIDE: u32 = 32_768;
/// Largest picture accepted, in pixels (a 108-megapixel phone photo passes). A progressive JPEG in
/// colour takes 12 bytes for each to decode, and with 67 million too much memory.
pub const MAX_PIXELS: u64 = 120_000_000;
/// Largest file read into memory, in bytes.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// Most memory a decoder may ask for, in bytes.
const MAX_ALLOC_BYTES: u64 = 768 << 20;

/// Opens the picture at `path`: upright (EXIF orientation applied), 8-bit RGB, transparency laid
/// over white, the first frame of an animation. The content decides the format, not the name.
///
/// Errors: `Error::Image`, naming the file, what is wrong and what to do.
pub fn open(path: &Path) -> Result<RgbImage, Error> {
    let name = path
        .file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let bytes = read_bounded(path, &name)?;
    decode(&name, &bytes)
}

/// Decodes the picture in `bytes`; `name` is what error messages call it. See [`open`].
pub fn decode(name: &str, bytes: &[u8]) -> Result<RgbImage, Error> {
    if bytes.is_empty() {
        return Err(image_error(name, "the file is empty (0 bytes); copy or download it again"));
    }
    let format = match image::guess_format(bytes) {
        Ok(format) if format.reading_enabled() => format,
        _ => return Err(unknown_format(name, bytes)),
    };
    if format == ImageFormat::Jpeg && !jpeg_has_end(bytes) {
        return Err(damaged(name, "the file ends in the middle of the picture"));
    }
    // A decoder's own bug on hostile bytes must not take the application down with it.
    catch_unwind(AssertUnwindSafe(|| decode_format(name, bytes, format)))
        .unwrap_or_else(|_| Err(damaged(name, "its contents confuse the decoder")))
}

fn read_bounded(path: &Path, name: &str) -> Result<Vec<u8>, Error> {
    let unreadable = |error: std::io::Error| {
        let problem = format!("{error}; check that the file exists and that you may read it");
        image_error(name, problem)
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(image_error(name, "it is a folder; open the pictures inside it"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large(name, format!("more than {} MB", MAX_FILE_BYTES >> 20)));
    }
    Ok(bytes)
}

fn decode_format(name: &str, bytes: &[u8], format: ImageFormat) -> Result<RgbImage, Error> {
    let explain = |error| explain(name, error);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOC_BYTES);
    let mut decoder: Box<dyn ImageDecoder> = if format == ImageFormat::Jpeg {
        Box::new(JpegDecoder::new(bytes).map_err(explain)?)
    } else {
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        reader.limits(limits.clone());
        Box::new(reader.into_decoder().map_err(explain)?)
    };
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(too_large(name, format!("{width} x {height} pixels")));
    }
    if width == 0 || height == 0 {
        return Err(damaged(name, "it has no pixels"));
    }
    limits.reserve(decoder.total_bytes()).map_err(explain)?;
    decoder.set_limits(limits).map_err(explain)?;
    // A damaged EXIF block costs the orientation, not the picture.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(explain)?;
    picture.apply_orientation(orientation);
    Ok(over_white(picture))
}

/// Any pixel type -> 8-bit RGB, transparent pixels shown on white paper.
fn over_white(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let rgba = picture.into_rgba8();
    ImageBuffer::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0;
        let (a, white) = (u32::from(a), 255 * (255 - u32::from(a)));
        Rgb([r, g, b].map(|c| ((u32::from(c) * a + white + 127) / 255) as u8))
    })
}

/// Whether an end-of-image marker follows the first scan. Decoders fill what is missing with grey;
/// a half-grey picture would be answered about as if it were whole.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while at + 4 <= bytes.len() {
        if bytes[at] != 0xFF {
            return true; // Not a well-formed header: the decoder will say what is wrong.
        }
        match bytes[at + 1] {
            0xFF => at += 1,
            0xD0..=0xD9 | 0x01 => at += 2,
            0xDA => return bytes[at..].windows(2).any(|pair| pair == [0xFF, 0xD9]),
            _ => at += 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]])),
        }
    }
    false
}

fn image_error(name: &str, message: impl Into<String>) -> Error {
    Error::Image { name: name.to_owned(), message: message.into() }
}

fn damaged(name: &str, problem: impl std::fmt::Display) -> Error {
    image_error(name, format!("the file is damaged ({problem}); get a fresh copy of it"))
}

fn too_large(name: &str, size: impl std::fmt::Display) -> Error {
    let limit = MAX_PIXELS / 1_000_000;
    let remedy = format!("make it smaller, at most {limit} million pixels, and open that");
    image_error(name, format!("it is too large ({size}); {remedy}"))
}

fn unsupported(name: &str, found: impl std::fmt::Display) -> Error {
    image_error(name, format!("{found}; save it as PNG or JPEG and open that"))
}

fn explain(name: &str, error: ImageError) -> Error {
    match error {
        ImageError::Limits(_) => {
            too_large(name, format!("over {MAX_SIDE} pixels a side, or too much memory to decode"))
        }
        ImageError::Unsupported(kind) => unsupported(name, kind),
        other => damaged(name, other),
    }
}

/// Names what the bytes look like, so that the message says "a HEIC photo" and not "unknown".
fn unknown_format(name: &str, bytes: &[u8]) -> Error {
    let head = &bytes[..bytes.len().min(256)];
    let brand = head.get(4..12).unwrap_or_default();
    let found = match head {
        _ if brand.starts_with(b"ftypavi") => "it is an AVIF picture",
        _ if brand.starts_with(b"ftyphei") || brand.starts_with(b"ftypmif") => "it is a HEIC photo",
        _ if brand.starts_with(b"ftyp") => "it is a video",
        _ if head.starts_with(b"%PDF") => "it is a PDF document",
        _ if head.starts_with(b"PK\x03\x04") => "it is a ZIP archive or an office document",
        _ if head.windows(4).any(|window| window == b"<svg") => "it is an SVG drawing",
        _ if head.is_ascii() => "it is a text file",
        _ => "it holds no picture of a known format",
    };
    unsupported(name, found)
}
