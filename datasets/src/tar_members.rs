//! From the headers of a tar file to the files that it would unpack to: of several members of one name the
//! last one counts, and links lead to what they name, as in a folder on disk.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::SourceError;
use crate::collection::is_unnamed_image;
use crate::names::is_attribute_file;
use crate::others::Others;
use crate::photo::BEGINNING_BYTES;
use crate::positioned::PositionedFile;

/// Symbolic links on the way to one file; Linux follows as many.
const MAX_HOPS: usize = 40;
/// Files that are reached through linked folders, for each member of the archive and all together. Links to
/// folders with links can multiply without end.
const MAX_LINKED_PER_MEMBER: usize = 16;
const MAX_LINKED: usize = 100_000;

const REPACK: &str = "remove the link, or pack the archive again with tar --dereference";

/// A regular file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Relative path with `/`, without `.` and `..`.
    pub(crate) name: String,
    /// Place of the first byte of its data in the outermost file.
    pub(crate) offset: u64,
    /// Size of its data in bytes.
    pub(crate) size: u64,
}

impl Member {
    /// Whether it is an image without the name of one; `file` is the archive.
    pub(crate) fn is_unnamed_image(&self, file: &PositionedFile) -> bool {
        is_unnamed_image(&self.name, || {
            let mut bytes = vec![0; self.size.min(BEGINNING_BYTES as u64) as usize];
            file.read_at(self.offset, &mut bytes).is_ok().then_some(bytes)
        })
    }

    /// The bytes of its data in the outermost file.
    pub(crate) fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.size
    }
}

/// What the headers of an archive add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// The regular files, linked ones under the name of the link, without those of [`is_attribute_file`].
    pub(crate) files: Vec<Member>,
    /// What is there beside them.
    pub(crate) others: Others,
    /// Members that a later one of the same name replaced.
    pub(crate) replaced: u64,
    /// Members whose names were made relative ones without `..`.
    pub(crate) renamed: u64,
    /// Zero bytes at its end, if there are more than most archives have.
    pub(crate) zero_tail_bytes: u64,
}

/// A member as its header has it.
#[derive(Debug)]
pub(crate) struct Item {
    /// As in [`Member`].
    pub(crate) name: String,
    /// Whether that is not where the name in the header leads to.
    pub(crate) is_renamed: bool,
    /// Place of its header, for errors.
    pub(crate) at: u64,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// The place of its data.
    File(Range<u64>),
    Folder,
    /// A device or a FIFO.
    Special,
    /// To the member of this path.
    HardLink(Vec<u8>),
    /// To this path, from the folder with the link.
    SymbolicLink(Vec<u8>),
}

/// A member's path below the top of the archive, free of `.`, `..` and repeated slashes. GNU tar and Python
/// remove leading slashes too.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn clean(name: &str) -> Result<String, &'static str> {
    if name.contains('\0') {
        return Err("contains a zero byte");
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or("leads out of the archive by \"..\"")?),
            _ => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// Whether [`clean`] changes where a name would lead to.
pub(crate) fn is_renamed(name: &str) -> bool {
    name.starts_with('/') || name.split('/').any(|part| part == "..")
}

/// Follows the links among the `items` of the archive `path`, which are in the archive's order.
pub(crate) fn resolve(path: &Path, items: Vec<Item>) -> Result<Members, SourceError> {
    let mut tree = Tree { path, nodes: BTreeMap::new() };
    let mut members = Members::default();
    for item in below_hidden_folder(items) {
        members.renamed += u64::from(item.is_renamed);
        members.replaced += u64::from(tree.add(item)?);
    }
    tree.refuse_members_below_links()?;
    let mut linked = 0;
    for (name, node) in &tree.nodes {
        match &node.entry {
            Entry::Link(_) => tree.follow(name, name, node, &[], &mut members, &mut linked)?,
            entry => members.push(name, entry),
        }
    }
    Ok(members)
}

/// The items by their paths below the hidden folder in which all files lie, if there is one: it was packed
/// with the folders above it (`tar -P ~/.cache/photos`), and its name says nothing of the files.
fn below_hidden_folder(mut items: Vec<Item>) -> Vec<Item> {
    let Some(top) = hidden_folder_of_all(&items) else { return items };
    items.retain_mut(|item| {
        if let Content::HardLink(target) = &mut item.content
            && let Some(below) =
                clean(&String::from_utf8_lossy(target)).ok().as_deref().and_then(|t| t.strip_prefix(&top))
        {
            *target = below.as_bytes().to_vec();
        }
        match item.name.strip_prefix(&top) {
            Some(below) => item.name = below.to_owned(),
            // A folder above it, or itself.
            None => return false,
        }
        true
    });
    items
}

