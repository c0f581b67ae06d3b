//! The functions and constants of an MPI library.
//!
//! A handle is a pointer in Open MPI and in the standard's own interface, an `int` in MPICH's. All three pass
//! as a word: an `int` is its lower half in the registers of x86-64 and ARM64.

use std::error::Error;
use std::ffi::{c_char, c_int, c_void};
use std::path::Path;
use std::{mem, ptr};

use libloading::os::unix::{self, RTLD_GLOBAL, RTLD_NOW};

/// A handle of MPI.
pub(super) type Handle = usize;

/// `MPI_Isend`, `MPI_Irecv` (which writes to what it is given): data, count and type, process, tag,
/// communicator, request.
pub(super) type ToOne =
    unsafe extern "C" fn(*mut c_void, c_int, Handle, c_int, c_int, Handle, *mut Handle) -> c_int;

/// `MPI_Iallgather`.
pub(super) type ToEach = unsafe extern "C" fn(
    *const c_void,
    c_int,
    Handle,
    *mut c_void,
    c_int,
    Handle,
    Handle,
    *mut Handle,
) -> c_int;

/// A loaded library.
pub(super) struct Library {
    pub comm_world: Handle,
    pub byte: Handle,
    pub float: Handle,
    pub sum: Handle,
    errors_return: Handle,
    /// `MPI_THREAD_FUNNELED`: only the thread that initialises it calls the library.
    funneled: c_int,
    pub isend: ToOne,
    pub irecv: ToOne,
    pub iallgather: ToEach,
    pub allreduce: unsafe extern "C" fn(*const c_void, *mut c_void, c_int, Handle, Handle, Handle) -> c_int,
    pub ibcast: unsafe extern "C" fn(*mut c_void, c_int, Handle, c_int, Handle, *mut Handle) -> c_int,
    pub test: unsafe extern "C" fn(*mut Handle, *mut c_int, *mut c_void) -> c_int,
    pub abort: unsafe extern "C" fn(Handle, c_int) -> c_int,
    pub finalize: unsafe extern "C" fn() -> c_int,
    init: unsafe extern "C" fn(*mut c_int, *mut *mut *mut c_char, c_int, *mut c_int) -> c_int,
    number: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    size: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    set_errhandler: unsafe extern "C" fn(Handle, Handle) -> c_int,
    error_string: unsafe extern "C" fn(c_int, *mut c_char, *mut c_int) -> c_int,
    version: unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int,
}

/// The function `name`.
macro_rules! function {
    ($library:expr, $name:literal) => {
        // SAFETY: a function of MPI has the same C signature in every library.
        *unsafe { $library.get(concat!($name, "\0").as_bytes()) }
            .map_err(|_| format!("it has no function {}", $name))?
    };
}

impl Library {
    /// Loads the library `name`, a path or a file name that the dynamic linker looks for, for the rest of the
    /// process: it may have threads and handlers of its own.
    ///
    /// # Errors
    /// The reason why it is no MPI library.
    pub fn load(name: &Path) -> Result<Self, String> {
        // Open MPI's plug-ins need its symbols.
        // SAFETY: MPI libraries run no code of ours when they are loaded.
        let library = unsafe { unix::Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }
            .map_err(|error| error.source().map_or_else(|| error.to_string(), ToString::to_string))?;
        let address = |symbol: &[u8]| {
            // SAFETY: only the address of the symbol is used.
            unsafe { library.get::<*const c_void>(symbol) }.ok().map(|found| found.as_raw_ptr() as Handle)
        };
        let is_standard = address(b"MPI_Abi_get_version\0").is_some()
            && name.file_name().is_some_and(|name| name.to_string_lossy().contains("mpi_abi"));
        let (comm_world, byte, float, sum, errors_return, funneled) = if is_standard {
            (0x101, 0x247, 0x210, 0x21, 0x143, 1024)
        } else if let (Some(world), Some(byte), Some(float), Some(sum), Some(errors)) = (
            address(b"ompi_mpi_comm_world\0"),
            address(b"ompi_mpi_byte\0"),
            address(b"ompi_mpi_float\0"),
            address(b"ompi_mpi_op_sum\0"),
            address(b"ompi_mpi_errors_return\0"),
        ) {
            (world, byte, float, sum, errors, 1)
        } else {
            (0x4400_0000, 0x4c00_010d, 0x4c00_040a, 0x5800_0003, 0x5400_0001, 1)
        };
        let loaded = Self {
            comm_world,
            byte,
            float,
            sum,
            errors_return,
            funneled,
            isend: function!(library, "MPI_Isend"),
            irecv: function!(library, "MPI_Irecv"),
            iallgather: function!(library, "MPI_Iallgather"),
            allreduce: function!(library, "MPI_Allreduce"),
            ibcast: function!(library, "MPI_Ibcast"),
            test: function!(library, "MPI_Test"),
            abort: function!(library, "MPI_Abort"),
            finalize: function!(library, "MPI_Finalize"),
            init: function!(library, "MPI_Init_thread"),
            number: function!(library, "MPI_Comm_rank"),
            size: function!(library, "MPI_Comm_size"),
            set_errhandler: function!(library, "MPI_Comm_set_errhandler"),
            error_string: function!(library, "MPI_Error_string"),
            version: function!(library, "MPI_Get_library_version"),
        };
        mem::forget(library);
        Ok(loaded)
    }

    /// Initialises MPI; returns this process's number and the number of processes.
    ///
    /// # Errors
    /// The library's message.
    pub fn init(&self) -> Result<(usize, usize), String> {
        let check = |code| if code == 0 { Ok(()) } else { Err(self.message(code)) };
        let (mut provided, mut rank, mut world) = (0, 0, 0);
        // SAFETY: MPI may be initialised without arguments, once; `Mpi::join` is called once. All pointers
        // are valid.
        unsafe {
            let code = (self.init)(ptr::null_mut(), ptr::null_mut(), self.funneled, &mut provided);
            if code != 0 {
                return Err(format!("code {code}"));
            }
            check((self.set_errhandler)(self.comm_world, self.errors_return))?;
            check((self.number)(self.comm_world, &mut rank))?;
            check((self.size)(self.comm_world, &mut world))?;
        }
        match (usize::try_from(rank), usize::try_from(world)) {
            (Ok(rank), Ok(world)) if rank < world => Ok((rank, world)),
            _ => Err(format!("rank {rank} of {world}")),
        }
    }

    /// Name and version of the library, in a line.
    pub fn version(&self) -> String {
        let mut text = vec![0_u8; 16 << 10];
        let mut length: c_int = 0;
        // SAFETY: the buffer is larger than the longest text of any library, which is 8 KiB.
        unsafe { (self.version)(text.as_mut_ptr().cast(), &mut length) };
        let text = String::from_utf8_lossy(&text[..usize::try_from(length).unwrap_or(0).min(text.len())]);
        let line = text.lines().next().unwrap_or_default().trim_end_matches('\0');
        let name = line.split(',').next().unwrap_or_default().replace("Version:", "");
        name.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The library's message about an error.
    pub fn message(&self, code: c_int) -> String {
        let mut text = vec![0_u8; 4 << 10];
        let mut length: c_int = 0;
        // SAFETY: the buffer is larger than the longest text of any library, which is 512 bytes.
        let failed = unsafe { (self.error_string)(code, text.as_mut_ptr().cast(), &mut length) } != 0;
        if failed {
            return format!("code {code}");
        }
        let text = &text[..usize::try_from(length).unwrap_or(0).min(text.len())];
        String::from_utf8_lossy(text).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}
