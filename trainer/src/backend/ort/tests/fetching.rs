//! Images fetched beside a step, over a driver whose GPU is the processor.

use fovea_runtime::testing::FakeDriver;

use super::*;

/// Has `backend` fetch images over `driver`.
pub fn fetch_over(driver: &FakeDriver, backend: &mut OrtBackend) {
    backend.batch.images.fetch_over(driver.stream().unwrap(), &backend.train.session, Device::Cpu);
}

/// A backend that fetches images over a driver whose GPU is the processor.
struct Fetching {
    driver: FakeDriver,
    backend: OrtBackend,
}

impl Fetching {
    fn new() -> Self {
        let recipe = Recipe::load("demo", &[]).unwrap();
        let (driver, mut backend) = (FakeDriver::new(), backend(&recipe));
        fetch_over(&driver, &mut backend);
        Self { driver, backend }
    }

    /// One that has run each of its batches, told nothing, and their losses.
    fn with_losses() -> (Self, [Vec<u8>; 4], [f64; 4]) {
        let mut fetching = Self::new();
        let batches = fetching.batches();
        let losses = batches.each_ref().map(|images| fetching.first(images, None));
        (fetching, batches, losses)
    }

    /// Images of whole batches.
    fn batches(&self) -> [Vec<u8>; 4] {
        let bytes = ROWS * self.backend.limits.row_bytes;
        [1, 2, 3, 4].map(|salt| (0..bytes).map(|i| ((i + salt) * (7919 + salt) % 251) as u8).collect())
    }

    fn rows(images: &[u8], rows: usize) -> Rows<'_> {
        Rows { images, color_offsets: &[[0.0; 3]; ROWS][..rows], labels: &[0, 3, 5, 9][..rows] }
    }

    /// The loss of a whole batch, told what comes next; with the masks of part 0, whichever part of the step it is.
    fn pass(&mut self, images: &[u8], next: Option<&[u8]>) -> Result<f64, BackendError> {
        let (rows, pass) =
            (Self::rows(images, ROWS), Pass { seed: 1, step: 0, part: 0, gradient_scale: 0.25 });
        let sums = match next {
            Some(next) => self.backend.accumulate_and_fetch(rows, pass, next),
            None => self.backend.accumulate(rows, pass),
        };
        sums.map(|sums| sums.loss)
    }

    /// That of the first batch of a step.
    fn first(&mut self, images: &[u8], next: Option<&[u8]>) -> f64 {
        self.backend.begin_step();
        self.pass(images, next).unwrap()
    }
}

#[test]
fn images_are_fetched_beside_a_step_and_used_in_the_next() {
    let (mut plain, mut ahead) = (Fetching::new(), Fetching::new());
    assert!(ahead.backend.fetches_ahead());
    let batches = plain.batches();
    let mut copies = Vec::new();
    for at in 0..5 {
        let (images, next) = (&batches[at % 4], &batches[(at + 1) % 4]);
        assert_eq!(ahead.pass(images, Some(next)).unwrap(), plain.pass(images, None).unwrap(), "batch {at}");
        copies.push(ahead.driver.copies());
    }
    // The first run for the first batch of a step and that for further ones fetch nothing: a GPU may record them.
    assert_eq!((copies, plain.driver.copies()), (vec![0, 0, 1, 3, 5], 0));
    let gradients = |of: &mut Fetching| lock(&of.backend.gradients).read(<[f32]>::to_vec).unwrap();
    assert!(gradients(&mut plain) == gradients(&mut ahead));
}

#[test]
fn images_that_were_fetched_in_vain_are_not_used() {
    let (mut f, batches, losses) = Fetching::with_losses();

    // Another batch comes than was told; and what was told is not remembered beyond it.
    f.first(&batches[0], Some(&batches[1]));
    assert_eq!((f.first(&batches[2], None), f.driver.copies()), (losses[2], 1));
    assert_eq!((f.first(&batches[1], None), f.driver.copies()), (losses[1], 1));

    // The step is given up, and the memory gets other images.
    let mut next = batches[1].clone();
    f.first(&batches[0], Some(&next));
    f.backend.discard();
    next.copy_from_slice(&batches[3]);
    assert_eq!((f.first(&next, None), f.driver.copies()), (losses[3], 2));

    // Images that do not fill the input are not fetched; and of a batch that was, a part is not taken for the whole.
    f.first(&batches[0], Some(&batches[1][1..]));
    assert_eq!(f.driver.copies(), 2);
    f.first(&batches[0], Some(&batches[1]));
    let part = Fetching::rows(&batches[1][..batches[1].len() / 2], ROWS / 2);
    let pass = Pass { seed: 1, step: 0, part: 0, gradient_scale: 0.25 };
    f.backend.accumulate(part, pass).unwrap();
    assert_eq!(f.driver.copies(), 3);
}

#[test]
fn update_and_evaluation_between_steps_leave_what_was_fetched() {
    let (mut f, batches, losses) = Fetching::with_losses();
    f.first(&batches[0], Some(&batches[1]));
    // An update that leaves the weights as they are.
    let still =
        Update { learning_rate: 0.0, momentum: 0.0, weight_decay: 0.0, bias_lr_mult: 1.0, bias_decay: false };
    assert_eq!(f.backend.update(still).unwrap(), Updated::Done);
    f.backend.evaluate(Fetching::rows(&batches[3], ROWS), &mut [0.0; ROWS * 10]).unwrap();
    assert_eq!((f.first(&batches[1], None), f.driver.copies()), (losses[1], 2));
}

#[test]
fn a_copy_that_fails_costs_speed_and_nothing_else() {
    for function in ["cuMemcpyHtoDAsync_v2", "cuStreamSynchronize", "cuMemcpyDtoDAsync_v2"] {
        let (mut f, batches, losses) = Fetching::with_losses();
        f.first(&batches[0], Some(&batches[1]));
        f.driver.fail(function);
        assert_eq!(f.first(&batches[1], Some(&batches[2])), losses[1], "{function}");
        assert!(!f.backend.fetches_ahead(), "{function}");
        // Only what was fetched before has come, where that was not what failed.
        let copies = f.driver.copies();
        assert_eq!(copies, 1 + i32::from(function == "cuMemcpyHtoDAsync_v2"), "{function}");
        // What was not fetched is not used, and nothing is fetched again.
        f.driver.fail("");
        for at in [2, 3] {
            assert_eq!(f.first(&batches[at], Some(&batches[(at + 1) % 4])), losses[at], "{function}");
        }
        assert_eq!(f.driver.copies(), copies, "{function}");
    }
}

#[test]
fn a_run_that_fails_is_told_where_a_copy_fails_with_it() {
    let mut f = Fetching::new();
    let batches = f.batches();
    f.first(&batches[0], None);
    f.driver.fail("cuStreamSynchronize");
    // The session for evaluations does not know the other inputs of a step.
    std::mem::swap(&mut f.backend.train.session, &mut f.backend.evaluate.session);
    f.backend.begin_step();
    let error = f.pass(&batches[0], Some(&batches[1])).unwrap_err();
    assert!(matches!(error, BackendError::Session { doing: "run a training step", .. }), "{error}");
    assert!(error.to_string().contains("offsets"), "{error}");
}
