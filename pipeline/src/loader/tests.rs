//! Tests of the loader: what it delivers, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::augment::{AugmentError, Augmentation, AugmentationConfig, Chain};
use crate::batch::{Images, Targets};
use crate::form::{Axes, MeanValue, Normalization, OutputForm, Slot};
use crate::geometry::Size;
use crate::memory::BatchMemory;
use crate::mixing::{Mix, Mixing};
use crate::order::Order;
use crate::random::SampleRng;
use crate::shard::ShardWriter;

use crate::eval_crops::EvalCrops;
use crate::test_support::{self, SIDE, encoded, label_of, labelled_dataset, pixels};
use crate::view::View;
use crate::{ColorStatistics, Dataset, Encoding, Label, LabelKind, Split};

mod damaged;
mod memory;
mod mixing;

const CROP: u32 = 16;

fn chain() -> Chain {
    let steps = [
        AugmentationConfig::new("random_crop", json!({ "size": CROP })),
        AugmentationConfig::new("horizontal_flip", json!({})),
        AugmentationConfig::new("pca_jitter", json!({})),
    ];
    Chain::from_configs(&steps, Size::square(SIDE), Some(&ColorStatistics::imagenet())).unwrap()
}

/// One epoch in batches of eight.
fn one_epoch() -> LoaderConfig {
    LoaderConfig { batch_size: 8, workers: 2, seed: 5, epochs: 0..1, ..LoaderConfig::training(chain()) }
}

fn records(encoding: Encoding, images: usize) -> (TempDir, Arc<Records>) {
    let directory = test_support::dataset(encoding, images);
    let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
    (directory, Arc::new(records))
}

/// Everything that a consumer can see of a batch.
#[derive(Debug, PartialEq)]
struct Seen {
    epoch: u64,
    index: u64,
    len: usize,
    records: Vec<u32>,
    labels: Vec<i64>,
    color_offsets: Vec<[f32; 3]>,
    images: Vec<u8>,
    partners: Vec<u32>,
    shares: Vec<f32>,
}

fn see(batch: Batch) -> Seen {
    assert_eq!(batch.is_empty(), matches!(batch.len(), 0));
    Seen {
        epoch: batch.epoch(),
        index: batch.index(),
        len: batch.len(),
        records: batch.records().to_vec(),
        labels: batch.labels().to_vec(),
        color_offsets: batch.color_offsets().to_vec(),
        images: batch.image_bytes().to_vec(),
        partners: batch.mixed().map_or_else(Vec::new, |mixed| mixed.partners.to_vec()),
        shares: batch.mixed().map_or_else(Vec::new, |mixed| mixed.shares.to_vec()),
    }
}

fn deliver(records: &Arc<Records>, config: LoaderConfig) -> Vec<Seen> {
    Loader::start(Arc::clone(records), config).unwrap().map(|batch| see(batch.unwrap())).collect()
}

