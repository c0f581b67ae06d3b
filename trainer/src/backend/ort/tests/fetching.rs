//! Images fetched during a step, with a fake driver whose GPU is the processor.

use fovea_runtime::testing::FakeDriver;

use super::*;

/// Makes `backend` fetch images over `driver`.
pub fn fetch_over(driver: &FakeDriver, backend: &mut OrtBackend) {
    backend.batch.images.fetch_over(driver.stream().unwrap(), &backend.train.session, Device::Cpu);
}

/// A backend that fetches images with a fake driver whose GPU is the processor, and four batches by number.
struct Fetching {
    driver: FakeDriver,
    backend: OrtBackend,
    batches: [Vec<u8>; 4],
}

impl Fetching {
    fn new() -> Self {
        let recipe = Recipe::load("demo", &[]).unwrap();
        let (driver, mut backend) = (FakeDriver::new(), backend(&recipe));
        fetch_over(&driver, &mut backend);
        let bytes = ROWS * 3 * backend.limits.px * backend.limits.px;
        let images = |salt| (0..bytes).map(|i| ((i + salt) * (7919 + salt) % 251) as u8).collect();
        Self { driver, backend, batches: [1, 2, 3, 4].map(images) }
    }

    /// A backend that has run each of its batches alone, and their losses.
    fn with_losses() -> (Self, [f64; 4]) {
        let mut fetching = Self::new();
        let losses = [0, 1, 2, 3].map(|at| fetching.first(at, None));
        (fetching, losses)
    }

    fn micro_batch(at: usize) -> MicroBatch {
        let id = RowsId { epoch: 0, batch: at as u64, first_row: 0 };
        MicroBatch { seed: 1, step: 0, id, gradient_scale: 0.25 }
    }

    fn rows(images: &[u8], rows: usize) -> Rows<'_> {
        Rows {
            images,
            color_offsets: &[[0.0; 3]; ROWS][..rows],
            targets: Targets::Classes(&[0, 3, 5, 9][..rows]),
        }
    }

    /// The loss of a whole batch, with the number of the next one if it is known; with the masks of the first
    /// micro-batch.
    fn compute(&mut self, at: usize, next: Option<usize>) -> Result<f64, BackendError> {
        let (rows, micro_batch) = (Self::rows(&self.batches[at], ROWS), Self::micro_batch(at));
        let metrics = match next {
            Some(next) => {
                let next = NextImages { id: Self::micro_batch(next).id, images: &self.batches[next] };
                self.backend.accumulate_and_fetch(rows, micro_batch, next)
            }
            None => self.backend.accumulate(rows, micro_batch),
        };
        metrics.map(|metrics| metrics.loss)
    }

    /// The loss of the first micro-batch of a step.
    fn first(&mut self, at: usize, next: Option<usize>) -> f64 {
        self.backend.begin_step();
        self.compute(at, next).unwrap()
    }
}

#[test]
fn images_are_fetched_during_a_step_and_used_in_the_next() {
    let (mut plain, mut ahead) = (Fetching::new(), Fetching::new());
    assert!(ahead.backend.fetches_ahead());
    let mut copies = Vec::new();
    for at in 0..5 {
        let next = Some((at + 1) % 4);
        let expected = plain.compute(at % 4, None).unwrap();
        assert_eq!(ahead.compute(at % 4, next).unwrap(), expected, "batch {at}");
        copies.push(ahead.driver.copies());
    }
    // The first run for the first micro-batch of a step and that for later ones fetch nothing: a GPU may
    // record them.
    assert_eq!((copies, plain.driver.copies()), (vec![0, 0, 1, 3, 5], 0));
    let gradients = |of: &mut Fetching| lock(&of.backend.flats.gradients).read(<[f32]>::to_vec).unwrap();
    assert!(gradients(&mut plain) == gradients(&mut ahead));
}

