//! Regenerates `src/onnx/generated.rs` from `src/onnx/onnx.proto`, without `protoc`.
//!
//! `cargo run -p fovea-graph --example regenerate_onnx --features regenerate-onnx`
//!
//! `onnx.proto` is the file of the `onnx` wheel on PyPI (Apache-2.0), unchanged.

use std::path::Path;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/onnx");
    let messages = protox::compile(["onnx.proto"], [&folder]).context("onnx.proto does not parse")?;
    let scratch = std::env::temp_dir().join(format!("fovea-onnx-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    prost_build::Config::new().out_dir(&scratch).compile_fds(messages)?;
    let code = std::fs::read_to_string(scratch.join("onnx.rs"))?;
    std::fs::remove_dir_all(&scratch)?;
    let header = "// SPDX-License-Identifier: Apache-2.0\n\
                  // Copyright (c) ONNX Project Contributors.\n\
                  // Generated from onnx.proto by examples/regenerate_onnx.rs.\n";
    let target = folder.join("generated.rs");
    std::fs::write(&target, format!("{header}{code}"))?;
    println!("{}", target.display());
    Ok(())
}
