//! Requests over the network, each on a thread of its own.
//!
//! A read that hangs can not be interrupted, so that whoever asked listens to a channel instead: it
//! notices a stall and a wish to stop at once, and leaves the thread to its own timeout. It knows
//! statuses and headers; what a body means is for others to know.

use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};

use crate::Error;

/// The Hub itself.
const ENDPOINT: &str = "https://huggingface.co";
/// Bytes handed over at a time.
const CHUNK: usize = 256 << 10;
/// Addresses that one request may lead to.
const MAX_REDIRECTS: usize = 10;
/// What may be asked for as a whole.
const MAX_WHOLE: usize = 64 << 20;

/// How the network is reached.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// Address of a mirror; the Hub itself where absent.
    pub endpoint: Option<String>,
    /// `http://`, `https://`, as in `http://name:password@host:port`; as the environment says where
    /// absent.
    pub proxy: Option<String>,
    /// For repositories whose terms must be accepted. It is sent to the endpoint alone, never where
    /// that redirects to, and never in the clear.
    pub token: Option<String>,
    /// Nothing is sent at all.
    pub offline: bool,
    pub pace: Pace,
}

/// How patient the network is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    pub connect: Duration,
    /// A connection that brings nothing for so long is given up.
    pub stall: Duration,
    /// How often in a row it is tried again while nothing arrives.
    pub attempts: u32,
    /// Before the first time; doubled after each, up to sixteen times.
    pub backoff: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(30),
            attempts: 6,
            backoff: Duration::from_secs(1),
        }
    }
}

/// Asks one endpoint.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    offline: bool,
    pub(crate) pace: Pace,
}

/// What precedes a body.
#[derive(Debug)]
pub(crate) struct Head {
    pub status: u16,
    pub etag: Option<String>,
    /// First byte and whole length of a part (`Content-Range: bytes FIRST-LAST/WHOLE`).
    pub range: Option<(u64, Option<u64>)>,
    /// Address of the next page.
    pub next: Option<String>,
}

/// One step of an answer.
#[derive(Debug)]
pub(crate) enum Piece {
    Head(Head),
    Data(Vec<u8>),
    End,
    /// Why there will be no more.
    Broken(String),
}

