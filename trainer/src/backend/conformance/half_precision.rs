//! Half precision, and its scale of the loss.

use super::*;

#[test]
fn half_precision_stays_close_to_single_precision() {
    let (mut half, mut single) = (make(ort_f16, &[]), make(ort, &[]));
    let mut worst_loss = 0.0f64;
    for at in 0..20 {
        let batch = Batch::new(at as usize);
        let losses = [&mut half, &mut single].map(|backend| step(&mut **backend, &batch, at).loss);
        worst_loss = worst_loss.max((losses[0] / losses[1] - 1.0).abs());
    }
    let (mut half, single) = (state(&mut *half), state(&mut *single));
    assert_eq!(half.pop(), Some(("loss_scale".to_owned(), vec![65536.0, 20.0])));
    let (worst, place) = difference(&single, &half);
    println!("losses: largest relative difference {worst_loss:.1e}; state: {worst:.1e} at {place}");
    assert!(worst_loss < 5e-3, "{worst_loss:.1e}");
    // Half precision is in use: single precision agrees to 1e-6.
    assert!((1e-4..0.1).contains(&worst), "{worst:.1e} at {place}");
}

/// The loss scale of a backend in half precision, and the updates since its last change.
fn loss_scale(backend: &mut dyn TrainingBackend) -> Vec<f32> {
    state(backend).pop().filter(|(name, _)| name == "loss_scale").expect("half precision").1
}

#[test]
fn gradients_that_overflow_halve_the_scale_and_leave_the_weights() {
    let mut backend = make(ort_f16, &[]);
    step(&mut *backend, &Batch::new(0), 0);
    let before = state(&mut *backend);
    let too_large = MicroBatch { gradient_scale: 100.0, ..whole(1) };
    let loss = backend.accumulate(Batch::new(1).rows(), too_large).unwrap().loss;
    assert!(loss.is_finite());
    assert_eq!(backend.update(UPDATE).unwrap(), Updated::Overflow { loss_scale: 32768.0 });
    let mut after = state(&mut *backend);
    assert_eq!(after.pop().unwrap().1, [32768.0, 0.0]);
    assert_eq!(after, before[..before.len() - 1]);
    // The whole step is skipped, whichever micro-batch overflowed; the next step is normal.
    backend.accumulate(Batch::new(1).part(0..2), too_large).unwrap();
    backend.accumulate(Batch::new(1).part(2..4), part(1, 2)).unwrap();
    assert_eq!(backend.update(UPDATE).unwrap(), Updated::Overflow { loss_scale: 16384.0 });
    assert_eq!(state(&mut *backend)[..after.len()], after);
    step(&mut *backend, &Batch::new(1), 1);
    assert_eq!(loss_scale(&mut *backend), [16384.0, 1.0]);
    assert_ne!(state(&mut *backend)[..after.len()], after);
}

#[test]
fn gradients_that_overflow_with_every_scale_are_an_error() {
    let mut backend = make(ort_f16, &[]);
    let not_a_number = MicroBatch { gradient_scale: f32::NAN, ..whole(0) };
    let error = (0..100).find_map(|_| {
        backend.accumulate(Batch::new(0).rows(), not_a_number).unwrap();
        backend.update(UPDATE).err()
    });
    assert!(matches!(error, Some(BackendError::Gradients)), "{error:?}");
}

#[test]
fn the_loss_scale_is_part_of_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = make(ort_f16, &[]);
    first.accumulate(Batch::new(0).rows(), MicroBatch { gradient_scale: 100.0, ..whole(0) }).unwrap();
    let _ = first.update(UPDATE).unwrap();
    step(&mut *first, &Batch::new(0), 0);
    let saved_state = saved(&mut *first, &folder.path().join("half"));
    let mut second = make(ort_f16, &[]);
    second.import(saved_state.clone()).unwrap();
    assert_eq!(loss_scale(&mut *second), [32768.0, 1.0]);
    // A state can move between precisions: the scale is then dropped, or starts anew.
    let mut single = make(ort, &[]);
    single.import(saved_state).unwrap();
    let without = saved(&mut *single, &folder.path().join("single"));
    second.import(without).unwrap();
    assert_eq!(loss_scale(&mut *second), [65536.0, 0.0]);
}
