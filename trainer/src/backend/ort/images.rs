//! The images of a batch, and the copy of the next batch's images to the GPU while a step runs.

use fovea_runtime::Device;
use fovea_runtime::copies::CopyStream;
use ort::session::Session;
use ort::value::Tensor;

use super::OrtOptions;
use super::feed::Feed;
use super::flat::Binding;
use super::session::device_allocator;
use crate::backend::{BackendError, NextImages, RowsId, Setup};
use crate::names;

/// The input of images, `u8 [N,3,H,W]`.
pub(super) struct ImageInput {
    feed: Feed<u8>,
    ahead: Option<Ahead>,
}

impl ImageInput {
    /// The input of `session`, for images of the setup's network; on a GPU with room for those of the next
    /// batch, unless the options or the driver rule it out.
    pub fn new(session: &Session, options: &OrtOptions, setup: &Setup<'_>) -> Result<Self, BackendError> {
        let px = setup.network.input_px;
        let shape = [setup.batch_rows, 3, px, px];
        let feed = Feed::new(session, options.device, names::IMAGES, &shape)?;
        let ahead = match options.device {
            Device::Cuda(id) if options.copy_ahead => match CopyStream::open(id) {
                Ok(stream) => Some(Ahead::new(stream, session, options.device, feed.len())?),
                Err(reason) => {
                    tracing::warn!(reason, NOT_OVERLAPPED);
                    None
                }
            },
            Device::Cuda(_) | Device::Cpu => None,
        };
        Ok(Self { feed, ahead })
    }

    /// Binds it.
    pub fn bind(&self, binding: &mut Binding) -> Result<(), BackendError> {
        self.feed.bind(binding)
    }

    /// Whether [`run_and_fetch`](Self::run_and_fetch) fetches.
    pub fn fetches_ahead(&self) -> bool {
        self.ahead.as_ref().is_some_and(|ahead| !ahead.has_failed)
    }

    /// Runs a session with these images, see [`Feed::run_with`].
    pub fn run_with(
        &mut self,
        images: &[u8],
        binding: &mut Binding,
        session: &mut Session,
        doing: &'static str,
    ) -> Result<(), BackendError> {
        self.feed.run_with(images, binding, session, doing)
    }

    /// Runs a session with the images of `id`, which may have been fetched; meanwhile fetches `next` if it
    /// fills the input. After a failed copy, images are copied before the run.
    pub fn run_and_fetch(
        &mut self,
        id: RowsId,
        images: &[u8],
        next: Option<NextImages<'_>>,
        binding: &mut Binding,
        session: &mut Session,
        doing: &'static str,
    ) -> Result<(), BackendError> {
        let Some(ahead) = self.ahead.as_mut().filter(|ahead| !ahead.has_failed) else {
            return self.feed.run_with(images, binding, session, doing);
        };
        let fills_input = images.len() >= self.feed.len();
        if !(fills_input && ahead.put(id, &mut self.feed)) {
            ahead.fetched = None;
            self.feed.copy_from(images)?;
        }
        // The first run allocates, and may record a CUDA graph, during which no other work should reach the
        // GPU.
        let may_fetch = binding.has_run() && !ahead.has_failed;
        let next =
            next.filter(|_| may_fetch).and_then(|next| Some((next.id, next.images.get(..self.feed.len())?)));
        let run = match next {
            Some((id, images)) => ahead.fetch_during(id, images, || binding.run(session)),
            None => binding.run(session),
        };
        run.map_err(BackendError::session(doing))
    }

    /// Fetches over `stream`, to memory on the device of `session`.
    #[cfg(all(test, target_os = "linux"))]
    pub fn fetch_over(&mut self, stream: CopyStream, session: &Session, device: Device) {
        self.ahead = Some(Ahead::new(stream, session, device, self.feed.len()).unwrap());
    }

    /// The host's side of this input, into which images were copied.
    #[cfg(test)]
    pub fn copied(&self) -> &[u8] {
        self.feed.copied()
    }

    /// Drops the fetched images.
    pub fn forget(&mut self) {
        if let Some(ahead) = &mut self.ahead {
            ahead.fetched = None;
        }
    }
}

/// The consequence of a failed copy.
const NOT_OVERLAPPED: &str = "batches are copied to the GPU between steps, not during them";

/// The images of the next batch.
struct Ahead {
    stream: CopyStream,
    /// Their place on the GPU, `u8 [N·3·H·W]`. Sessions are bound to other memory, as a CUDA graph keeps its
    /// addresses. It is allocated before a graph is recorded, as no allocation is allowed during the
    /// recording.
    spare: Tensor<u8>,
    /// The id of the fetched images.
    fetched: Option<RowsId>,
    /// Whether a copy has failed. It may still be running, so its target is kept.
    has_failed: bool,
}

impl Ahead {
    fn new(stream: CopyStream, session: &Session, device: Device, len: usize) -> Result<Self, BackendError> {
        let spare = Tensor::new(&device_allocator(session, device)?, [len])
            .map_err(BackendError::session("allocate an input"))?;
        Ok(Self { stream, spare, fetched: None, has_failed: false })
    }

    /// Moves the images of `id` to `feed` if they were fetched; returns whether they were.
    fn put(&mut self, id: RowsId, feed: &mut Feed<u8>) -> bool {
        let len = self.len();
        assert_eq!(feed.len(), len, "images are fetched for an input as large");
        if self.fetched.take() != Some(id) {
            return false;
        }
        let (from, to) = (address(&mut self.spare), address(feed.overwritten()));
        // SAFETY: both tensors have as many bytes, on the GPU of the stream, which has no other work: every
        // run and every copy is waited for.
        match unsafe { self.stream.copy_within(from, to, len) } {
            Ok(()) => true,
            Err(reason) => {
                self.fail(&reason);
                false
            }
        }
    }

    /// Fetches `next`, which fills the input, while `run` runs.
    fn fetch_during<R>(&mut self, id: RowsId, next: &[u8], run: impl FnOnce() -> R) -> R {
        assert_eq!(next.len(), self.len(), "images fill the input");
        let to = address(&mut self.spare);
        // SAFETY: the tensor has as many bytes, and no session uses it.
        let (result, copied) = unsafe { self.stream.copy_during(next, to, run) };
        match copied {
            Ok(()) => self.fetched = Some(id),
            Err(reason) => self.fail(&reason),
        }
        result
    }

    fn fail(&mut self, reason: &str) {
        tracing::warn!(reason, NOT_OVERLAPPED);
        self.has_failed = true;
    }

    /// Number of bytes.
    fn len(&self) -> usize {
        self.spare.shape().num_elements()
    }
}

fn address(tensor: &mut Tensor<u8>) -> u64 {
    tensor.data_ptr_mut().addr() as u64
}
