//! Archives made by the `tar` crate and by hand.

use std::io::{Cursor, Write};
use std::path::Path;

use tar::{EntryType, Header};

use super::*;
use crate::tar_header::checksums;
use crate::tests::tar_bytes;

/// The end marker.
const END: [u8; 1024] = [0; 1024];

fn file(bytes: &[u8]) -> PositionedFile {
    let mut file = tempfile::tempfile().expect("a temporary file can be made");
    file.write_all(bytes).expect("the temporary file is writable");
    PositionedFile::from_file(file, Path::new("test.tar")).expect("it has a size")
}

fn index_bytes(bytes: &[u8]) -> Result<Vec<Member>, SourceError> {
    index(&file(bytes)).map(|members| members.files)
}

fn message(bytes: &[u8]) -> String {
    index_bytes(bytes).expect_err("the archive is bad").to_string()
}

/// A ustar header.
fn header(name: &str, kind: u8, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(EntryType::new(kind));
    header.set_size(size);
    header.set_cksum();
    header
}

/// A member: its header and its data, padded.
fn member(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = [header(name, kind, data.len() as u64).as_bytes(), data].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn pax(kind: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let length = (0..).find(|&n: &usize| n == n.to_string().len() + key.len() + value.len() + 3);
        data.extend(format!("{} {key}=", length.expect("some number fits")).as_bytes());
        data.extend(*value);
        data.push(b'\n');
    }
    member("PaxHeaders/x", kind, &data)
}

/// Names of the members.
fn names(bytes: &[u8]) -> Vec<String> {
    let members = index_bytes(bytes).unwrap_or_else(|error| panic!("{error}"));
    members.into_iter().map(|member| member.name).collect()
}

fn read(file: &PositionedFile, member: &Member) -> Vec<u8> {
    let mut bytes = vec![0; member.size as usize];
    file.read_at(member.offset, &mut bytes).expect("the member lies in the file");
    bytes
}

#[test]
fn members_lie_where_the_tar_crate_finds_them() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = "folder/".repeat(30);
    for (i, name) in ["a.jpg", "./b.jpg", &format!("{long}c.jpg"), "empty.jpg"].iter().enumerate() {
        let mut header = Header::new_gnu();
        header.set_size(i as u64 % 3 * 511);
        builder.append_data(&mut header, name, vec![i as u8; i % 3 * 511].as_slice()).expect("memory");
    }
    let mut folder = Header::new_gnu();
    folder.set_entry_type(EntryType::Directory);
    folder.set_size(0);
    builder.append_data(&mut folder, "folder/", [].as_slice()).expect("memory");
    // A name that only fits with ustar's prefix, and one from a pax header.
    let mut ustar = Header::new_ustar();
    ustar.set_size(3);
    builder
        .append_data(&mut ustar, format!("{}d.jpg", "folder/".repeat(20)), b"ddd".as_slice())
        .expect("memory");
    builder.append_pax_extensions([("path", "from/pax.jpg".as_bytes()), ("size", b"4")]).expect("memory");
    let mut short = Header::new_ustar();
    short.set_size(4);
    builder.append_data(&mut short, "replaced", b"pppp".as_slice()).expect("memory");
    let bytes = builder.into_inner().expect("memory");

    let members = index_bytes(&bytes).expect("the archive is sound");
    let mut archive = tar::Archive::new(Cursor::new(&bytes));
    let mut expected: Vec<(String, u64, u64)> = archive
        .entries()
        .expect("the archive is sound")
        .map(|entry| entry.expect("the archive is sound"))
        .filter(|entry| entry.header().entry_type().is_file())
        .map(|entry| {
            let name =
                entry.path().expect("a name").to_str().expect("UTF-8").trim_start_matches("./").to_owned();
            (name, entry.raw_file_position(), entry.size())
        })
        .collect();
    expected.sort();
    let found: Vec<(String, u64, u64)> =
        members.into_iter().map(|member| (member.name, member.offset, member.size)).collect();
    assert_eq!(found.len(), 6);
    assert_eq!(found, expected);
}

#[test]
fn a_pax_size_replaces_that_of_the_header() {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([("size", b"600".as_slice())]).expect("memory");
    let mut header = Header::new_ustar();
    header.set_path("big.jpg").expect("a short name");
    header.set_size(0);
    header.set_cksum();
    let mut bytes = builder.into_inner().expect("memory");
    bytes.truncate(1024);
    bytes.extend(header.as_bytes());
    bytes.extend([7; 600]);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    let members = index_bytes(&bytes).expect("the archive is sound");
    assert_eq!(members, [Member { name: "big.jpg".to_owned(), offset: 1536, size: 600 }]);
}

