//! Options: which build, from where, into which folder.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

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
            cache: cache_from(&set),
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

/// The user's cache folder: `FOVEA_CACHE`, else `$XDG_CACHE_HOME/fovea`, else `~/.cache/fovea`; `None` if
/// `HOME` is not set either.
#[must_use]
pub fn cache_folder() -> Option<PathBuf> {
    cache_from(&|name| env::var_os(name).filter(|value| !value.is_empty()))
}

fn cache_from(set: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(folder) = set("FOVEA_CACHE") {
        return Some(folder.into());
    }
    // The XDG specification requires that a relative path is ignored.
    if let Some(base) = set("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
        return Some(base.join("fovea"));
    }
    set("HOME").map(|home| PathBuf::from(home).join(".cache/fovea"))
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
    fn the_cache_follows_fovea_cache_then_xdg_then_home() {
        let home = ("HOME", "/home/ada");
        assert_eq!(from(&[home]).cache, Some("/home/ada/.cache/fovea".into()));
        assert_eq!(from(&[home, ("XDG_CACHE_HOME", "/x")]).cache, Some("/x/fovea".into()));
        assert_eq!(
            from(&[home, ("XDG_CACHE_HOME", "relative")]).cache,
            Some("/home/ada/.cache/fovea".into())
        );
        assert_eq!(from(&[home, ("XDG_CACHE_HOME", "/x"), ("FOVEA_CACHE", "/f")]).cache, Some("/f".into()));
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
