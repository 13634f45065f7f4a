//! A hub on this machine that misbehaves as it is told: the two answers of the interface that are
//! used, and files by range.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

pub const REPO: &str = "owner/model";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How one answer goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This many bytes, then nothing for as long as anybody waits.
    Stall(usize),
    /// This many bytes, then the end of the connection.
    Cut(usize),
    /// A part that begins elsewhere, said so in Content-Range.
    WrongRange,
    /// The part that was asked for by its Content-Range, with the first bytes of the file in it.
    LyingRange,
    /// The whole file, whatever part was asked for.
    IgnoreRange,
    /// The right length and other bytes.
    Garbled,
    /// Another name for the content.
    OtherEtag,
    Status(u16),
    Redirect(String),
}

/// What was asked: path, Range, Authorization.
pub type Asked = (String, Option<String>, Option<String>);

#[derive(Default)]
pub struct State {
    pub files: HashMap<String, Vec<u8>>,
    /// Answers to come for a path that ends so; when they are used up it behaves.
    pub faults: HashMap<String, VecDeque<Fault>>,
    pub asked: Vec<Asked>,
}

#[derive(Clone)]
pub struct Server {
    pub address: String,
    pub state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start(files: &[(&str, Vec<u8>)]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let files = files.iter().map(|(name, bytes)| (name.to_string(), bytes.clone())).collect();
        let state = Arc::new(Mutex::new(State { files, ..Default::default() }));
        let server = Server { address, state };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = serving.clone();
                std::thread::spawn(move || server.answer(stream));
            }
        });
        server
    }

    pub fn will(&self, path: &str, faults: &[Fault]) {
        let faults = faults.iter().cloned().collect();
        self.state.lock().unwrap().faults.insert(path.into(), faults);
    }

    /// The ranges that were asked of a file, in order.
    pub fn ranges(&self, file: &str) -> Vec<Option<String>> {
        let state = self.state.lock().unwrap();
        let of = state.asked.iter().filter(|(path, ..)| path.ends_with(file));
        of.map(|(_, range, _)| range.clone()).collect()
    }

    pub fn forget(&self) {
        self.state.lock().unwrap().asked.clear();
    }

    fn answer(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let path = line.split(' ').nth(1)?.to_owned();
        let (mut range, mut token) = (None, None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim().split_once(": ") else { break };
            match name.to_lowercase().as_str() {
                "range" => range = Some(value.to_owned()),
                "authorization" => token = Some(value.to_owned()),
                _ => {}
            }
        }
        let fault = {
            let mut state = self.state.lock().unwrap();
            state.asked.push((path.clone(), range.clone(), token));
            let key = state.faults.keys().find(|key| path.ends_with(*key)).cloned();
            key.and_then(|key| state.faults.get_mut(&key)?.pop_front())
        };
        self.send(stream, &path, range.as_deref(), fault);
        Some(())
    }

    fn send(&self, mut out: TcpStream, path: &str, range: Option<&str>, fault: Option<Fault>) {
        let mut reply = |status: &str, headers: &str, length: usize, body: &[u8]| {
            let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}");
            let _ = write!(out, "{head}Content-Length: {length}\r\n\r\n");
            let _ = out.write_all(body);
            let _ = out.flush();
        };
        match &fault {
            Some(Fault::Status(status)) => return reply(&format!("{status} No"), "", 2, b"no"),
            Some(Fault::Redirect(to)) => {
                return reply("302 Found", &format!("Location: {to}{path}\r\n"), 0, b"");
            }
            _ => {}
        }
        let Some(mut body) = self.body(path) else { return reply("404 Not Found", "", 0, b"") };
        let asked = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let from: usize = match fault {
            Some(Fault::IgnoreRange) => 0,
            _ => asked.unwrap_or(0),
        };
        let first = if matches!(fault, Some(Fault::WrongRange)) { from / 2 } else { from };
        let whole = body.len();
        if from > whole {
            return reply("416 Range Not Satisfiable", "", 0, b"");
        }
        if matches!(fault, Some(Fault::Garbled)) {
            body.iter_mut().for_each(|byte| *byte ^= 0x55);
        }
        let etag = if matches!(fault, Some(Fault::OtherEtag)) { "two" } else { "one" };
        let mut headers = format!("ETag: \"{etag}\"\r\n");
        let status = if asked.is_some() && !matches!(fault, Some(Fault::IgnoreRange)) {
            headers += &format!("Content-Range: bytes {first}-{}/{whole}\r\n", whole - 1);
            "206 Partial Content"
        } else {
            "200 OK"
        };
        let part = match fault {
            Some(Fault::LyingRange) => &body[..whole - first],
            _ => &body[first..],
        };
        match fault {
            Some(Fault::Stall(n)) => {
                reply(status, &headers, part.len(), &part[..n.min(part.len())]);
                std::thread::sleep(std::time::Duration::from_secs(5));
            }
            Some(Fault::Cut(n)) => reply(status, &headers, part.len(), &part[..n.min(part.len())]),
            _ => reply(status, &headers, part.len(), part),
        }
    }

    fn body(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state.lock().unwrap();
        if path == format!("/api/models/{REPO}/revision/main") {
            let text = format!(r#"{{"sha": "{COMMIT}", "cardData": {{"license": "mit"}}}}"#);
            return Some(text.into_bytes());
        }
        if path.starts_with(&format!("/api/models/{REPO}/tree/{COMMIT}")) {
            let item = |(name, bytes): (&String, &Vec<u8>)| {
                let (size, sha) = (bytes.len(), hex(&Sha256::digest(bytes)));
                let lfs = format!(r#""lfs": {{"oid": "{sha}", "size": {size}}}"#);
                format!(r#"{{"type": "file", "path": "{name}", "size": {size}, "oid": "", {lfs}}}"#)
            };
            let items: Vec<String> = state.files.iter().map(item).collect();
            return Some(format!("[{}]", items.join(",")).into_bytes());
        }
        let file = path.strip_prefix(&format!("/{REPO}/resolve/{COMMIT}/"))?;
        state.files.get(file).cloned()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
