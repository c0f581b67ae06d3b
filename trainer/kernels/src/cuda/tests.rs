//! The kernels on the processor, through a fake of the driver, against their twins.

use std::env;
use std::ffi::{CStr, c_int, c_void};
use std::path::Path;
use std::process::Command;
use std::ptr;

use libloading::Library;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use super::driver::Driver;
use super::operators::Sizes;
use crate::lrn::Lrn;
use crate::pool::MaxPool;
use crate::threads::Alone;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cuda");

/// A driver whose GPU is the processor.
struct Fake {
    driver: Driver,
    library: Library,
    _folder: TempDir,
}

/// A fake driver; `None`, and a line that says so, where there is no C++ compiler.
fn fake() -> Option<Fake> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libfake.so");
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".into());
    let options = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wno-unknown-pragmas", "-o"];
    let source = Path::new(FOLDER).join("fake_driver.cpp");
    let Ok(status) = Command::new(&compiler).args(options).args([&path, &source]).status() else {
        eprintln!("skipped: no C++ compiler {compiler}");
        return None;
    };
    assert!(status.success());
    let path = path.to_str().unwrap();
    // SAFETY: nothing runs when the library is loaded.
    let library = unsafe { Library::new(path) }.unwrap();
    Some(Fake { driver: Driver::open(path).unwrap(), library, _folder: folder })
}

impl Fake {
    /// Runs a kernel on operands; returns the output, of so many values.
    fn run(&self, entry: &CStr, sizes: Sizes, inputs: &[&[f32]], values: usize) -> Result<Vec<f32>, String> {
        let mut output = vec![f32::NAN; values];
        let mut operands: Vec<*mut c_void> =
            inputs.iter().map(|input| input.as_ptr().cast_mut().cast()).collect();
        operands.push(output.as_mut_ptr().cast());
        // SAFETY: the fake's memory is that of the process, and it returns when the kernel has ended.
        unsafe { sizes.launch(&self.driver, entry, &mut operands, ptr::null_mut()) }?;
        Ok(output)
    }

    fn loaded(&self) -> c_int {
        // SAFETY: the fake has this function.
        unsafe { self.library.get::<unsafe extern "C" fn() -> c_int>(b"fake_loaded\0").unwrap()() }
    }

    fn set_capability(&self, major: c_int, minor: c_int) {
        // SAFETY: the fake has this function.
        let set = unsafe { self.library.get::<unsafe extern "C" fn(c_int, c_int)>(b"fake_capability\0") };
        // SAFETY: as above.
        unsafe { set.unwrap()(major, minor) }
    }
}

fn draw(random: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.random::<f32>() * 4.0 - 2.0).collect()
}

fn largest_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    // A NaN is larger than any.
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, |most, d| if d <= most { most } else { d })
}

#[test]
fn normalisations_on_a_gpu_agree_with_those_on_the_processor() {
    let Some(fake) = fake() else { return };
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for (channels, plane, size) in [(7, 70, 5), (2, 9, 5), (1, 1, 5), (96, 3, 5), (9, 130, 3), (8, 5, 9)] {
        let lrn = Lrn { images: 2, channels, plane, size, alpha: 0.5, k: 2.0 };
        let values = 2 * channels * plane;
        let (x, dy) = (draw(&mut random, values), draw(&mut random, values));
        let (mut y, mut dx) = (vec![0.0; values], vec![0.0; values]);
        lrn.forward(&x, &mut y, &Alone(1));
        lrn.gradient([&dy, &x], &mut dx, &Alone(1));
        let ours = fake.run(c"lrn", Sizes::of_lrn(&lrn), &[&x], values).unwrap();
        let difference = largest_difference(&ours, &y);
        assert!(difference < 1e-6, "forward: {difference} for {lrn:?}");
        let ours = fake.run(c"lrn_gradient", Sizes::of_lrn(&lrn), &[&dy, &x], values).unwrap();
        let difference = largest_difference(&ours, &dx);
        assert!(difference < 2e-6, "gradient: {difference} for {lrn:?}");
    }
    assert_eq!(fake.loaded(), 1, "modules are loaded once for a context");
}

