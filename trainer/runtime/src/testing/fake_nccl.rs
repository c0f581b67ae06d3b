//! A fake of NCCL for the memory of [`FakeDriver`](super::FakeDriver), between threads or processes.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::compiled;

/// Messages are files of a folder, whose path is the id. Each group of operations is received on a thread of
/// its own.
const SOURCE: &str = r#"
    use std::cell::RefCell;
    use std::env;
    use std::ffi::c_char;
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::Ordering::SeqCst;
    use std::sync::atomic::{AtomicBool, AtomicI32};
    use std::thread;
    use std::time::Duration;

    const IN_PROGRESS: i32 = 7;
    const INVALID: i32 = 4;

    #[repr(C)] pub struct Id([u8; 128]);
    #[repr(C)] pub struct Config { size: usize, magic: u32, version: u32, blocking: i32 }
    pub struct Comm { folder: PathBuf, rank: usize, world: usize, sent: Vec<u64>, received: Vec<u64>, state: Arc<AtomicI32>, aborted: Arc<AtomicBool> }
    struct Op { comm: usize, is_send: bool, address: usize, bytes: usize, peer: usize }
    thread_local! { static GROUP: RefCell<Option<Vec<Op>>> = RefCell::new(None); }

    fn until(aborted: &AtomicBool, mut is_done: impl FnMut() -> bool) {
        while !is_done() && !aborted.load(SeqCst) { thread::sleep(Duration::from_micros(100)); }
    }

    /// Whether the environment lets this fail in this rank.
    fn fails(comm: &Comm, name: &str) -> bool {
        env::var("FAKE_NCCL_FAILS").is_ok_and(|fails| fails == format!("{name} {}", comm.rank))
    }

    fn run(ops: Vec<Op>) -> i32 {
        let Some(first) = ops.first() else { return 0 };
        let comm = unsafe { &mut *(first.comm as *mut Comm) };
        if fails(comm, "work") { return 2; }
        let mut receives = Vec::new();
        for op in &ops {
            let counts = if op.is_send { &mut comm.sent } else { &mut comm.received };
            counts[op.peer] += 1;
            let (from, to) = if op.is_send { (comm.rank, op.peer) } else { (op.peer, comm.rank) };
            let file = comm.folder.join(format!("{from}-{to}-{}", counts[op.peer]));
            if !op.is_send { receives.push((file, op.address, op.bytes)); continue; }
            let bytes = unsafe { std::slice::from_raw_parts(op.address as *const u8, op.bytes) };
            let partial = file.with_extension("partial");
            fs::write(&partial, bytes).unwrap();
            fs::rename(&partial, &file).unwrap();
        }
        let (state, aborted) = (Arc::clone(&comm.state), Arc::clone(&comm.aborted));
        state.store(IN_PROGRESS, SeqCst);
        thread::spawn(move || {
            let mut ended = 0;
            for (file, address, bytes) in receives {
                until(&aborted, || file.exists());
                if aborted.load(SeqCst) { return; }
                let message = fs::read(&file).unwrap();
                fs::remove_file(&file).unwrap();
                if message.len() != bytes { ended = INVALID; continue; }
                unsafe { std::ptr::copy(message.as_ptr(), address as *mut u8, bytes) };
            }
            state.store(ended, SeqCst);
        });
        IN_PROGRESS
    }

    fn add(ops: Vec<Op>) -> i32 {
        GROUP.with_borrow_mut(|group| match group {
            Some(group) => { group.extend(ops); 0 }
            None => run(ops),
        })
    }

    fn width(kind: i32) -> usize { if kind == 7 { 4 } else { 1 } }

    #[unsafe(no_mangle)] pub unsafe extern "C" fn ncclGetVersion(version: *mut i32) -> i32 { unsafe { *version = 23203 }; 0 }
    #[unsafe(no_mangle)] pub unsafe extern "C" fn ncclGetUniqueId(id: *mut Id) -> i32 {
        let folder = (0..).map(|id| PathBuf::from(format!("FOLDER/{id}"))).find(|folder| fs::create_dir(folder).is_ok()).unwrap();
        let bytes = folder.to_str().unwrap().as_bytes();
        unsafe { *id = Id([0; 128]); (&mut (*id).0)[..bytes.len()].copy_from_slice(bytes) };
        0
    }
    #[unsafe(no_mangle)] pub unsafe extern "C" fn ncclCommInitRankConfig(comm: *mut *mut Comm, world: i32, id: Id, rank: i32, config: *const Config) -> i32 {
        let Config { size, magic, version, blocking } = unsafe { &*config };
        if (*size, *magic, *blocking) != (24, 0xcafe_beef, 0) || *version < 21400 { return INVALID; }
        let end = id.0.iter().position(|&byte| byte == 0).unwrap();
        let folder = PathBuf::from(std::str::from_utf8(&id.0[..end]).unwrap());
        let (rank, world) = (rank as usize, world as usize);
        fs::write(folder.join(format!("joined-{rank}")), "").unwrap();
        let (state, aborted) = (Arc::new(AtomicI32::new(IN_PROGRESS)), Arc::new(AtomicBool::new(false)));
        let made = Comm { folder: folder.clone(), rank, world, sent: vec![0; world], received: vec![0; world], state: Arc::clone(&state), aborted: Arc::clone(&aborted) };
        thread::spawn(move || {
            until(&aborted, || (0..world).all(|rank| folder.join(format!("joined-{rank}")).exists()));
            state.store(0, SeqCst);
        });
        unsafe { *comm = Box::into_raw(Box::new(made)) };
        IN_PROGRESS
    }
    #[unsafe(no_mangle)] pub extern "C" fn ncclGroupStart() -> i32 { GROUP.set(Some(Vec::new())); 0 }
    #[unsafe(no_mangle)] pub extern "C" fn ncclGroupEnd() -> i32 { run(GROUP.take().unwrap()) }
    #[unsafe(no_mangle)] pub extern "C" fn ncclSend(address: usize, count: usize, kind: i32, peer: i32, comm: usize, _: usize) -> i32 {
        add(vec![Op { comm, is_send: true, address, bytes: count * width(kind), peer: peer as usize }])
    }
    #[unsafe(no_mangle)] pub extern "C" fn ncclRecv(address: usize, count: usize, kind: i32, peer: i32, comm: usize, _: usize) -> i32 {
        add(vec![Op { comm, is_send: false, address, bytes: count * width(kind), peer: peer as usize }])
    }
    #[unsafe(no_mangle)] pub extern "C" fn ncclAllGather(from: usize, to: usize, count: usize, kind: i32, comm: usize, _: usize) -> i32 {
        let (world, bytes) = (unsafe { (*(comm as *const Comm)).world }, count * width(kind));
        let sends = (0..world).map(|peer| Op { comm, is_send: true, address: from, bytes, peer });
        add(sends.chain((0..world).map(|peer| Op { comm, is_send: false, address: to + peer * bytes, bytes, peer })).collect())
    }
    #[unsafe(no_mangle)] pub extern "C" fn ncclBroadcast(from: usize, to: usize, count: usize, kind: i32, root: i32, comm: usize, _: usize) -> i32 {
        let (rank, world) = unsafe { let comm = &*(comm as *const Comm); (comm.rank, comm.world) };
        let (root, bytes) = (root as usize, count * width(kind));
        let sends = (0..world).filter(|_| rank == root).map(|peer| Op { comm, is_send: true, address: from, bytes, peer });
        add(sends.chain([Op { comm, is_send: false, address: to, bytes, peer: root }]).collect())
    }
    #[unsafe(no_mangle)] pub unsafe extern "C" fn ncclCommGetAsyncError(comm: *const Comm, error: *mut i32) -> i32 {
        let comm = unsafe { &*comm };
        let failed = if fails(comm, "ncclCommGetAsyncError") { Some(6) } else { None };
        unsafe { *error = failed.unwrap_or(comm.state.load(SeqCst)) };
        0
    }
    #[unsafe(no_mangle)] pub extern "C" fn ncclCommFinalize(_: usize) -> i32 { 0 }
    #[unsafe(no_mangle)] pub unsafe extern "C" fn ncclCommDestroy(comm: *const Comm) -> i32 { unsafe { ncclCommAbort(comm) } }
    // What is left of it is small, and its threads may still look at it.
    #[unsafe(no_mangle)] pub unsafe extern "C" fn ncclCommAbort(comm: *const Comm) -> i32 { unsafe { (*comm).aborted.store(true, SeqCst) }; 0 }
    #[unsafe(no_mangle)] pub extern "C" fn ncclGetErrorString(code: i32) -> *const c_char {
        match code { 2 => c"unhandled system error", 4 => c"invalid argument", 6 => c"remote process exited", _ => c"another error" }.as_ptr()
    }
    #[unsafe(no_mangle)] pub extern "C" fn ncclGetLastError(_: usize) -> *const c_char { c"of the fake".as_ptr() }
    // The sum of the library is only compared with in benchmarks.
    #[unsafe(no_mangle)] pub extern "C" fn ncclAllReduce() -> i32 { INVALID }
"#;

/// The fake as a library. With `FAKE_NCCL_FAILS="work RANK"` in the environment the operations of a rank
/// fail, with `"ncclCommGetAsyncError RANK"` what is asked about them.
pub struct FakeNccl {
    path: PathBuf,
    _folder: TempDir,
}

impl FakeNccl {
    /// Compiles the library.
    #[allow(clippy::new_without_default)] // It compiles a library.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = SOURCE.replace("FOLDER", folder.path().to_str().unwrap());
        Self { path: compiled(folder.path(), &source), _folder: folder }
    }

    /// The library.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
