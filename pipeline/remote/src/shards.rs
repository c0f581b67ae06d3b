//! The shards of a data set elsewhere: fetched when they are needed, or before.
//!
//! ```text
//! fetch_ahead ─► queue ─► a few threads ─┐
//! fetch ─► a thread of its own ──────────┴─► in the cache ─► fetch returns the path ─► release: it may go
//! ```

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fovea_files::FileLock;
use fovea_pipeline::ShardInfo;

use crate::address::Address;
use crate::cache::Place;
use crate::download::Download;
use crate::error::RemoteError;
use crate::fault::{Fault, Kind};
use crate::settings::Settings;
use crate::source::Source;

/// Shards that are fetched at the same time before they are needed.
const AHEAD: usize = 2;

/// How often something that nobody reports is looked at: a lock of another process, or what is wanted.
const LOOK: Duration = Duration::from_millis(50);

/// How long a shard waits for others of the same process to be released.
const RELEASE: Duration = Duration::from_secs(5);

/// Downloads of a shard whose bytes are wrong.
const DOWNLOADS: usize = 2;

/// The shards at a URL, in a cache.
#[derive(Debug)]
pub(crate) struct Shards {
    shared: Arc<Shared>,
}

/// Why a shard is not here.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// Nobody wants it any more.
    Stopped,
    /// It cannot be had: why, what was tried, and what helps.
    Failed(String),
}

#[derive(Debug)]
struct Shared {
    address: Address,
    source: Box<dyn Source>,
    place: Place,
    settings: Settings,
    /// Whether the server gives whole files only.
    is_whole: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    shards: HashMap<String, Slot>,
    /// What is to be fetched before it is needed.
    queue: VecDeque<ShardInfo>,
    /// Threads that fetch from the queue.
    threads: usize,
    /// How often a shard was released or fetched.
    changes: u64,
    /// How often a shard was asked for.
    asked: u64,
    /// The process that the threads are of: after `fork`, a child has the state without them.
    process: u32,
}

#[derive(Debug, Default)]
struct Slot {
    phase: Phase,
    bytes: u64,
    /// How many use it, or wait for it.
    users: usize,
    /// Whether it is needed, now or soon.
    is_wanted: bool,
    /// Its place among those that were asked for.
    asked: u64,
    /// Keeps other processes from deleting it.
    lock: Option<FileLock>,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Absent,
    Queued,
    Fetching,
    Here,
    Failed(Failure),
}

/// What became of an attempt to fetch a shard.
enum Outcome {
    Here(Option<FileLock>),
    /// What is in use leaves no room.
    NoRoom,
}

impl State {
    fn slot(&mut self, shard: &ShardInfo) -> &mut Slot {
        if !self.shards.contains_key(&shard.file) {
            self.shards.insert(shard.file.clone(), Slot { bytes: shard.bytes, ..Slot::default() });
        }
        self.shards.get_mut(&shard.file).expect("it was inserted")
    }

    fn next_asked(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// Makes what threads that are gone were to fetch absent.
    fn forget_threads(&mut self) {
        (self.threads, self.queue) = (0, VecDeque::new());
        for slot in self.shards.values_mut() {
            if matches!(slot.phase, Phase::Fetching | Phase::Queued) {
                slot.phase = Phase::Absent;
            }
        }
    }

    /// Lets go of the shard that is needed last of those that are there and not in use; returns whether there
    /// was one.
    fn give_up_one(&mut self) -> bool {
        let unused = |slot: &&mut Slot| slot.users == 0 && slot.lock.is_some();
        match self.shards.values_mut().filter(unused).max_by_key(|slot| slot.asked) {
            Some(slot) => {
                (slot.phase, slot.lock) = (Phase::Absent, None);
                true
            }
            None => false,
        }
    }

    /// Bytes of the shards that are in use, or waited for.
    fn bytes_in_use(&self) -> u64 {
        self.shards.values().filter(|slot| slot.users > 0).map(|slot| slot.bytes).sum()
    }

    fn is_fetching_ahead(&self) -> bool {
        self.shards.values().any(|slot| slot.users == 0 && matches!(slot.phase, Phase::Fetching))
    }
}

impl Shards {
    pub fn new(address: Address, source: Box<dyn Source>, place: Place, settings: &Settings) -> Self {
        let settings = Settings { stop: settings.stop.below(), ..settings.clone() };
        let (state, changed, is_whole) = (Mutex::default(), Condvar::new(), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { address, source, place, settings, is_whole, state, changed }) }
    }

