//! The checkpoints of one run: the last few and the best.

use std::path::{Path, PathBuf};
use std::{fs, io};

use fovea_files::FileLock;

use super::folder::{self, PREFIX};
use super::{CheckpointError, Meta};
use crate::state::TensorRef;

/// The lock file in a run's folder.
pub const LOCK: &str = "lock";

/// Locks a run's folder against other trainers for its lifetime.
#[derive(Debug)]
pub struct RunLock {
    lock: FileLock,
}

impl RunLock {
    /// Creates the run's folder if necessary and locks it.
    ///
    /// # Errors
    /// [`CheckpointError::InUse`] when another trainer uses the folder.
    pub fn acquire(run: &Path) -> Result<Self, CheckpointError> {
        fs::create_dir_all(run).map_err(CheckpointError::write(run))?;
        let path = run.join(LOCK);
        match FileLock::try_acquire(&path).map_err(CheckpointError::write(&path))? {
            Some(lock) => Ok(Self { lock }),
            None => Err(CheckpointError::InUse { path: run.to_owned() }),
        }
    }

    /// Whether the folder `run` is still the one that was locked.
    #[must_use]
    pub fn is_of(&self, run: &Path) -> bool {
        self.lock.is_at(&run.join(LOCK))
    }
}

/// The checkpoints of a run.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    keep: usize,
}

impl Store {
    /// The checkpoints in the folder of a run; keeps the last `keep` (at least one) and the best.
    #[must_use]
    pub fn new(run: &Path, keep: usize) -> Self {
        Self { root: run.join("checkpoints"), keep: keep.max(1) }
    }

    /// Saves a checkpoint, then removes those that need not be kept. Returns its folder.
    ///
    /// # Errors
    /// [`CheckpointError::Write`]; earlier checkpoints are unchanged.
    pub fn save(&self, meta: &Meta, tensors: &[(&str, TensorRef)]) -> Result<PathBuf, CheckpointError> {
        fs::create_dir_all(&self.root).map_err(CheckpointError::write(&self.root))?;
        let path = self.root.join(self.free_name(meta.step)?);
        folder::save(&path, meta, tensors)?;
        self.prune()?;
        Ok(path)
    }

    /// A name for a checkpoint of this step. A second one of the same step (an epoch's end, then an
    /// interruption) gets a new name, so that the first exists until the second is complete; it comes after
    /// all that there are.
    fn free_name(&self, step: u64) -> Result<String, CheckpointError> {
        let entries = self.entries()?;
        let orders = entries.iter().filter_map(|(name, _)| order_of(name));
        let last = orders.filter(|(of, _)| *of == step).map(|(_, revision)| revision).max();
        let first = format!("{PREFIX}{step:09}");
        Ok(last.map_or(first.clone(), |last| format!("{first}.{}", last + 1)))
    }

    /// The folder of the latest checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError::None`] when there is none.
    pub fn latest(&self) -> Result<PathBuf, CheckpointError> {
        self.all()?.pop().ok_or_else(|| CheckpointError::None { path: self.root.clone() })
    }

    /// The folder of the last checkpoint that was saved as the best, or of the latest if none was.
    ///
    /// # Errors
    /// As [`Store::latest`], and those of [`read_meta`](super::read_meta).
    pub fn best(&self) -> Result<PathBuf, CheckpointError> {
        for path in self.all()?.into_iter().rev() {
            if folder::read_meta(&path)?.is_best {
                return Ok(path);
            }
        }
        self.latest()
    }