impl Client {
    /// Errors: an endpoint or proxy that is no address.
    pub fn new(connection: &Connection) -> Result<Client, Error> {
        let Connection { endpoint, proxy, token, offline, pace } = connection;
        let endpoint = endpoint.as_deref().filter(|text| !text.trim().is_empty());
        let endpoint = endpoint.unwrap_or(ENDPOINT).trim().trim_end_matches('/').to_owned();
        let host = host_of(&endpoint);
        let local = ["localhost", "127.0.0.1", "[::1]"].contains(&without_port(&host));
        let wrong = |setting, value: &str, reason: &str| Error::Setting {
            setting,
            value: value.into(),
            reason: reason.into(),
        };
        if host.is_empty() || !endpoint.starts_with("http") {
            let reason = "it is not an address such as https://hub.example.org";
            return Err(wrong("mirror", &endpoint, reason));
        }
        let token = token.as_ref().map(|token| token.trim().to_owned()).filter(|t| !t.is_empty());
        let token = token.filter(|_| endpoint.starts_with("https://") || local);
        let proxy = match proxy.as_deref().map(str::trim).filter(|proxy| !proxy.is_empty()) {
            None => Proxy::try_from_env().filter(|_| !local),
            Some(address) => Some(Proxy::new(address).map_err(|_| {
                wrong("proxy", address, "it is not an address such as http://host:8080")
            })?),
        };
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls)
            .proxy(proxy)
            // Followed here, so that the token goes where it belongs: the Hub leads to other paths
            // of its own, which need it, and to other hosts, which must not see it.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("sightline/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(pace.connect))
            .timeout_connect(Some(pace.connect))
            .timeout_recv_response(Some(pace.stall))
            .timeout_per_read(Some(pace.stall))
            .build();
        let agent = Agent::new_with_config(agent);
        Ok(Client { agent, endpoint, token, offline: *offline, pace: *pace })
    }

    /// The endpoint's host, as errors name it.
    pub fn host(&self) -> String {
        host_of(&self.endpoint)
    }

    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Asks for `address`, a path of the endpoint or a whole address on it, from this byte on.
    /// Errors: offline.
    pub(crate) fn get(&self, address: &str, from: u64) -> Result<Receiver<Piece>, Error> {
        if self.offline {
            return Err(Error::Offline);
        }
        let (tell, pieces) = sync_channel(4);
        let url = match address.strip_prefix('/') {
            Some(path) => format!("{}/{path}", self.endpoint),
            None => address.to_owned(),
        };
        let client = self.clone();
        let asked = std::thread::Builder::new().name("fetch".into()).spawn(move || {
            let last = match client.follow(url, from) {
                Ok(answer) => hand_over(answer, &tell),
                Err(reason) => Some(Piece::Broken(reason)),
            };
            // Nobody listens any more: that is how a job is stopped.
            last.map(|piece| tell.send(piece))
        });
        let host = self.host();
        asked.map_err(|error| Error::Unreachable { host, reason: error.to_string() })?;
        Ok(pieces)
    }

    /// Asks for an address and for those it leads to; the error says why there is no answer.
    fn follow(&self, mut url: String, from: u64) -> Result<Response<Body>, String> {
        for _ in 0..MAX_REDIRECTS {
            let mut request = self.agent.get(&url).header("Accept-Encoding", "identity");
            let own = url.strip_prefix(&self.endpoint).is_some_and(|rest| rest.starts_with('/'));
            if let Some(token) = self.token.as_ref().filter(|_| own) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let answer = request.call().map_err(|error| error.to_string())?;
            let to = answer.headers().get("location").and_then(|to| to.to_str().ok());
            let Some(to) = to.filter(|_| answer.status().is_redirection()) else {
                return Ok(answer);
            };
            let next = joined(&url, to);
            if url.starts_with("https://") && !next.starts_with("https://") {
                return Err("it leads to an address without encryption".into());
            }
            url = next;
        }
        Err("it leads from address to address without end".into())
    }

    /// The error that a status means, if any.
    pub(crate) fn refusal(&self, what: &str, status: u16) -> Option<Error> {
        let (host, what) = (self.host(), what.to_owned());
        match status {
            200 | 206 => None,
            401 | 403 => Some(Error::Refused { host, what, status, with_token: self.has_token() }),
            404 => Some(Error::NotFound { host, what }),
            _ => Some(Error::Status { host, what, status }),
        }
    }

    /// A whole answer and the address of the next page; tried again where the network fails.
    pub(crate) fn whole(
        &self,
        what: &str,
        address: &str,
        wait: &mut dyn FnMut() -> bool,
    ) -> Result<(Vec<u8>, Option<String>), Error> {
        let mut reason = String::new();
        for attempt in 0..self.pace.attempts {
            if attempt > 0 {
                self.back_off(attempt, wait)?;
            }
            match self.attempt(what, address, wait)? {
                Ok(answer) => return Ok(answer),
                Err(why) => reason = why,
            }
        }
        Err(Error::Unreachable { host: self.host(), reason })
    }

    /// Once; the inner error is one after which trying again may help.
    #[allow(clippy::type_complexity)]
    fn attempt(
        &self,
        what: &str,
        address: &str,
        wait: &mut dyn FnMut() -> bool,
    ) -> Result<Result<(Vec<u8>, Option<String>), String>, Error> {
        let (mut body, mut next) = (Vec::new(), None);
        let mut listening = Listening::new(self.get(address, 0)?, self.pace.stall);
        loop {
            match listening.next(wait)? {
                Piece::Head(head) if is_passing(head.status) => {
                    return Ok(Err(format!("HTTP {}", head.status)));
                }
                Piece::Head(head) => {
                    if let Some(error) = self.refusal(what, head.status) {
                        return Err(error);
                    }
                    next = head.next;
                }
                Piece::Data(data) if body.len() + data.len() > MAX_WHOLE => {
                    let reason = "it is far too long".to_owned();
                    return Err(Error::Answer { host: self.host(), what: what.into(), reason });
                }
                Piece::Data(data) => body.extend(data),
                Piece::End => return Ok(Ok((body, next))),
                Piece::Broken(reason) => return Ok(Err(reason)),
            }
        }
    }

    /// Waits before the next attempt; `wait` returns false to stop.
    pub(crate) fn back_off(
        &self,
        attempt: u32,
        wait: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        let until = std::time::Instant::now() + self.pace.backoff * (1 << (attempt - 1).min(4));
        while std::time::Instant::now() < until {
            if !wait() {
                return Err(Error::Cancelled);
            }
            std::thread::sleep(TICK.min(self.pace.backoff));
        }
        Ok(())
    }
}

