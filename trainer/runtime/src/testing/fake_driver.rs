//! A fake of NVIDIA's driver that needs no GPU.

use std::fs;
use std::path::Path;

use libloading::Library;
use tempfile::TempDir;

use super::compiled;
use crate::copies::CopyStream;
use crate::driver::DRIVER;

/// A driver whose GPUs are the host's memory. It copies as late as allowed: when the stream is synchronised.
const SOURCE: &str = r#"
    use std::cell::Cell;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicI32;
    use std::sync::atomic::Ordering::SeqCst;

    const CONTEXT: usize = 40;
    const STREAM: usize = 80;
    static FAILING: Mutex<&str> = Mutex::new("");
    static OUTSTANDING: AtomicI32 = AtomicI32::new(0);
    static PENDING: Mutex<Vec<[usize; 3]>> = Mutex::new(Vec::new());
    static COPIES: AtomicI32 = AtomicI32::new(0);
    static FREE_QUERIES: AtomicI32 = AtomicI32::new(i32::MAX);
    thread_local! { static CURRENT: Cell<usize> = Cell::new(0); }

    fn done(name: &str, is_right: bool, work: impl FnOnce()) -> i32 {
        if *FAILING.lock().unwrap() == name { return 999; }
        if !is_right { return 1; }
        work();
        0
    }
    fn has_context() -> bool { CURRENT.get() == CONTEXT }
    fn copy(name: &str, target: u64, source: usize, bytes: usize, stream: usize) -> i32 {
        done(name, has_context() && stream == STREAM, || PENDING.lock().unwrap().push([target as usize, source, bytes]))
    }

    #[unsafe(no_mangle)] pub extern "C" fn cuInit(flags: u32) -> i32 { done("cuInit", flags == 0, || ()) }
    #[unsafe(no_mangle)] pub unsafe extern "C" fn cuDriverGetVersion(version: *mut i32) -> i32 {
        done("cuDriverGetVersion", true, || unsafe { *version = 13_000 })
    }
    #[unsafe(no_mangle)] pub unsafe extern "C" fn cuDeviceGetCount(count: *mut i32) -> i32 {
        done("cuDeviceGetCount", true, || unsafe { *count = 2 })
    }
    #[unsafe(no_mangle)] pub unsafe extern "C" fn cuDeviceGet(device: *mut i32, number: i32) -> i32 {
        done("cuDeviceGet", (0..2).contains(&number), || unsafe { *device = 7 })
    }
    #[unsafe(no_mangle)] pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut usize, device: i32) -> i32 {
        done("cuDevicePrimaryCtxRetain", device == 7, || { OUTSTANDING.fetch_add(1, SeqCst); unsafe { *context = CONTEXT } })
    }
    #[unsafe(no_mangle)] pub extern "C" fn cuDevicePrimaryCtxRelease_v2(device: i32) -> i32 {
        done("cuDevicePrimaryCtxRelease_v2", device == 7, || { OUTSTANDING.fetch_sub(1, SeqCst); })
    }
    #[unsafe(no_mangle)] pub extern "C" fn cuCtxSetCurrent(context: usize) -> i32 {
        done("cuCtxSetCurrent", context == CONTEXT, || CURRENT.set(context))
    }
    #[unsafe(no_mangle)] pub unsafe extern "C" fn cuStreamCreate(stream: *mut usize, flags: u32) -> i32 {
        let is_right = flags == 1 && has_context();
        done("cuStreamCreate", is_right, || { OUTSTANDING.fetch_add(1, SeqCst); unsafe { *stream = STREAM } })
    }
    #[unsafe(no_mangle)] pub extern "C" fn cuStreamDestroy_v2(stream: usize) -> i32 {
        done("cuStreamDestroy_v2", stream == STREAM && has_context(), || { OUTSTANDING.fetch_sub(1, SeqCst); })
    }
    #[unsafe(no_mangle)] pub unsafe extern "C" fn cuStreamSynchronize(stream: usize) -> i32 {
        done("cuStreamSynchronize", stream == STREAM && has_context(), || for [target, source, bytes] in PENDING.lock().unwrap().drain(..) {
            unsafe { std::ptr::copy(source as *const u8, target as *mut u8, bytes) };
            COPIES.fetch_add(1, SeqCst);
        })
    }
    #[unsafe(no_mangle)] pub extern "C" fn cuStreamQuery(stream: usize) -> i32 {
        let is_free = FREE_QUERIES.fetch_sub(1, SeqCst) > 0;
        let is_ready = is_free && PENDING.lock().unwrap().is_empty();
        match done("cuStreamQuery", stream == STREAM && has_context(), || ()) { 0 if !is_ready => 600, code => code }
    }
    #[unsafe(no_mangle)] pub unsafe extern "C" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> i32 {
        done("cuMemAlloc_v2", has_context() && bytes > 0, || {
            OUTSTANDING.fetch_add(1, SeqCst);
            // Its length lies before it.
            let words = Box::leak(vec![bytes as u64; bytes.div_ceil(8) + 1].into_boxed_slice());
            unsafe { *address = words.as_mut_ptr().add(1).addr() as u64 };
        })
    }
    #[unsafe(no_mangle)] pub unsafe extern "C" fn cuMemFree_v2(address: u64) -> i32 {
        done("cuMemFree_v2", has_context(), || {
            OUTSTANDING.fetch_sub(1, SeqCst);
            unsafe {
                let first = (address as usize as *mut u64).sub(1);
                drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(first, (*first as usize).div_ceil(8) + 1)));
            }
        })
    }
    #[unsafe(no_mangle)] pub extern "C" fn cuMemcpyDtoHAsync_v2(target: usize, source: u64, bytes: usize, stream: usize) -> i32 {
        copy("cuMemcpyDtoHAsync_v2", target as u64, source as usize, bytes, stream)
    }
    #[unsafe(no_mangle)] pub extern "C" fn cuMemcpyHtoDAsync_v2(target: u64, source: usize, bytes: usize, stream: usize) -> i32 {
        copy("cuMemcpyHtoDAsync_v2", target, source, bytes, stream)
    }
    #[unsafe(no_mangle)] pub extern "C" fn cuMemcpyDtoDAsync_v2(target: u64, source: u64, bytes: usize, stream: usize) -> i32 {
        copy("cuMemcpyDtoDAsync_v2", target, source as usize, bytes, stream)
    }

    #[unsafe(no_mangle)] pub fn fake_fail(name: &'static str) { *FAILING.lock().unwrap() = name; }
    #[unsafe(no_mangle)] pub fn fake_occupy(queries: i32) { FREE_QUERIES.store(queries, SeqCst); }
    #[unsafe(no_mangle)] pub fn fake_outstanding() -> i32 { OUTSTANDING.load(SeqCst) + PENDING.lock().unwrap().len() as i32 }
    #[unsafe(no_mangle)] pub fn fake_copies() -> i32 { COPIES.load(SeqCst) }