/// The path of the lowest hidden folder, or one of the system, in which all files and links lie, with a slash
/// at its end.
fn hidden_folder_of_all(items: &[Item]) -> Option<String> {
    let is_folder = |item: &&Item| matches!(item.content, Content::Folder);
    let mut files = items.iter().filter(|item| !is_folder(item)).map(|item| item.name.as_str());
    let mut common: Vec<&str> = files.next()?.split('/').collect();
    common.pop();
    for name in files {
        let same = common.iter().zip(name.split('/')).take_while(|(a, b)| *a == b).count();
        common.truncate(same);
    }
    let lowest = common.iter().rposition(|part| is_attribute_file(part))?;
    Some(format!("{}/", common[..=lowest].join("/")))
}

impl Members {
    /// Adds what is no link.
    fn push(&mut self, name: &str, entry: &Entry) {
        let others = &mut self.others;
        match entry {
            Entry::Folder if is_attribute_file(name) => {}
            _ if is_attribute_file(name) => others.files.push(name.to_owned()),
            Entry::File(range) => {
                let (offset, size) = (range.start, range.end - range.start);
                self.files.push(Member { name: name.to_owned(), offset, size });
            }
            Entry::Folder => others.folders.push(name.to_owned()),
            Entry::Special | Entry::Link(_) => others.special.push(name.to_owned()),
        }
    }
}

/// What the archive would unpack to.
struct Tree<'a> {
    path: &'a Path,
    nodes: BTreeMap<String, Node>,
}

struct Node {
    /// Place of the header.
    at: u64,
    entry: Entry,
}

#[derive(Clone)]
enum Entry {
    File(Range<u64>),
    Folder,
    Special,
    /// A symbolic link to this path, from the folder with the link.
    Link(String),
}