    /// Shows whether threads are left when this is gone.
    #[cfg(test)]
    pub fn alive(&self) -> std::sync::Weak<impl Sized + use<>> {
        Arc::downgrade(&self.shared)
    }

    /// The URL of a shard.
    pub fn url(&self, shard: &ShardInfo) -> String {
        self.shared.address.file(&shard.file)
    }

    /// The limit of the cache.
    pub fn limit(&self) -> Option<u64> {
        self.shared.place.limit
    }

    /// The path of the complete file of `shard`; waits until it is there, or nobody wants it any more.
    pub fn fetch(&self, shard: &ShardInfo, is_wanted: &dyn Fn() -> bool) -> Result<PathBuf, Failure> {
        let shared = &self.shared;
        let mut state = shared.state();
        let slot = state.slot(shard);
        (slot.users, slot.is_wanted) = (slot.users + 1, true);
        let failure = loop {
            let slot = state.slot(shard);
            match &slot.phase {
                Phase::Here if shared.place.has(&shard.file, shard.bytes) => {
                    return Ok(shared.place.path(&shard.file));
                }
                Phase::Absent | Phase::Queued | Phase::Here => {
                    (slot.phase, slot.lock) = (Phase::Fetching, None);
                    state.queue.retain(|queued| queued.file != shard.file);
                    let (this, wanted) = (Arc::clone(shared), shard.clone());
                    let spawned = thread::Builder::new()
                        .name("fetch".into())
                        .spawn(move || this.finish(&wanted, || this.obtain_with_room(&wanted)));
                    if let Err(error) = spawned {
                        state.slot(shard).phase = Phase::Absent;
                        let reason = format!("cannot start a thread: {error}; raise the limit (ulimit -u)");
                        break Failure::Failed(reason);
                    }
                }
                Phase::Failed(failure) => break failure.clone(),
                Phase::Fetching => {}
            }
            // Not with the lock: the callback may have to wait for a thread that waits for the lock.
            drop(state);
            let is_over = shared.settings.stop.is_set() || !is_wanted();
            state = shared.state();
            if is_over {
                break Failure::Stopped;
            }
            if matches!(state.slot(shard).phase, Phase::Fetching) {
                state = shared.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            }
        };
        let slot = state.slot(shard);
        slot.users = slot.users.saturating_sub(1);
        if slot.users == 0 {
            slot.is_wanted = false;
            if matches!(slot.phase, Phase::Failed(_)) {
                // The next one who wants it tries again.
                slot.phase = Phase::Absent;
            }
        }
        Err(failure)
    }

    /// Fetches these shards in the background, in this order.
    pub fn fetch_ahead(&self, shards: &[&ShardInfo]) {
        let mut state = self.shared.state();
        for shard in shards {
            let asked = state.next_asked();
            let slot = state.slot(shard);
            if !slot.is_wanted {
                (slot.is_wanted, slot.asked) = (true, asked);
            }
            if matches!(slot.phase, Phase::Absent) {
                slot.phase = Phase::Queued;
                state.queue.push_back((*shard).clone());
            }
        }
        self.shared.start_ahead(&mut state);
    }

    /// One user of `shard` is done with it for the moment.
    pub fn set_aside(&self, shard: &ShardInfo) {
        let mut state = self.shared.state();
        let asked = state.next_asked();
        let slot = state.slot(shard);
        (slot.users, slot.asked) = (slot.users.saturating_sub(1), asked);
        state.changes += 1;
        self.shared.start_ahead(&mut state);
        self.shared.changed.notify_all();
    }

