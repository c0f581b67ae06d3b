//! Tests of the loader over shards that come when they are needed, and go when they are not.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::augment::Chain;
use crate::geometry::Size;
use crate::order::Order;
use crate::shard_files::ShardFiles;
use crate::test_support::{self, SIDE};
use crate::{Dataset, DatasetError, Encoding, ShardInfo, Split};

const SHARDS: usize = 12;
/// In each shard.
const IMAGES: usize = 40;

/// Files that count as here from when they are asked for until they are let go.
#[derive(Debug)]
struct Elsewhere {
    folder: PathBuf,
    state: Mutex<State>,
    /// The shard that never arrives.
    missing: Option<&'static str>,
    /// Whether a missing shard is waited for instead of refused.
    is_slow: bool,
}

#[derive(Debug, Default)]
struct State {
    here: BTreeSet<String>,
    most_here: usize,
    /// Shards that were needed without having been asked for ahead.
    surprises: Vec<String>,
    fetched: usize,
    /// Shards that were fetched and not let go.
    in_use: BTreeSet<String>,
    most_in_use: usize,
    is_waited_for: bool,
}

impl ShardFiles for Elsewhere {
    fn are_permanent(&self) -> bool {
        false
    }

    fn check(&self, _shards: &[ShardInfo]) -> Result<(), DatasetError> {
        Ok(())
    }

    fn fetch(&self, shard: &ShardInfo, is_wanted: &dyn Fn() -> bool) -> Result<PathBuf, DatasetError> {
        if self.missing == Some(&shard.file) {
            self.state.lock().unwrap().is_waited_for = true;
            while self.is_slow && is_wanted() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let file = shard.file.clone();
            return Err(match self.is_slow {
                true => DatasetError::Unwanted { file },
                false => DatasetError::NotFetched { file, reason: "gone".into() },
            });
        }
        let mut state = self.state.lock().unwrap();
        state.fetched += 1;
        if state.here.insert(shard.file.clone()) {
            state.surprises.push(shard.file.clone());
        }
        state.in_use.insert(shard.file.clone());
        state.most_in_use = state.most_in_use.max(state.in_use.len());
        Ok(self.folder.join(&shard.file))
    }

    fn fetch_ahead(&self, shards: &[&ShardInfo]) {
        let mut state = self.state.lock().unwrap();
        for shard in shards {
            state.here.insert(shard.file.clone());
        }
        state.most_here = state.most_here.max(state.here.len());
    }

    fn set_aside(&self, shard: &ShardInfo) {
        assert!(self.state.lock().unwrap().in_use.remove(&shard.file), "{} was not in use", shard.file);
    }

    fn release(&self, shard: &ShardInfo) {
        let mut state = self.state.lock().unwrap();
        assert!(state.here.remove(&shard.file), "{} was not here", shard.file);
        state.in_use.remove(&shard.file);
    }
}

fn dataset() -> TempDir {
    let bounds: Vec<usize> = (0..=SHARDS).map(|shard| IMAGES * shard).collect();
    test_support::dataset_of(Encoding::Raw, &bounds)
}

fn elsewhere(
    folder: &TempDir,
    missing: Option<&'static str>,
    is_slow: bool,
) -> (Arc<Elsewhere>, Arc<Records>) {
    let folder = folder.path();
    let files = Elsewhere { folder: folder.into(), state: Mutex::default(), missing, is_slow };
    let files = Arc::new(files);
    let dataset = Dataset::open_with_files(folder, Arc::clone(&files) as Arc<dyn ShardFiles>).unwrap();
    (files, Arc::new(dataset.records(Split::Train).unwrap()))
}

fn config(order: Order) -> LoaderConfig {
    let chain = Chain::empty(Size::square(SIDE));
    LoaderConfig { order, batch_size: 7, workers: 2, seed: 5, epochs: 0..3, ..LoaderConfig::training(chain) }
}

fn windowed(shards: u32) -> Order {
    Order::Windowed(NonZeroU32::new(shards).unwrap())
}

/// The records of each batch.
fn deliver(records: &Arc<Records>, config: LoaderConfig) -> Vec<Vec<u32>> {
    let loader = Loader::start(Arc::clone(records), config).unwrap();
    loader.map(|batch| batch.unwrap().records().to_vec()).collect()
}

#[test]
fn shards_come_before_they_are_needed_and_go_when_their_window_is_over() {
    let folder = dataset();
    for (order, most) in [(windowed(3), 9), (windowed(1), 4), (Order::Sequential, 4)] {
        let (files, records) = elsewhere(&folder, None, false);
        let config = LoaderConfig { last_batch: LastBatch::Pad, readahead: 1, ..config(order) };
        let loaded = deliver(&records, config);
        assert_eq!(loaded.iter().map(Vec::len).sum::<usize>(), 3 * IMAGES * SHARDS, "{order:?}");
        let state = files.state.lock().unwrap();
        assert_eq!(state.surprises, Vec::<String>::new(), "{order:?}");
        assert_eq!(state.here, BTreeSet::new(), "{order:?}: they stay for ever");
        // Two windows, and those of batches that are still being made.
        assert!(state.most_here <= most, "{order:?}: {} shards at once", state.most_here);
        // A shard that ends an epoch and begins the next stays.
        let again = 3 * SHARDS - state.fetched;
        assert!(again <= 2 * 3, "{order:?}: mapped {} times", state.fetched);
    }
}

