//! Archives that other programs make have the files that these programs unpack. Without the program a test
//! says that it is skipped.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use fovea_pipeline::Split;

use super::fixtures::*;
use crate::{OpenOptions, Payload, Source, open};

/// Key, class and content of every image.
fn images(path: &Path) -> BTreeMap<String, (String, Vec<u8>)> {
    let source: Box<dyn Source> =
        open(&OpenOptions { train: Some(path.to_owned()), ..OpenOptions::default() })
            .unwrap_or_else(|error| panic!("{error}"));
    let mut buffer = Vec::new();
    let mut images = BTreeMap::new();
    for (index, entry) in source.entries(Split::Train).iter().enumerate() {
        let class = source.classes()[entry.label as usize].name.clone();
        let payload = source.read(Split::Train, index, &mut buffer).expect("the image can be read");
        let Payload::File(bytes) = payload else { panic!("these sources have files") };
        images.insert(entry.key.clone(), (class, bytes.to_vec()));
    }
    images
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs GNU tar in the folder of the fixture.
fn tar(fixture: &Fixture, arguments: &[&str]) {
    run(Command::new("tar").args(arguments).current_dir(fixture.dir.path()).env("LC_ALL", "C.UTF-8"));
}

fn is_there(program: &str, argument: &str, answer: &str) -> bool {
    let output = Command::new(program).arg(argument).output();
    let there = output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(answer));
    if !there {
        eprintln!("skipped: {program} is not there");
    }
    there
}

/// Photos with links, empty files and junk in `set`, of names that V7 can hold.
fn set() -> Fixture {
    let fixture = Fixture::new();
    for (i, class) in ["cat", "dog", "ära"].iter().enumerate() {
        for j in 0..3 {
            let name = format!("{class}/{j}.jpg");
            fixture.write(&format!("set/{name}"), name.repeat(1 + 200 * i + 60 * j));
        }
        fixture.write(&format!("set/{class}/empty.jpg"), b"");
        fixture.write(&format!("set/{class}/._0.jpg"), b"resource fork");
        fixture.write(&format!("set/{class}/deep/er/x.JPEG"), vec![i as u8; 512 * i]);
    }
    fixture.write("set/.DS_Store", b"junk");
    fixture.write("set/readme.txt", b"read me");
    let link = |target: &str, link: &str| symlink(target, fixture.path(link)).expect("the folder has links");
    link("cat", "set/lynx");
    link("../dog/1.jpg", "set/cat/linked.jpg");
    link("../../cat/deep", "set/dog/deep/further");
    fs::hard_link(fixture.path("set/cat/2.jpg"), fixture.path("set/dog/hard.jpg")).expect("it has links");
    fixture
}

#[test]
fn archives_of_gnu_tar_are_what_it_unpacks() {
    if !is_there("tar", "--version", "GNU tar") {
        return;
    }
    let fixture = set();
    let on_disk = images(&fixture.path("set"));
    assert_eq!(on_disk.len(), 24);
    let modes: [&[&str]; 12] = [
        &["--format=v7"],
        &["--format=oldgnu"],
        &["--format=gnu"],
        &["--format=ustar"],
        &["--format=pax"],
        &["--format=pax", "--label=photos", "--pax-option=globexthdr.name=g,comment=of all"],
        &["--format=gnu", "--label=photos", "--blocking-factor=1"],
        &["--format=gnu", "--incremental"],
        &["--format=pax", "--blocking-factor=128", "--xattrs"],
        &["--format=gnu", "--hard-dereference"],
        &["--format=gnu", "--sort=name", "--transform=s,^set,./a//b/.,"],
        &["--format=ustar", "--gzip"],
    ];
    for mode in modes {
        tar(&fixture, &[&["--create", "--file=set.tar"], mode, &["set"]].concat());
        assert!(images(&fixture.path("set.tar")) == on_disk, "{mode:?}");
    }
}

