//! Bad pictures: made here, and hundreds of hostile files from the test material.
//!
//! It knows nothing of models: a picture is good or refused before a model sees it.

use image::{ImageFormat, Rgb, RgbImage};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use vlm::processor::image::{decode, open};

/// A decoder that needs longer than this on one file hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn encoded(format: ImageFormat) -> Vec<u8> {
    let picture = RgbImage::from_fn(40, 30, |x, y| Rgb([x as u8 * 6, y as u8 * 8, 90]));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("a small picture can be encoded");
    bytes.into_inner()
}

/// A PNG that says it is 60,000 pixels on a side; its check sums are right.
fn bomb() -> Vec<u8> {
    let mut png = encoded(ImageFormat::Png);
    png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    let check = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&check.to_be_bytes());
    png
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/jpeg");
    std::fs::read(folder.join(name)).expect("a fixture")
}

/// A JPEG whose header says that it is 60,000 pixels on a side.
fn jpeg_bomb() -> Vec<u8> {
    let mut jpeg = encoded(ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).expect("a frame header");
    jpeg[frame + 5..frame + 9].copy_from_slice(&[60_000u16.to_be_bytes(); 2].concat());
    jpeg
}

/// A progressive JPEG of 100 million pixels, each of which would be held in three forms at once.
fn hungry_jpeg() -> Vec<u8> {
    let mut jpeg = fixture("420-progressive.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC2]).expect("a frame header");
    jpeg[frame + 5..frame + 9].copy_from_slice(&[10_000u16.to_be_bytes(); 2].concat());
    jpeg
}

/// A progressive JPEG that refines the same picture a thousand times over.
fn endless_passes() -> Vec<u8> {
    let jpeg = fixture("gray-progressive.jpg");
    let scan = jpeg.windows(2).rposition(|pair| pair == [0xFF, 0xDA]).expect("a scan");
    let (head, end) = (&jpeg[..scan], jpeg.len() - 2);
    [head, &jpeg[scan..end].repeat(1000), &jpeg[end..]].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[test]
fn broken_files_are_refused_by_name() {
    let png = encoded(ImageFormat::Png);
    let jpeg = encoded(ImageFormat::Jpeg);
    let rows: &[(&str, &[u8])] = &[
        ("nothing.png", b""),
        ("letter.png", b"Dear Sir or Madam"),
        ("half.png", &png[..png.len() / 2]),
        ("half.jpg", &jpeg[..jpeg.len() / 2]),
        ("head.gif", b"GIF89a"),
        ("bomb.png", &bomb()),
        ("bomb.jpg", &jpeg_bomb()),
        ("hungry.jpg", &hungry_jpeg()),
        ("passes.jpg", &endless_passes()),
    ];
    for (name, bytes) in rows {
        let error = decode(name, bytes).err().unwrap_or_else(|| panic!("{name} was accepted"));
        let message = error.to_string();
        assert!(message.contains(name), "{name}: {message}");
        assert!(!message.contains('\n') && message.len() < 400, "{name}: {message}");
    }
}

#[test]
fn the_content_decides_not_the_name() {
    for format in [ImageFormat::Png, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::Tiff] {
        let picture = decode("picture.jpg", &encoded(format)).expect("a good picture");
        assert_eq!(picture.dimensions(), (40, 30), "{format:?}");
    }
}

#[test]
fn a_missing_file_and_a_folder_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for path in [folder.path().join("gone.png"), folder.path().to_path_buf()] {
        let message = open(&path).expect_err("no picture").to_string();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert!(message.contains(&name), "{message}");
    }
}

/// A folder of the test material, or None with the reason printed.
fn material(folder: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/material").join(folder);
    if root.is_dir() {
        return Some(root);
    }
    println!("skipped: ../shared/material/{folder} is not on this machine");
    None
}

#[test]
fn hostile_files_give_a_picture_or_one_sentence() {
    let Some(root) = material("robustness") else { return };
    let files = files(&root);
    assert!(files.len() > 100, "{} files", files.len());
    let mut opened = 0;
    for path in &files {
        let (sender, receiver) = mpsc::channel();
        let file = path.clone();
        std::thread::spawn(move || sender.send(open(&file)));
        // A thread that dies drops its sender: that is a panic, and told apart from a hang.
        match receiver.recv_timeout(PATIENCE) {
            Ok(Ok(picture)) => {
                assert!(picture.width() > 0 && picture.height() > 0, "{}", path.display());
                opened += 1;
            }
            Ok(Err(error)) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let message = error.to_string();
                assert!(message.contains(&*name), "{}: {message}", path.display());
            }
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{} hangs", path.display()),
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{} panics", path.display()),
        }
    }
    assert!(opened > 0 && opened < files.len(), "{opened} of {} opened", files.len());
}

#[test]
fn a_photo_looks_the_same_in_all_orientations() {
    let Some(root) = material("exif") else { return };
    let load = |i: usize| open(&root.join(format!("Landscape_{i}.jpg"))).expect("a good photo");
    let upright = load(1);
    for i in 2..=8 {
        let turned = load(i);
        assert_eq!(turned.dimensions(), upright.dimensions(), "orientation {i}");
        let pairs = upright.as_raw().iter().zip(turned.as_raw());
        let difference: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = difference as f64 / upright.as_raw().len() as f64;
        assert!(mean < 12.0, "orientation {i}: mean difference {mean:.1}");
    }
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("a readable folder").flatten() {
            let path = entry.path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}
