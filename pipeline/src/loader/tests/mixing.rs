//! Mixup and cutmix.

use super::*;

const BOTH: Mixing = Mixing { mixup_alpha: 0.8, cutmix_alpha: 1.0 };

/// What mixing is to make of batches of which `samples` are of all ranks.
fn mixed(mut batches: Vec<Seen>, seed: u64, samples: u64) -> Vec<Seen> {
    let (size, values) = (Size::square(CROP), 3 * (CROP * CROP) as usize);
    for batch in &mut batches {
        let mix = BOTH.draw(seed, batch.epoch, batch.index * samples, size).unwrap();
        batch.partners = (0..batch.len as u32).collect();
        batch.shares = vec![1.0; batch.len];
        for first in (0..batch.len - 1).step_by(2) {
            batch.partners.swap(first, first + 1);
            batch.shares[first..first + 2].fill(mix.share(size));
            let (left, right) = batch.images.split_at_mut((first + 1) * values);
            let (left, right) = (Slot::U8(&mut left[first * values..]), Slot::U8(&mut right[..values]));
            let [of_left, of_right] = &mut batch.color_offsets[first..first + 2] else { unreachable!() };
            mix.apply(Axes::Chw, size, (left, right), [of_left, of_right]);
        }
    }
    batches
}

#[test]
fn neighbours_are_mixed_with_each_other_in_batches_of_any_rank_from_any_place_on() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let plain = LoaderConfig { last_batch: LastBatch::Pad, epochs: 0..2, ..one_epoch() };
    let mixing = LoaderConfig { mixing: BOTH, ..plain.clone() };
    let expected = mixed(deliver(&records, plain), 5, 8);
    for workers in [1, 2, 7] {
        let found = deliver(&records, LoaderConfig { workers, ..mixing.clone() });
        assert!(found == expected, "{workers} workers");
    }
    // The last batch of an epoch has five samples.
    assert_eq!(expected[6].partners, [1, 0, 3, 2, 4]);
    assert_eq!(expected[6].shares[4], 1.0);
    let kinds = expected.iter().filter(|batch| {
        matches!(BOTH.draw(5, batch.epoch, 8 * batch.index, Size::square(CROP)), Some(Mix::Blend(_)))
    });
    assert!((1..expected.len()).contains(&kinds.count()), "batches of both kinds");
    let resumed = LoaderConfig { epochs: 1..2, first_batch: 3, ..mixing.clone() };
    assert_eq!(deliver(&records, resumed)[..], expected[10..]);
    // As after an interruption with batches of another size.
    let resumed = LoaderConfig { first_sample: 24, ..mixing.clone() };
    for (found, expected) in deliver(&records, resumed).iter().zip(&expected[3..7]) {
        assert_eq!((&found.images, &found.shares), (&expected.images, &expected.shares));
    }
    for rank in 0..2 {
        let config = LoaderConfig { batch_size: 4, world: 2, rank, ..mixing.clone() };
        for (found, expected) in deliver(&records, config).iter().zip(&expected) {
            let of_rank = (4 * rank).min(expected.len)..(4 * rank + 4).min(expected.len);
            let values = 3 * (CROP * CROP) as usize;
            assert_eq!(found.shares, expected.shares[of_rank.clone()]);
            assert!(
                found.images[..found.len * values]
                    == expected.images[of_rank.start * values..of_rank.end * values],
                "rank {rank}, batch {}",
                expected.index
            );
        }
    }
}

#[test]
fn mixed_batches_are_the_same_numbers_in_every_form() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let chain = Chain::from_configs(
        &[AugmentationConfig::new("random_crop", json!({ "size": CROP }))],
        Size::square(SIDE),
        None,
    );
    let views = Views::Augmented { chain: Arc::new(chain.unwrap()), count: 1 };
    let config = LoaderConfig { mixing: BOTH, views, epochs: 0..2, ..one_epoch() };
    let bytes = deliver(&records, config.clone());
    let unit = Normalization { mean: MeanValue::Channels([0.0; 3]), scale: [1.0; 3] };
    let pixels = (CROP * CROP) as usize;
    for axes in [Axes::Chw, Axes::Hwc] {
        for form in [OutputForm::F32(unit.clone()), OutputForm::F16(unit.clone())] {
            let config = LoaderConfig { form, axes, ..config.clone() };
            for (batch, bytes) in Loader::start(Arc::clone(&records), config).unwrap().zip(&bytes) {
                let batch = batch.unwrap();
                let values: Vec<f32> = match batch.images() {
                    Images::F32(values) => values.to_vec(),
                    Images::F16(values) => values.iter().map(|value| value.to_f32()).collect(),
                    Images::U8(_) => panic!("the form is not u8"),
                };
                for (place, &byte) in bytes.images.iter().enumerate() {
                    let (image, rest) = (place / (3 * pixels), place % (3 * pixels));
                    let place = match axes {
                        Axes::Chw => place,
                        Axes::Hwc => image * 3 * pixels + rest % pixels * 3 + rest / pixels,
                    };
                    // Rounding to whole numbers, and to f16.
                    let difference = (values[place] - f32::from(byte)).abs();
                    assert!(difference <= 0.6, "{axes:?}, {place}: {} against {byte}", values[place]);
                }
            }
        }
    }
}

#[test]
fn the_partner_of_a_damaged_record_stays_as_it_is() {
    let (directory, records) = records(Encoding::Raw, 53);
    let config = LoaderConfig { on_bad_record: OnBadRecord::Skip, mixing: BOTH, ..one_epoch() };
    let intact = deliver(&records, config.clone());
    let plain = deliver(&records, LoaderConfig { mixing: Mixing::default(), ..config.clone() });
    drop(records);
    damage(&directory, 30);
    let place = |batch: &Seen| batch.records.iter().position(|&record| record == 30);
    let (number, lost) =
        (0..).zip(&intact).find_map(|(number, batch)| Some((number, place(batch)?))).unwrap();
    let records = Arc::new(Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap());
    let found = &deliver(&records, config)[number];
    assert_eq!(found.len, 7);
    let values = 3 * (CROP * CROP) as usize;
    for before in (0..8).filter(|&before| before != lost) {
        let moved = |slot: usize| slot - usize::from(slot > lost);
        let (slot, is_alone) = (moved(before), before == lost ^ 1);
        let source = if is_alone { &plain[number] } else { &intact[number] };
        let partner = if is_alone { slot } else { moved(before ^ 1) };
        assert_eq!(found.partners[slot] as usize, partner, "slot {slot}, without {lost}");
        assert_eq!(found.shares[slot], if is_alone { 1.0 } else { intact[number].shares[before] });
        assert!(
            found.images[slot * values..][..values] == source.images[before * values..][..values],
            "slot {slot}, without {lost}"
        );
    }
}

#[test]
fn mixing_with_parameters_or_batches_that_cannot_be_is_refused() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let refused = |config: LoaderConfig| config.check(&records).unwrap_err().to_string();
    let mixing =
        |alpha| LoaderConfig { mixing: Mixing { mixup_alpha: 0.2, cutmix_alpha: alpha }, ..one_epoch() };
    assert!(refused(mixing(-1.0)).contains("cutmix_alpha = -1.0, expected 0 to 1000"));
    let odd = LoaderConfig { batch_size: 5, world: 2, ..mixing(0.0) };
    assert!(refused(odd.clone()).contains("a batch of 5 over 2 ranks, expected an even number"));
    LoaderConfig { world: 1, ..odd }.check(&records).unwrap();
}
