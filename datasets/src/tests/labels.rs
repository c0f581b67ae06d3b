//! Folders of photos with a table of labels.

use std::num::NonZeroUsize;

use fovea_pipeline::labels::{Label, LabelKind};
use fovea_pipeline::{Dataset, Split};

use super::fixtures::*;
use crate::prepare::{PrepareOptions, Preparer, Progress};
use crate::{OpenOptions, Source, SourceError, open, verify};

const PHOTOS: [&str; 4] = ["a.jpg", "in/b.jpg", "in/c.jpg", "val/d.jpg"];

/// Photos below `photos`, and a table.
fn fixture(table: &str) -> Fixture {
    let fixture = Fixture::new();
    for photo in PHOTOS {
        fixture.write(&format!("photos/{photo}"), content(photo));
    }
    fixture.write("photos/labels.csv", table);
    fixture
}

fn options(fixture: &Fixture) -> OpenOptions {
    OpenOptions { labels: Some(fixture.path("photos/labels.csv")), ..fixture.options("photos", "", "") }
}

fn opened(table: &str) -> Result<Box<dyn Source>, SourceError> {
    open(&options(&fixture(table)))
}

/// Keys and labels of a split.
fn labels(source: &dyn Source, split: Split) -> Vec<(String, String)> {
    let entries = source.entries(split).iter().enumerate();
    entries
        .map(|(index, entry)| {
            let label = match source.label(split, index) {
                Label::Class(class) => source.classes()[class as usize].wnid.clone(),
                Label::MultiHot(marks) => format!("{marks:?}"),
                Label::Values(values) => format!("{values:?}"),
            };
            (entry.key.clone(), label)
        })
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(key, label)| ((*key).to_owned(), (*label).to_owned())).collect()
}

#[test]
fn a_table_gives_each_photo_a_class_classes_or_numbers() {
    // As a spreadsheet writes it, in another order than the photos'.
    let table = "\u{feff}split,file,label\r\ntrain,in/c.jpg,\"tree, old\"\r\ntrain,./a.jpg, cat \r\n\
                 val,in/b.jpg,cat\r\nval,val/d.jpg,cat\r\n";
    let source = opened(table).unwrap();
    assert_eq!((source.label_kind(), source.name()), (LabelKind::Class, "labelled-folder"));
    assert_eq!(labels(&*source, Split::Train), pairs(&[("a.jpg", "cat"), ("in/c.jpg", "tree, old")]));
    assert_eq!(labels(&*source, Split::Val), pairs(&[("in/b.jpg", "cat"), ("val/d.jpg", "cat")]));

    let source =
        opened("file,labels\na.jpg,sky;tree\nin/b.jpg,\nin/c.jpg,dog | sky\nval/d.jpg,tree\n").unwrap();
    assert_eq!(source.label_kind(), LabelKind::MultiHot);
    let classes: Vec<&str> = source.classes().iter().map(|class| class.wnid.as_str()).collect();
    assert_eq!(classes, ["dog", "sky", "tree"]);
    let expected = [
        ("a.jpg", "[0, 1, 1]"),
        ("in/b.jpg", "[0, 0, 0]"),
        ("in/c.jpg", "[1, 1, 0]"),
        ("val/d.jpg", "[0, 0, 1]"),
    ];
    assert_eq!(labels(&*source, Split::Train), pairs(&expected));
    assert!(source.notes().is_empty(), "{:?}", source.notes());

    let table =
        "file,labels,split\na.jpg,sky;tree,train\nin/b.jpg,,train\nin/c.jpg,dog,val\nval/d.jpg,tree,val\n";
    let source = opened(table).unwrap();
    let said: Vec<_> = source.notes().iter().map(|note| (note.kind, note.message.as_str())).collect();
    let expected =
        ["1 of 3 classes has no training images: dog", "1 of 3 classes has no validation images: sky"];
    assert_eq!(said, expected.map(|message| ("empty-classes", message)));

    let source =
        opened("age,file,weight\n1.5,a.jpg,-2\n0,in/b.jpg,1e3\n3,in/c.jpg,0.25\n7,val/d.jpg,8\n").unwrap();
    assert_eq!(source.label_kind(), LabelKind::Values);
    let names: Vec<&str> = source.classes().iter().map(|class| class.wnid.as_str()).collect();
    assert_eq!(names, ["age", "weight"]);
    let expected = [
        ("a.jpg", "[1.5, -2.0]"),
        ("in/b.jpg", "[0.0, 1000.0]"),
        ("in/c.jpg", "[3.0, 0.25]"),
        ("val/d.jpg", "[7.0, 8.0]"),
    ];
    assert_eq!(labels(&*source, Split::Train), pairs(&expected));
}

