//! Where what can be fetched again is kept.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// The user's cache folder: `FOVEA_CACHE`, else `$XDG_CACHE_HOME/fovea`, else `~/.cache/fovea`; `None` if
/// `HOME` is not set either.
#[must_use]
pub fn cache_folder() -> Option<PathBuf> {
    cache_folder_by(&|name| env::var_os(name).filter(|value| !value.is_empty()))
}

/// The [`cache_folder`] where these are the variables that are set and not empty.
#[must_use]
pub fn cache_folder_by(set: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
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

    #[test]
    fn the_cache_follows_fovea_cache_then_xdg_then_home() {
        let of = |pairs: &[(&str, &str)]| {
            cache_folder_by(&|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        let home = ("HOME", "/home/ada");
        assert_eq!(of(&[home]), Some("/home/ada/.cache/fovea".into()));
        assert_eq!(of(&[home, ("XDG_CACHE_HOME", "/x")]), Some("/x/fovea".into()));
        assert_eq!(of(&[home, ("XDG_CACHE_HOME", "relative")]), Some("/home/ada/.cache/fovea".into()));
        assert_eq!(of(&[home, ("XDG_CACHE_HOME", "/x"), ("FOVEA_CACHE", "/f")]), Some("/f".into()));
        assert_eq!(of(&[]), None);
    }
}