"#;

/// A fake driver for one test.
pub struct FakeDriver {
    library: Library,
    path: String,
    _folder: TempDir,
}

impl FakeDriver {
    /// A driver with nothing outstanding.
    #[allow(clippy::new_without_default)] // It compiles a library.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // So that it can be found as the driver, in this folder.
        let path = folder.path().join(DRIVER);
        fs::rename(compiled(folder.path(), SOURCE), &path).unwrap();
        let path = path.to_str().unwrap().to_owned();
        // SAFETY: nothing runs when the library is loaded.
        let library = unsafe { Library::new(&path) }.unwrap();
        Self { library, path, _folder: folder }
    }

    /// The library, by its name in its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// A stream to its GPU 1.
    pub fn stream(&self) -> Result<CopyStream, String> {
        CopyStream::open_with(&self.path, 1)
    }

    /// Lets the function with this name fail from now on.
    pub fn fail(&self, name: &'static str) {
        // SAFETY: the source above has it, made by the same compiler.
        let fail = unsafe { self.library.get::<fn(&'static str)>(b"fake_fail\0") }.unwrap();
        fail(name);
    }

    /// Lets the streams have work that does not end, after they have been asked this often whether they do.
    pub fn occupy_after_queries(&self, queries: i32) {
        // SAFETY: the source above has it, made by the same compiler.
        let occupy = unsafe { self.library.get::<fn(i32)>(b"fake_occupy\0") }.unwrap();
        occupy(queries);
    }

    /// Number of contexts and streams that are not released, and of copies that are not synchronised.
    #[must_use]
    pub fn outstanding(&self) -> i32 {
        self.count(b"fake_outstanding\0")
    }

    /// Number of copies that are done.
    #[must_use]
    pub fn copies(&self) -> i32 {
        self.count(b"fake_copies\0")
    }

    fn count(&self, name: &[u8]) -> i32 {
        // SAFETY: the source above has them, made by the same compiler.
        let count = unsafe { self.library.get::<fn() -> i32>(name) }.unwrap();
        count()
    }
}