#[test]
fn images_fetched_for_another_batch_are_not_used() {
    let (mut f, losses) = Fetching::with_losses();

    // Another batch comes than was announced, and the announced one is then dropped.
    f.first(0, Some(1));
    assert_eq!((f.first(2, None), f.driver.copies()), (losses[2], 1));
    assert_eq!((f.first(1, None), f.driver.copies()), (losses[1], 1));

    // The gradients are reset, and the fetched images with them.
    f.first(0, Some(1));
    f.backend.reset_gradients();
    assert_eq!((f.first(1, None), f.driver.copies()), (losses[1], 2));

    // The memory of a fetched batch gets other images: it is another batch, whatever its address.
    f.first(0, Some(1));
    f.batches.swap(1, 3);
    let bytes: Vec<u8> = f.batches[1].clone();
    f.batches[3].copy_from_slice(&bytes);
    assert_eq!((f.first(3, None), f.driver.copies()), (losses[3], 3));

    // Images that do not fill the input are not fetched.
    let (mut f, _) = Fetching::with_losses();
    f.first(0, None);
    f.backend.begin_step();
    let next = NextImages { id: Fetching::micro_batch(1).id, images: &f.batches[1][1..] };
    f.backend
        .accumulate_and_fetch(Fetching::rows(&f.batches[0], ROWS), Fetching::micro_batch(0), next)
        .unwrap();
    assert_eq!(f.driver.copies(), 0);
    // A part of a fetched batch is not mistaken for the whole.
    f.first(0, Some(1));
    let half = &f.batches[1][..f.batches[1].len() / 2];
    f.backend.accumulate(Fetching::rows(half, ROWS / 2), Fetching::micro_batch(1)).unwrap();
    assert_eq!(f.driver.copies(), 1);
}

#[test]
fn update_and_evaluation_between_steps_keep_fetched_images() {
    let (mut f, losses) = Fetching::with_losses();
    f.first(0, Some(1));
    // An update that leaves the weights as they are.
    assert_eq!(f.backend.update(Update::new(0.0, 0)).unwrap(), Updated::Done);
    f.backend.evaluate(Fetching::rows(&f.batches[3], ROWS), &mut [0.0; ROWS * 10]).unwrap();
    assert_eq!((f.first(1, None), f.driver.copies()), (losses[1], 2));
}

#[test]
fn a_copy_that_fails_costs_speed_and_nothing_else() {
    for function in ["cuMemcpyHtoDAsync_v2", "cuStreamSynchronize", "cuMemcpyDtoDAsync_v2"] {
        let (mut f, losses) = Fetching::with_losses();
        f.first(0, Some(1));
        f.driver.fail(function);
        assert_eq!(f.first(1, Some(2)), losses[1], "{function}");
        assert!(!f.backend.fetches_ahead(), "{function}");
        // Only the images fetched before have arrived, unless that copy failed.
        let copies = f.driver.copies();
        assert_eq!(copies, 1 + i32::from(function == "cuMemcpyHtoDAsync_v2"), "{function}");
        // Images that were not fetched are not used, and nothing is fetched again.
        f.driver.fail("");
        for at in [2, 3] {
            assert_eq!(f.first(at, Some((at + 1) % 4)), losses[at], "{function}");
        }
        assert_eq!(f.driver.copies(), copies, "{function}");
    }
}

#[test]
fn a_run_that_fails_is_the_error_where_a_copy_fails_with_it() {
    let mut f = Fetching::new();
    f.first(0, None);
    f.driver.fail("cuStreamSynchronize");
    // The session for evaluations does not have the other inputs of a step.
    std::mem::swap(&mut f.backend.train.session, &mut f.backend.evaluate.session);
    f.backend.begin_step();
    let error = f.compute(0, Some(1)).unwrap_err();
    assert!(matches!(error, BackendError::Session { doing: "run a training step", .. }), "{error}");
    assert!(error.to_string().contains("offsets"), "{error}");
}