#[test]
fn folders_are_splits_if_all_photos_are_in_them() {
    let fixture = Fixture::new();
    for photo in ["train/x/a.jpg", "train/b.jpg", "val/c.jpg"] {
        fixture.write(&format!("photos/{photo}"), content(photo));
    }
    fixture.write("photos/labels.csv", "file,size\nval/c.jpg,3\ntrain/x/a.jpg,1\ntrain/b.jpg,2\n");
    let source = open(&options(&fixture)).unwrap();
    let expected = pairs(&[("train/b.jpg", "[2.0]"), ("train/x/a.jpg", "[1.0]")]);
    assert_eq!(labels(&*source, Split::Train), expected);
    assert_eq!(labels(&*source, Split::Val), pairs(&[("val/c.jpg", "[3.0]")]));
}

#[test]
fn a_table_that_is_wrong_is_refused_with_its_line() {
    let good = "a.jpg,1\nin/b.jpg,1\nin/c.jpg,1\nval/d.jpg,1\n";
    let with = |header: &str| format!("{header}\n{good}");
    for (table, expected) in [
        (String::new(), "labels.csv:1: expected a header `file,label`"),
        (with("path,label"), "labels.csv:1: expected a header"),
        (with("file"), "labels.csv:1: expected a header"),
        (with("file,file"), "found \"two columns of one name in file,file\""),
        (with("file,"), "found \"a column without a name in file,\""),
        (with("file,labels,age"), "file,labels,age: classes and other columns"),
        ("file;label\na.jpg;1\n".into(), "found \"file;label\""),
        ("file,age\n".into(), "labels.csv:2: expected a line for each image"),
        (
            "file,age\na.jpg,1,2\n".into(),
            "labels.csv:2: expected 2 fields, as the header has, found \"3 fields\"",
        ),
        ("file,age\na.jpg,old\n".into(), "labels.csv:2: expected a finite number for `age`, found \"old\""),
        ("file,age,x\na.jpg,1,\n".into(), "labels.csv:2: expected a finite number for `x`, found \"\""),
        ("file,age\na.jpg,1\nin/b.jpg,nan\n".into(), "labels.csv:3: expected a finite number for `age`"),
        ("file,age\na.jpg,1e39\n".into(), "expected a finite number for `age`, found \"1e39\""),
        ("file,age\n,1\n".into(), "labels.csv:2: expected the path of an image"),
        ("file,split,age\na.jpg,test,1\n".into(), "expected the split `train` or `val`, found \"test\""),
        ("file,label\na.jpg,\n".into(), "labels.csv:2: expected one class"),
        (
            "file,label\na.jpg,x;y\n".into(),
            "expected one class (several are in a column `labels`), found \"x;y\"",
        ),
        (
            "file,labels\na.jpg,x;;y\n".into(),
            "different classes, separated by ; or |, found \"an empty class in x;;y\"",
        ),
        ("file,labels\na.jpg,x|x\n".into(), "found \"a class twice in x|x\""),
        (
            "file,labels\na.jpg,\nin/b.jpg,\n".into(),
            "expected a class in some line, found \"none in the whole table\"",
        ),
        (
            with("file,age") + "a.jpg,2\n",
            "labels.csv:6: expected one line for each photo, found \"a.jpg, as in line 2\"",
        ),
        (with("file,age") + "e.jpg,2\nf.jpg,3\n", "labels.csv:6: no photo \"e.jpg\" in "),
        (with("file,age") + "e.jpg,2\nf.jpg,3\n", "2 of its lines name photos that are not there"),
        ("file,age\na.jpg,1\nin/c.jpg,1\n".into(), "no line for 2 of the photos in "),
        ("file,age\na.jpg,1\nin/c.jpg,1\n".into(), "such as \"in/b.jpg\""),
        (with("file,age") + "\"a.jpg\u{0}", "labels.csv"),
        (
            (0..100_002).fold("file".into(), |header, column| format!("{header},{column}")),
            "labels.csv:1: expected at most 100000 classes or numbers, found \"100003 columns\"",
        ),
        (
            (0..100_001).fold("file,labels\na.jpg,x".into(), |table, class| format!("{table};{class}")),
            "labels.csv:1: expected at most 100000 classes or numbers, found \"100002 of them\"",
        ),
        (format!("file,age\na.jpg,{}\n", "é".repeat(121)), &format!("found \"{}…\"", "é".repeat(120))),
    ] {
        let message = error(opened(&table)).to_string();
        assert!(message.contains(expected) && !message.contains('\n'), "{table:?}: {message}");
    }
    let fixture = fixture("file,age\n");
    fixture.write("photos/labels.csv", b"file,age\na.jpg,\xff\n");
    let message = error(open(&options(&fixture))).to_string();
    assert!(message.contains("labels.csv:2: expected a line of a CSV file in UTF-8"), "{message}");
    let missing = OpenOptions { labels: Some(fixture.path("none.csv")), ..options(&fixture) };
    assert!(error(open(&missing)).to_string().contains("none.csv: cannot open"));
}