#[test]
fn batches_of_many_windows_need_two_at_a_time() {
    let bounds: Vec<usize> = (0..=50).map(|shard| 3 * shard).collect();
    let folder = test_support::dataset_of(Encoding::Raw, &bounds);
    for (order, most) in [(windowed(1), 2), (windowed(2), 4), (Order::Sequential, 2)] {
        let local = Arc::new(Dataset::open(folder.path()).unwrap().records(Split::Train).unwrap());
        for (batch_size, workers) in [(64, 4), (150, 8), (4, 3)] {
            let (files, records) = elsewhere(&folder, None, false);
            let config = LoaderConfig { batch_size, workers, last_batch: LastBatch::Pad, ..config(order) };
            assert_eq!(deliver(&records, config.clone()), deliver(&local, config), "{order:?}");
            let in_use = files.state.lock().unwrap().most_in_use;
            assert!(in_use <= most, "{order:?}, batches of {batch_size}: {in_use} shards at once");
        }
    }
}

#[test]
fn records_that_are_read_one_by_one_need_two_shards_at_a_time() {
    let folder = dataset();
    let (files, records) = elsewhere(&folder, None, false);
    for index in [3, 470, 40, 3, 4, 200, 470] {
        assert_eq!(records.record(index).unwrap().key(), format!("image-{index}"));
    }
    let state = files.state.lock().unwrap();
    assert_eq!((state.most_in_use, state.in_use.len(), state.fetched), (2, 1, 6));
}

#[test]
fn shards_of_the_shuffled_order_stay_from_epoch_to_epoch() {
    let folder = dataset();
    let (files, records) = elsewhere(&folder, None, false);
    deliver(&records, config(Order::Shuffled));
    let state = files.state.lock().unwrap();
    assert_eq!((state.fetched, state.most_here, state.here.len()), (SHARDS, SHARDS, 0));
}

#[test]
fn batches_are_the_same_wherever_the_shards_are() {
    let folder = dataset();
    for order in [Order::Shuffled, windowed(3), Order::Sequential] {
        let (_files, records) = elsewhere(&folder, None, false);
        let local = Arc::new(Dataset::open(folder.path()).unwrap().records(Split::Train).unwrap());
        assert_eq!(deliver(&records, config(order)), deliver(&local, config(order)), "{order:?}");
    }
}

#[test]
fn a_windowed_loader_resumes_and_shares_its_epochs_like_any_other() {
    let folder = dataset();
    let local = Arc::new(Dataset::open(folder.path()).unwrap().records(Split::Train).unwrap());
    let whole = deliver(&local, config(windowed(5)));
    let per_epoch = IMAGES * SHARDS / 7;
    for first in [1, 5, 67, 68, 140] {
        let (epoch, first_batch) = ((first / per_epoch) as u64, (first % per_epoch) as u64);
        let config = LoaderConfig { epochs: epoch..3, first_batch, ..config(windowed(5)) };
        assert_eq!(deliver(&local, config), whole[first..], "from batch {first}");
    }
    let of_rank =
        |rank| deliver(&local, LoaderConfig { batch_size: 7, rank, world: 3, ..config(windowed(5)) });
    let together = deliver(&local, LoaderConfig { batch_size: 21, ..config(windowed(5)) });
    let ranks: Vec<_> = (0..3).map(of_rank).collect();
    let joined: Vec<Vec<u32>> =
        (0..ranks[0].len()).map(|step| ranks.iter().flat_map(|rank| rank[step].clone()).collect()).collect();
    assert_eq!(joined, together);
}

#[test]
fn batches_before_a_shard_that_cannot_be_had_are_delivered() {
    let folder = dataset();
    let (_files, records) = elsewhere(&folder, Some("train-00005.arrow"), false);
    let config = LoaderConfig { workers: 1, ..config(Order::Sequential) };
    let mut loader = Loader::start(records, config).unwrap();
    // 28 batches are of the first five shards.
    for _ in 0..28 {
        loader.next().unwrap().unwrap();
    }
    let error = loader.next().unwrap().unwrap_err().to_string();
    assert_eq!(error, "train-00005.arrow: gone");
    assert!(loader.next().is_none());
}

#[test]
fn a_loader_that_waits_for_a_shard_ends_when_it_is_dropped() {
    let folder = dataset();
    let (files, records) = elsewhere(&folder, Some("train-00005.arrow"), true);
    let mut loader = Loader::start(records, config(Order::Sequential)).unwrap();
    while !files.state.lock().unwrap().is_waited_for {
        if loader.is_ready_within(Duration::from_millis(1)) {
            loader.next().unwrap().unwrap();
        }
    }
    drop(loader);
    assert_eq!(files.state.lock().unwrap().here, BTreeSet::new());
}
