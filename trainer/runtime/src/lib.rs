//! ONNX Runtime without set-up: finds, fetches, checks and loads the shared library, and creates the one
//! environment of the process. Also checks NVIDIA's driver.
//!
//! ```text
//! Options ─► locate ───────────────────────────────► check_library ─► environment ─► sessions of `ort`
//!            ORT_DYLIB_PATH │ cache │ package index   ELF, version      CUDA libraries preloaded
//! ```
//!
//! ```no_run
//! use std::fs;
//!
//! use fovea_runtime::{DeviceChoice, Options, environment};
//! use ort::session::Session;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = DeviceChoice::Auto.resolve(); // the first GPU, else the CPU
//! let options = Options::from_env(device.build());
//! let runtime = environment(&options, &mut ())?; // `()` ignores progress
//! eprintln!("ONNX Runtime 1.{} from {}", runtime.minor_version, runtime.library.display());
//! let model = fs::read("model.onnx")?;
//! let session = Session::builder(&runtime.environment)?.commit_from_memory(&model)?;
//! # drop(session);
//! # Ok(())
//! # }
//! ```
//!
//! * [`locate`] takes the library that the user gave, else one in the cache, else fetches the pinned
//!   [`wheels`] from a Python package index. Downloads resume; each wheel must have the pinned sha256.
//! * [`check_library`] refuses a file that is not a complete ONNX Runtime of minor version [`OLDEST_MINOR`]
//!   or newer, before `ort` loads it, which would panic.
//! * [`environment`] checks the GPU if CUDA is requested, does both, loads the CUDA libraries and creates the
//!   environment. A process has one: later calls return the same.
//! * [`check_gpu`] asks NVIDIA's driver for a GPU and its CUDA version; [`DeviceChoice`] chooses the device
//!   by it. The driver is never fetched.
//! * [`first_alone`] makes the first session of a process before others that are made beside it.
//! * [`copies`] copies to and from a GPU while it computes.
//! * [`locate_nccl`] finds or fetches the library by which processes on several GPUs exchange values.
//!
//! # What is fetched and written
//!
//! Only [`locate`], [`locate_nccl`] and [`environment`] write, and only to `onnxruntime/` in the cache
//! folder. A build is fetched once: 24 MB for the CPU; 1.2 GB for CUDA, which includes NVIDIA's libraries but
//! NCCL, which has 305 MB. A wheel is downloaded
//! to `WHEEL.part`, checked, and its shared objects are unpacked to `WHEEL/`, which is complete or absent;
//! then the wheel is deleted. `WHEEL.lock` lets other processes wait. Before each load, every library is
//! compared with the hash that is pinned for it, and fetched again if it is another. The folders are made for
//! their owner alone; one that others can write to, or that is a link, is refused. Wheels are pinned for
//! Linux on x86_64 and aarch64; elsewhere, give a library of your own. Without network, an error lists the
//! files and the paths to put them at.
//!
//! ONNX Runtime's telemetry, which would write an id of the device outside the cache on every run, is
//! switched off before it is loaded, by `ORT_DISABLE_TELEMETRY=1` in the environment of the process.
//!
//! The crate prints nothing. Downloads report to a [`Progress`]; lost connections (debug) and a driver that
//! cannot be used (warning) are logged by `tracing`.
//!
//! # Environment variables
//!
//! [`Options::from_env`] reads them; the fields of [`Options`] replace them.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `ORT_DYLIB_PATH` | path of a `libonnxruntime.so` to use; nothing is fetched |
//! | `FOVEA_CACHE` | cache folder; else `$XDG_CACHE_HOME/fovea`, else `~/.cache/fovea` |
//! | `PIP_INDEX_URL` | package index to fetch from; else `https://pypi.org/simple` |
//! | `FOVEA_OFFLINE` | forbids fetching, unless empty or `0` |
//!
//! The HTTP client also takes proxies, `SSL_CERT_FILE` and `SSL_CERT_DIR` from the environment.
//!
//! # Features
//!
//! `testing` adds the module `testing` for the tests of other crates: it runs models on the device of
//! `FOVEA_TEST_DEVICE` (`cpu` if not set), and has a fake of NVIDIA's driver, which it compiles with `rustc`.

mod cache;
pub mod copies;
mod device;
mod download;
mod driver;
mod environment;
mod error;
mod index;
mod library;
mod locate;
mod manifest;
mod options;
mod progress;
mod unpack;

#[cfg(test)]
mod test_server;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use cache::create_private_folder;
pub use device::{Device, DeviceChoice};
pub use driver::{check_gpu, gpus};
pub use environment::{OnnxRuntime, environment, first_alone};
pub use error::{FetchError, RuntimeError};
pub use fovea_files::cache_folder;
pub use library::check_library;
pub use locate::{LibraryPath, Source, locate, locate_nccl};
pub use manifest::{Build, Library, OLDEST_MINOR, ORT_VERSION, Wheel, nccl_wheel, wheels};
pub use options::{DEFAULT_INDEX_URL, Options};
pub use progress::Progress;
