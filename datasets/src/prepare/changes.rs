//! In what the images of a source differ from those that a folder was prepared from.

use std::fmt;

use fovea_pipeline::summary::count;

use crate::note::listed;

/// So many changed images are enough to say that there are many.
pub(super) const MANY: usize = 100;

/// Names of the images that differ from those that a folder was prepared from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Images that are new.
    pub added: Vec<String>,
    /// Images that are no longer there.
    pub removed: Vec<String>,
    /// Images with other pixels or of another class; not necessarily all if there are many.
    pub changed: Vec<String>,
    /// Images that could not be decoded and now can.
    pub mended: Vec<String>,
    /// Whether something differs that the folder has no list of.
    pub unlisted: bool,
}

impl Changes {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mended.is_empty() && self.only_mends()
    }

    /// Whether nothing differs but images that could not be decoded and now can.
    #[must_use]
    pub fn only_mends(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty() && !self.unlisted
    }

    /// The names of all images.
    pub(crate) fn names(&self) -> Vec<String> {
        [&self.added, &self.removed, &self.changed, &self.mended].into_iter().flatten().cloned().collect()
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (&self.added, "added"),
            (&self.removed, "removed"),
            (&self.changed, "changed"),
            (&self.mended, "mended"),
        ];
        let describe = |(names, what): (&Vec<String>, &str)| {
            let least = if what == "changed" && names.len() >= MANY { "at least " } else { "" };
            format!("{least}{} {what} ({})", count(names.len() as u64, "image"), listed(names, names.len()))
        };
        let mut parts: Vec<String> =
            kinds.into_iter().filter(|(names, _)| !names.is_empty()).map(describe).collect();
        if parts.is_empty() {
            parts.push("it has no list of them".to_owned());
        }
        f.write_str(&parts.join(", "))
    }
}
