//! Text files as bytes of UTF-8; every other encoding is told by name.

use std::path::Path;

use crate::Error;

const SAVE_AS: &str = "save it as UTF-8 and try again";

/// All bytes of a text file without a byte order mark. That each of them is UTF-8 is left to who
/// reads a row, so that one bad row costs one row.
///
/// Errors: UTF-16, UTF-32, and files that are no text.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = std::fs::read(path).map_err(Error::read(path))?;
    if let Some((what, hint)) = not_utf8(&bytes) {
        return Err(Error::NotText { path: path.to_path_buf(), what, hint });
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(bytes)
}

/// What the first bytes are instead, with what to do.
fn not_utf8(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let head = &bytes[..bytes.len().min(4096)];
    if head.starts_with(b"\xff\xfe\0\0") || head.starts_with(b"\0\0\xfe\xff") {
        return Some(("in UTF-32", SAVE_AS));
    }
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Some(("in UTF-16", SAVE_AS));
    }
    let zeros = |start: usize| head.iter().skip(start).step_by(2).filter(|b| **b == 0).count();
    match (zeros(0), zeros(1)) {
        (0, 0) => None,
        (even, odd) if even.max(odd) * 3 > head.len() && even.min(odd) == 0 => {
            Some(("in UTF-16", SAVE_AS))
        }
        _ => Some(("no text", "choose the data file itself")),
    }
}

/// One cell or caption.
///
/// Errors: says that it is not UTF-8.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes);
    text.map_err(|_| "not UTF-8, perhaps Windows-1252; save the file as UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_told_apart() {
        let utf16: Vec<u8> = "[{\"id\": 1}]".bytes().flat_map(|b| [b, 0]).collect();
        let rows: &[(&[u8], Option<&str>)] = &[
            (b"", None),
            (b"plain", None),
            ("\u{feff}caf\u{e9} \u{4ed6}".as_bytes(), None),
            (b"caf\xe9", None),
            (b"\xff\xfea\0", Some("in UTF-16")),
            (b"\xfe\xff\0a", Some("in UTF-16")),
            (b"\xff\xfe\0\0a\0\0\0", Some("in UTF-32")),
            (&utf16, Some("in UTF-16")),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", Some("no text")),
        ];
        for (bytes, expected) in rows {
            assert_eq!(not_utf8(bytes).map(|(what, _)| what), *expected, "{bytes:?}");
        }
    }
}
