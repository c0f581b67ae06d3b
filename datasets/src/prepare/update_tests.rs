//! Folders of photos that change between two preparations.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fovea_pipeline::DatasetInfo;
use image::RgbImage;

use super::list::LIST_FILE;
use super::progress::PROGRESS_FILE;
use super::{PrepareError, PrepareOptions, Preparer, Progress, Summary, file_names};
use crate::{OpenOptions, open};

/// A folder of photos and one of shards.
struct Folders {
    dir: tempfile::TempDir,
}

impl Folders {
    fn new() -> Self {
        let folders = Self { dir: tempfile::tempdir().unwrap() };
        for (class, photos) in [("cat", 15), ("dog", 14)] {
            for number in 0..photos {
                folders.photo(&format!("train/{class}/{number:02}.png"), number);
            }
        }
        folders.photo("val/cat/v.png", 200);
        folders.photo("val/dog/v.png", 201);
        folders
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a photo of a colour.
    fn photo(&self, name: &str, color: u8) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(9, 8, image::Rgb([color; 3])).save(path).unwrap();
    }

    fn preparer(&self, out: &str, update: bool) -> Result<Run, PrepareError> {
        self.prepare(out, update, &Progress::default())
    }

    fn prepare(&self, out: &str, update: bool, progress: &Progress) -> Result<Run, PrepareError> {
        let source =
            open(&OpenOptions { train: Some(self.dir.path().to_owned()), ..OpenOptions::default() })?;
        let workers = NonZeroUsize::new(2).unwrap();
        let options =
            PrepareOptions { size: 8, shard_bytes: 2400, workers, update, ..PrepareOptions::default() };
        let out = self.out(out);
        let preparer = Preparer::new(&*source, options, out.path())?;
        let note = preparer.taken_in().map(|note| note.message.clone());
        Ok(Run { note, summary: preparer.run(progress)? })
    }

    /// A folder beside the photos.
    fn out(&self, name: &str) -> Out {
        Out(self.dir.path().with_extension(name))
    }

    /// Content of the folder after a preparation from nothing.
    fn expected(&self) -> BTreeMap<String, Vec<u8>> {
        let out = self.out("expected");
        let _ = fs::remove_dir_all(&out.0);
        self.preparer("expected", false).unwrap();
        out.content()
    }

    fn refusal(&self, out: &str) -> String {
        let before = self.out(out).content();
        let error = self.preparer(out, false).map(|run| run.summary).unwrap_err();
        assert!(matches!(error, PrepareError::OtherImages { .. }), "{error}");
        assert_eq!(self.out(out).content(), before, "a refusal changes nothing");
        error.to_string()
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for name in ["out", "expected"] {
            let _ = fs::remove_dir_all(self.out(name).0);
        }
    }
}

/// Changes the photos of a folder.
type Change = fn(&Folders);

struct Run {
    note: Option<String>,
    summary: Summary,
}

struct Out(PathBuf);

impl Out {
    fn path(&self) -> &Path {
        &self.0
    }

    fn content(&self) -> BTreeMap<String, Vec<u8>> {
        let names = file_names(&self.0).unwrap_or_default();
        names.into_iter().map(|name| (name.clone(), fs::read(self.0.join(name)).unwrap())).collect()
    }

    fn write(&self, content: &BTreeMap<String, Vec<u8>>) {
        let _ = fs::remove_dir_all(&self.0);
        fs::create_dir_all(&self.0).unwrap();
        for (name, bytes) in content {
            fs::write(self.0.join(name), bytes).unwrap();
        }
    }
}

#[test]
fn photos_that_were_added_removed_changed_or_moved_are_named_and_taken_in_by_update() {
    let changes: [(&str, Change); 5] = [
        ("1 image added (cat/15.png)", |folders| folders.photo("train/cat/15.png", 3)),
        ("2 images removed (dog/00.png, dog/v.png (val))", |folders| {
            fs::remove_file(folders.path("train/dog/00.png")).unwrap();
            fs::remove_file(folders.path("val/dog/v.png")).unwrap();
        }),
        ("2 images changed (cat/03.png, cat/v.png (val))", |folders| {
            folders.photo("train/cat/03.png", 99);
            folders.photo("val/cat/v.png", 99);
        }),
        ("1 image added (dog/77.png), 1 image removed (cat/07.png)", |folders| {
            fs::rename(folders.path("train/cat/07.png"), folders.path("train/dog/77.png")).unwrap();
        }),
        (
            "22 images removed (cat/01.png, cat/02.png, cat/03.png, cat/04.png, cat/05.png, and 17 more)",
            |folders| {
                for (class, photos) in [("cat", 1..15), ("dog", 6..14)] {
                    photos.for_each(|n| {
                        fs::remove_file(folders.path(&format!("train/{class}/{n:02}.png"))).unwrap()
                    });
                }
            },
        ),
    ];
    for (expected, change) in changes {
        let folders = Folders::new();
        folders.preparer("out", false).unwrap();
        change(&folders);
        let message = folders.refusal("out");
        assert!(message.contains(&format!("other images: {expected}; give --update")), "{message}");
        let run = folders.preparer("out", true).unwrap();
        assert_eq!((run.summary.shards_kept, run.summary.rejected), (0, 0));
        assert!(run.note.is_some_and(|note| note.ends_with(expected)));
        assert_eq!(folders.out("out").content(), folders.expected(), "{expected}");
        assert_eq!(folders.preparer("out", true).unwrap().note, None, "nothing is left to do");
    }
}