    /// All checkpoints, the earliest first.
    fn all(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let mut found: Vec<_> =
            self.entries()?.into_iter().filter_map(|(name, path)| Some((order_of(&name)?, path))).collect();
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// The folders of checkpoints, by name; names that are not Unicode are ignored.
    fn entries(&self) -> Result<Vec<(String, PathBuf)>, CheckpointError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(CheckpointError::read(&self.root)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(CheckpointError::read(&self.root))?;
            match entry.file_name().into_string() {
                Ok(name) if entry.path().is_dir() => found.push((name, entry.path())),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Removes the checkpoints that need not be kept, and unfinished ones of killed trainers.
    fn prune(&self) -> Result<(), CheckpointError> {
        let all = self.all()?;
        // An unreadable checkpoint is not kept as the best.
        let is_best = |path: &&PathBuf| folder::read_meta(path).is_ok_and(|meta| meta.is_best);
        let best = all.iter().rev().find(is_best).cloned();
        let old = all.into_iter().rev().skip(self.keep).filter(|path| Some(path) != best.as_ref());
        let half = self.entries()?.into_iter().filter(|(name, _)| folder::is_hidden(name));
        for path in old.chain(half.map(|(_, path)| path)) {
            fs::remove_dir_all(&path).map_err(CheckpointError::write(path))?;
        }
        Ok(())
    }
}

/// Step and revision in the name of a checkpoint.
fn order_of(name: &str) -> Option<(u64, u32)> {
    let digits = name.strip_prefix(PREFIX)?;
    match digits.split_once('.') {
        Some((step, revision)) => Some((step.parse().ok()?, revision.parse().ok()?)),
        None => Some((digits.parse().ok()?, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::load;
    use crate::checkpoint::tests::meta;

    fn save(store: &Store, step: u64, is_best: bool) {
        let tensors = [("w", TensorRef { shape: &[1], values: &[step as f32] })];
        store.save(&Meta { is_best, ..meta(step) }, &tensors).unwrap();
    }

    fn step_in(folder: &Path) -> u64 {
        load(folder).unwrap().0.step
    }

    #[test]
    fn the_last_ones_and_the_best_stay() {
        let run = tempfile::tempdir().unwrap();
        let store = Store::new(run.path(), 2);
        for step in 1..=5 {
            save(&store, step * 100_000_000, step == 2);
        }
        let steps: Vec<_> = store.all().unwrap().iter().map(|path| step_in(path)).collect();
        assert_eq!(steps, [200_000_000, 400_000_000, 500_000_000]);
        assert_eq!(step_in(&store.latest().unwrap()), 500_000_000);
        assert_eq!(step_in(&store.best().unwrap()), 200_000_000);
    }

    #[test]
    fn of_several_checkpoints_of_a_step_the_last_is_the_latest() {
        let run = tempfile::tempdir().unwrap();
        let store = Store::new(run.path(), 2);
        for epoch in 3..9 {
            let tensors = [("w", TensorRef { shape: &[1], values: &[0.0] })];
            store.save(&Meta { epoch, ..meta(9) }, &tensors).unwrap();
            assert_eq!(load(&store.latest().unwrap()).unwrap().0.epoch, epoch);
        }
        assert_eq!(store.all().unwrap().len(), 2);
    }

    #[test]
    fn steps_beyond_nine_digits_are_still_the_latest() {
        let run = tempfile::tempdir().unwrap();
        let store = Store::new(run.path(), 3);
        save(&store, 999_999_999, false);
        save(&store, 1_000_000_000, false);
        assert_eq!(step_in(&store.latest().unwrap()), 1_000_000_000);
    }

    #[test]
    fn without_a_best_one_the_latest_serves_and_without_any_it_is_an_error() {
        let run = tempfile::tempdir().unwrap();
        let store = Store::new(run.path(), 2);
        assert!(matches!(store.best().unwrap_err(), CheckpointError::None { .. }));
        save(&store, 1, false);
        assert_eq!(store.best().unwrap(), store.latest().unwrap());
    }

    #[test]
    fn unfinished_checkpoints_are_ignored_and_removed_with_the_next_one() {
        let run = tempfile::tempdir().unwrap();
        let store = Store::new(run.path(), 2);
        save(&store, 1, false);
        let halves =
            [".step-000000002", ".step-000000007"].map(|name| run.path().join("checkpoints").join(name));
        for half in &halves {
            fs::create_dir(half).unwrap();
            fs::write(half.join("state.safetensors"), b"half").unwrap();
            fs::write(half.join(".checkpoint.json.tmp-1"), b"half").unwrap();
        }
        assert_eq!(step_in(&store.latest().unwrap()), 1);
        save(&store, 2, false);
        let latest = store.latest().unwrap();
        assert_eq!((step_in(&latest), fs::read_dir(latest).unwrap().count()), (2, 2));
        assert!(!halves.iter().any(|half| half.exists()));
    }

    #[test]
    fn a_damaged_checkpoint_is_an_error_in_the_search_for_the_best() {
        let run = tempfile::tempdir().unwrap();
        let store = Store::new(run.path(), 2);
        save(&store, 1, true);
        fs::write(run.path().join("checkpoints/step-000000001/checkpoint.json"), "{").unwrap();
        assert!(matches!(store.best().unwrap_err(), CheckpointError::Foreign { .. }));
        // Training continues, and the damaged one is removed once it is no longer among the last ones.
        for step in 2..=4 {
            save(&store, step, step == 2);
        }
        let steps: Vec<_> = store.all().unwrap().iter().map(|path| step_in(path)).collect();
        assert_eq!(steps, [2, 3, 4]);
    }

    #[test]
    fn a_file_with_the_name_of_a_checkpoint_is_ignored() {
        let run = tempfile::tempdir().unwrap();
        let store = Store::new(run.path(), 2);
        save(&store, 1, false);
        fs::write(run.path().join("checkpoints/step-000000009"), "").unwrap();
        assert_eq!(step_in(&store.latest().unwrap()), 1);
    }

    #[test]
    fn a_second_trainer_in_the_same_folder_is_refused() {
        let run = tempfile::tempdir().unwrap();
        let first = RunLock::acquire(run.path()).unwrap();
        let error = RunLock::acquire(run.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::InUse { .. }), "{error}");
        drop(first);
        RunLock::acquire(run.path()).unwrap();
    }

    #[test]
    fn a_run_folder_that_cannot_be_made_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(matches!(RunLock::acquire(&file.join("run")).unwrap_err(), CheckpointError::Write { .. }));
    }
}