#[test]
fn inner_members_are_read_from_the_outer_file() {
    let inner =
        |n: u8| tar_bytes(&(0..n).map(|i| (format!("{n:02}_{i:02}.jpg"), vec![i; 600])).collect::<Vec<_>>());
    let outer: Vec<_> = (1..=40).map(|n| (format!("{n:02}.tar"), inner(n))).collect();
    let file = file(&tar_bytes(&outer));
    let archives = index(&file).expect("the archive is sound").files;
    let members = index_inner(&file, &archives).expect("the archives are sound");
    assert_eq!(members.len(), 40);
    for (n, members) in (1..).zip(&members) {
        assert_eq!(members.files.len(), n);
        for (i, member) in members.files.iter().enumerate() {
            assert_eq!(member.name, format!("{n:02}_{i:02}.jpg"));
            assert_eq!(read(&file, member), vec![i as u8; 600]);
        }
    }
}

#[test]
fn a_size_beyond_everything_is_an_error() {
    for size in [1 << 40, u64::MAX / 2, u64::MAX] {
        let mut header = Header::new_gnu();
        header.set_path("a.jpg").expect("a short name");
        header.set_size(size);
        header.set_cksum();
        let message = message(&[header.as_bytes().as_slice(), &END].concat());
        assert!(message.contains("at byte 512") && message.contains("1024 bytes"), "{message}");
    }
}

#[test]
fn a_header_with_a_flipped_bit_is_an_error() {
    let bytes = tar_bytes(&[("a.jpg".to_owned(), vec![1; 10]), ("b.jpg".to_owned(), vec![2; 10])]);
    for at in (1024..1024 + 257).step_by(8) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        let error = index_bytes(&damaged).expect_err("the second header is damaged");
        assert!(error.to_string().contains("test.tar: at byte 1024: expected a header"), "{at}: {error}");
    }
}

#[test]
fn an_old_header_with_a_signed_checksum_is_accepted() {
    let mut header = Header::new_gnu();
    header.set_path("ä.jpg").expect("a short name");
    header.set_size(0);
    let signed = checksums(header.as_bytes())[1];
    header.as_old_mut().cksum.copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
    assert_ne!(signed, checksums(header.as_bytes())[0]);
    let members = index_bytes(&[header.as_bytes().as_slice(), &END].concat()).expect("it is sound");
    assert_eq!(members[0].name, "ä.jpg");
}

#[test]
fn a_zeroed_header_anywhere_is_a_hole() {
    let files: Vec<_> = (1..6).map(|n| (format!("{n}.jpg"), vec![n; 700])).collect();
    let bytes = tar_bytes(&files);
    for at in [1536, 3072, 4608, 6144] {
        let mut damaged = bytes.clone();
        damaged[at..at + 512].fill(0);
        let message = message(&damaged);
        let expected = format!("at byte {at}: expected only zeros behind the end marker of the archive");
        assert!(message.contains(&expected) && message.contains("the file has a hole"), "{message}");
        assert!(
            message.contains(&format!("512 zero bytes and then other data at byte {}", at + 512)),
            "{message}"
        );
    }
}

#[test]
fn holes_of_any_length_are_refused_wherever_they_cover_a_header() {
    let files: Vec<_> = (1..40).map(|n| (format!("{n}.jpg"), vec![n; 700])).collect();
    let bytes = tar_bytes(&files);
    let headers = (0..39).map(|n| n * 1536);
    for start in (512..bytes.len() - 1024).step_by(1000) {
        for length in [600, 1024, 1536, 5000, 20_000] {
            let end = (start + length).min(bytes.len());
            let mut damaged = bytes.clone();
            damaged[start..end].fill(0);
            let touched = headers.clone().any(|at| damaged[at..at + 512] != bytes[at..at + 512]);
            assert_eq!(index_bytes(&damaged).is_err(), touched, "{start}..{end}");
        }
    }
}

#[test]
fn a_zero_tail_is_refused_and_the_padding_of_a_record_is_not() {
    let bytes = tar_bytes(&[("a.jpg".to_owned(), vec![1; 700]), ("b.jpg".to_owned(), vec![2; 700])]);
    let padded = |length: usize| {
        let mut padded = bytes.clone();
        padded.resize(length, 0);
        padded
    };
    // No padding, GNU tar's record, and records of other sizes.
    for length in [bytes.len(), 10_240, 20_480, 32 << 10, 256 << 10, 1 << 20] {
        assert_eq!(names(&padded(length)), ["a.jpg", "b.jpg"], "{length}");
        let zeros = length as u64 - 3072;
        let unusual = if length > 10_240 { zeros } else { 0 };
        let members = index(&file(&padded(length))).expect("it is padded as tar may pad it");
        assert_eq!(members.zero_tail_bytes, unusual, "{length}");
    }
    for length in [bytes.len() + 512, bytes.len() + 100, 30_720, 102_400, 2 << 20, 70 << 20] {
        let message = message(&padded(length));
        assert!(message.contains("at byte 3072") && message.contains("truncate --size"), "{message}");
    }
    // The end marker is cut.
    for length in [3072, 3073, 3584, 4095] {
        let message = message(&bytes[..length]);
        assert!(message.contains("the file is incomplete"), "{length}: {message}");
    }
}