    /// One user of `shard` is done with it, or it is not needed soon any more.
    pub fn release(&self, shard: &ShardInfo) {
        let mut state = self.shared.state();
        let slot = state.slot(shard);
        slot.users = slot.users.saturating_sub(1);
        if slot.users == 0 {
            slot.is_wanted = false;
            if matches!(slot.phase, Phase::Here | Phase::Queued) {
                (slot.phase, slot.lock) = (Phase::Absent, None);
                state.queue.retain(|queued| queued.file != shard.file);
            }
        }
        state.changes += 1;
        self.shared.start_ahead(&mut state);
        self.shared.changed.notify_all();
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        // The threads look at it after each read, and a read has a deadline.
        self.shared.settings.stop.set();
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        if state.process != process {
            state.forget_threads();
            state.process = process;
        }
        state
    }

    /// Starts threads for what is queued.
    fn start_ahead(self: &Arc<Self>, state: &mut State) {
        while state.threads < AHEAD.min(state.threads + state.queue.len()) && !self.settings.stop.is_set() {
            let shared = Arc::clone(self);
            let spawned = thread::Builder::new().name("fetch-ahead".into()).spawn(move || shared.ahead());
            if spawned.is_err() {
                // Without it, each is fetched when it is needed.
                return;
            }
            state.threads += 1;
        }
    }

    /// Fetches what is queued, until nothing is or there is no room.
    fn ahead(&self) {
        loop {
            let mut state = self.state();
            let next = state.queue.pop_front().filter(|_| !self.settings.stop.is_set());
            let Some(shard) = next else {
                state.threads -= 1;
                return;
            };
            state.slot(&shard).phase = Phase::Fetching;
            drop(state);
            let mut has_room = true;
            self.finish(&shard, || match self.obtain(&shard)? {
                Outcome::Here(lock) => Ok(Some(lock)),
                Outcome::NoRoom if self.state().slot(&shard).users > 0 => self.obtain_with_room(&shard),
                Outcome::NoRoom => {
                    has_room = false;
                    Ok(None)
                }
            });
            if !has_room {
                // The next release starts it again.
                self.state().threads -= 1;
                return;
            }
        }
    }

    /// Records what became of a shard; `None` if there was no room for it yet.
    fn finish(&self, shard: &ShardInfo, obtain: impl FnOnce() -> Result<Option<Option<FileLock>>, Failure>) {
        // Who waits for it would wait for ever.
        let obtained = catch_unwind(AssertUnwindSafe(obtain)).unwrap_or_else(|_| {
            Err(Failure::Failed(
                "the thread that fetched it panicked; this is a mistake of the program".into(),
            ))
        });
        let mut state = self.state();
        let slot = state.slot(shard);
        match obtained {
            Ok(Some(lock)) if slot.is_wanted => (slot.phase, slot.lock) = (Phase::Here, lock),
            Ok(_) if slot.users > 0 || !slot.is_wanted => slot.phase = Phase::Absent,
            Ok(_) => {
                slot.phase = Phase::Queued;
                state.queue.push_front(shard.clone());
            }
            Err(failure) if slot.users > 0 => slot.phase = Phase::Failed(failure),
            // Who needs it tries again.
            Err(_) => slot.phase = Phase::Absent,
        }
        state.changes += 1;
        self.changed.notify_all();
    }

    /// Fetches a shard that somebody waits for, if need be instead of those that nobody uses yet.
    fn obtain_with_room(&self, shard: &ShardInfo) -> Result<Option<Option<FileLock>>, Failure> {
        let (mut since, mut seen) = (Instant::now(), None);
        loop {
            if let Outcome::Here(lock) = self.obtain(shard)? {
                return Ok(Some(lock));
            }
            let mut state = self.state();
            if state.give_up_one() {
                continue;
            }
            if seen != Some(state.changes) || state.is_fetching_ahead() {
                (seen, since) = (Some(state.changes), Instant::now());
            }
            let (needed, limit) = (state.bytes_in_use(), self.place.limit.unwrap_or(u64::MAX));
            drop(state);
            if needed > limit && since.elapsed() > RELEASE.min(self.settings.silence) {
                return Err(Failure::Failed(format!(
                    "the limit of the cache, {limit} bytes, is too small: with this shard, {needed} bytes are in use \
                     at once; give a limit of at least {needed} bytes"
                )));
            }
            if since.elapsed() > self.settings.patience {
                return Err(Failure::Failed(format!(
                    "the cache {} is full of shards that other processes use: for this one, {} of {limit} bytes are \
                     needed; give a larger limit, or another folder",
                    self.place.root().display(),
                    shard.bytes,
                )));
            }
            if self.settings.stop.wait(LOOK) {
                return Err(Failure::Stopped);
            }
        }
    }

