//! Runs the real binaries, for the end-to-end tests, and reads bytes by all [`readers`].

pub mod readers;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The path of one of the tools, built with the profile of the calling test.
///
/// # Panics
/// When the build fails.
pub fn tool(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(build_tools).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// Builds the tools and returns the folder that they are in.
fn build_tools() -> PathBuf {
    // The test's executable is in `<target>/<profile folder>/deps`.
    let test = std::env::current_exe().expect("the system knows the test's path");
    let directory = test.ancestors().nth(2).expect("the test is two folders deep").to_path_buf();
    let folder = directory.file_name().and_then(|name| name.to_str()).expect("profiles have plain names");
    let profile = if folder == "debug" { "dev" } else { folder };
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            "fovea-tools",
            "--package",
            "fovea-trainer-cli",
            "--package",
            "fovea-preview",
            "--bins",
            "--profile",
            profile,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the tools do not build");
    directory
}

/// The guides, so that their Rust code is compiled and run by the documentation tests.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/AUGMENTATION.md")]
    struct Augmentation;
    #[doc = include_str!("../../docs/LOADER.md")]
    struct Loader;
    #[doc = include_str!("../../docs/NETWORKS.md")]
    struct Networks;
}