#[test]
fn archives_behind_one_another_and_other_data_behind_the_end_are_refused() {
    let one = |name: &str| tar_bytes(&[(name.to_owned(), vec![1; 700])]);
    let both = message(&[one("a.jpg"), one("b.jpg")].concat());
    assert!(both.contains("1024 zero bytes and then other data at byte 2560"), "{both}");
    assert!(both.contains("tar --ignore-zeros"), "{both}");
    let garbage = message(&[&one("a.jpg")[..], b"x"].concat());
    assert!(garbage.contains("other data at byte 2560") && garbage.contains("has a hole"), "{garbage}");
}

#[test]
fn inner_archives_need_members_and_their_own_end() {
    let inner = tar_bytes(&[("a.jpg".to_owned(), vec![1; 700]), ("b.jpg".to_owned(), vec![2; 700])]);
    let message = |bad: Vec<u8>| {
        let files = [("good.tar".to_owned(), inner.clone()), ("bad.tar".to_owned(), bad)];
        let file = file(&tar_bytes(&files));
        let archives = index(&file).expect("the outer archive is sound").files;
        index_inner(&file, &archives).expect_err("an inner archive is bad").to_string()
    };
    let mut hole = inner.clone();
    hole[1536..2048].fill(0);
    let mut tail = inner.clone();
    tail.resize(60_000, 0);
    for (bad, part) in [
        (hole, "the end marker of \"bad.tar\", found 512 zero bytes and then"),
        (tail, "truncate --size"),
        (vec![0; 10_240], "expected members of \"bad.tar\", found an empty archive"),
        (inner[..3072].to_vec(), "of \"bad.tar\", found 0 bytes"),
        (inner[..3584].to_vec(), "the end marker of \"bad.tar\", 1024 zero bytes, found 512"),
        (vec![], "of \"bad.tar\", found 0 bytes"),
    ] {
        let message = message(bad);
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn members_that_are_no_files_pass_over() {
    let kinds = *b"346AINEV";
    let mut bytes = Vec::new();
    for kind in kinds {
        let data: &[u8] = if kind == b'A' || kind == b'V' { b"data" } else { b"" };
        bytes.extend(member("other.jpg", kind, data));
    }
    bytes.extend(member("folder", b'D', b"Ya.jpg\0\0"));
    bytes.extend(member("v7/", b'\0', b""));
    bytes.extend(member("v7/a.jpg", b'\0', b"a"));
    bytes.extend(member("b.jpg", b'7', b"b"));
    // A type that nobody knows is a regular file.
    bytes.extend(member("c.jpg", b'Q', b"c"));
    bytes.extend(END);
    assert_eq!(names(&bytes), ["b.jpg", "c.jpg", "v7/a.jpg"]);
}

#[test]
fn files_of_other_systems_pass_over() {
    let junk = [
        ".DS_Store",
        "cat/._a.jpg",
        "cat/.hidden/a.jpg",
        "__MACOSX/cat/._a.jpg",
        "__MACOSX/a.jpg",
        "cat/PaxHeader/a.jpg",
        "./PaxHeaders/a.jpg",
        "cat/PaxHeaders.4711/a.jpg",
        "cat/Thumbs.db",
        "Desktop.ini",
    ];
    let files = junk.iter().chain(&["cat/PaxHeaderless/a.jpg"]).map(|name| ((*name).to_owned(), vec![1]));
    assert_eq!(names(&tar_bytes(&files.collect::<Vec<_>>())), ["cat/PaxHeaderless/a.jpg"]);
}

#[test]
fn pax_headers_name_members_and_links_whatever_else_they_hold() {
    let bytes = [
        pax(b'g', &[("comment", b"every member\nhas\0this"), ("mtime", b"1")]),
        pax(b'x', &[("SCHILY.xattr.user.x", b"\xff\0\n9 path=evil\n"), ("path", "ä/ö.jpg".as_bytes())]),
        member("cut", b'0', b"1"),
        pax(b'X', &[("path", b"solaris.jpg"), ("linkpath", b"unused")]),
        member("cut", b'0', b"2"),
        pax(b'x', &[("linkpath", "ä".as_bytes())]),
        member("link", b'2', b""),
        member("after.jpg", b'0', b"3"),
        END.to_vec(),
    ]
    .concat();
    assert_eq!(names(&bytes), ["after.jpg", "link/ö.jpg", "solaris.jpg", "ä/ö.jpg"]);
    let cut_off = [pax(b'x', &[("path", b"a")]), END.to_vec()].concat();
    assert!(message(&cut_off).contains("the long name or pax header before it"));
}

#[test]
fn what_is_not_read_is_refused_by_its_name() {
    let sparse = |records: &[(&str, &[u8])]| {
        [pax(b'x', records), member("GNUSparseFile.0/a.jpg", b'0', b"data"), END.to_vec()].concat()
    };
    let named: &[(&str, &[u8])] = &[("GNU.sparse.major", b"1"), ("GNU.sparse.name", b"cat/a.jpg")];
    for (bytes, parts) in [
        (sparse(named), ["a sparse file called \"cat/a.jpg\"", "--sparse"]),
        (sparse(&[("GNU.sparse.map", b"0,1")]), ["a sparse file called", "--sparse"]),
        ([member("a.jpg", b'S', b""), END.to_vec()].concat(), ["a sparse file called \"a.jpg\"", "--sparse"]),
        (
            [member("a.jpg", b'M', b""), END.to_vec()].concat(),
            ["continues in another volume", "--multi-volume"],
        ),
        (
            [pax(b'g', &[("GNU.volume.offset", b"512")]), member("a.jpg", b'0', b""), END.to_vec()].concat(),
            ["continues in another volume", "--multi-volume"],
        ),
    ] {
        let message = message(&bytes);
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn a_name_in_another_encoding_is_refused_unless_its_file_passes_over_anyway() {
    let named = |name: &[u8]| {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(EntryType::Regular);
        header.set_size(0);
        header.set_cksum();
        [header.as_bytes().as_slice(), &END].concat()
    };
    let message = message(&named(b"cat/caf\xe9.jpg"));
    assert!(message.contains("names in UTF-8") && message.contains("rename the file"), "{message}");
    assert_eq!(names(&named(b"cat/._caf\xe9.jpg")), [""; 0]);
}

#[test]
fn sizes_in_base_256_and_empty_ones() {
    let sized = |field: [u8; 12]| {
        let mut header = header("a.jpg", b'0', 0);
        header.as_old_mut().size = field;
        header.set_cksum();
        [header.as_bytes().as_slice(), &[7; 512], &END].concat()
    };
    let size = |field| index_bytes(&sized(field)).map(|members| members[0].size);
    assert_eq!(size([0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]).expect("it fits"), 512);
    assert_eq!(size(*b"00000001000\0").expect("it fits"), 512);
    assert_eq!(size(*b"       1000 ").expect("it fits"), 512);
    // Negative, beyond 64 bits, beyond the file, no number.
    for field in [[0xff; 12], [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0], *b"77777777777\0", *b"0x000001000\0"] {
        assert!(size(field).is_err(), "{field:?}");
    }
    let mut empty = header("b.jpg", b'0', 0);
    empty.as_old_mut().size = [0; 12];
    empty.set_cksum();
    assert_eq!(names(&[empty.as_bytes().as_slice(), &END].concat()), ["b.jpg"]);
}

#[test]
fn the_prefix_of_ustar_and_of_star() {
    let mut long = Header::new_ustar();
    long.set_path(format!("{}a.jpg", "folder/".repeat(20))).expect("it fits with the prefix");
    long.set_size(0);
    long.set_cksum();
    let mut star = header("b.jpg", b'0', 0);
    let bytes = star.as_mut_bytes();
    bytes[345..476].fill(b'p');
    bytes[476..488].copy_from_slice(b"14000000000 ");
    bytes[508..512].copy_from_slice(b"tar\0");
    star.set_cksum();
    // Before POSIX there was no prefix.
    let mut old = Header::new_gnu();
    old.set_path("c.jpg").expect("it fits");
    old.set_size(0);
    old.as_mut_bytes()[345..357].copy_from_slice(b"14000000000 ");
    old.set_cksum();
    let bytes = [long.as_bytes().as_slice(), star.as_bytes(), old.as_bytes(), &END].concat();
    let expected =
        [format!("{}a.jpg", "folder/".repeat(20)), format!("{}/b.jpg", "p".repeat(131)), "c.jpg".into()];
    let mut found = names(&bytes);
    found.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(found, expected);
}
