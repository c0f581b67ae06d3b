//! A message where a page of a mapped file cannot be read.
//!
//! The system has no way to return such an error: it sends SIGBUS. The handler looks up the address in a list
//! of all mapped files, which it can read at any moment, since entries are added and emptied but never freed.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::{io, mem, ptr};

/// Entry of a file in the list, emptied when it is dropped.
#[derive(Debug)]
pub(crate) struct MappedFile {
    entry: &'static Entry,
}

/// One file, or none if its length is 0.
#[derive(Debug)]
struct Entry {
    start: AtomicUsize,
    bytes: AtomicUsize,
    /// A C string that belongs to the entry while it has a length.
    path: AtomicPtr<libc::c_char>,
    next: Option<&'static Self>,
}

/// The entry that was added last.
static LAST: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());
/// Held while entries are filled.
static FILLING: Mutex<()> = Mutex::new(());

fn entries() -> impl Iterator<Item = &'static Entry> {
    // SAFETY: entries are never freed.
    let mut next = unsafe { LAST.load(Ordering::Acquire).as_ref() };
    std::iter::from_fn(move || {
        let entry = next?;
        next = entry.next;
        Some(entry)
    })
}

impl MappedFile {
    /// Adds the file at `path`, mapped to `map`.
    pub(crate) fn new(path: &Path, map: &[u8]) -> Self {
        let _one_at_a_time = FILLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let entry = entries().find(|entry| entry.bytes.load(Ordering::Acquire) == 0);
        let entry = entry.unwrap_or_else(|| {
            let (start, bytes, path) =
                (AtomicUsize::new(0), AtomicUsize::new(0), AtomicPtr::new(ptr::null_mut()));
            let new = Box::leak(Box::new(Entry { start, bytes, path, next: entries().next() }));
            LAST.store(new, Ordering::Release);
            new
        });
        // A path cannot hold a zero byte, as the file was opened by it.
        let path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        entry.free_path();
        entry.path.store(path.into_raw(), Ordering::Release);
        entry.start.store(map.as_ptr().addr(), Ordering::Release);
        entry.bytes.store(map.len(), Ordering::Release);
        Self { entry }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // The path stays for the next file of this entry.
        self.entry.bytes.store(0, Ordering::Release);
    }
}

impl Entry {
    fn free_path(&self) {
        let path = self.path.swap(ptr::null_mut(), Ordering::AcqRel);
        if !path.is_null() {
            // SAFETY: it is from `CString::into_raw`, and the handler reads it only while the entry has a
            // length.
            drop(unsafe { CString::from_raw(path) });
        }
    }

    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        let bytes = self.bytes.load(Ordering::Acquire);
        address.checked_sub(start).is_some_and(|offset| offset < bytes)
    }
}

/// Whether the handler writes to a terminal, on which a progress bar may stand.
static ON_TERMINAL: AtomicBool = AtomicBool::new(false);

/// From now on, a page of a shard that cannot be read ends the process with one line on stderr and exit code
/// 1, instead of a bare SIGBUS.
///
/// The line names the file, and says whether it was cut or its disk fails. For the main function of a
/// program; other faults end the process as before.
///
/// # Errors
/// When the system refuses the handler.
pub fn report_bus_errors() -> io::Result<()> {
    // SAFETY: only asks about a file descriptor.
    ON_TERMINAL.store(unsafe { libc::isatty(libc::STDERR_FILENO) } == 1, Ordering::Relaxed);
    // SAFETY: an action of zeros is a valid one, and the handler only calls what a signal handler may.
    let status = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = bus_error as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut())
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn bus_error(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the system passes a valid `siginfo_t`.
    let address = unsafe { (*info).si_addr() }.addr();
    let Some(entry) = entries().find(|entry| entry.holds(address)) else {
        // SAFETY: resets the signal; when the handler returns, the fault happens again and ends the process.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        return;
    };
    let path = entry.path.load(Ordering::Acquire);
    let bytes = entry.bytes.load(Ordering::Acquire);
    if ON_TERMINAL.load(Ordering::Relaxed) {
        write(b"\n");
    }
    write(b"error: ");
    // SAFETY: a C string that lives as long as the file is mapped, which the reading thread keeps it.
    write(unsafe { std::slice::from_raw_parts(path.cast(), libc::strlen(path)) });
    // SAFETY: `path` as above; the structure is filled by the call, and read only if that succeeds.
    let now = unsafe {
        let mut found: libc::stat = mem::zeroed();
        (libc::stat(path, &raw mut found) == 0).then(|| u64::try_from(found.st_size).unwrap_or_default())
    };
    match now {
        Some(now) if now < bytes as u64 => {
            write(b": the file was cut while it was read: it has ");
            write_number(now);
            write(b" bytes, and had ");
            write_number(bytes as u64);
            write(b"; prepare or copy it again\n");
        }
        _ => write(
            b": a part of the file cannot be read: its disk, or the network file system that it is on, fails; \
              see the system's log, then check the data set with prepare_imagenet verify\n",
        ),
    }
    // SAFETY: ends the process without running anything else of it.
    unsafe { libc::_exit(1) };
}

/// Writes to stderr by the system call alone.
fn write(text: &[u8]) {
    // SAFETY: the pointer and the length are those of a slice.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

/// Writes a number without allocating.
fn write_number(mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    write(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::process::Command;

    use super::*;
    use crate::Encoding;
    use crate::shard::Shard;
    use crate::test_support::write_shard;

    /// Run as a child process by the test below.
    #[test]
    fn read_a_cut_shard() {
        let Some(folder) = std::env::var_os("FOVEA_READ_A_CUT_SHARD") else { return };
        let info = write_shard(Path::new(&folder), Encoding::Raw, 0, 0..40);
        let path = Path::new(&folder).join(info.file);
        // A shard that is closed again leaves no entry that would be mistaken for the next.
        drop(Shard::open(&path).unwrap());
        let shard = Shard::open(&path).unwrap();
        report_bus_errors().unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
        assert_eq!(shard.record(39).label.class(), 9);
        let sum: u32 = shard.record(39).image.iter().map(|&value| u32::from(value)).sum();
        panic!("read beyond the end: {sum}");
    }

    #[test]
    fn a_shard_that_is_cut_while_it_is_read_is_named_with_both_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "mapped::tests::read_a_cut_shard", "--nocapture"])
            .env("FOVEA_READ_A_CUT_SHARD", folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let path = folder.path().join("train-00000.arrow");
        let start =
            format!("error: {}: the file was cut while it was read: it has 4096 bytes", path.display());
        assert!(text.contains(&start) && text.ends_with("prepare or copy it again\n"), "{text}");
        assert_eq!(fs::metadata(path).unwrap().len(), 4096);
    }

    #[test]
    fn entries_are_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let info = write_shard(folder.path(), Encoding::Raw, 0, 0..2);
        let path = folder.path().join(info.file);
        for _ in 0..1000 {
            Shard::open(&path).unwrap();
        }
        // Other tests of this process open shards too, but not hundreds at once.
        assert!(entries().count() < 500, "{} entries", entries().count());
    }
}
