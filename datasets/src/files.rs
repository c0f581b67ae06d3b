//! The files of a data set with tables beside its images: below a folder on disk, or in an archive.

use std::path::{Path, PathBuf};

use crate::positioned::{io_error, read_file, text};
use crate::tar_folder::Archive;
use crate::tar_members::Member;
use crate::tree::{Listing, TreeImages};
use crate::{Note, SourceError, folder};

/// Far more than any table has.
const MAX_TABLE_BYTES: u64 = 64 << 20;

/// Files with paths relative to the top of the data set.
pub(crate) enum Files<'a> {
    /// Below this folder.
    Folder(PathBuf),
    /// The members below this prefix, which is empty or ends with a slash.
    Tar { archive: &'a Archive, prefix: String },
}

impl Files<'_> {
    /// Where a file is, for errors.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Folder(root) => root.join(name),
            Self::Tar { archive, prefix } => archive.file.path().join(format!("{prefix}{name}")),
        }
    }

    /// The data set and the folders up to `levels` above it; those above the top of an archive are the one in
    /// which the archive lies.
    pub(crate) fn and_above(&self, levels: usize) -> Result<Vec<Self>, SourceError> {
        match self {
            Self::Folder(root) => {
                let absolute = root.canonicalize().map_err(io_error(root, "find"))?;
                Ok(absolute
                    .ancestors()
                    .take(1 + levels)
                    .map(|folder| Self::Folder(folder.to_owned()))
                    .collect())
            }
            Self::Tar { archive, prefix } => {
                let in_archive = Path::new(prefix).ancestors().map(|folder| match folder.to_str() {
                    Some("") | None => String::new(),
                    Some(folder) => format!("{folder}/"),
                });
                let mut all: Vec<Self> = in_archive.map(|prefix| Self::Tar { archive, prefix }).collect();
                all.extend(archive.file.path().parent().map(|folder| Self::Folder(folder.to_owned())));
                all.truncate(2 + levels);
                Ok(all)
            }
        }
    }

    fn member(&self, name: &str) -> Option<(&Archive, &Member)> {
        let Self::Tar { archive, prefix } = self else { return None };
        let is_it = |member: &&Member| member.name.strip_prefix(prefix.as_str()) == Some(name);
        Some((archive, archive.members.iter().find(is_it)?))
    }

    /// Whether there is such a file.
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(_) => self.path(name).is_file(),
            Self::Tar { .. } => self.member(name).is_some(),
        }
    }

    /// The content of a text file.
    pub(crate) fn text(&self, name: &str) -> Result<String, SourceError> {
        let path = self.path(name);
        match self.member(name) {
            Some((archive, member)) => text(&path, archive.read(member, MAX_TABLE_BYTES)?),
            None if matches!(self, Self::Folder(_)) => read_text(&path),
            None => Err(SourceError::Missing {
                path: self.path(""),
                missing: name.to_owned(),
                remedy: "pack the whole data set again".to_owned(),
            }),
        }
    }

    /// The images below a folder; `None` if it is not there.
    pub(crate) fn images(&self, folder: &str) -> Result<Option<TreeImages>, SourceError> {
        match self {
            Self::Folder(root) => {
                let path = root.join(folder);
                if path.is_dir() { folder::list(&path)?.images().map(Some) } else { Ok(None) }
            }
            Self::Tar { .. } => self.listing(folder).map(|listing| listing.images()).transpose(),
        }
    }

    /// What is said of images without labels in the folder `test`.
    pub(crate) fn note_on_test(&self) -> Result<Option<Note>, SourceError> {
        let path = self.path("test");
        match self {
            Self::Folder(_) => folder::note_on_test(&path),
            Self::Tar { .. } => Ok(self
                .listing("test")
                .and_then(|listing| folder::about_test(&path, listing.into_image_names()))),
        }
    }

    /// What is in a folder of the archive.
    fn listing(&self, folder: &str) -> Option<Listing<'_>> {
        let Self::Tar { archive, prefix } = self else { return None };
        let inside = format!("{prefix}{folder}/");
        let below = archive.members.iter().filter_map(|member| {
            let name = member.name.strip_prefix(&inside)?.to_owned();
            Some(Member { name, ..member.clone() })
        });
        let members: Vec<Member> = below.collect();
        (!members.is_empty()).then(|| Listing::in_tar(&archive.file, members, archive.others.below(&inside)))
    }
}

/// The content of a table on disk.
pub(crate) fn read_text(path: &Path) -> Result<String, SourceError> {
    text(path, read_file(path, MAX_TABLE_BYTES)?)
}