    /// Fetches a shard, or waits for a process that does.
    fn obtain(&self, shard: &ShardInfo) -> Result<Outcome, Failure> {
        let (name, place) = (&*shard.file, &self.place);
        let (mut since, mut seen) = (Instant::now(), None);
        while !self.settings.stop.is_set() {
            if place.has(name, shard.bytes) {
                if place.limit.is_none() {
                    return Ok(Outcome::Here(None));
                }
                if let Some(lock) = place.lock_to_use(name)?
                    && place.has(name, shard.bytes)
                {
                    return Ok(Outcome::Here(Some(lock)));
                }
            } else if let Some(_lock) = place.lock(name)? {
                if !place.has(name, shard.bytes) && !self.download(shard)? {
                    return Ok(Outcome::NoRoom);
                }
                continue;
            }
            let sign = place.sign_of_life(name);
            if sign != seen {
                (seen, since) = (sign, Instant::now());
            }
            if since.elapsed() > self.settings.patience {
                return Err(Failure::Failed(format!(
                    "another process has locked it in the cache {} and does not fetch it; end that process, or use \
                     another folder",
                    place.folder.display()
                )));
            }
            self.settings.stop.wait(LOOK);
        }
        Err(Failure::Stopped)
    }

    /// Downloads a shard that this process has locked; returns whether there was room.
    fn download(&self, shard: &ShardInfo) -> Result<bool, Failure> {
        let mut found = String::new();
        for _ in 0..DOWNLOADS {
            let Some(file) = self.place.create(&shard.file, shard.bytes)? else { return Ok(false) };
            let download = Download {
                source: &*self.source,
                name: &shard.file,
                bytes: shard.bytes,
                settings: &self.settings,
                is_whole: &self.is_whole,
            };
            download.run(file.file()).map_err(|fault| self.failure(fault))?;
            found = hash(file.temporary_path())?;
            if found == shard.blake3 {
                file.finish().map_err(|error| Failure::Failed(error.to_string()))?;
                return Ok(true);
            }
        }
        Err(Failure::Failed(format!(
            "its BLAKE3 digest is {found} after {DOWNLOADS} downloads, but dataset.json says {}; the file at the server \
             is damaged, or of another preparation: upload it again",
            shard.blake3
        )))
    }

    fn failure(&self, fault: Fault) -> Failure {
        match fault.kind {
            Kind::Stopped => Failure::Stopped,
            Kind::Disk => Failure::Failed(format!(
                "cannot write into the cache {}: {fault}; make room there, set a limit for the cache, or use another \
                 folder",
                self.place.root().display()
            )),
            _ => Failure::Failed(with_remedy(&fault, &*self.source)),
        }
    }
}

/// What happened and what helps.
pub(crate) fn with_remedy(fault: &Fault, source: &dyn Source) -> String {
    let remedy = match fault.kind {
        Kind::Missing => "check the URL, or upload the data set again",
        Kind::Refused => source.remedy(),
        Kind::Expired => "renew the credentials",
        Kind::Passing => "check network and server, or allow more time",
        Kind::Ranges => "use a server that gives ranges of files, or whole files",
        _ => return fault.to_string(),
    };
    format!("{fault}; {remedy}")
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        Self::Failed(error.to_string())
    }
}

fn hash(path: &Path) -> Result<String, Failure> {
    let mut hasher = blake3::Hasher::new();
    let read = File::open(path).and_then(|file| hasher.update_reader(file).map(|_| ()));
    read.map_err(|error| Failure::Failed(format!("{}: cannot read: {error}", path.display())))?;
    Ok(hasher.finalize().to_string())
}
