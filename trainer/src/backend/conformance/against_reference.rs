//! ONNX Runtime against the reference, with every optimizer, loss and kind of targets.

use super::*;

#[test]
fn onnx_runtime_follows_the_reference_for_twenty_steps() {
    follows_the_reference(ort);
}

#[test]
fn kernels_of_our_own_on_a_gpu_follow_the_reference_for_twenty_steps() {
    if testing::device() == Device::Cpu {
        eprintln!("skipped: the tests' device is the CPU");
        return;
    }
    follows_the_reference(|setup| {
        let options = OrtOptions { own_operators: true, ..OrtOptions::new(testing::device()) };
        Box::new(
            OrtBackend::new(testing::runtime(), setup, options).unwrap_or_else(|error| panic!("{error}")),
        )
    });
}

fn follows_the_reference(backend: Make) {
    let (mut ort, mut reference) = (make(backend, &[]), make(reference, &[]));
    let mut worst_loss = 0.0f64;
    for at in 0..20 {
        let batch = Batch::new(at as usize);
        let sums =
            [&mut ort, &mut reference].map(|backend| backend.accumulate(batch.rows(), whole(at)).unwrap());
        worst_loss = worst_loss.max((sums[0].loss / sums[1].loss - 1.0).abs());
        assert_eq!((sums[0].top1, sums[0].top5), (sums[1].top1, sums[1].top5), "step {at}");
        let pairs = ort.extremes().unwrap().into_iter().zip(reference.extremes().unwrap());
        for (ort, reference) in pairs {
            let difference = (ort.gradient / reference.gradient - 1.0).abs();
            assert!(difference < 1e-3, "step {at}: {ort:?} against {reference:?}");
        }
        for backend in [&mut ort, &mut reference] {
            assert_eq!(backend.update(UPDATE).unwrap(), Updated::Done);
        }
    }
    let (worst, place) = difference(&state(&mut *reference), &state(&mut *ort));
    println!("losses: largest relative difference {worst_loss:.1e}; state: {worst:.1e} at {place}");
    assert!(worst_loss < 1e-5);
    assert!(worst < 1e-3, "{worst:.1e} at {place}");
}

#[test]
fn onnx_runtime_follows_the_reference_with_every_optimizer() {
    for optimizer in OPTIMIZERS {
        let set = [optimizer, "training.ema=0.9", "training.clip_norm=0.5", "training.label_smoothing=0.2"];
        let (mut ort, mut reference) = (make(ort, &set), make(reference, &set));
        for at in 0..10 {
            for backend in [&mut ort, &mut reference] {
                let _ = backend.accumulate(Batch::new(at as usize).rows(), whole(at)).unwrap();
                assert_eq!(backend.update(Update { step: at, ..UPDATE }).unwrap(), Updated::Done);
            }
        }
        let (worst, place) = difference(&state(&mut *reference), &state(&mut *ort));
        println!("{optimizer}: {worst:.1e} at {place}");
        assert!(worst < 1e-3, "{optimizer}: {worst:.1e} at {place}");
    }
}

