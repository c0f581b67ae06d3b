//! Runs the commands of the guides in `docs` as written. (The documentation tests run their Rust code.)
//!
//! The `sh` blocks of a guide run one after the other in one folder. A `toml` block that begins with `#
//! name.toml` is that file.

use std::fs;
use std::path::Path;
use std::process::Command;

use image::ImageFormat;

use crate::support::*;

/// Commands that would take days: the text in the guide and its short form here.
const SHORTENED: &[(&str, &str)] =
    &[("--epochs 90", "--epochs 1 --limit-batches 1 --batch-size 8 --set evaluation.at_end=center")];

/// The blocks of a guide in one language.
pub fn blocks<'a>(guide: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    guide.split(&fence).skip(1).map(|rest| rest.split_once("```").expect("blocks end").0).collect()
}

/// Runs the commands of a guide in `folder`.
fn follow(name: &str, folder: &Path) {
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).unwrap();
    for file in blocks(&guide, "toml") {
        let (first, _) = file.split_once('\n').expect("a file has lines");
        let name = first.trim_start_matches("# ").split(':').next().expect("there is a first part");
        fs::write(folder.join(name), file).unwrap();
    }
    fs::write(folder.join("photo.jpg"), encoded(&picture(300, 260, 7), ImageFormat::Jpeg)).unwrap();
    let mut script = blocks(&guide, "sh").concat();
    assert!(!script.is_empty(), "{name} has no commands");
    for (long, short) in SHORTENED {
        script = script.replace(long, short);
    }
    // The tools come before any path that the guide itself prepends.
    let tools = fovea_tests::tool("trainer").parent().unwrap().to_path_buf();
    let script = script.replace("$PWD/target/release", text(&tools));
    let path = std::env::join_paths(
        std::iter::once(tools).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )
    .unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &script]).current_dir(folder).env("PATH", path);
    // As for every `trainer` of the tests, the library is fetched once.
    let tested = trainer(&[]);
    succeed(shell.envs(tested.get_envs().filter_map(|(name, value)| Some((name, value?)))));
}

/// Copies the archives of a small ImageNet to `folder`; without them prints that the test is skipped.
fn archives(folder: &Path) -> bool {
    let Some(data) = std::env::var_os("FOVEA_TEST_DATA") else {
        println!("skipped: FOVEA_TEST_DATA is not set");
        return false;
    };
    for file in ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"] {
        fs::copy(Path::new(&data).join("ilsvrc2012-mini").join(file), folder.join(file)).unwrap();
    }
    true
}

#[test]
fn the_guide_to_imagenet_works_as_written() {
    let folder = tempfile::tempdir().unwrap();
    if archives(folder.path()) {
        follow("IMAGENET.md", folder.path());
        assert!(folder.path().join("alexnet.onnx").exists());
        // The advice on damaged shards starts from here.
        let shard = folder.path().join("imagenet/train-00000.arrow");
        let whole = fs::read(&shard).unwrap();
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        fs::write(&shard, damaged).unwrap();
        fs::remove_file(folder.path().join("imagenet/dataset.json")).unwrap();
        let guide = include_str!("../../../docs/IMAGENET.md");
        let preparation =
            blocks(guide, "sh").into_iter().find(|block| block.starts_with("prepare_imagenet --train"));
        let arguments = preparation.expect("the guide prepares").replace("\\\n", " ");
        let arguments: Vec<&str> = arguments.split_whitespace().skip(1).collect();
        succeed(prepare_imagenet(&arguments).current_dir(folder.path()));
        assert!(fs::read(&shard).unwrap() == whole, "the shard is not the same");
    }
}

#[test]
fn the_guide_to_augmentations_works_as_written() {
    follow("AUGMENTATION.md", tempfile::tempdir().unwrap().path());
}

#[test]
fn the_guide_to_networks_works_as_written() {
    follow("NETWORKS.md", tempfile::tempdir().unwrap().path());
}

#[test]
fn the_advice_on_problems_works_as_written() {
    let folder = tempfile::tempdir().unwrap();
    if archives(folder.path()) {
        let [train, val, devkit] =
            ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"];
        let arguments = ["--train", train, "--val", val, "--devkit", devkit, "--out", "imagenet"];
        succeed(prepare_imagenet(&arguments).current_dir(folder.path()));
        follow("TROUBLESHOOTING.md", folder.path());
    }
}
