//! A preparation that is killed, interrupted or out of space, and the one after it.

use std::process::Command;
use std::time::Instant;
use std::{fs, thread};

use crate::support::*;

/// Options that make a run last: large images in many small shards.
const SLOW: [&str; 6] = ["--size", "512", "--shard-size", "3MB", "--workers", "2"];

#[test]
fn killed_at_any_moment_and_run_again_it_ends_with_the_same_bytes() {
    let folders = Folders::new(24, 4, 90);
    folders.add("train", "n002", "empty.JPEG", b"");
    for encoding in ["raw", "jpeg"] {
        let options = ["--size", "256", "--shard-size", "700kB", "--encoding", encoding];
        let expected = folders.path().join(format!("{encoding}-expected"));
        let begin = Instant::now();
        succeed(&mut prepare(folders.path(), &expected, &options));
        let whole = begin.elapsed();

        let out = folders.path().join(format!("{encoding}-killed"));
        let mut killed = 0;
        for part in [0.2, 0.35, 0.5, 0.6, 0.7, 0.8] {
            let mut run = start(&mut prepare(folders.path(), &out, &options));
            thread::sleep(whole.mul_f64(part));
            run.kill().unwrap();
            killed += u32::from(run.wait().unwrap().code().is_none());
        }
        assert!(killed > 0, "every run ended before it was killed");
        succeed(&mut prepare(folders.path(), &out, &options));
        assert_same_content(&out, &expected);
    }
}

#[test]
fn interrupted_it_prints_how_to_resume_and_keeps_finished_shards() {
    let folders = Folders::new(30, 2, 200);
    let out = folders.path().join("out");
    let mut run = start(&mut prepare(folders.path(), &out, &SLOW));
    wait_for(&out.join("train-00001.arrow"), &mut run);
    let kill = Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", all_output(&output));
    assert!(all_output(&output).contains("run the same command again"), "{}", all_output(&output));
    assert!(!out.join("dataset.json").exists());
    let unfinished = fail(&mut prepare_imagenet(&["verify", text(&out)]), 1);
    assert!(unfinished.contains("not finished"), "{unfinished}");

    let first = fs::metadata(out.join("train-00000.arrow")).unwrap().modified().unwrap();
    succeed(&mut prepare(folders.path(), &out, &SLOW));
    assert_eq!(fs::metadata(out.join("train-00000.arrow")).unwrap().modified().unwrap(), first);
    let expected = folders.path().join("expected");
    succeed(&mut prepare(folders.path(), &expected, &SLOW));
    assert_same_content(&out, &expected);
}

#[test]
fn a_complete_folder_is_left_as_it_is() {
    let folders = Folders::new(3, 1, 40);
    let out = folders.path().join("out");
    succeed(&mut prepare(folders.path(), &out, &["--size", "16"]));
    let before = content(&out);
    let again = succeed(&mut prepare(folders.path(), &out, &["--size", "16"]));
    assert!(again.contains("nothing was left to do"), "{again}");
    assert_eq!(content(&out), before);
}

#[test]
fn other_options_in_the_same_folder_are_refused_by_name() {
    let folders = Folders::new(3, 1, 40);
    let out = folders.path().join("out");
    succeed(&mut prepare(folders.path(), &out, &["--size", "16"]));
    for (option, there, here) in
        [("size", "16", "24"), ("seed", "0", "9"), ("filter", "\"lanczos3\"", "\"bilinear\"")]
    {
        let flag = format!("--{option}");
        let size = if option == "size" { &[][..] } else { &["--size", "16"] };
        let message = fail(prepare(folders.path(), &out, &[&flag, here.trim_matches('"')]).args(size), 1);
        let expected = format!("with {option} {there}, but now {option} is {here}");
        assert!(message.contains(&expected), "{message}");
    }
    folders.add("train", "n001", "more.JPEG", &encoded(&picture(9, 9, 1), image::ImageFormat::Jpeg));
    let message = fail(&mut prepare(folders.path(), &out, &["--size", "16"]), 1);
    assert!(message.contains("1 image added (n001/more.JPEG); give --update"), "{message}");
    let updated = succeed(&mut prepare(folders.path(), &out, &["--size", "16", "--update"]));
    assert!(updated.contains("its images have changed: 1 image added (n001/more.JPEG)"), "{updated}");
}

#[test]
fn a_finished_shard_that_was_changed_is_refused() {
    let folders = Folders::new(30, 2, 200);
    let out = folders.path().join("out");
    let mut run = start(&mut prepare(folders.path(), &out, &SLOW));
    wait_for(&out.join("progress.json"), &mut run);
    run.kill().unwrap();
    run.wait().unwrap();
    let shard = out.join("train-00000.arrow");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() / 2]).unwrap();
    let message = fail(&mut prepare(folders.path(), &out, &SLOW), 1);
    assert!(message.contains("train-00000.arrow: finished earlier, but now"), "{message}");
}

#[test]
fn the_second_of_two_preparations_into_one_folder_is_refused() {
    let folders = Folders::new(30, 2, 200);
    let out = folders.path().join("out");
    let mut first = start(&mut prepare(folders.path(), &out, &SLOW));
    wait_for(&out.join("preparation.json"), &mut first);
    let message = fail(&mut prepare(folders.path(), &out, &SLOW), 1);
    assert!(message.contains("another preparation is writing here"), "{message}");
    let output = first.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
}

#[test]
fn a_full_disk_is_one_clear_error_and_the_run_can_resume() {
    let folders = Folders::new(24, 2, 90);
    let disk = folders.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let Some(disk) = SmallDisk::mount(&disk, "size=6m") else {
        println!("skipped: mounting a small disk takes root");
        return;
    };
    let out = disk.0.join("out");
    let options = ["--size", "256", "--shard-size", "2MB"];
    let message = fail(&mut prepare(folders.path(), &out, &options), 1);
    assert_eq!(message.matches("error:").count(), 1, "{message}");
    assert!(message.contains("no space left on the disk; free some"), "{message}");
    assert!(message.contains("warning: only"), "{message}");
    assert!(out.join("train-00000.arrow").exists());

    disk.remount("size=60m");
    succeed(&mut prepare(folders.path(), &out, &options));
    let expected = folders.path().join("expected");
    succeed(&mut prepare(folders.path(), &expected, &options));
    assert_same_content(&out, &expected);
}