/// Flips a bit in the image of a record of the second of three shards.
fn damage(directory: &TempDir, record: usize) {
    let path = directory.path().join("train-00001.arrow");
    let image = encoded(Encoding::Raw, record);
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.windows(image.len()).position(|window| window == image).unwrap();
    bytes[place] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn batches_are_the_same_bytes_for_one_two_and_seven_workers() {
    let normalization = Normalization { mean: MeanValue::Channels([120.0; 3]), scale: [0.02; 3] };
    for encoding in [Encoding::Raw, Encoding::Jpeg] {
        let (_directory, records) = records(encoding, 53);
        for form in
            [OutputForm::U8, OutputForm::F32(normalization.clone()), OutputForm::F16(normalization.clone())]
        {
            let config = LoaderConfig { epochs: 0..3, form, last_batch: LastBatch::Pad, ..one_epoch() };
            let one = deliver(&records, LoaderConfig { workers: 1, ..config.clone() });
            assert_eq!(one.len(), 3 * 7);
            for workers in [2, 7] {
                let many = deliver(&records, LoaderConfig { workers, ..config.clone() });
                assert!(one == many, "{encoding}, {}: {workers} workers", config.form.name());
            }
        }
    }
}

#[test]
fn views_of_a_sample_have_draws_of_their_own_and_the_first_is_that_of_one_view() {
    let (_directory, records) = records(Encoding::Raw, 20);
    let one = deliver(&records, one_epoch());
    let Views::Augmented { chain, .. } = one_epoch().views else { panic!("training augments") };
    let views = Views::Augmented { chain: Arc::clone(&chain), count: 3 };
    let config = LoaderConfig { views, ..one_epoch() };
    let three = deliver(&records, LoaderConfig { workers: 3, ..config.clone() });
    assert!(three == deliver(&records, LoaderConfig { workers: 1, ..config }));
    let bytes = 3 * chain.output_size().area();
    let mut different = 0;
    for (one, three) in one.iter().zip(&three) {
        assert_eq!((&one.records, &one.labels), (&three.records, &three.labels));
        assert_eq!(three.color_offsets.len(), 3 * one.color_offsets.len());
        for (first, views) in one.images.chunks(bytes).zip(three.images.chunks(3 * bytes)) {
            assert_eq!(first, &views[..bytes]);
            let [a, b, c] = [0, 1, 2].map(|view| &views[view * bytes..][..bytes]);
            different += usize::from(a != b && b != c && a != c);
        }
    }
    assert!(different > 10, "{different} of 20 samples have three different views");
    let views = Views::Augmented { chain, count: 0 };
    let error = Loader::start(records, LoaderConfig { views, ..one_epoch() }).unwrap_err().to_string();
    assert!(error.contains("0 views of a sample"), "{error}");
}

#[test]
fn a_sample_is_the_crop_of_its_record() {
    let (_directory, records) = records(Encoding::Raw, 20);
    let chain = Chain::from_configs(
        &[AugmentationConfig::new("random_crop", json!({ "size": SIDE }))],
        Size::square(SIDE),
        None,
    );
    let views = Views::Augmented { chain: Arc::new(chain.unwrap()), count: 1 };
    for batch in Loader::start(records, LoaderConfig { views, ..one_epoch() }).unwrap() {
        let batch = batch.unwrap();
        let Images::U8(images) = batch.images() else { panic!("the form is u8") };
        for (slot, image) in images.chunks(3 * (SIDE * SIDE) as usize).enumerate() {
            let record = batch.records()[slot] as usize;
            assert_eq!(image, pixels(record));
            assert_eq!(batch.labels()[slot], record as i64 % 10);
        }
    }
}

#[test]
fn every_sample_comes_exactly_once_an_epoch() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let config = LoaderConfig { epochs: 0..2, last_batch: LastBatch::Pad, ..one_epoch() };
    let batches = deliver(&records, config);
    for epoch in 0..2 {
        let mut seen: Vec<u32> =
            batches.iter().filter(|b| b.epoch == epoch).flat_map(|b| b.records.clone()).collect();
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..53), "epoch {epoch}: {seen:?}");
    }
    assert_ne!(batches[0].records, batches[7].records, "epochs differ in their order");
}

#[test]
fn the_last_batch_is_padded_or_dropped_as_asked() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let padded = deliver(&records, LoaderConfig { last_batch: LastBatch::Pad, ..one_epoch() });
    let last = &padded[6];
    assert_eq!((padded.len(), last.len), (7, 5));
    assert_eq!(last.labels[5..], [NO_LABEL; 3]);
    assert!(last.images[5 * 3 * (CROP * CROP) as usize..].iter().all(|&byte| byte == 0));
    assert!(last.color_offsets[5..].iter().all(|offset| *offset == [0.0; 3]));
    let dropped = deliver(&records, one_epoch());
    assert_eq!(dropped[..], padded[..6]);
    assert_eq!(deliver(&records, LoaderConfig { batch_size: 53, ..one_epoch() }).len(), 1);
}

#[test]
fn a_loader_that_starts_in_the_middle_delivers_what_would_have_followed() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let whole = deliver(&records, LoaderConfig { epochs: 0..4, ..one_epoch() });
    let rest = deliver(&records, LoaderConfig { epochs: 1..4, first_batch: 4, ..one_epoch() });
    assert_eq!(rest[..], whole[6 + 4..]);
    // Batches may be counted beyond the end of an epoch.
    let counted = deliver(&records, LoaderConfig { epochs: 0..4, first_batch: 6 + 4, ..one_epoch() });
    assert_eq!(counted, rest);
}

