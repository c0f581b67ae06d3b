//! NVIDIA's driver: loads the cubins and launches their kernels.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

use libloading::Library;

/// The driver's library.
const DRIVER: &str = "libcuda.so.1";
/// Threads of a block.
const BLOCK: u32 = 128;
/// Numbers of device attributes.
const CAPABILITY: [c_int; 2] = [75, 76];
/// Compute capability, and the kernels for it and for later ones of the same major number.
const CUBINS: [([c_int; 2], &[u8]); 4] = [
    ([8, 0], include_bytes!("../../cuda/sm_80.cubin")),
    ([9, 0], include_bytes!("../../cuda/sm_90.cubin")),
    ([10, 0], include_bytes!("../../cuda/sm_100.cubin")),
    ([12, 0], include_bytes!("../../cuda/sm_120.cubin")),
];

/// The driver's functions, with the types in NVIDIA's documentation of the driver API.
#[allow(non_snake_case)]
struct Functions {
    cuCtxGetCurrent: unsafe extern "C" fn(*mut *mut c_void) -> c_int,
    cuCtxGetDevice: unsafe extern "C" fn(*mut c_int) -> c_int,
    cuDeviceGetAttribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int,
    cuModuleLoadData: unsafe extern "C" fn(*mut *mut c_void, *const c_void) -> c_int,
    cuModuleGetFunction: unsafe extern "C" fn(*mut *mut c_void, *mut c_void, *const c_char) -> c_int,
    cuLaunchKernel: unsafe extern "C" fn(
        *mut c_void,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        *mut c_void,
        *mut *mut c_void,
        *mut *mut c_void,
    ) -> c_int,
}

/// Looks up each function by its name in a library.
macro_rules! functions {
    ($library:expr, $($name:ident),+ $(,)?) => {
        Functions {
            // SAFETY: the type is that of the function in NVIDIA's documentation.
            $($name: *unsafe { $library.get(concat!(stringify!($name), "\0").as_bytes()) }
                .map_err(|error| error.to_string())?,)+
        }
    };
}

/// Calls a function of the driver; an error names it.
macro_rules! call {
    ($functions:expr, $name:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: stated where the macro is used.
        match unsafe { ($functions.$name)($($argument),*) } {
            0 => Ok(()),
            code => Err(format!(concat!(stringify!($name), " of the NVIDIA driver returned error {}"), code)),
        }
    };
}

/// The driver, with the modules that it has loaded.
pub(super) struct Driver {
    functions: Functions,
    /// Keeps the functions loaded.
    _library: Library,
    /// Modules by their contexts, both as addresses. They are never unloaded.
    modules: Mutex<HashMap<usize, usize>>,
}

/// A kernel in a context.
#[derive(Clone, Copy)]
pub(super) struct Function(*mut c_void);

// SAFETY: a handle of the driver, which any thread may use.
unsafe impl Send for Function {}

impl Driver {
    /// The driver of this machine.
    pub fn shared() -> Result<&'static Self, String> {
        static SHARED: OnceLock<Result<Driver, String>> = OnceLock::new();
        SHARED.get_or_init(|| Self::open(DRIVER)).as_ref().map_err(Clone::clone)
    }

    pub fn open(path: &str) -> Result<Self, String> {
        // SAFETY: NVIDIA's driver may be loaded by any program.
        let library = unsafe { Library::new(path) }.map_err(|error| error.to_string())?;
        let functions = functions!(
            library,
            cuCtxGetCurrent,
            cuCtxGetDevice,
            cuDeviceGetAttribute,
            cuModuleLoadData,
            cuModuleGetFunction,
            cuLaunchKernel,
        );
        Ok(Self { functions, _library: library, modules: Mutex::default() })
    }

    /// The kernel `name` in the calling thread's context, whose first call loads all kernels.
    ///
    /// # Errors
    /// There is no context, the GPU is one that no kernels are compiled for, or the driver's function that
    /// failed.
    pub fn function(&self, name: &CStr) -> Result<Function, String> {
        let (mut context, mut function) = (ptr::null_mut(), ptr::null_mut());
        // The functions write one value each.
        call!(self.functions, cuCtxGetCurrent(&raw mut context))?;
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let module = match modules.get(&context.addr()) {
            Some(module) => *module,
            None => {
                let module = self.load()?.expose_provenance();
                modules.insert(context.addr(), module);
                module
            }
        };
        let module = ptr::with_exposed_provenance_mut(module);
        // The module is loaded in this context, and the name ends with a zero.
        call!(self.functions, cuModuleGetFunction(&raw mut function, module, name.as_ptr()))?;
        Ok(Function(function))
    }

    /// Loads the kernels in the calling thread's context.
    fn load(&self) -> Result<*mut c_void, String> {
        let (mut device, mut capability, mut module) = (0, [0; 2], ptr::null_mut());
        // The functions write one value each.
        call!(self.functions, cuCtxGetDevice(&raw mut device))?;
        for (value, attribute) in capability.iter_mut().zip(CAPABILITY) {
            call!(self.functions, cuDeviceGetAttribute(&raw mut *value, attribute, device))?;
        }
        let fitting = CUBINS.iter().rev().find(|([major, minor], _)| {
            let [own_major, own_minor] = capability;
            *major == own_major && *minor <= own_minor
        });
        let Some((_, cubin)) = fitting else {
            let [major, minor] = capability;
            return Err(format!(
                "the GPU has compute capability {major}.{minor}, for which there are no kernels of our own; leave them \
                 out"
            ));
        };
        // Aligned as an ELF file must be.
        let mut aligned = vec![0_u64; cubin.len().div_ceil(size_of::<u64>())];
        for (word, bytes) in aligned.iter_mut().zip(cubin.chunks(size_of::<u64>())) {
            let mut whole = [0; size_of::<u64>()];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(whole);
        }
        // The driver copies the image.
        call!(self.functions, cuModuleLoadData(&raw mut module, aligned.as_ptr().cast()))?;
        Ok(module)
    }

    /// Launches `threads` threads of a kernel on a stream, or more, and does not wait for them.
    ///
    /// # Errors
    /// The driver's error code.
    ///
    /// # Safety
    /// `arguments` are addresses of values of the types that the kernel takes; its pointers are to memory of
    /// the GPU, which stays until the stream has come so far, and `stream` is a stream of the GPU or null.
    pub unsafe fn launch(
        &self,
        function: Function,
        threads: usize,
        stream: *mut c_void,
        arguments: &mut [*mut c_void],
    ) -> Result<(), String> {
        let blocks = c_uint::try_from(threads.div_ceil(BLOCK as usize))
            .map_err(|_| format!("{threads} values are more than a kernel can be launched for"))?;
        // The caller answers for what is pointed to.
        call!(
            self.functions,
            cuLaunchKernel(
                function.0,
                blocks,
                1,
                1,
                BLOCK,
                1,
                1,
                0,
                stream,
                arguments.as_mut_ptr(),
                ptr::null_mut(),
            )
        )
    }
}
