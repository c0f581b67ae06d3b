//! The script of the documentation reads the shards with Python.

use std::path::Path;
use std::process::Command;

use crate::support::*;

#[test]
fn the_documented_script_reads_raw_and_jpeg_shards() {
    let python = std::env::var("FOVEA_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let can_import = |module: &str| {
        let import = format!("import {module}");
        Command::new(&python).args(["-c", &import]).output().is_ok_and(|output| output.status.success())
    };
    if !can_import("pyarrow") {
        println!("skipped: {python} has no pyarrow");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/read_shards.py");
    let folders = Folders::new(4, 2, 50);
    for encoding in ["raw", "jpeg"] {
        let out = folders.path().join(encoding);
        succeed(&mut prepare(folders.path(), &out, &["--size", "32", "--encoding", encoding]));
        let printed = succeed(Command::new(&python).args([text(&script), text(&out)]));
        assert!(printed.contains("train: 12 images"), "{printed}");
        assert!(printed.contains("val: 6 images"), "{printed}");
        if can_import("datasets") {
            assert!(printed.contains("ClassLabel(names=['n001', 'n002', 'n003'])"), "{printed}");
            assert_eq!(printed.contains("'image': Image("), encoding == "jpeg", "{printed}");
        } else {
            println!("{python} has no datasets: that part is skipped");
        }
    }
}