#[test]
fn a_loader_that_starts_at_a_sample_delivers_the_rest_of_the_epoch_in_batches_of_any_size() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let config = LoaderConfig { last_batch: LastBatch::Pad, ..one_epoch() };
    let one_by_one = deliver(&records, LoaderConfig { batch_size: 1, epochs: 0..2, ..config.clone() });
    for (first_sample, batch_size, world) in [(0, 8, 1), (16, 5, 3), (17, 4, 2), (52, 4, 2), (53, 8, 1)] {
        let ranks: Vec<Vec<Seen>> = (0..world)
            .map(|rank| {
                let config = LoaderConfig { batch_size, rank, world, first_sample, ..config.clone() };
                deliver(&records, LoaderConfig { epochs: 0..2, ..config })
            })
            .collect();
        let mut seen: Vec<(u64, u64, u32, [f32; 3])> = Vec::new();
        for step in 0..ranks[0].len() {
            for batch in ranks.iter().map(|batches| &batches[step]) {
                let samples = batch.records.iter().zip(&batch.color_offsets);
                seen.extend(samples.map(|(record, offset)| (batch.epoch, batch.index, *record, *offset)));
            }
        }
        // As if nothing had come before, but for the numbers of batches.
        let rest = &one_by_one[first_sample as usize..];
        assert_eq!(seen.len(), rest.len(), "from {first_sample}");
        for ((epoch, index, record, offset), expected) in seen.iter().zip(rest) {
            assert_eq!(
                (*epoch, *record, *offset),
                (expected.epoch, expected.records[0], expected.color_offsets[0])
            );
            let first = if *epoch == 0 { first_sample } else { 0 };
            assert_eq!(*index, (expected.index - first) / (batch_size * world) as u64);
        }
    }
    // Of the 37 that are left, 36 fill batches.
    let dropped = LoaderConfig { batch_size: 12, first_sample: 16, last_batch: LastBatch::Drop, ..config };
    assert_eq!(deliver(&records, dropped).len(), 3);
}

#[test]
fn memory_that_the_consumer_keeps_is_not_written_over() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let expected = deliver(&records, one_epoch());
    let mut kept = Vec::new();
    for batch in Loader::start(records, LoaderConfig { buffers: 1, ..one_epoch() }).unwrap() {
        let batch = batch.unwrap();
        let bytes = batch.image_bytes().len();
        let too_small = HostMemory.allocate(bytes - 1).unwrap();
        if kept.len() == 5 {
            let unfit = batch.into_memory(too_small).unwrap_err();
            assert_eq!((unfit.given, unfit.expected), (bytes - 1, bytes));
            continue;
        }
        kept.push(batch.into_memory(HostMemory.allocate(bytes).unwrap()).unwrap());
    }
    assert_eq!(kept.len(), 5);
    for (memory, expected) in kept.iter().zip(&expected) {
        assert!(memory.bytes()[..expected.images.len()] == expected.images, "batch {}", expected.index);
    }
}

#[test]
fn waiting_for_a_while_says_whether_a_batch_the_end_or_an_error_is_there() {
    let (directory, records) = records(Encoding::Raw, 53);
    let config = LoaderConfig { hold_timeout: Duration::from_secs(3600), buffers: 1, ..one_epoch() };
    let mut loader = Loader::start(Arc::clone(&records), config.clone()).unwrap();
    let long = Duration::from_secs(3600);
    assert!(loader.is_ready_within(long));
    let held = loader.next().unwrap().unwrap();
    // The only buffer is here.
    assert!(!loader.is_ready_within(Duration::from_millis(1)));
    drop(held);
    assert_eq!(std::iter::from_fn(|| loader.is_ready_within(long).then(|| loader.next())?).count(), 5);
    assert!(
        loader.is_ready_within(long) && loader.next().is_none() && loader.is_ready_within(Duration::ZERO)
    );
    drop(records);
    damage(&directory, 30);
    let records = Arc::new(Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap());
    let mut loader = Loader::start(records, config).unwrap();
    while loader.is_ready_within(long) && loader.next().unwrap().is_ok() {}
    assert!(loader.is_ready_within(Duration::ZERO));
}

