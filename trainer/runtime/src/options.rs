//! Options: which build, from where, into which folder.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use fovea_files::cache_folder_by;

use super::{Build, RuntimeError};

/// The default package index.
pub const DEFAULT_INDEX_URL: &str = "https://pypi.org/simple";

/// Where ONNX Runtime comes from and how it is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The build to use.
    pub build: Build,
    /// Path of the user's own library; then nothing is fetched.
    pub dylib: Option<PathBuf>,
    /// Folder for fetched libraries; without one, nothing can be fetched.
    pub cache: Option<PathBuf>,
    /// Base URL of a package index with the "simple" API (PEP 503 or PEP 691).
    pub index_url: String,
    /// Whether fetching is forbidden.
    pub offline: bool,
    /// Threads of ONNX Runtime's pool; 0 means one per core.
    pub threads: usize,
}

impl Options {
    /// The options that the environment variables set; see the [crate's page](crate).
    #[must_use]
    pub fn from_env(build: Build) -> Self {
        Self::from_variables(build, |name| env::var_os(name))
    }

    fn from_variables(build: Build, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        Self {
            build,
            dylib: set("ORT_DYLIB_PATH").map(PathBuf::from),
            cache: cache_folder_by(&set),
            index_url: set("PIP_INDEX_URL")
                .and_then(|url| url.into_string().ok())
                .unwrap_or_else(|| DEFAULT_INDEX_URL.to_owned()),
            offline: set("FOVEA_OFFLINE").is_some_and(|value| value != "0"),
            threads: 0,
        }
    }

    pub(super) fn cache(&self) -> Result<PathBuf, RuntimeError> {
        self.cache.clone().ok_or(RuntimeError::NoCache)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Options {
        Options::from_variables(Build::Cpu, |name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_cache_is_that_of_the_environment() {
        assert_eq!(from(&[("HOME", "/home/ada")]).cache, Some("/home/ada/.cache/fovea".into()));
        assert_eq!(
            from(&[("HOME", "/home/ada"), ("FOVEA_CACHE", "")]).cache,
            Some("/home/ada/.cache/fovea".into())
        );
        assert_eq!(from(&[]).cache, None);
    }

    #[test]
    fn offline_is_on_for_one_and_off_for_zero_and_empty() {
        assert!(from(&[("FOVEA_OFFLINE", "1")]).offline);
        assert!(!from(&[("FOVEA_OFFLINE", "0")]).offline);
        assert!(!from(&[("FOVEA_OFFLINE", "")]).offline);
        assert!(!from(&[]).offline);
    }

    #[test]
    fn the_package_index_of_pip_is_used() {
        assert_eq!(from(&[]).index_url, "https://pypi.org/simple");
        assert_eq!(from(&[("PIP_INDEX_URL", "https://mirror/simple/")]).index_url, "https://mirror/simple/");
    }

    #[test]
    fn the_users_own_library_is_taken_from_ort_dylib_path() {
        assert_eq!(
            from(&[("ORT_DYLIB_PATH", "/opt/libonnxruntime.so")]).dylib,
            Some("/opt/libonnxruntime.so".into())
        );
        assert_eq!(from(&[("ORT_DYLIB_PATH", "")]).dylib, None);
    }
}