#[test]
fn a_table_goes_with_one_folder_and_nothing_else() {
    let fixture = fixture("file,age\na.jpg,1\nin/b.jpg,1\nin/c.jpg,1\nval/d.jpg,1\n");
    let table = Some(fixture.path("photos/labels.csv"));
    let given = |train, val| OpenOptions { labels: table.clone(), ..fixture.options(train, val, "") };
    let message = error(open(&given("photos", "photos"))).to_string();
    assert!(message.contains("beside validation images"), "{message}");
    let message = error(open(&given("photos/a.jpg", ""))).to_string();
    assert!(
        message.contains("a.jpg: found a file, which is not a folder with the photos of the table"),
        "{message}"
    );
}

fn prepared(table: &str, options: PrepareOptions, fixture: &Fixture) -> String {
    fixture.write("photos/labels.csv", table);
    let source = open(&self::options(fixture)).unwrap();
    let preparer = match Preparer::new(&*source, options, &fixture.path("out")) {
        Ok(preparer) => preparer,
        Err(error) => return error.to_string(),
    };
    preparer.run(&Progress::default()).unwrap();
    String::new()
}

#[test]
fn labels_of_other_kinds_are_prepared_verified_and_noticed_when_they_change() {
    let png = |shade: u8| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let image = image::RgbImage::from_pixel(9, 8, image::Rgb([shade, 2, 3]));
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    let options = || PrepareOptions { size: 8, workers: NonZeroUsize::MIN, ..PrepareOptions::default() };
    for (first, second, kind) in [
        (
            "file,labels\na.png,x;y\nb.png,y\nbad.png,\n",
            "file,labels\na.png,x;y\nb.png,x\nbad.png,\n",
            LabelKind::MultiHot,
        ),
        (
            "file,x,y\na.png,1,2\nb.png,3,4\nbad.png,0,0\n",
            "file,x,y\na.png,1,2\nb.png,3,5\nbad.png,0,0\n",
            LabelKind::Values,
        ),
    ] {
        let fixture = Fixture::new();
        (0..)
            .zip(["a.png", "b.png"])
            .for_each(|(shade, name)| _ = fixture.write(&format!("photos/{name}"), png(shade)));
        fixture.write("photos/bad.png", "no image");
        assert_eq!(prepared(first, options(), &fixture), "");
        let dataset = Dataset::open(&fixture.path("out")).unwrap();
        assert_eq!((dataset.info().labels, dataset.info().format_version), (kind, 2));
        let records = dataset.records(Split::Train).unwrap();
        let source = open(&self::options(&fixture)).unwrap();
        for index in 0..2 {
            let record = records.record(index).unwrap();
            let place =
                source.entries(Split::Train).iter().position(|entry| entry.key == record.key()).unwrap();
            assert_eq!(record.get().label, source.label(Split::Train, place));
        }
        let report = verify::verify(&dataset, NonZeroUsize::MIN, &|_| ());
        assert_eq!(report.problems, []);
        let rejected = std::fs::read_to_string(fixture.path("out/rejected.tsv")).unwrap();
        assert!(rejected.contains("train\t-\tbad.png\t"), "{rejected}");
        // Nothing is left to do; then a label has changed.
        assert_eq!(prepared(first, options(), &fixture), "");
        let message = prepared(second, options(), &fixture);
        assert!(message.contains("b.png"), "{message}");
        assert_eq!(prepared(second, PrepareOptions { update: true, ..options() }, &fixture), "");
        let limited = PrepareOptions { limit_per_class: Some(1), ..options() };
        let message = prepared(second, limited, &fixture);
        assert!(message.contains("limit-per-class") && message.contains(kind.name()), "{message}");
    }
}
