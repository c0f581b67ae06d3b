//! Searches for bytes that make a reader panic, hang or take too much memory. `fuzz/run` builds and runs it.
//!
//! The environment variable `FOVEA_FUZZ_READER` names one of [`fovea_tests::readers::READERS`].

#![no_main]

use std::env;
use std::sync::LazyLock;

use fovea_tests::readers::{Reader, reader};
use libfuzzer_sys::fuzz_target;

static READER: LazyLock<Reader> = LazyLock::new(|| {
    let name = env::var("FOVEA_FUZZ_READER").expect("FOVEA_FUZZ_READER names a reader");
    reader(&name).unwrap_or_else(|| panic!("no reader is called {name}"))
});

fuzz_target!(|bytes: &[u8]| {
    // Bytes that are refused are as good as others; only a crash is a finding.
    let _ = READER(bytes);
});