#[test]
fn absolute_names_of_gnu_tar_are_those_of_relative_ones() {
    if !is_there("tar", "--version", "GNU tar") {
        return;
    }
    let fixture = set();
    let on_disk = images(&fixture.path("set"));
    let set = fixture.path("set").display().to_string();
    let at_top = "--transform=s,^/.*/set,/data/set,";
    for mode in [
        // Where it lies has a hidden folder in it.
        &["--format=gnu"][..],
        &["--format=pax"],
        &["--format=v7", at_top],
        &["--format=oldgnu", at_top],
        &["--format=gnu", at_top],
        &["--format=ustar", at_top],
        &["--format=pax", "--label=photos", at_top],
        &["--format=gnu", "--gzip", at_top],
        &["--format=gnu", "--transform=s,^/.*/set,./set,", "--transform=s,^./set/dog,//set/dog,"],
        &["--format=gnu", "--transform=s,^/.*/set,set/../x/./../set,"],
    ] {
        tar(&fixture, &[&["--create", "--file=set.tar", "--absolute-names"], mode, &[&*set]].concat());
        assert!(images(&fixture.path("set.tar")) == on_disk, "{mode:?}");
        let mut list = Command::new("tar");
        list.args(["--list", "--absolute-names", "--file"]).arg(fixture.path("set.tar"));
        let listed = String::from_utf8_lossy(&list.output().expect("it is there").stdout).into_owned();
        let count = listed.lines().filter(|name| name.starts_with('/') || name.contains("..")).count() as u64;
        let source = fixture.open("set.tar", "", "").expect("the archive is sound");
        let note =
            source.notes().iter().find(|note| note.kind == "renamed-members").expect("there is a note");
        assert!(note.count == count && count > 8, "{mode:?}: {note:?}, {count} names");
        assert!(note.message.starts_with(&format!("{count} members have an absolute name, or")), "{note:?}");
    }
    tar(&fixture, &["--create", "--file=set.tar", "./set"]);
    let source = fixture.open("set.tar", "", "").expect("the archive is sound");
    assert!(source.notes().iter().all(|note| note.kind != "renamed-members"), "{:?}", source.notes());
}

#[test]
fn long_names_of_gnu_tar_are_read() {
    if !is_there("tar", "--version", "GNU tar") {
        return;
    }
    let fixture = Fixture::new();
    let part = "ä".repeat(60);
    for class in ["cat", "dog"] {
        fixture.write(&format!("set/{class}/{part}/{part}/{part}/a.jpg"), class);
        let target = format!("{part}/{part}/{part}/a.jpg");
        symlink(target, fixture.path(&format!("set/{class}/link.jpg"))).expect("it has links");
    }
    let on_disk = images(&fixture.path("set"));
    assert_eq!(on_disk.len(), 4);
    for format in ["--format=gnu", "--format=pax"] {
        tar(&fixture, &["--create", "--file=set.tar", format, "set"]);
        assert!(images(&fixture.path("set.tar")) == on_disk, "{format}");
    }
}

#[test]
fn members_that_gnu_tar_appends_replace_the_earlier_ones() {
    if !is_there("tar", "--version", "GNU tar") {
        return;
    }
    let fixture = set();
    tar(&fixture, &["--create", "--file=set.tar", "set"]);
    fixture.write("set/cat/0.jpg", b"mended");
    fixture.write("set/cat/new.jpg", b"new");
    tar(&fixture, &["--append", "--file=set.tar", "set/cat/0.jpg", "set/cat/new.jpg"]);
    let on_disk = images(&fixture.path("set"));
    assert_eq!(on_disk["cat/0.jpg"].1, b"mended");
    assert!(images(&fixture.path("set.tar")) == on_disk);
    let source = fixture.open("set.tar", "", "").expect("the archive is sound");
    let note = source.notes().iter().find(|note| note.kind == "replaced-members").expect("there is a note");
    assert_eq!(note.count, 1);
    assert!(source.notes().iter().all(|note| note.kind != "zeros-at-end"), "{:?}", source.notes());
    // An archive put behind another by --concatenate is one archive.
    tar(&fixture, &["--create", "--file=more.tar", "--transform=s,^set/cat,set/emu,", "set/cat"]);
    tar(&fixture, &["--concatenate", "--file=set.tar", "more.tar"]);
    assert_eq!(images(&fixture.path("set.tar")).len(), on_disk.len() + 7);

    // Zeros that fill a large record may be those of a download that broke off.
    tar(
        &fixture,
        &["--create", "--blocking-factor=40", "--file=set.tar", "set/cat/0.jpg", "set/cat/new.jpg"],
    );
    let source = fixture.open("set.tar", "", "").expect("the archive is sound");
    let note = source.notes().iter().find(|note| note.kind == "zeros-at-end").expect("there is a note");
    assert!(note.message.starts_with("1 archive ends with more zeros than usual, "), "{}", note.message);
}