/// How soon a wish to stop is heard.
const TICK: Duration = Duration::from_millis(50);

/// An answer that is being listened to.
pub(crate) struct Listening {
    pieces: Receiver<Piece>,
    stall: Duration,
}

impl Listening {
    pub fn new(pieces: Receiver<Piece>, stall: Duration) -> Listening {
        Listening { pieces, stall }
    }

    /// The next piece; a stall is a broken answer. `wait` is asked while nothing comes and returns
    /// false to stop.
    pub fn next(&mut self, wait: &mut dyn FnMut() -> bool) -> Result<Piece, Error> {
        let began = std::time::Instant::now();
        loop {
            if !wait() {
                return Err(Error::Cancelled);
            }
            match self.pieces.recv_timeout(TICK) {
                Ok(piece) => return Ok(piece),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    return Ok(Piece::Broken("the connection ended".into()));
                }
                Err(_) if began.elapsed() > self.stall => {
                    let seconds = self.stall.as_secs_f32();
                    return Ok(Piece::Broken(format!("nothing came for {seconds} seconds")));
                }
                Err(_) => {}
            }
        }
    }
}

/// Statuses of a server that may do better soon.
pub(crate) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

/// Hands a body over in chunks; returns the last piece, `None` where nobody listens any more.
fn hand_over(answer: Response<Body>, tell: &SyncSender<Piece>) -> Option<Piece> {
    let status = answer.status();
    let head = head_of(status, answer.headers());
    let good = status.is_success();
    tell.send(Piece::Head(head)).ok()?;
    if !good {
        return Some(Piece::End);
    }
    let mut reader = answer.into_body().into_reader();
    loop {
        let mut chunk = vec![0; CHUNK];
        match reader.read(&mut chunk) {
            Ok(0) => return Some(Piece::End),
            Ok(n) => {
                chunk.truncate(n);
                tell.send(Piece::Data(chunk)).ok()?;
            }
            Err(error) => return Some(Piece::Broken(error.to_string())),
        }
    }
}

fn head_of(status: StatusCode, headers: &HeaderMap) -> Head {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
    let range = text("content-range").and_then(|range| {
        let (span, whole) = range.strip_prefix("bytes ")?.split_once('/')?;
        Some((span.split_once('-')?.0.trim().parse().ok()?, whole.trim().parse().ok()))
    });
    // Link: <https://...>; rel="next"
    let next = text("link").and_then(|link| {
        let page = link.split(',').find(|page| page.contains("rel=\"next\""))?;
        Some(page.split_once('<')?.1.split_once('>')?.0.to_owned())
    });
    Head { status: status.as_u16(), etag: text("etag"), range, next }
}

/// The address that `to` means on a page at `url`.
fn joined(url: &str, to: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let host = rest.split('/').next().unwrap_or_default();
    match to {
        to if to.starts_with("http://") || to.starts_with("https://") => to.to_owned(),
        to if to.starts_with("//") => format!("{scheme}:{to}"),
        to if to.starts_with('/') => format!("{scheme}://{host}{to}"),
        to => {
            let page = url.split(['?', '#']).next().unwrap_or(url);
            format!("{}/{to}", page.rsplit_once('/').map_or(page, |(folder, _)| folder))
        }
    }
}

fn host_of(address: &str) -> String {
    let rest = address.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_joined_as_in_a_browser() {
        let page = "https://hub.org:8/a/b?c";
        for (to, expected) in [
            ("http://x.org/y", "http://x.org/y"),
            ("//x.org/y", "https://x.org/y"),
            ("/y?z", "https://hub.org:8/y?z"),
            ("y", "https://hub.org:8/a/y"),
        ] {
            assert_eq!(joined(page, to), expected, "{to}");
        }
        assert_eq!(host_of("https://me:secret@hub.org:8/a"), "hub.org:8");
        assert_eq!(without_port("hub.org:8"), "hub.org");
    }
}