impl Tree<'_> {
    /// Adds a member as unpacking it would. Whether it replaces another.
    fn add(&mut self, item: Item) -> Result<bool, SourceError> {
        let Item { name, at, content, .. } = item;
        let entry = match content {
            Content::File(range) => Entry::File(range),
            Content::Folder => Entry::Folder,
            Content::Special => Entry::Special,
            Content::SymbolicLink(target) => Entry::Link(String::from_utf8_lossy(&target).into_owned()),
            Content::HardLink(target) => {
                let target = String::from_utf8_lossy(&target).into_owned();
                let linked = clean(&target).ok().and_then(|target| Some((self.nodes.get(&target)?, target)));
                match linked {
                    // A link to itself, as some programs write for a file that they have twice.
                    Some((_, linked)) if linked == name => return Ok(false),
                    Some((Node { entry: entry @ (Entry::File(_) | Entry::Special), .. }, _)) => entry.clone(),
                    _ if is_attribute_file(&name) => return Ok(false),
                    _ => {
                        let found = format!("{name:?}, a hard link to {target:?}");
                        return Err(self.error(
                            at,
                            "a link to an earlier file of the archive",
                            found,
                            REPACK,
                        ));
                    }
                }
            }
        };
        if matches!((&entry, self.nodes.get(&name)), (Entry::Folder, Some(Node { entry: Entry::Folder, .. })))
        {
            return Ok(false);
        }
        Ok(self.nodes.insert(name, Node { at, entry }).is_some())
    }

    /// Unpacking such members would write through the link.
    fn refuse_members_below_links(&self) -> Result<(), SourceError> {
        for (link, _) in self.nodes.iter().filter(|(_, node)| matches!(node.entry, Entry::Link(_))) {
            if let Some((name, node)) = self.below(&format!("{link}/")).next() {
                let found = format!("{name:?}, while {link:?} is a link");
                let remedy = "unpack the archive, look at the result and pack it again";
                return Err(self.error(node.at, "a member in a folder", found, remedy));
            }
        }
        Ok(())
    }

    fn below<'s>(&'s self, prefix: &'s str) -> impl Iterator<Item = (&'s String, &'s Node)> {
        self.nodes.range(prefix.to_owned()..).take_while(move |(name, _)| name.starts_with(prefix))
    }

    /// Adds what the link `node`, which lies at `place`, leads to, under the name `name`. `above` has the
    /// folders that linked folders were reached through.
    fn follow(
        &self,
        name: &str,
        place: &str,
        node: &Node,
        above: &[&str],
        members: &mut Members,
        linked: &mut usize,
    ) -> Result<(), SourceError> {
        let Entry::Link(target) = &node.entry else { return Ok(()) };
        if is_attribute_file(name) {
            members.others.files.push(name.to_owned());
            return Ok(());
        }
        let wrong = |problem: &str| {
            let found = format!("{name:?}, a symbolic link to {target:?}, {problem}");
            self.error(node.at, "a link to a member of the archive", found, REPACK)
        };
        let real = self.real_path(place).map_err(wrong)?;
        match self.nodes.get(&real) {
            Some(Node { entry: entry @ (Entry::File(_) | Entry::Special), .. }) => {
                members.push(name, entry);
                return Ok(());
            }
            _ => members.push(name, &Entry::Folder),
        }
        let inside = if real.is_empty() { String::new() } else { format!("{real}/") };
        let above = [above, &[place]].concat();
        if above.iter().any(|place| place.starts_with(&inside)) {
            let (path, target) = (self.path.join(name), PathBuf::from(target));
            return Err(SourceError::EndlessLink { path, target });
        }
        for (place, node) in self.below(&inside) {
            *linked += 1;
            if *linked > MAX_LINKED + MAX_LINKED_PER_MEMBER * self.nodes.len() {
                return Err(wrong("a folder of links to folders of links and so on without end"));
            }
            let name = format!("{name}/{}", &place[inside.len()..]);
            match &node.entry {
                Entry::Link(_) => self.follow(&name, place, node, &above, members, linked)?,
                entry => members.push(&name, entry),
            }
        }
        Ok(())
    }

    /// The path of the file or folder, not itself a link, that the link at `place` leads to.
    ///
    /// # Errors
    /// Why there is none.
    fn real_path(&self, place: &str) -> Result<String, &'static str> {
        let mut real: Vec<String> = Vec::new();
        let mut ahead: VecDeque<String> = place.split('/').map(str::to_owned).collect();
        let mut hops = 0;
        while let Some(part) = ahead.pop_front() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    real.pop().ok_or("which leads out of it")?;
                    continue;
                }
                _ => real.push(part),
            }
            let Some(Node { entry: Entry::Link(target), .. }) = self.nodes.get(&real.join("/")) else {
                continue;
            };
            hops += 1;
            if hops > MAX_HOPS {
                return Err("which leads in a circle");
            }
            if target.starts_with('/') {
                return Err("which leads out of it");
            }
            real.pop();
            for part in target.split('/').rev() {
                ahead.push_front(part.to_owned());
            }
        }
        let real = real.join("/");
        let exists = real.is_empty()
            || self.nodes.contains_key(&real)
            || self.below(&format!("{real}/")).next().is_some();
        exists.then_some(real).ok_or("which is not there")
    }

    fn error(&self, offset: u64, expected: &str, found: String, remedy: &'static str) -> SourceError {
        let (path, expected) = (self.path.to_owned(), expected.to_owned());
        SourceError::Damaged { path, offset, expected, found, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, content: Content) -> Item {
        Item { name: name.to_owned(), is_renamed: false, at: 0, content }
    }

    fn file(name: &str, at: u64) -> Item {
        item(name, Content::File(at..at + 1))
    }

    fn link(name: &str, target: &str) -> Item {
        item(name, Content::SymbolicLink(target.as_bytes().to_vec()))
    }

    fn hard(name: &str, target: &str) -> Item {
        item(name, Content::HardLink(target.as_bytes().to_vec()))
    }

    /// Names and places of the files.
    fn names(items: Vec<Item>) -> Vec<(String, u64)> {
        let members = resolve(Path::new("a.tar"), items).expect("the links are sound");
        members.files.into_iter().map(|member| (member.name, member.offset)).collect()
    }

    fn message(items: Vec<Item>) -> String {
        resolve(Path::new("a.tar"), items).expect_err("a link is bad").to_string()
    }

    fn owned(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
        expected.iter().map(|&(name, at)| (name.to_owned(), at)).collect()
    }

    #[test]
    fn names_are_made_relative_and_free_of_dots() {
        for (name, expected, renamed) in [
            ("cat/a.jpg", "cat/a.jpg", false),
            ("./cat//./a.jpg", "cat/a.jpg", false),
            ("cat/", "cat", false),
            ("./", "", false),
            ("cat/..a.jpg", "cat/..a.jpg", false),
            ("/cat/a.jpg", "cat/a.jpg", true),
            ("///cat/a.jpg", "cat/a.jpg", true),
            ("/", "", true),
            ("cat/../dog/a.jpg", "dog/a.jpg", true),
            ("./x/../y/z/../../cat/a.jpg", "cat/a.jpg", true),
        ] {
            assert_eq!((clean(name), is_renamed(name)), (Ok(expected.to_owned()), renamed), "{name}");
        }
        for name in ["..", "../a", "/..", "/../a", "a/../..", "./.././a"] {
            assert!(clean(name).is_err_and(|problem| problem.contains("leads out")), "{name}");
        }
        assert!(clean("a\0b").is_err());
    }

    #[test]
    fn the_last_of_several_members_counts_and_the_others_are_counted() {
        let items = || vec![file("a", 1), file("b", 2), file("a", 3), file("a", 4)];
        assert_eq!(names(items()), owned(&[("a", 4), ("b", 2)]));
        assert_eq!(resolve(Path::new("a.tar"), items()).expect("no links").replaced, 2);
        let folders = vec![item("d", Content::Folder), file("d/a", 1), item("d", Content::Folder)];
        assert_eq!(resolve(Path::new("a.tar"), folders).expect("no links").replaced, 0);
    }

    #[test]
    fn a_hard_link_has_what_its_target_was_then() {
        let items = vec![file("a", 1), hard("b", "./a"), file("a", 2), hard("c", "a"), hard("a", "a")];
        assert_eq!(names(items), owned(&[("a", 2), ("b", 1), ("c", 2)]));
        assert!(message(vec![hard("b", "a"), file("a", 1)]).contains("\"b\", a hard link to \"a\""));
    }

    #[test]
    fn symbolic_links_to_files_and_folders_are_followed_through_others() {
        let items = vec![
            link("lynx", "cat"),
            link("set/deep/link", "../../alias/./1.jpg"),
            link("alias", "lynx/"),
            file("cat/1.jpg", 1),
            file("cat/sub/2.jpg", 2),
            link("cat/more", "../dog"),
            file("dog/3.jpg", 3),
            file("cat/._1.jpg", 4),
            link("cat/.hidden", "nowhere"),
            link("seen", ".store/x.jpg"),
            file(".store/x.jpg", 5),
        ];
        let expected = [
            ("alias/1.jpg", 1),
            ("alias/more/3.jpg", 3),
            ("alias/sub/2.jpg", 2),
            ("cat/1.jpg", 1),
            ("cat/more/3.jpg", 3),
            ("cat/sub/2.jpg", 2),
            ("dog/3.jpg", 3),
            ("lynx/1.jpg", 1),
            ("lynx/more/3.jpg", 3),
            ("lynx/sub/2.jpg", 2),
            ("seen", 5),
            ("set/deep/link", 1),
        ];
        assert_eq!(names(items), owned(&expected));
    }

    #[test]
    fn a_hidden_folder_around_all_files_hides_none() {
        let items = || {
            vec![
                item("home", Content::Folder),
                item("home/.cache", Content::Folder),
                item("home/.cache/set", Content::Folder),
                file("home/.cache/set/cat/1.jpg", 1),
                file("home/.cache/set/cat/._1.jpg", 2),
                hard("home/.cache/set/dog/2.jpg", "/home/.cache/set/cat/1.jpg"),
                link("home/.cache/set/lynx", "cat"),
            ]
        };
        let expected = owned(&[("set/cat/1.jpg", 1), ("set/dog/2.jpg", 1), ("set/lynx/1.jpg", 1)]);
        assert_eq!(names(items()), expected);
        // Beside other files it is one of their kind.
        let beside = items().into_iter().chain([file("home/cat/3.jpg", 3)]);
        assert_eq!(names(beside.collect()), owned(&[("home/cat/3.jpg", 3)]));
        assert_eq!(names(vec![file(".git/._a.jpg", 1), file(".git/cat/.b.jpg", 2)]), owned(&[]));
    }

    #[test]
    fn links_that_lead_nowhere_out_or_in_circles_are_refused() {
        for (target, problem) in [
            ("b", "which is not there"),
            ("a.jpg/b", "which is not there"),
            ("../c", "which leads out of it"),
            ("/etc", "which leads out of it"),
            ("sub/../../c", "which leads out of it"),
            ("link", "which leads in a circle"),
            (".", "in which it lies itself"),
            ("sub/..", "in which it lies itself"),
        ] {
            let message = message(vec![file("a.jpg", 1), file("sub/b.jpg", 2), link("link", target)]);
            assert!(message.contains(problem), "{target}: {message}");
        }
        let circle = vec![link("a/to-b", "../b"), link("b/to-a", "../a"), file("a/x.jpg", 1)];
        assert!(message(circle).contains("in which it lies itself"));
        let through = message(vec![link("lynx", "cat"), file("cat/1.jpg", 1), file("lynx/2.jpg", 2)]);
        assert!(through.contains("\"lynx/2.jpg\", while \"lynx\" is a link"), "{through}");
    }

    #[test]
    fn links_that_multiply_end_with_an_error() {
        let mut items = vec![file("d40/x.jpg", 1)];
        for level in 0..40 {
            for twin in ["a", "b"] {
                items.push(link(&format!("d{level:02}/{twin}"), &format!("../d{:02}", level + 1)));
            }
        }
        assert!(message(items).contains("without end"));
    }
}
