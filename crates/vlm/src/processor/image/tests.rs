//! The real bad files: every one gives a picture or one clear sentence, in bounded time and memory.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

use super::{decode, open};

/// The folder of test material, or `None` with the reason printed.
fn material(folder: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/material");
    let path = root.join(folder);
    if !path.is_dir() {
        println!("skipped: {} is not here", path.display());
        return None;
    }
    Some(path)
}

fn files_under(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() { files_under(&path, found) } else { found.push(path) }
    }
}

fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("an encodable picture");
    bytes.into_inner()
}

fn striped(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 7) as u8, (y * 5) as u8, 90]))
}

/// Most memory this process ever held, in bytes; `None` where the system does not say.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[test]
fn hostile_files_stay_within_time_and_memory() {
    let Some(folder) = material("robustness") else { return };
    let mut files = Vec::new();
    files_under(&folder, &mut files);
    let (mut opened, mut refused) = (0, 0);
    let before = peak_memory();
    for file in &files {
        let started = Instant::now();
        match open(file) {
            Ok(picture) => {
                assert!(picture.width() > 0 && picture.height() > 0);
                opened += 1;
            }
            Err(error) => {
                let name = file.file_name().expect("a name").to_string_lossy().into_owned();
                let message = error.to_string();
                assert!(message.contains(&name), "{message} does not name {name}");
                assert!(message.contains("; "), "{message} has no remedy");
                refused += 1;
            }
        }
        let took = started.elapsed();
        assert!(took < Duration::from_secs(10), "{} took {took:?}", file.display());
    }
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        let grown = (after - before) >> 20;
        println!("peak memory grew by {grown} MB");
        assert!(grown < 1500, "peak memory grew by {grown} MB");
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > 100 && refused > 10, "{opened} opened, {refused} refused");
}

#[test]
fn all_eight_orientations_look_alike() {
    let Some(folder) = material("exif") else { return };
    let upright = open(&folder.join("Landscape_1.jpg")).expect("the upright photo");
    for number in 2..=8 {
        let turned = open(&folder.join(format!("Landscape_{number}.jpg"))).expect("a photo");
        assert_eq!(turned.dimensions(), upright.dimensions(), "orientation {number}");
        let pairs = upright.as_raw().iter().zip(turned.as_raw());
        let total: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = total as f64 / upright.as_raw().len() as f64;
        assert!(mean < 6.0, "orientation {number} differs by {mean} on average");
    }
}

#[test]
fn each_bad_input_is_named_with_its_remedy() {
    let jpeg = encode(&striped(64, 48).into(), ImageFormat::Jpeg);
    let png = encode(&striped(64, 48).into(), ImageFormat::Png);
    let rows: [(&str, &[u8], &str); 8] = [
        ("empty.png", b"", "0 bytes"),
        ("notes.jpg", b"hello, this is no picture", "a text file"),
        ("scan.png", b"%PDF-1.7 ...", "a PDF document"),
        ("phone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC photo"),
        ("web.png", b"\0\0\0\x1cftypavif\0\0\0\0", "an AVIF picture"),
        ("cut.jpg", &jpeg[..jpeg.len() / 2], "ends in the middle"),
        ("cut.png", &png[..png.len() / 2], "damaged"),
        ("head.png", &png[..9], "damaged"),
    ];
    for (name, bytes, expected) in rows {
        let message = decode(name, bytes).expect_err(name).to_string();
        assert!(message.contains(name) && message.contains(expected), "{message}");
    }
    let missing = open(Path::new("/nowhere/lost.png")).expect_err("a missing file").to_string();
    assert!(missing.contains("lost.png"), "{missing}");
}

/// A PNG whose header promises far more pixels than anyone can hold.
#[test]
fn a_bomb_is_refused_by_its_header() {
    let mut png = encode(&striped(8, 8).into(), ImageFormat::Png);
    png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let message = decode("bomb.png", &png).expect_err("a bomb").to_string();
    assert!(message.contains("too large"), "{message}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (!(crc & 1) + 1)))
    })
}

#[test]
fn pixel_kinds_become_rgb() {
    let gray16 = image::ImageBuffer::from_pixel(3, 2, image::Luma([0x8000u16]));
    let clear = RgbaImage::from_pixel(3, 2, Rgba([0, 0, 0, 0]));
    let half = RgbaImage::from_pixel(3, 2, Rgba([255, 0, 0, 128]));
    let rows: [(&str, DynamicImage, [u8; 3]); 3] = [
        ("16-bit", gray16.into(), [128, 128, 128]),
        ("clear", clear.into(), [255, 255, 255]),
        ("half", half.into(), [255, 127, 127]),
    ];
    for (name, picture, expected) in rows {
        // The wrong name on purpose: contents decide.
        let bytes = encode(&picture, ImageFormat::Png);
        let opened = decode(&format!("{name}.jpg"), &bytes).expect(name);
        assert_eq!(opened.get_pixel(1, 1).0, expected, "{name}");
    }
}