/// The batch of `salt`, whose rows have second labels with the lesser shares.
fn with_mixed<R>(salt: usize, then: impl FnOnce(Rows<'_>) -> R) -> R {
    let (batch, second) = (Batch::new(salt), Batch::new(salt + 51));
    let shares: Vec<f32> = (0..ROWS).map(|row| [0.5, 0.625, 1.0, 0.9][row % 4]).collect();
    let targets = Targets::Mixed { labels: &batch.labels, others: &second.labels, shares: &shares };
    then(Rows { targets, ..batch.rows() })
}

#[test]
fn onnx_runtime_follows_the_reference_with_mixed_images() {
    let set = ["augmentation.mixup_alpha=0.8", "training.label_smoothing=0.1"];
    let (mut computed, mut expected) = (make(ort, &set), make(reference, &set));
    let mut plain = make(reference, &["training.label_smoothing=0.1"]);
    for at in 0..10 {
        let mut sums = [&mut computed, &mut expected].map(|backend| {
            // Rows of one class are rows whose share of it is 1.
            let sums = match at {
                3 => backend.accumulate(Batch::new(3).rows(), whole(at)),
                _ => with_mixed(at as usize, |rows| backend.accumulate(rows, whole(at))),
            };
            let _ = backend.update(Update { step: at, ..UPDATE }).unwrap();
            sums.unwrap()
        });
        assert!((sums[0].loss / sums[1].loss - 1.0).abs() < 1e-5, "step {at}: {sums:?}");
        sums[0].loss = sums[1].loss;
        assert_eq!(sums[0], sums[1], "step {at}");
        if at == 0 {
            let of_first = plain.accumulate(Batch::new(0).rows(), whole(0)).unwrap();
            assert_eq!((of_first.top1, of_first.top5), (sums[0].top1, sums[0].top5));
            assert!((of_first.loss - sums[0].loss).abs() > 1e-3);
        }
    }
    let (worst, place) = difference(&state(&mut *expected), &state(&mut *computed));
    println!("{worst:.1e} at {place}");
    assert!(worst < 1e-3, "{worst:.1e} at {place}");
    let mut plain = make(ort, &[]);
    let error = with_mixed(0, |rows| plain.accumulate(rows, whole(0))).unwrap_err().to_string();
    assert!(error.contains("other labels: 6, expected none: the recipe mixes no images"), "{error}");
}

const OTHER_LOSSES: [&str; 2] =
    ["training.loss=\"binary_cross_entropy\"", "training.loss=\"mean_squared_error\""];

/// Marks of classes, or numbers, of the rows of a batch.
fn values(salt: usize, loss: &str) -> Vec<f32> {
    let noise = |i: usize| ((i * 7919 + salt * 104_729) % 1009) as f32 / 1009.0;
    let value = |i| if loss.contains("binary") { noise(i).round() } else { 4.0 * noise(i) - 2.0 };
    (0..ROWS * CLASSES).map(value).collect()
}

#[test]
fn onnx_runtime_follows_the_reference_with_losses_of_several_labels_and_of_numbers() {
    for loss in OTHER_LOSSES {
        let (mut computed, mut expected) = (make(ort, &[loss]), make(reference, &[loss]));
        let close = |a: &BatchMetrics, b: &BatchMetrics| {
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-4 * (1.0 + b.abs());
            a.rows == b.rows
                && a.top1 == b.top1
                && near(a.loss, b.loss)
                && near(a.errors[0], b.errors[0])
                && near(a.errors[1], b.errors[1])
        };
        for at in 0..10 {
            let (batch, values) = (Batch::new(at as usize), values(at as usize, loss));
            let rows =
                Rows { targets: Targets::Values { values: &values, outputs: CLASSES }, ..batch.rows() };
            let sums = [&mut computed, &mut expected].map(|backend| {
                let sums = backend.accumulate(rows, whole(at)).unwrap();
                let _ = backend.update(Update { step: at, ..UPDATE }).unwrap();
                sums
            });
            assert!(close(&sums[0], &sums[1]), "{loss}, step {at}: {sums:?}");
            assert!(sums[0].errors[1] > 0.0, "{sums:?}");
        }
        let (worst, place) = difference(&state(&mut *expected), &state(&mut *computed));
        println!("{loss}: {worst:.1e} at {place}");
        assert!(worst < 1e-3, "{loss}: {worst:.1e} at {place}");
        let (batch, values) = (Batch::new(3), values(3, loss));
        let rows = Rows { targets: Targets::Values { values: &values, outputs: CLASSES }, ..batch.rows() };
        let mut outputs = [vec![0.0; ROWS * CLASSES], vec![0.0; ROWS * CLASSES]];
        let sums = [(&mut computed, 0), (&mut expected, 1)]
            .map(|(backend, at)| backend.evaluate(rows, &mut outputs[at]).unwrap());
        assert!(close(&sums[0], &sums[1]), "{loss}: {sums:?}");
        let [found, expected] = outputs;
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-3, "{loss}: {found} against {expected}");
            assert!(!loss.contains("binary") || (0.0..=1.0).contains(found));
        }
    }
}

#[test]
fn targets_that_are_not_those_of_the_loss_are_refused() {
    for backend in [ort as Make, reference, null] {
        let batch = Batch::new(1);
        let values = vec![0.5; ROWS * CLASSES];
        let mut strange = values.clone();
        strange[9] = f32::INFINITY;
        let rows = |values, outputs| Rows { targets: Targets::Values { values, outputs }, ..batch.rows() };
        let mut of_values = make(backend, &OTHER_LOSSES[1..]);
        for (rows, message) in [
            (batch.rows(), "targets: classes, expected those of the loss `mean_squared_error`"),
            (rows(&values[..ROWS * 5], 5), "values of targets: 30 of 5 each, expected 7 of each row"),
            (rows(&strange, CLASSES), "target: inf, expected a finite number"),
            (rows(&values[..0], CLASSES), "rows of a batch: 0"),
        ] {
            let error = of_values.accumulate(rows, whole(0)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let error = make(backend, &[]).accumulate(rows(&values, CLASSES), whole(0)).unwrap_err().to_string();
        assert!(error.contains("targets: values, expected those of the loss `cross_entropy`"), "{error}");
    }
}

#[test]
fn second_labels_and_shares_that_do_not_fit_are_refused() {
    for backend in [ort as Make, reference, null] {
        let mut backend = make(backend, &["augmentation.cutmix_alpha=1"]);
        let batch = Batch::new(1);
        let labels = &batch.labels[..];
        let wrong: Vec<i64> = (0..ROWS as i64).map(|row| 2 * row).collect();
        let over: Vec<f32> = (0..ROWS).map(|row| if row == 2 { 1.5 } else { 0.5 }).collect();
        for (others, shares, message) in [
            (&labels[1..], &[0.5; ROWS][..], "other labels: 5 and 6 shares, expected 6"),
            (&labels[1..], &[0.5; ROWS - 1], "other labels: 5 and 5 shares, expected 6"),
            (&wrong, &[0.5; ROWS], "label: 8 in row 4, expected 0 to 6"),
            (labels, &over, "share: 1.5 in row 2, expected 0 to 1"),
            (labels, &[f32::NAN; ROWS], "share: NaN in row 0"),
        ] {
            let rows = Rows { targets: Targets::Mixed { labels, others, shares }, ..batch.rows() };
            let error = backend.accumulate(rows, whole(0)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