#[test]
fn ranks_together_make_the_steps_of_one_rank_with_larger_batches() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let config = LoaderConfig { last_batch: LastBatch::Pad, ..one_epoch() };
    let whole = deliver(&records, LoaderConfig { batch_size: 12, ..config.clone() });
    let ranks: Vec<Vec<Seen>> = (0..3)
        .map(|rank| deliver(&records, LoaderConfig { batch_size: 4, world: 3, rank, ..config.clone() }))
        .collect();
    assert_eq!(whole.len(), 5);
    for (step, batch) in whole.iter().enumerate() {
        let parts: Vec<&Seen> = ranks.iter().map(|batches| &batches[step]).collect();
        let image_bytes = 3 * (CROP * CROP) as usize;
        let records: Vec<u32> = parts.iter().flat_map(|part| part.records.clone()).collect();
        let images: Vec<u8> =
            parts.iter().flat_map(|part| part.images[..part.len * image_bytes].to_vec()).collect();
        assert_eq!(records, batch.records);
        assert_eq!(images, batch.images[..batch.len * image_bytes]);
    }
    // 53 = 4·12 + 4 + 1: the last step has nothing for the third rank, which still takes part in it.
    assert_eq!(ranks.iter().map(|batches| batches[4].len).collect::<Vec<_>>(), [4, 1, 0]);
}

#[test]
fn evaluation_shows_every_image_once_in_order_in_all_views() {
    let (_directory, records) = records(Encoding::Raw, 13);
    let config =
        LoaderConfig { batch_size: 4, ..LoaderConfig::evaluation(EvalCrops::TenCrop, Size::square(CROP)) };
    let loader = Loader::start(records, config).unwrap();
    assert_eq!((loader.batches_per_epoch(), loader.shape().views), (4, 10));
    let mut count = 0;
    for batch in loader {
        let batch = batch.unwrap();
        let values = batch.shape().view_values();
        let Images::U8(images) = batch.images() else { panic!("the form is u8") };
        for (slot, &record) in batch.records().iter().enumerate() {
            assert_eq!(record, count);
            count += 1;
            let upper_left = &images[slot * 10 * values..][..CROP as usize];
            assert_eq!(upper_left, &pixels(record as usize)[..CROP as usize]);
            let mirrored: Vec<u8> =
                images[(slot * 10 + 5) * values..][..CROP as usize].iter().rev().copied().collect();
            assert_eq!(upper_left, mirrored);
        }
    }
    assert_eq!(count, 13);
}

#[test]
fn batches_have_labels_of_every_kind_with_padding_and_without_damaged_samples() {
    for kind in [LabelKind::MultiHot, LabelKind::Values] {
        let directory = labelled_dataset(kind, Encoding::Raw, 13);
        let records = |directory: &TempDir| {
            Arc::new(Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap())
        };
        let config = LoaderConfig {
            batch_size: 5,
            last_batch: LastBatch::Pad,
            on_bad_record: OnBadRecord::Skip,
            ..one_epoch()
        };
        for damaged in [None, Some(8)] {
            if let Some(record) = damaged {
                damage(&directory, record);
            }
            let mut seen = 0;
            for batch in Loader::start(records(&directory), config.clone()).unwrap() {
                let batch = batch.unwrap();
                let zeros: Vec<u8> = vec![0; 10 * (5 - batch.len())];
                match batch.targets() {
                    Targets::MultiHot(marks) => {
                        for (record, marks) in batch.records().iter().zip(marks.chunks(10)) {
                            assert_eq!(Label::MultiHot(marks), label_of(kind, *record as usize).get(0));
                        }
                        assert_eq!(marks[10 * batch.len()..], zeros);
                    }
                    Targets::Values(values) => {
                        for (record, values) in batch.records().iter().zip(values.chunks(10)) {
                            assert_eq!(Label::Values(values), label_of(kind, *record as usize).get(0));
                        }
                        assert!(values[10 * batch.len()..].iter().all(|&value| value == 0.0));
                        assert_eq!(values.len(), 50);
                    }
                    Targets::Classes(_) => panic!("there are no classes"),
                }
                seen += batch.len();
            }
            assert_eq!(seen, 13 - usize::from(damaged.is_some()));
        }
    }
}

