//! Downloads a file by parallel requests for parts of it.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::fault::{Fault, Kind};
use crate::retry::Attempts;
use crate::settings::Settings;
use crate::source::{Answer, Source};

const BUFFER_BYTES: usize = 256 << 10;

/// So many new bytes are progress; a server that gives fewer at a time is one that fails.
const PROGRESS_BYTES: u64 = 64 << 10;

/// The fewest bytes per second; with fewer, another connection is tried.
const SLOWEST: f64 = 1024.0;

/// A file to be downloaded.
pub(crate) struct Download<'a> {
    pub source: &'a dyn Source,
    pub name: &'a str,
    pub bytes: u64,
    pub settings: &'a Settings,
    /// Set when the server gives no ranges, for this file and later ones.
    pub is_whole: &'a AtomicBool,
}

impl Download<'_> {
    /// Downloads it into `file`, every byte of it once.
    pub fn run(&self, file: &File) -> Result<(), Fault> {
        if !self.is_whole.load(Ordering::Relaxed) {
            match self.parts(file) {
                Err(fault) if fault.kind == Kind::Ranges => self.is_whole.store(true, Ordering::Relaxed),
                done => return done,
            }
        }
        self.part(file, 0..self.bytes, &AtomicBool::new(false))
    }

    fn parts(&self, file: &File) -> Result<(), Fault> {
        let part_bytes = self.settings.part_bytes.max(1);
        let count = self.bytes.div_ceil(part_bytes) as usize;
        let (next, has_failed, failure) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        thread::scope(|scope| {
            for _ in 0..self.settings.connections.clamp(1, count.max(1)) {
                scope.spawn(|| {
                    loop {
                        let start = next.fetch_add(1, Ordering::Relaxed) as u64 * part_bytes;
                        if start >= self.bytes || has_failed.load(Ordering::Relaxed) {
                            return;
                        }
                        let range = start..self.bytes.min(start + part_bytes);
                        if let Err(fault) = self.part(file, range, &has_failed) {
                            // Later ones are what the first one brought about.
                            if !has_failed.swap(true, Ordering::Relaxed) {
                                *failure.lock().expect("no thread panics with it") = Some(fault);
                            }
                            return;
                        }
                    }
                });
            }
        });
        failure.into_inner().expect("no thread panics with it").map_or(Ok(()), Err)
    }

    /// Downloads a range, over as many connections as it takes.
    fn part(&self, file: &File, range: Range<u64>, is_given_up: &AtomicBool) -> Result<(), Fault> {
        let is_whole = range == (0..self.bytes);
        let mut attempts = Attempts::new(self.settings);
        let (mut at, mut counted) = (range.start, range.start);
        while at < range.end {
            if is_given_up.load(Ordering::Relaxed) {
                return Err(Fault::stopped());
            }
            let received = self.receive(file, at..range.end, is_whole, is_given_up, &mut at);
            if at >= counted + PROGRESS_BYTES {
                counted = at;
                attempts.progress();
            }
            match received {
                Ok(()) => {}
                Err(fault) if fault.kind == Kind::Ranges && !self.is_whole.load(Ordering::Relaxed) => {
                    return Err(fault);
                }
                Err(fault) => {
                    if fault.kind == Kind::Ranges {
                        at = range.start;
                    }
                    attempts.after(fault, || self.source.look_again())?;
                }
            }
        }
        Ok(())
    }

    /// One connection; `at` is the end of what has been written.
    fn receive(
        &self,
        file: &File,
        wanted: Range<u64>,
        is_whole: bool,
        is_given_up: &AtomicBool,
        at: &mut u64,
    ) -> Result<(), Fault> {
        let settings = self.settings;
        if settings.stop.is_set() {
            return Err(Fault::stopped());
        }
        // A server without ranges may be asked for the whole file.
        let is_from_start = is_whole && wanted.start == 0 && self.is_whole.load(Ordering::Relaxed);
        let Answer { start, total, mut body } =
            self.source.get(self.name, (!is_from_start).then(|| wanted.clone()))?;
        if let Some(total) = total
            && total != self.bytes
        {
            let text = format!(
                "the file at the server has {total} bytes, but dataset.json says {}: it is of another preparation",
                self.bytes
            );
            return Err(Fault::new(Kind::Final, text));
        }
        if start != wanted.start && !(start == 0 && is_whole) {
            return Err(Fault::new(Kind::Ranges, "the server gives whole files only"));
        }
        *at = start;
        let mut buffer = vec![0; BUFFER_BYTES];
        let (mut since, mut got_since) = (Instant::now(), 0.0);
        while *at < wanted.end {
            if settings.stop.is_set() || is_given_up.load(Ordering::Relaxed) {
                return Err(Fault::stopped());
            }
            let most = buffer.len().min((wanted.end - *at) as usize);
            let got = match body.read(&mut buffer[..most]) {
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Fault::new(
                        Kind::Passing,
                        format!("the connection broke at byte {at}: {error}"),
                    ));
                }
            };
            if got == 0 {
                return Err(Fault::new(
                    Kind::Passing,
                    format!("the connection ended at byte {at} of {}", wanted.end),
                ));
            }
            file.write_all_at(&buffer[..got], *at).map_err(disk)?;
            *at += got as u64;
            got_since += got as f64;
            let past = since.elapsed();
            if past >= settings.silence.max(Duration::from_millis(1)) {
                if got_since < SLOWEST * past.as_secs_f64() {
                    let text = format!("the server gave {got_since} bytes in {:.0} s", past.as_secs_f64());
                    return Err(Fault::new(Kind::Passing, text));
                }
                (since, got_since) = (Instant::now(), 0.0);
            }
        }
        Ok(())
    }
}

fn disk(error: io::Error) -> Fault {
    Fault::new(Kind::Disk, error.to_string())
}

/// The bytes of a small file; `None` if it has more than `most`.
pub(crate) fn small(
    source: &dyn Source,
    name: &str,
    most: u64,
    settings: &Settings,
) -> Result<Vec<u8>, Fault> {
    let mut attempts = Attempts::new(settings);
    loop {
        let read = || {
            let Answer { start, total, body } = source.get(name, None)?;
            let mut bytes = Vec::new();
            let read = body.take(most + 1).read_to_end(&mut bytes);
            read.map_err(|error| Fault::new(Kind::Passing, format!("the connection broke: {error}")))?;
            let got = start + bytes.len() as u64;
            if got > most {
                return Err(Fault::new(Kind::Final, format!("it has more than {most} bytes")));
            }
            match total {
                Some(total) if total != got => {
                    Err(Fault::new(Kind::Passing, format!("the connection ended at byte {got} of {total}")))
                }
                _ => Ok(bytes),
            }
        };
        if settings.stop.is_set() {
            return Err(Fault::stopped());
        }
        match read() {
            Ok(bytes) => return Ok(bytes),
            Err(fault) => attempts.after(fault, || source.look_again())?,
        }
    }
}
