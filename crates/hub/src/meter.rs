//! How far a job is, how fast it goes and how long it will take.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::{Error, OnProgress};

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Downloading,
    /// The connection broke or stalled; it is tried again soon.
    Waiting,
    /// Checksums are computed.
    Verifying,
    Copying,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    pub phase: Phase,
    /// The file at hand.
    pub file: String,
    /// Bytes done and to do, over all files.
    pub done: u64,
    pub all: u64,
    /// Over the last seconds; 0 while nothing is known.
    pub bytes_per_second: f64,
    pub seconds_left: Option<f64>,
}

/// Speed is that of this long.
const WINDOW: Duration = Duration::from_secs(6);
/// No more often is anybody told.
const PACE: Duration = Duration::from_millis(100);

/// Counts bytes and tells of them.
pub(crate) struct Meter<'a> {
    on: OnProgress<'a>,
    progress: Progress,
    /// When, and how much was done then; the oldest first.
    marks: VecDeque<(Instant, u64)>,
    told: Option<Instant>,
}

impl<'a> Meter<'a> {
    pub fn new(all: u64, phase: Phase, on: OnProgress<'a>) -> Meter<'a> {
        let progress = Progress {
            phase,
            file: String::new(),
            done: 0,
            all,
            bytes_per_second: 0.0,
            seconds_left: None,
        };
        Meter { on, progress, marks: VecDeque::new(), told: None }
    }

    /// Begins a file of which so much of the whole is done already.
    pub fn begin(&mut self, phase: Phase, file: &str, done: u64) -> Result<(), Error> {
        let same = self.progress.phase == phase;
        if !same || done < self.progress.done {
            self.marks.clear();
        }
        self.progress.done = done;
        self.progress.file = file.into();
        self.progress.phase = phase;
        self.tell(true)
    }

    pub fn add(&mut self, bytes: u64) -> Result<(), Error> {
        self.progress.done += bytes;
        self.tell(false)
    }

    /// The same as before; so that somebody who wants to stop is heard while nothing happens.
    pub fn tick(&mut self) -> Result<(), Error> {
        self.tell(false)
    }

    /// What was done before is done again: the file begins anew.
    pub fn back_to(&mut self, done: u64) {
        self.progress.done = done;
        self.marks.clear();
    }

    pub fn done(&self) -> u64 {
        self.progress.done
    }

    pub fn phase(&mut self, phase: Phase) -> Result<(), Error> {
        if self.progress.phase != phase {
            self.progress.phase = phase;
            self.marks.clear();
        }
        self.tell(true)
    }

    fn tell(&mut self, at_once: bool) -> Result<(), Error> {
        let now = Instant::now();
        if !at_once && self.told.is_some_and(|told| now - told < PACE) {
            return Ok(());
        }
        self.told = Some(now);
        self.marks.push_back((now, self.progress.done));
        while self.marks.len() > 2 && now - self.marks[1].0 >= WINDOW {
            self.marks.pop_front();
        }
        let (since, before) = self.marks[0];
        let seconds = (now - since).as_secs_f64();
        let speed =
            if seconds > 0.0 { (self.progress.done - before) as f64 / seconds } else { 0.0 };
        let left = self.progress.all.saturating_sub(self.progress.done) as f64;
        self.progress.bytes_per_second = speed;
        self.progress.seconds_left = (speed > 0.0 && seconds > 0.5).then(|| left / speed);
        if (self.on)(&self.progress) { Ok(()) } else { Err(Error::Cancelled) }
    }
}