#[test]
fn photos_that_were_only_touched_are_the_same() {
    let folders = Folders::new();
    folders.preparer("out", false).unwrap();
    let shards_kept = folders.preparer("out", false).unwrap().summary.shards_kept;
    let time = SystemTime::now() - Duration::from_secs(7000);
    for name in ["train/cat/01.png", "val/dog/v.png"] {
        File::options().write(true).open(folders.path(name)).unwrap().set_modified(time).unwrap();
    }
    let run = folders.preparer("out", false).unwrap();
    assert_eq!((run.note, run.summary.shards_kept), (None, shards_kept));
    assert_eq!(folders.out("out").content(), folders.expected(), "the list has the new times");
}

#[test]
fn mended_photos_are_taken_in_where_the_first_preparation_never_finished() {
    let folders = Folders::new();
    let names: Vec<String> = (0..15).map(|n| format!("train/cat/{n:02}.png")).collect();
    names.iter().for_each(|name| fs::write(folders.path(name), b"no image").unwrap());
    ["train/dog", "val"].iter().for_each(|name| fs::remove_dir_all(folders.path(name)).unwrap());
    let error = folders.preparer("out", false).map(|run| run.summary).unwrap_err();
    assert!(matches!(error, PrepareError::AllRejected { images: 15, .. }), "{error}");
    names.iter().for_each(|name| folders.photo(name, 7));
    let run = folders.preparer("out", false).unwrap();
    assert!(run.note.is_some_and(|note| note.contains("15 images mended (cat/00.png, ")));
    assert_eq!(folders.out("out").content(), folders.expected());
}

#[test]
fn an_update_that_is_stopped_goes_on_with_the_same_command_and_without_the_flag() {
    for update in [true, false] {
        let folders = Folders::new();
        folders.preparer("out", false).unwrap();
        let before = folders.out("out").content();
        folders.photo("train/cat/15.png", 3);
        let stopped = Progress::default();
        stopped.cancel();
        let error = folders.prepare("out", true, &stopped).map(|run| run.summary).unwrap_err();
        assert!(matches!(error, PrepareError::Interrupted { .. }), "{error}");
        let stopped = folders.out("out").content();
        let expected = folders.expected();
        // Killed earlier: before the new list was written, or before the new preparation.json.
        let without_result = |mut content: BTreeMap<String, Vec<u8>>| {
            content.retain(|name, _| ![DatasetInfo::FILE_NAME, PROGRESS_FILE].contains(&name.as_str()));
            content
        };
        let mut with_list = without_result(before.clone());
        with_list.insert(LIST_FILE.to_owned(), stopped[LIST_FILE].clone());
        for content in [stopped, without_result(before), with_list] {
            folders.out("out").write(&content);
            folders.preparer("out", update).unwrap();
            assert_eq!(folders.out("out").content(), expected);
        }
    }
}

#[test]
fn a_folder_of_an_earlier_version_is_complete_and_names_no_files() {
    let folders = Folders::new();
    folders.preparer("out", false).unwrap();
    fs::remove_file(folders.out("out").path().join(LIST_FILE)).unwrap();
    assert_eq!(folders.preparer("out", false).unwrap().note, None);
    folders.photo("train/cat/15.png", 3);
    let message = folders.refusal("out");
    assert!(message.contains("from other images: it has no list of them; give"), "{message}");
    folders.preparer("out", true).unwrap();
    assert_eq!(folders.out("out").content(), folders.expected());
}

#[test]
fn classes_whose_photos_were_all_refused_are_said_each_time() {
    let folders = Folders::new();
    for number in 0..14 {
        fs::write(folders.path(&format!("train/dog/{number:02}.png")), b"no image").unwrap();
    }
    fs::write(folders.path("train/cat/00.png"), b"no image").unwrap();
    fs::write(folders.path("val/cat/v.png"), b"no image").unwrap();
    for _ in 0..2 {
        let notes = folders.preparer("out", false).unwrap().summary.notes;
        let messages: Vec<&str> = notes.iter().map(|note| note.message.as_str()).collect();
        let expected =
            ["train images of 1 class could be decoded: dog", "val images of 1 class could be decoded: cat"];
        assert_eq!(messages, expected.map(|rest| format!("none of the {rest}")));
        assert!(notes.iter().all(|note| note.path == folders.out("out").path().join("rejected.tsv")));
    }
}
