//! Cuts JSON into its pieces without understanding them.
//!
//! Why: a file of rows is one array, and one wrong character in it makes a parser refuse all of
//! it without a line for anybody to look at. Cut first, each row is parsed alone and knows its
//! line. Nothing here recurses, so depth costs nothing.

/// The bytes of one value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    /// Of its first byte, counted from 1.
    pub line: usize,
    pub bytes: &'a [u8],
}

/// Walks over one array or object.
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
    /// Whether the closing bracket was seen.
    pub closed: bool,
}

impl<'a> Scanner<'a> {
    /// Stands behind the opening bracket; `None` where there is none.
    pub fn open(piece: Piece<'a>, bracket: u8) -> Option<Scanner<'a>> {
        let mut scanner = Scanner { bytes: piece.bytes, at: 0, line: piece.line, closed: false };
        scanner.skip(|byte| byte.is_ascii_whitespace());
        if scanner.peek() != Some(bracket) {
            return None;
        }
        scanner.step();
        Some(scanner)
    }

    /// The next element of an array.
    pub fn element(&mut self) -> Option<Piece<'a>> {
        loop {
            self.skip(|byte| byte.is_ascii_whitespace() || byte == b',');
            match self.peek()? {
                b']' | b'}' => {
                    self.closed = true;
                    return None;
                }
                _ => {}
            }
            let piece = self.value();
            if !piece.bytes.is_empty() {
                return Some(piece);
            }
            self.step();
        }
    }

    /// The next key and value of an object.
    pub fn member(&mut self) -> Option<(String, Piece<'a>)> {
        let key = self.element()?;
        self.skip(|byte| byte.is_ascii_whitespace() || byte == b':');
        let value = self.value();
        let key: String = serde_json::from_slice(key.bytes.trim_ascii()).ok()?;
        Some((key, value))
    }

    /// Up to the comma, colon or bracket behind it.
    fn value(&mut self) -> Piece<'a> {
        let (start, line, mut depth) = (self.at, self.line, 0usize);
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.string();
                    continue;
                }
                b',' | b':' if depth == 0 => break,
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 0 => break,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.step();
                        break;
                    }
                }
                _ => {}
            }
            self.step();
        }
        Piece { line, bytes: &self.bytes[start..self.at] }
    }

    fn string(&mut self) {
        self.step();
        while let Some(byte) = self.peek() {
            self.step();
            match byte {
                b'\\' => self.step(),
                b'"' => return,
                _ => {}
            }
        }
    }

    fn skip(&mut self, skipped: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&skipped) {
            self.step();
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn step(&mut self) {
        self.line += usize::from(self.peek() == Some(b'\n'));
        self.at = (self.at + 1).min(self.bytes.len());
    }
}

impl<'a> Piece<'a> {
    pub fn whole(bytes: &'a [u8]) -> Piece<'a> {
        Piece { line: 1, bytes }
    }

    /// All keys and values of an object; none where it is no object.
    pub fn members(self) -> Vec<(String, Piece<'a>)> {
        let scanner = Scanner::open(self, b'{');
        scanner.map_or_else(Vec::new, |mut s| std::iter::from_fn(|| s.member()).collect())
    }

    /// All elements of an array; none where it is no array.
    pub fn elements(self) -> impl Iterator<Item = Piece<'a>> {
        let mut scanner = Scanner::open(self, b'[');
        std::iter::from_fn(move || scanner.as_mut()?.element())
    }

    /// Parses it.
    ///
    /// Errors: why not, for people, with the line of the file.
    pub fn parse<T: serde::de::DeserializeOwned>(self) -> Result<T, String> {
        serde_json::from_slice(self.bytes).map_err(|error| {
            if error.is_eof() {
                return "it breaks off: the file is cut short".to_owned();
            }
            let message = error.to_string();
            let reason = message.split(" at line ").next().unwrap_or_default();
            let line = self.line + error.line().saturating_sub(1);
            format!("not the JSON of a row: {reason} (line {line})")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text, its elements with their lines, and whether it is closed.
    type Case<'a> = (&'a str, &'a [(usize, &'a str)], bool);

    #[test]
    fn an_array_falls_into_its_elements_whatever_they_hold() {
        let rows: &[Case] = &[
            ("[]", &[], true),
            (
                "[1, \"a,]\\\"\", {\"b\": [2]}]",
                &[(1, "1"), (1, "\"a,]\\\"\""), (1, "{\"b\": [2]}")],
                true,
            ),
            ("\n[\n{},\n\n{}\n,]", &[(3, "{}"), (5, "{}")], true),
            ("[{}, {\"a\": ", &[(1, "{}"), (1, "{\"a\": ")], false),
            ("[{\"a\": }, 3", &[(1, "{\"a\": }"), (1, "3")], false),
            ("[:, ::1]", &[(1, "1")], true),
            ("[\"\\", &[(1, "\"\\")], false),
        ];
        for (text, expected, closed) in rows {
            let mut scanner = Scanner::open(Piece::whole(text.as_bytes()), b'[').expect("a [");
            let found: Vec<_> = std::iter::from_fn(|| scanner.element())
                .map(|piece| (piece.line, std::str::from_utf8(piece.bytes).expect("text")))
                .collect();
            assert_eq!(&found, expected, "{text}");
            assert_eq!(scanner.closed, *closed, "{text}");
        }
    }

    #[test]
    fn an_object_falls_into_its_members() {
        let text = "{\"a\": 1, \"b\":\n[2, {\"c\": 3}] }";
        let members = Piece::whole(text.as_bytes()).members();
        let names: Vec<_> = members.iter().map(|(key, piece)| (key.as_str(), piece.line)).collect();
        assert_eq!(names, [("a", 1), ("b", 2)]);
        assert_eq!(members[1].1.elements().count(), 2);
        assert!(Piece::whole(b"[1]").members().is_empty());
    }
}
