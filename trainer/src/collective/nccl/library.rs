//! The functions of NCCL.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::{mem, ptr};

use libloading::Library as Loaded;

/// A communicator.
pub(super) type Comm = *mut c_void;
/// A `cudaStream_t`.
pub(super) type Stream = *mut c_void;

/// `ncclInProgress`: what a communicator that does not block answers while it works.
pub(super) const IN_PROGRESS: c_int = 7;
/// `ncclUint8` and `ncclFloat32`.
pub(super) const BYTE: c_int = 1;
pub(super) const FLOAT: c_int = 7;
/// `ncclSum`.
pub(super) const SUM: c_int = 0;

/// What the processes of a communicator have in common, made by one of them.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Id(pub [u8; 128]);

/// The beginning of `ncclConfig_t`, as of version 2.14; the rest keeps its defaults.
#[repr(C)]
pub(super) struct Config {
    size: usize,
    magic: u32,
    version: u32,
    blocking: c_int,
}

impl Config {
    /// A communicator none of whose functions block.
    pub const NON_BLOCKING: Self =
        Self { size: size_of::<Self>(), magic: 0xcafe_beef, version: 2_14_00, blocking: 0 };
}

macro_rules! library {
    ($($name:ident: fn($($argument:ty),*) -> $result:ty,)+) => {
        /// NCCL, with the types in its documentation.
        #[allow(non_snake_case)]
        pub(super) struct Library {
            $(pub $name: unsafe extern "C" fn($($argument),*) -> $result,)+
        }

        impl Library {
            /// Loads the library `path` for the rest of the process: threads of its own may outlive a
            /// communicator.
            ///
            /// # Errors
            /// The reason why it is not NCCL.
            pub fn load(path: &Path) -> Result<Self, String> {
                // SAFETY: NCCL runs no code of ours when it is loaded.
                let loaded = unsafe { Loaded::new(path) }.map_err(|error| error.to_string())?;
                let library = Self {
                    $(
                        // SAFETY: the type is that of the function in NCCL's documentation.
                        $name: *unsafe { loaded.get(concat!(stringify!($name), "\0").as_bytes()) }
                            .map_err(|_| concat!("it has no function ", stringify!($name)))?,
                    )+
                };
                mem::forget(loaded);
                Ok(library)
            }
        }
    };
}

library! {
    ncclGetVersion: fn(*mut c_int) -> c_int,
    ncclGetUniqueId: fn(*mut Id) -> c_int,
    ncclCommInitRankConfig: fn(*mut Comm, c_int, Id, c_int, *const Config) -> c_int,
    ncclCommGetAsyncError: fn(Comm, *mut c_int) -> c_int,
    ncclCommFinalize: fn(Comm) -> c_int,
    ncclCommDestroy: fn(Comm) -> c_int,
    ncclCommAbort: fn(Comm) -> c_int,
    ncclGetErrorString: fn(c_int) -> *const c_char,
    ncclGetLastError: fn(Comm) -> *const c_char,
    ncclGroupStart: fn() -> c_int,
    ncclGroupEnd: fn() -> c_int,
    ncclSend: fn(u64, usize, c_int, c_int, Comm, Stream) -> c_int,
    ncclRecv: fn(u64, usize, c_int, c_int, Comm, Stream) -> c_int,
    ncclAllGather: fn(u64, u64, usize, c_int, Comm, Stream) -> c_int,
    ncclBroadcast: fn(u64, u64, usize, c_int, c_int, Comm, Stream) -> c_int,
    ncclAllReduce: fn(u64, u64, usize, c_int, c_int, Comm, Stream) -> c_int,
}

impl Library {
    /// Its version, as `2.32.3`.
    pub fn version(&self) -> String {
        let mut version = 0;
        // SAFETY: the function writes one value.
        unsafe { (self.ncclGetVersion)(&raw mut version) };
        format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
    }

    /// The message of an error code, and what the library says about the last error.
    pub fn message(&self, code: c_int) -> String {
        // SAFETY: both functions return strings that stay, and take no communicator for one.
        let [kind, last] =
            unsafe { [(self.ncclGetErrorString)(code), (self.ncclGetLastError)(ptr::null_mut())] }.map(
                |text| {
                    match text.is_null() {
                        true => String::new(),
                        // SAFETY: it is a string of C.
                        false => unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned(),
                    }
                },
            );
        if last.is_empty() { kind } else { format!("{kind}: {last}") }
    }
}