#[test]
fn what_happens_to_a_sample_depends_on_seed_epoch_and_position() {
    let (_directory, records) = records(Encoding::Raw, 16);
    let config = LoaderConfig { order: Order::Sequential, ..one_epoch() };
    let offsets = |config: LoaderConfig| -> Vec<Vec<[f32; 3]>> {
        deliver(&records, config).into_iter().map(|batch| batch.color_offsets).collect()
    };
    let mut all = offsets(LoaderConfig { epochs: 0..2, ..config.clone() });
    all.extend(offsets(LoaderConfig { seed: 6, ..config }));
    let mut draws: Vec<[u32; 3]> = all.into_iter().flatten().map(|offset| offset.map(f32::to_bits)).collect();
    draws.sort_unstable();
    draws.dedup();
    assert_eq!(draws.len(), 3 * 16, "samples have draws in common");
}

/// Panics at one position of the epoch.
#[derive(Debug)]
struct Panicking;

impl Augmentation for Panicking {
    fn output_size(&self, input: Size) -> Result<Size, AugmentError> {
        Ok(input)
    }

    fn apply(&self, view: &mut View<'_>, _rng: &mut SampleRng) {
        let mut pixels = vec![0; 3 * view.size().area()];
        view.write_u8(&mut pixels);
        assert!(pixels != test_support::pixels(7), "image 7 is too beautiful");
    }
}

#[test]
fn a_panic_in_a_worker_becomes_one_error() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let chain = Chain::new(vec![Box::new(Panicking)], Size::square(SIDE)).unwrap();
    let views = Views::Augmented { chain: Arc::new(chain), count: 1 };
    let loader =
        Loader::start(records, LoaderConfig { views, workers: 4, last_batch: LastBatch::Pad, ..one_epoch() })
            .unwrap();
    let errors: Vec<LoaderError> = loader.filter_map(Result::err).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].to_string().contains("image 7 is too beautiful"), "{}", errors[0]);
}

#[test]
fn a_consumer_that_goes_away_ends_the_workers() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let config = LoaderConfig { epochs: 0..u64::MAX, ..one_epoch() };
    let mut loader = Loader::start(Arc::clone(&records), config).unwrap();
    let kept = loader.next().unwrap().unwrap();
    // Dropping joins the threads; this test would hang if they did not end.
    drop(loader);
    assert_eq!(kept.len(), 8);
    drop(kept);
    assert_eq!(Arc::strong_count(&records), 1, "no worker is left that holds the records");
}

#[test]
fn a_consumer_that_waits_while_it_holds_every_buffer_gets_an_error() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let config = LoaderConfig { buffers: 2, hold_timeout: Duration::from_millis(20), ..one_epoch() };
    let held: Vec<_> = Loader::start(records, config).unwrap().collect();
    assert_eq!(held.len(), 3);
    let error = held[2].as_ref().unwrap_err().to_string();
    assert!(error.contains("all 2 buffers") && error.contains("set `buffers` higher"), "{error}");
}

/// Takes its time.
#[derive(Debug)]
struct Slow;

impl Augmentation for Slow {
    fn output_size(&self, input: Size) -> Result<Size, AugmentError> {
        Ok(input)
    }

    fn apply(&self, _view: &mut View<'_>, _rng: &mut SampleRng) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_slow_loader_is_no_error_even_after_batches_were_held() {
    let (_directory, records) = records(Encoding::Raw, 24);
    let chain = Chain::new(vec![Box::new(Slow)], Size::square(SIDE)).unwrap();
    let config = LoaderConfig {
        views: Views::Augmented { chain: Arc::new(chain), count: 1 },
        workers: 1,
        buffers: 2,
        hold_timeout: Duration::from_millis(1),
        ..one_epoch()
    };
    assert_eq!(deliver(&records, config).len(), 3);
}

#[test]
fn a_batch_that_is_ready_is_taken_without_waiting_and_in_order() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let expected = deliver(&records, one_epoch());
    let chain = Chain::new(vec![Box::new(Slow)], Size::square(SIDE)).unwrap();
    let slow = LoaderConfig {
        views: Views::Augmented { chain: Arc::new(chain), count: 1 },
        workers: 1,
        ..one_epoch()
    };
    assert!(Loader::start(Arc::clone(&records), slow).unwrap().next_if_ready().is_none());

