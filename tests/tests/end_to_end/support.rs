//! Helpers that the tests share.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{fs, thread};

use fovea_pipeline::Split;
use fovea_pipeline::shard::Shard;
use image::{ImageFormat, RgbImage};

/// `prepare_imagenet` with arguments.
pub fn prepare_imagenet(arguments: &[&str]) -> Command {
    let mut command = Command::new(fovea_tests::tool("prepare_imagenet"));
    command.args(arguments);
    command
}

/// `prepare_imagenet --train SOURCE --out OUT` with further arguments.
pub fn prepare(source: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = prepare_imagenet(&["--train", text(source), "--out", text(out)]);
    command.args(more);
    command
}

/// `trainer` with arguments, on the CPU, with an ONNX Runtime that was fetched once.
pub fn trainer(arguments: &[&str]) -> Command {
    static LIBRARY: OnceLock<String> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let given = std::env::var("ORT_DYLIB_PATH").ok();
        let fetch = || succeed(&mut Command::new(fovea_tests::tool("fetch_onnxruntime"))).trim().to_owned();
        given.unwrap_or_else(fetch)
    });
    let mut command = Command::new(fovea_tests::tool("trainer"));
    // The library is a build for the CPU, even where there is a GPU.
    command.args(arguments).env("ORT_DYLIB_PATH", library).env("CUDA_VISIBLE_DEVICES", "-1");
    command
}

/// Runs and expects success; returns its standard output.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the tool starts");
    assert_eq!(output.status.code(), Some(0), "{command:?}\n{}", all_output(&output));
    String::from_utf8(output.stdout).expect("tools print UTF-8")
}

/// Runs and expects an exit code; returns both output streams.
pub fn fail(command: &mut Command, code: i32) -> String {
    let output = command.output().expect("the tool starts");
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{}", all_output(&output));
    let text = all_output(&output);
    assert!(!text.contains("panicked"), "{text}");
    text
}

pub fn all_output(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// A picture that compresses like a photo: slopes, edges and some noise, different for each seed.
pub fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    RgbImage::from_fn(width, height, |x, y| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let noise = (state >> 28) as u8;
        let edge = if (x / 24 + y / 17 + seed).is_multiple_of(3) { 90 } else { 0 };
        let slope = |part: u32, whole: u32| (part * 140 / whole) as u8;
        image::Rgb([slope(x, width) + edge + noise, slope(y, height) + noise, edge + noise])
    })
}

pub fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("encoding works");
    bytes.into_inner()
}

/// A data set in folders: `train` and `val` with three classes.
pub struct Folders {
    root: tempfile::TempDir,
}

impl Folders {
    /// JPEGs of about `side` pixels, `train` and `val` of them in each class.
    pub fn new(train: u32, val: u32, side: u32) -> Self {
        let folders = Self { root: tempfile::tempdir().expect("a temporary folder") };
        for (split, count) in [("train", train), ("val", val)] {
            for (class, wnid) in (0..).zip(["n001", "n002", "n003"]) {
                for number in 0..count {
                    let seed = class * 1000 + number + if split == "val" { 500 } else { 0 };
                    let picture = picture(side + seed % 37, side + seed % 23, seed);
                    let key = format!("{wnid}_{number:03}.JPEG");
                    folders.add(split, wnid, &key, &encoded(&picture, ImageFormat::Jpeg));
                }
            }
        }
        folders
    }

    pub fn add(&self, split: &str, class: &str, name: &str, bytes: &[u8]) {
        let folder = self.path().join(split).join(class);
        fs::create_dir_all(&folder).expect("folders can be made");
        fs::write(folder.join(name), bytes).expect("files can be written");
    }

    pub fn path(&self) -> &Path {
        self.root.path()
    }
}

/// All files in a folder and their content.
pub fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(directory)
        .expect("the folder is there")
        .map(|entry| {
            let entry = entry.expect("the folder can be listed");
            let name = entry.file_name().into_string().expect("plain names");
            (name, fs::read(entry.path()).expect("files can be read"))
        })
        .collect()
}

/// Fails with the names of the files that differ.
pub fn assert_same_content(found: &Path, expected: &Path) {
    let (found, expected) = (content(found), content(expected));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    let different: Vec<&String> = found.keys().filter(|name| found[*name] != expected[*name]).collect();
    assert!(different.is_empty(), "{different:?} differ");
}

/// Key and label of every record of a split, shard after shard.
pub fn records(directory: &Path, split: Split) -> Vec<(String, i64)> {
    let mut records = Vec::new();
    for path in shards(directory, split) {
        let shard = Shard::open(&path).expect("the shard opens");
        for index in 0..shard.len() {
            records.push((shard.key(index), shard.record(index).label.class().into()));
        }
    }
    records
}

/// The shards of a split, in their order.
pub fn shards(directory: &Path, split: Split) -> Vec<PathBuf> {
    content(directory)
        .into_keys()
        .filter(|name| name.starts_with(split.name()) && name.ends_with(".arrow"))
        .map(|name| directory.join(name))
        .collect()
}

/// Starts a tool whose output is collected.
pub fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the tool starts")
}

/// Waits until `file` exists, and fails if the run ends before.
pub fn wait_for(file: &Path, run: &mut Child) {
    let start = Instant::now();
    while !file.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "{} does not appear", file.display());
        assert!(run.try_wait().unwrap().is_none(), "the run ended before {} appeared", file.display());
        thread::sleep(Duration::from_millis(1));
    }
}

/// A disk in memory, unmounted when dropped.
pub struct SmallDisk(pub PathBuf);

impl SmallDisk {
    pub fn mount(path: &Path, options: &str) -> Option<Self> {
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs", text(path)]).output();
        output.is_ok_and(|output| output.status.success()).then(|| Self(path.into()))
    }

    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount").args(["-o", &options, text(&self.0)]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The temporary folder around it then cannot be removed, which must not decide the test's result.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Makes a shared library of C code; false, with a line that says so, where there is no compiler.
pub fn has_compiled(code: &str, library: &Path) -> bool {
    let source = library.with_extension("c");
    fs::write(&source, code).unwrap();
    let arguments = ["-shared", "-fPIC", "-o", text(library), text(&source)];
    let has_compiled = Command::new("cc").args(arguments).status().is_ok_and(|status| status.success());
    if !has_compiled {
        println!("skipped: there is no C compiler `cc`");
    }
    has_compiled
}
