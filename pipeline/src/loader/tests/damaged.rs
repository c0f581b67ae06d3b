//! Records that are damaged.

use super::*;

#[test]
fn a_damaged_record_stops_the_loader_with_its_name() {
    let (directory, records) = records(Encoding::Raw, 53);
    damage(&directory, 30);
    let errors: Vec<LoaderError> = Loader::start(records, LoaderConfig { workers: 3, ..one_epoch() })
        .unwrap()
        .filter_map(Result::err)
        .collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    let message = errors[0].to_string();
    assert!(message.contains("train-00001.arrow: record 4 (image-30): checksum"), "{message}");
}

#[test]
fn damaged_records_are_left_out_and_counted_when_asked() {
    const DAMAGED: [u32; 5] = [27, 28, 30, 33, 37];
    let (directory, records) = records(Encoding::Raw, 53);
    let ten_crop = LoaderConfig {
        batch_size: 20,
        workers: 2,
        ..LoaderConfig::evaluation(EvalCrops::TenCrop, Size::square(CROP))
    };
    let augmented = LoaderConfig { batch_size: 20, last_batch: LastBatch::Pad, ..one_epoch() };
    let configs = [augmented, ten_crop];
    let intact = configs.clone().map(|config| deliver(&records, config));
    drop(records);
    for record in DAMAGED {
        damage(&directory, record as usize);
    }
    for (config, intact) in configs.into_iter().zip(intact) {
        let records = Arc::new(Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap());
        let config = LoaderConfig { on_bad_record: OnBadRecord::Skip, ..config };
        let mut loader = Loader::start(records, config).unwrap();
        let stats = loader.stats();
        let mut skipped = 0;
        for (batch, intact) in loader.by_ref().zip(&intact) {
            let batch = batch.unwrap();
            skipped += batch.skipped();
            let is_damaged = |slot: &usize| DAMAGED.contains(&intact.records[*slot]);
            let kept: Vec<usize> = (0..intact.len).filter(|slot| !is_damaged(slot)).collect();
            assert_eq!((batch.len(), batch.skipped()), (kept.len(), intact.len - kept.len()));
            let views = batch.shape().views;
            let image_bytes = views * batch.shape().view_values();
            for (slot, &was) in kept.iter().enumerate() {
                assert_eq!(batch.records()[slot], intact.records[was]);
                assert_eq!(batch.positions()[slot], was as u32);
                assert_eq!(batch.labels()[slot], intact.labels[was]);
                let offsets = &intact.color_offsets[was * views..][..views];
                assert_eq!(&batch.color_offsets()[slot * views..][..views], offsets);
                let image = |bytes: &[u8], slot: usize| bytes[slot * image_bytes..][..image_bytes].to_vec();
                assert_eq!(image(batch.image_bytes(), slot), image(&intact.images, was));
            }
            assert!(batch.labels()[batch.len()..].iter().all(|&label| label == NO_LABEL));
        }
        let snapshot = stats.snapshot();
        assert_eq!((skipped, snapshot.skipped, snapshot.images), (5, 5, 48));
    }
}

#[test]
fn checksums_are_left_out_when_asked() {
    let (directory, records) = records(Encoding::Raw, 53);
    damage(&directory, 30);
    let config = LoaderConfig { checksums: Checksums::Never, last_batch: LastBatch::Pad, ..one_epoch() };
    assert_eq!(deliver(&records, config).iter().map(|batch| batch.len).sum::<usize>(), 53);
}

#[test]
fn a_record_that_does_not_decode_is_named() {
    let directory = test_support::dataset(Encoding::Jpeg, 53);
    let path = directory.path().join("train-00001.arrow");
    let mut writer = ShardWriter::create(directory.path(), test_support::header(Encoding::Jpeg, 1)).unwrap();
    for image in 26..39 {
        let bytes = if image == 30 { b"<html>".to_vec() } else { encoded(Encoding::Jpeg, image) };
        writer.append(&bytes, 0, &format!("image-{image}")).unwrap();
    }
    let finished = writer.finish().unwrap();
    assert_eq!(finished.path, path);
    let mut shards = Dataset::open(directory.path()).unwrap().info().train.clone();
    shards[1] = finished.info;
    test_support::write_dataset_json(directory.path(), Encoding::Jpeg, shards);
    let records = Arc::new(Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap());
    let config = LoaderConfig { last_batch: LastBatch::Pad, ..one_epoch() };
    let error = Loader::start(records, config).unwrap().find_map(Result::err).unwrap().to_string();
    assert!(error.contains("train-00001.arrow: record 4 (image-30) cannot be decoded"), "{error}");
}