#[test]
fn pools_on_a_gpu_have_the_bits_of_those_on_the_processor() {
    let Some(fake) = fake() else { return };
    let mut random = ChaCha8Rng::seed_from_u64(8);
    for (input, output, kernel, strides, pads) in [
        ([13, 13], [6, 6], [3, 3], [2, 2], [0, 0]),
        ([8, 11], [4, 6], [3, 3], [2, 2], [1, 1]),
        // The last windows are cut.
        ([8, 8], [4, 4], [3, 3], [2, 2], [0, 0]),
        ([5, 9], [2, 3], [2, 3], [2, 3], [0, 0]),
        // Windows that leave pixels out.
        ([9, 7], [3, 2], [2, 1], [3, 4], [0, 0]),
        ([1, 4], [1, 4], [3, 3], [1, 1], [1, 1]),
    ] {
        let pool = MaxPool { images: 2, channels: 3, input, output, kernel, strides, pads };
        let (from, to) = (6 * input[0] * input[1], 6 * output[0] * output[1]);
        let (mut x, dy) = (draw(&mut random, from), draw(&mut random, to));
        // Equal maxima, of which the first counts, and values that are no numbers.
        x.iter_mut().step_by(2).for_each(|value| *value = value.round());
        x[from - 1] = f32::NAN;
        x[0] = f32::NEG_INFINITY;
        let (mut y, mut dx) = (vec![0.0; to], vec![0.0; from]);
        pool.forward(&x, &mut y, &Alone(1));
        pool.gradient([&dy, &x], &mut dx, &Alone(1));
        let bits = |values: &[f32]| -> Vec<Option<u32>> {
            values.iter().map(|value| (!value.is_nan()).then_some(value.to_bits())).collect()
        };
        let ours = fake.run(c"max_pool", Sizes::of_pool(&pool, false), &[&x], to).unwrap();
        assert_eq!(bits(&ours), bits(&y), "forward of {pool:?}");
        let ours = fake.run(c"max_pool_gradient", Sizes::of_pool(&pool, true), &[&dy, &x], from).unwrap();
        assert_eq!(bits(&ours), bits(&dx), "gradient of {pool:?}");
    }
}

#[test]
fn a_gpu_without_kernels_is_named_and_a_later_minor_one_has_those_of_the_earlier() {
    let Some(fake) = fake() else { return };
    fake.set_capability(7, 5);
    let lrn = Lrn { images: 1, channels: 1, plane: 1, size: 5, alpha: 0.5, k: 2.0 };
    let error = fake.run(c"lrn", Sizes::of_lrn(&lrn), &[&[1.0]], 1).unwrap_err();
    assert!(error.contains("compute capability 7.5"), "{error}");
    fake.set_capability(8, 9);
    fake.run(c"lrn", Sizes::of_lrn(&lrn), &[&[1.0]], 1).unwrap();
    let error = fake.run(c"nothing", Sizes::of_lrn(&lrn), &[&[1.0]], 1).unwrap_err();
    assert_eq!(error, "cuModuleGetFunction of the NVIDIA driver returned error 500");
}

#[test]
fn the_cubins_are_those_of_the_source() {
    let Some(python) = env::var_os("FOVEA_TEST_PYTHON") else {
        eprintln!("skipped: FOVEA_TEST_PYTHON is not set");
        return;
    };
    let version = "from importlib.metadata import version; print(version('nvidia-cuda-nvrtc'))";
    let version = Command::new(&python).args(["-c", version]).output().unwrap();
    if version.stdout.trim_ascii() != b"13.0.88" {
        eprintln!("skipped: no nvidia-cuda-nvrtc 13.0.88");
        return;
    }
    let checked = Command::new(python).args(["build.py", "--check"]).current_dir(FOLDER).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