#[test]
fn sparse_and_multi_volume_archives_of_gnu_tar_are_refused_by_name() {
    if !is_there("tar", "--version", "GNU tar") {
        return;
    }
    let fixture = Fixture::new();
    let file = fs::File::create(fixture.write("set/cat/a.jpg", b"")).expect("the folder is writable");
    file.set_len(1 << 20).expect("files can have holes");
    fixture.write("set/dog/b.jpg", vec![1; 40 << 10]);
    for format in [
        "--format=oldgnu",
        "--format=pax --sparse-version=0.0",
        "--format=pax --sparse-version=0.1",
        "--format=pax --sparse-version=1.0",
    ] {
        let format: Vec<&str> = format.split(' ').collect();
        tar(&fixture, &[&["--create", "--file=set.tar", "--sparse"][..], &format, &["set"]].concat());
        let message = error(fixture.open("set.tar", "", "")).to_string();
        assert!(message.contains("a sparse file called \"set/cat/a.jpg\""), "{format:?}: {message}");
    }
    let volumes = ["--file=1.tar", "--file=2.tar", "--file=3.tar", "--file=4.tar"];
    let create = ["--create", "--multi-volume", "--tape-length=20"];
    for format in ["--format=gnu", "--format=pax"] {
        tar(&fixture, &[&create[..], &volumes, &[format, "set/dog"]].concat());
        for volume in ["1.tar", "2.tar"] {
            let message = error(fixture.open(volume, "", "")).to_string();
            assert!(message.contains("volume") || message.contains("incomplete"), "{format}: {message}");
        }
        let message = error(fixture.open("2.tar", "", "")).to_string();
        assert!(message.contains("--multi-volume"), "{format}: {message}");
    }
}

/// Writes the photos of `set` by tarfile in the formats that it knows.
const PYTHON: &str = "
import io, sys, tarfile
formats = dict(ustar=tarfile.USTAR_FORMAT, gnu=tarfile.GNU_FORMAT, pax=tarfile.PAX_FORMAT)
for name, number in formats.items():
    with tarfile.open(f'{name}.tar', 'w', format=number) as tar:
        tar.add('set')
        for kind in (tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo('set/device')
            info.type = kind
            tar.addfile(info)
    with tarfile.open(f'{name}.absolute.tar', 'w', format=number) as tar:
        for member in tarfile.open(f'{name}.tar'):
            data = tarfile.open(f'{name}.tar').extractfile(member) if member.isreg() else None
            member.name, member.pax_headers = '/data/' + member.name, {}
            member.linkname = '/data/' + member.linkname if member.islnk() else member.linkname
            tar.addfile(member, data)
    headers = {'comment': 'of all', 'mtime': '1.5'}
    with tarfile.open(f'{name}.tar.gz', 'w:gz', format=number, pax_headers=headers) as tar:
        for member in tarfile.open(f'{name}.tar'):
            member.pax_headers = {'SCHILY.xattr.user.note': 'two\\nlines', 'comment': '12 path=x'}
            data = tarfile.open(f'{name}.tar').extractfile(member) if member.isreg() else None
            tar.addfile(member, data)
";

#[test]
fn archives_of_pythons_tarfile_are_what_it_packed() {
    let Some(python) = std::env::var_os("FOVEA_TEST_PYTHON") else {
        eprintln!("skipped: FOVEA_TEST_PYTHON is not set");
        return;
    };
    let fixture = set();
    run(Command::new(python).args(["-c", PYTHON]).current_dir(fixture.dir.path()));
    let on_disk = images(&fixture.path("set"));
    for format in ["ustar", "gnu", "pax"] {
        for ending in ["tar", "tar.gz", "absolute.tar"] {
            assert!(images(&fixture.path(&format!("{format}.{ending}"))) == on_disk, "{format}.{ending}");
        }
    }
}
