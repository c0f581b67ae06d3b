//! The images of a batch, and those of the next one on their way to the GPU while a step runs.

use std::ptr;

use fovea_runtime::Device;
use fovea_runtime::copies::CopyStream;
use ort::session::Session;
use ort::value::Tensor;

use super::OrtOptions;
use super::feed::Feed;
use super::flat::Binding;
use super::session::device_allocator;
use crate::backend::{BackendError, Setup};
use crate::models::names;

/// The input of images, `u8 [N,3,H,W]`.
pub(super) struct Images {
    feed: Feed<u8>,
    ahead: Option<Ahead>,
}

impl Images {
    /// The input of `session`; on a GPU with room for the images of the next batch, unless the options or the driver are against it.
    pub fn new(session: &Session, options: &OrtOptions, setup: &Setup<'_>) -> Result<Self, BackendError> {
        let px = setup.recipe.input.crop_px;
        let shape = [setup.batch_rows, 3, px, px];
        let feed = Feed::new(session, options.device, names::IMAGES, &shape)?;
        let ahead = match options.device {
            Device::Cuda(id) if options.copy_ahead => match CopyStream::open(id) {
                Ok(stream) => Some(Ahead::new(stream, session, options.device, feed.len())?),
                Err(reason) => {
                    tracing::warn!(reason, NOT_BESIDE);
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

    /// Runs a session with these images, which may have been fetched; and has `next` fetched meanwhile, if there are enough of
    /// them. What the driver refuses to copy is copied as without it, and nothing is fetched from then on.
    pub fn run_and_fetch(
        &mut self,
        images: &[u8],
        next: Option<&[u8]>,
        binding: &mut Binding,
        session: &mut Session,
        doing: &'static str,
    ) -> Result<(), BackendError> {
        let Some(ahead) = self.ahead.as_mut().filter(|ahead| !ahead.has_failed) else {
            return self.feed.run_with(images, binding, session, doing);
        };
        if !ahead.put(images, &mut self.feed) {
            self.feed.copy_from(images)?;
        }
        // The first run allocates, and may record a CUDA graph, during which others had better leave the GPU alone.
        let may_fetch = binding.has_run() && !ahead.has_failed;
        let run = match next.and_then(|next| next.get(..self.feed.len())).filter(|_| may_fetch) {
            Some(next) => ahead.fetch_during(next, || binding.run(session)),
            None => binding.run(session),
        };
        run.map_err(BackendError::session(doing))
    }

    /// Fetches over `stream`, to memory that the device of `session` has.
    #[cfg(all(test, target_os = "linux"))]
    pub fn fetch_over(&mut self, stream: CopyStream, session: &Session, device: Device) {
        self.ahead = Some(Ahead::new(stream, session, device, self.feed.len()).unwrap());
    }

    /// What was copied to the host's side of this input.
    #[cfg(test)]
    pub fn copied(&self) -> &[u8] {
        self.feed.copied()
    }

    /// Forgets what was fetched.
    pub fn forget(&mut self) {
        if let Some(ahead) = &mut self.ahead {
            ahead.fetched = ptr::null();
        }
    }
}

/// What it means when the driver refuses.
const NOT_BESIDE: &str = "batches are copied to the GPU between steps, not beside them";

/// The images of the next batch.
struct Ahead {
    stream: CopyStream,
    /// Where they are on the GPU, `u8 [N·3·H·W]`. Sessions are bound to other memory, as a CUDA graph keeps its addresses; and it
    /// is there before one is recorded, during which nothing may be allocated.
    spare: Tensor<u8>,
    /// Where they were fetched from; null if there are none.
    fetched: *const u8,
    /// Whether a copy has failed. It may be under way still, and so its target stays.
    has_failed: bool,
}

impl Ahead {
    fn new(stream: CopyStream, session: &Session, device: Device, len: usize) -> Result<Self, BackendError> {
        let spare = Tensor::new(&device_allocator(session, device)?, [len])
            .map_err(BackendError::session("allocate an input"))?;
        Ok(Self { stream, spare, fetched: ptr::null(), has_failed: false })
    }

    /// Moves images to `feed` if they are those that were fetched; tells whether it did.
    fn put(&mut self, images: &[u8], feed: &mut Feed<u8>) -> bool {
        let len = self.len();
        assert_eq!(feed.len(), len, "images are fetched for an input as large");
        if std::mem::replace(&mut self.fetched, ptr::null()) != images.as_ptr() || images.len() < len {
            return false;
        }
        let (from, to) = (address(&mut self.spare), address(feed.overwritten()));
        // SAFETY: both tensors have as many bytes, on the GPU of the stream, which has nothing else to do: every run and every
        // copy is waited for.
        match unsafe { self.stream.copy_within(from, to, len) } {
            Ok(()) => true,
            Err(reason) => {
                self.fail(&reason);
                false
            }
        }
    }

    /// Has `next` fetched, as many images as an input has, while `run` goes on.
    fn fetch_during<R>(&mut self, next: &[u8], run: impl FnOnce() -> R) -> R {
        assert_eq!(next.len(), self.len(), "images fill the input");
        let to = address(&mut self.spare);
        // SAFETY: the tensor has as many bytes, and no session knows it.
        let (result, copied) = unsafe { self.stream.copy_during(next, to, run) };
        match copied {
            Ok(()) => self.fetched = next.as_ptr(),
            Err(reason) => self.fail(&reason),
        }
        result
    }

    fn fail(&mut self, reason: &str) {
        tracing::warn!(reason, NOT_BESIDE);
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