    let mut loader = Loader::start(records, one_epoch()).unwrap();
    let mut seen = vec![see(loader.next().unwrap().unwrap())];
    while seen.len() < expected.len() {
        // Every other batch is waited for.
        let batch = if seen.len().is_multiple_of(2) { loader.next() } else { loader.next_if_ready() };
        seen.extend(batch.map(|batch| see(batch.unwrap())));
    }
    assert_eq!(seen, expected);
    assert!(loader.next_if_ready().is_none() && loader.next().is_none());
}

#[test]
fn a_batch_that_was_taken_without_waiting_is_held_too() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let config = LoaderConfig { buffers: 1, hold_timeout: Duration::from_millis(20), ..one_epoch() };
    let mut loader = Loader::start(records, config).unwrap();
    let _held = loop {
        if let Some(batch) = loader.next_if_ready() {
            break batch.unwrap();
        }
    };
    assert!(matches!(loader.next(), Some(Err(LoaderError::AllBuffersHeld { buffers: 1, .. }))));
}

#[test]
fn an_impossible_configuration_is_refused() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let small = Chain::empty(Size::square(64));
    let crop = Size::square(64);
    let mean = ndarray::Array3::zeros((3, 20, 20));
    let normalization = Normalization { mean: MeanValue::Image(mean), scale: [1.0; 3] };
    for (config, expected) in [
        (LoaderConfig { batch_size: 0, ..one_epoch() }, "batch_size = 0"),
        (LoaderConfig { workers: 0, ..one_epoch() }, "workers = 0"),
        (LoaderConfig { buffers: 0, ..one_epoch() }, "buffers = 0"),
        (LoaderConfig { rank: 2, world: 2, ..one_epoch() }, "rank 2 of 2 ranks"),
        (LoaderConfig { batch_size: 64, ..one_epoch() }, "a batch of 64 over 1 ranks is larger than"),
        (
            LoaderConfig { batch_size: 32, world: 2, ..one_epoch() },
            "a batch of 32 over 2 ranks is larger than",
        ),
        (
            LoaderConfig { views: Views::Augmented { chain: Arc::new(small), count: 1 }, ..one_epoch() },
            "64x64",
        ),
        (LoaderConfig::evaluation(EvalCrops::Center, crop), "cuts 64x64 pixels out of an image of 20x20"),
        (
            LoaderConfig { form: OutputForm::F32(normalization), ..one_epoch() },
            "[3, 20, 20], expected [3, 16, 16]",
        ),
    ] {
        let error = Loader::start(Arc::clone(&records), config).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_counters_add_up() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let normalization = Normalization { mean: MeanValue::Channels([0.0; 3]), scale: [1.0; 3] };
    for (views, form, view_bytes) in [
        (one_epoch().views, OutputForm::U8, 1),
        (one_epoch().views, OutputForm::F16(normalization), 2),
        (Views::Test { views: EvalCrops::TenCrop, crop: Size::square(CROP) }, OutputForm::U8, 10),
    ] {
        let config = LoaderConfig { views, form, last_batch: LastBatch::Pad, ..one_epoch() };
        let mut loader = Loader::start(Arc::clone(&records), config).unwrap();
        let stats = loader.stats();
        assert_eq!(loader.by_ref().count(), 7);
        let snapshot = stats.snapshot();
        assert_eq!((snapshot.images, snapshot.skipped), (53, 0));
        assert_eq!(snapshot.bytes_read, 53 * u64::from(3 * SIDE * SIDE));
        assert_eq!(snapshot.bytes_written, 53 * view_bytes * u64::from(3 * CROP * CROP));
        assert!(snapshot.workers_busy > Duration::ZERO && snapshot.consumer_waiting > Duration::ZERO);
        assert!(snapshot.workers_waiting > Duration::ZERO);
    }
}
