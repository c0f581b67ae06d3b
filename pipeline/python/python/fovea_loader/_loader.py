"""The loader: batches of a split, epoch after epoch."""

from __future__ import annotations

import operator
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from . import _native, _ranks, _tensors, transforms
from ._dataset import Dataset

# Mean and standard deviation of R, G and B that ImageNet's networks are usually trained with, in units of 0..=255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

DTYPES = ("uint8", "float16", "float32")
STATE_VERSION = 1
MOST = 2**64 - 1


class Loader:
    """An iterable over the batches `(images, target)` of a split, in any number of processes that share it.

    `for images, target in loader` is one epoch; the next such loop is the next epoch, in another order. Images are
    `[N,3,H,W]`, of the type `dtype`, and targets `int64 [N]`: positions in the list of classes; or `uint8 [N,K]` or
    `float32 [N,K]`, if the labels of the data set are marks of classes or numbers (`Dataset.labels`). They are tensors of
    PyTorch if it is installed, else arrays of NumPy, in memory that the loader wrote to; a batch that is kept is never
    written over. Order and augmentation depend on seed, epoch and position alone: they are the same for any number of
    workers and ranks, and after a restart.

    path: a folder that `prepare` has made, the URL of one, or a `Dataset`.
    split: "train" or "val".
    cache, cache_limit, timeout: for a URL, as for a `Dataset`.
    window: shuffles images among this many shards at a time, so that only those and as many that follow are needed at
        once [default: all, or what a cache with a limit holds].
    batch_size: N, images of a batch of this process.
    transform: what happens to every image: a list of transforms, their names, or dicts `{"op": name, …}`.
    dtype: "uint8", pixels 0..=255 as they are; or "float16" or "float32", (pixel − mean) / std.
    mean, std: three numbers for R, G and B or one for all, in units of 0..=255, or "dataset" for those of the training
        images [default: 0 and 255, which gives 0..=1].
    channels_last: images lie in memory as [N,H,W,3]: tensors are of PyTorch's memory format channels_last, and arrays
        of NumPy have the shape [N,H,W,3].
    shuffle: whether epochs have a random order [default: for "train"].
    seed: determines order and augmentation, 0..2**64.
    rank, world: this process's number and how many share an epoch [default: those of torch.distributed if it is
        initialised, else those that torchrun, mpiexec or srun give, else 0 and 1].
    drop_last: whether images that do not fill a batch of all ranks are left out [default: where they are shuffled];
        otherwise the last batch of a rank is smaller, down to none.
    workers: threads that make batches [default: the cores that this process may use].
    device: where batches go, for instance "cuda"; they are copied beside the computation, one batch ahead. Needs PyTorch.
    pin_memory: whether batches are in page-locked memory of PyTorch [default: if `device` is a CUDA device].
    arrays: "torch" or "numpy" [default: torch if it is installed].
    sizes: pixels along a side of what the crop among the transforms leaves, by the epoch from which on it does:
        {0: 128, 10: 224}. The crop's own `size` is not used then. Order and draws stay those of a loader with one size.
    views: V, how often each image is transformed, with draws of its own. With more than one, images are [N,V,3,H,W]; the
        first view is that of a loader with one.
    mixup_alpha, cutmix_alpha: mix the images of a batch two by two, as torchvision's MixUp and CutMix; with both, one of
        them, drawn for each batch. Targets are mixed likewise, `float32 [N,K]`, for classes of one-hot vectors [default:
        0, not at all].
    on_bad_record: "stop" at an image that is damaged, or "skip" it and count it.
    buffers: batches that are made ahead.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Dataset,
        split: str | None = None,
        *,
        batch_size: int,
        transform: Iterable[transforms.Transform | str | Mapping[str, Any]] | transforms.Transform | str | None = None,
        dtype: Any = "uint8",
        mean: float | Iterable[float] | str | None = None,
        std: float | Iterable[float] | str | None = None,
        channels_last: bool = False,
        shuffle: bool | None = None,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
        drop_last: bool | None = None,
        workers: int | None = None,
        device: Any = None,
        pin_memory: bool | None = None,
        arrays: str | None = None,
        sizes: Mapping[int, int] | None = None,
        views: int = 1,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        on_bad_record: str = "stop",
        buffers: int = 2,
        window: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_limit: int | str | None = None,
        timeout: float | None = None,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            known = [known for known in type(self).__init__.__kwdefaults__] + ["batch_size"]
            raise TypeError(f"Loader has no parameter {name!r}{transforms.nearest(name, known)}")
        elsewhere = {"cache": cache, "cache_limit": cache_limit, "timeout": timeout}
        elsewhere = {name: value for name, value in elsewhere.items() if value is not None}
        if isinstance(path, Dataset):
            if elsewhere:
                raise ValueError(f"{' and '.join(elsewhere)}: give them to the Dataset")
            if split not in (None, path.split):
                raise ValueError(f"split={split!r}, but the data set given is of the split {path.split!r}")
            self.dataset = path
        else:
            self.dataset = Dataset(path, "train" if split is None else split, **elsewhere)
        self.shuffle = (self.dataset.split == "train") if shuffle is None else flag("shuffle", shuffle)
        if window is not None:
            window = whole("window", window, 1, 2**32 - 1)
            if self.shuffle:
                self.dataset._native.check_window(window)
        elif self.shuffle:
            window = self.dataset._native.window_that_fits()
        self.window: int | None = window
        self.drop_last = self.shuffle if drop_last is None else flag("drop_last", drop_last)
        self.batch_size = whole("batch_size", batch_size, 1, 2**31)
        seed = whole("seed", seed, 0, MOST)
        self.rank, self.world = self._ranks(rank, world)
        self.dtype = type_name(dtype)
        library = _tensors.library("torch" if device is not None and arrays is None else arrays)
        if library == "numpy" and (device is not None or pin_memory):
            raise ValueError("device and pin_memory need PyTorch: install torch, or leave them out")
        self._copies = None if device is None or str(device) == "cpu" else _tensors.Copies(device)
        if pin_memory is None:
            pin_memory = self._copies is not None and self._copies.device.type == "cuda"
        mean, std = self._normalization(mean, std)
        if not isinstance(on_bad_record, str):
            raise TypeError(f"on_bad_record={on_bad_record!r}, expected 'stop' or 'skip'")
        options = dict(
            batch_size=self.batch_size,
            dtype=self.dtype,
            mean=mean,
            std=std,
            channels_last=bool(channels_last),
            shuffle=self.shuffle,
            rank=self.rank,
            world=self.world,
            drop_last=self.drop_last,
            workers=None if workers is None else whole("workers", workers, 1, 1024),
            buffers=whole("buffers", buffers, 1, 2**16),
            on_bad_record=on_bad_record,
            views=whole("views", views, 1, 1024),
            window=window,
            mixup_alpha=real("mixup_alpha", mixup_alpha),
            cutmix_alpha=real("cutmix_alpha", cutmix_alpha),
        )
        try:
            by_epoch = transforms.by_epoch(transform, sizes)
            configs = [
                (epoch, _native.Config(self.dataset._native, transform=text, **options)) for epoch, text in by_epoch
            ]
        except ValueError as error:
            raise transforms.explain(error) from None
        # Each begins where the one before it ends.
        self._phases: list[Phase] = []
        for number, (first, config) in enumerate(configs):
            until = configs[number + 1][0] if number + 1 < len(configs) else None
            if library == "numpy":
                arrays: Any = _tensors.NumpyArrays(bool(channels_last), views)
            else:
                memory = bool(channels_last), bool(pin_memory)
                arrays = _tensors.TorchTensors(self.dtype, config.side(), *memory, views)
            allocate = arrays.pinned if library == "torch" and pin_memory else None
            self._phases.append(Phase(first, until, config, arrays, allocate))
        # Held by who takes a batch or changes the position.
        self._lock = threading.RLock()
        _alive.add(self)
        # Epoch, and images of all ranks that have been delivered in it; one value, which is read without the lock.
        # Epoch, sample and seed, which change together.
        self._position = 0, 0, seed
        # Counts changes of the position that end an iteration.
        self._turn = 0
        # Whether an epoch is being iterated over.
        self._is_iterating = False
        # Batches come from here; its next one is at `_stream_at`, or it is not known which.
        self._stream: _native.Stream | None = None
        self._stream_at: tuple[int, int] | None = None
        self._process = os.getpid()
        self._stream_phase = self._phases[0]

    def __len__(self) -> int:
        """Batches of an epoch of this process; as many for every rank."""
        return self._batches_after(0)

    def __iter__(self) -> Epoch:
        """The next epoch; or the rest of one, after `load_state_dict`."""
        return Epoch(self)

    @property
    def epoch(self) -> int:
        """The epoch of the next batch, or of the batch that was delivered last within an epoch."""
        return self._position[0]

    @property
    def seed(self) -> int:
        """The seed of the order and the augmentations, that of the last `load_state_dict` if there was one."""
        return self._position[2]

    def epochs(self, count: int) -> Iterator[Epoch]:
        """The epochs that are left of `count`, each an iterator over batches with its `number`.

        After `load_state_dict` the first is what was left of its epoch.
        """
        count = whole("count", count, 0, MOST)
        while True:
            epoch = Epoch(self)
            if epoch.number >= count:
                return
            yield epoch
            with self._lock:
                if not epoch.has_begun and self._turn == epoch._turn:
                    self._move_to(epoch.number + 1, 0)

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the next one. Not needed: epochs advance by themselves.

        After `load_state_dict` with a position in this very epoch it goes on from there.
        """
        epoch = whole("epoch", epoch, 0, MOST - 1)
        with self._lock:
            if self._is_iterating or epoch != self.epoch:
                self._move_to(epoch, 0)

    def state_dict(self) -> dict[str, Any]:
        """The position after the batch that was delivered last: the same on every rank, for any number of ranks."""
        epoch, sample, seed = self._position
        return {
            "version": STATE_VERSION,
            "epoch": epoch,
            "sample_in_epoch": sample,
            "seed": seed,
            "shuffle": self.shuffle,
            "window": self.window,
            "global_batch": self._global_batch(),
            "dataset": {
                "name": self.dataset.name,
                "split": self.dataset.split,
                "images": len(self.dataset),
                "digest": self.dataset.digest,
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on after the position of `state`, with its seed, also with another batch size or number of ranks."""
        if not isinstance(state, Mapping) or not {"version", "epoch", "sample_in_epoch", "seed", "dataset"} <= set(state):
            raise ValueError("this is no state of a Loader: it is what its state_dict() returns")
        if state["version"] != STATE_VERSION:
            raise ValueError(f"a state of version {state['version']!r}, expected {STATE_VERSION}")
        theirs = state["dataset"]
        if not isinstance(theirs, Mapping) or not {"name", "split", "images", "digest"} <= set(theirs):
            raise ValueError(f"the state has {theirs!r} as its data set: it is no state of a Loader")
        if theirs["digest"] != self.dataset.digest:
            raise ValueError(
                f"the state is of another data set: {theirs['name']!r}, {theirs['split']}, {theirs['images']} images, "
                f"digest {theirs['digest'][:12]}…; this loader reads {self.dataset.name!r}, {self.dataset.split}, "
                f"{len(self.dataset)} images, digest {self.dataset.digest[:12]}…"
            )
        if state.get("shuffle", self.shuffle) != self.shuffle:
            raise ValueError(f"the state is of a loader with shuffle={state['shuffle']}, this one has {self.shuffle}")
        if self.shuffle and state.get("window") != self.window:
            theirs = state.get("window")
            raise ValueError(f"the state is of a loader with window={theirs}, this one has {self.window}: give that one")
        sample = whole("sample_in_epoch", state["sample_in_epoch"], 0, len(self.dataset))
        epoch, seed = whole("epoch", state["epoch"], 0, MOST - 1), whole("seed", state["seed"], 0, MOST)
        with self._lock:
            if seed != self.seed:
                self._close()
            self._move_to(epoch, sample, seed=seed)

    def stats(self) -> dict[str, Any]:
        """Counts since the loader's threads were last started.

        images, skipped, also of batches that are made ahead; bytes_read, bytes_written; elapsed_s, images_per_s;
        workers_busy_s and workers_waiting_s over all workers, consumer_waiting_s: time that the program waited for a
        batch. held_buffers: batches that the program holds; extra_buffers: batches for which memory was made because it
        holds more than a loop needs.
        """
        return self._stream_phase.config.stats(self._stream)

    def close(self) -> None:
        """Stops the threads. Another iteration starts them again; one that waits in another thread ends with an error."""
        waited_for = self._stream
        if waited_for is not None:
            waited_for.end_wait()
        with self._lock:
            self._close()
            self._turn += 1

    def __repr__(self) -> str:
        batches = f"{len(self)} batches of {self.batch_size}, {self.dtype}"
        return f"<fovea_loader.Loader {self.dataset.path!r}, {self.dataset.split}: {batches}, rank {self.rank} of {self.world}>"

    def __reduce__(self) -> Any:
        raise TypeError("a Loader cannot be pickled, since it has threads: make it in the process that uses it")

    def _ranks(self, rank: int | None, world: int | None) -> tuple[int, int]:
        if (rank is None) != (world is None):
            raise ValueError(f"rank={rank!r}, world={world!r}: give both, or neither")
        if rank is None:
            return _ranks.rank_and_world()
        return _ranks.checked(whole("rank", rank, 0, MOST), whole("world", world, 1, MOST), "rank and world")

    def _normalization(self, mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if self.dtype == "uint8" and not (mean is None and std is None):
            raise ValueError("mean and std need dtype='float16' or 'float32'; with 'uint8' pixels stay as they are")
        mean = self.dataset.mean if isinstance(mean, str) and mean == "dataset" else of_pixels("mean", mean, 0.0)
        std = self.dataset.std if isinstance(std, str) and std == "dataset" else of_pixels("std", std, 255.0)
        if min(std) <= 0:
            raise ValueError(f"std={std}, expected numbers above 0")
        return mean, std

    def _global_batch(self) -> int:
        return self.batch_size * self.world

    def _batches_after(self, sample: int) -> int:
        images, batch = max(len(self.dataset) - sample, 0), self._global_batch()
        return images // batch if self.drop_last else -(-images // batch)

    def _move_to(self, epoch: int, sample: int, *, seed: int | None = None, iterates: bool = False) -> None:
        self._position = epoch, sample, self.seed if seed is None else seed
        self._is_iterating = iterates
        # Last, and first where it is read without the lock: what was read before a change is of another turn.
        self._turn += 1

    def _fetch(self, epoch: int, sample: int) -> tuple[Any, Any] | None:
        """The batch at a position, from the running threads if it is their next; `None` at the end of the epoch."""
        if os.getpid() != self._process:
            raise RuntimeError(
                f"this loader belongs to process {self._process} and cannot be used in its forked child {os.getpid()}: make "
                'the loader in the process that uses it, or start processes by "spawn"'
            )
        left = self._batches_after(sample)
        if left == 0:
            return None
        phase = [phase for phase in self._phases if phase.first_epoch <= epoch][-1]
        if self._stream is None or self._stream_at != (epoch, sample) or self._stream_phase is not phase:
            self._close()
            self._stream_phase = phase
            self._stream = phase.config.start(
                seed=self.seed, epoch=epoch, until=phase.until, first_sample=sample, allocate=phase.allocate
            )
        # A signal may raise when the batch has been taken, which is then made again.
        self._stream_at = None
        try:
            batch = self._stream.next()
        except (_native.DataError, MemoryError):
            self._close()
            raise
        if batch is None:
            raise RuntimeError("the loader was closed or its position was changed while it waited for a batch")
        self._stream_at = (epoch, sample + self._global_batch()) if left > 1 else (epoch + 1, 0)
        return phase.arrays.batch(*batch)

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class Phase(NamedTuple):
    """Epochs whose images have one size."""

    first_epoch: int
    until: int | None
    config: _native.Config
    arrays: Any
    # Makes page-locked memory, if that was asked for.
    allocate: Any


class Epoch:
    """An epoch, or what is left of one: an iterator over batches `(images, target)`."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._turn = loader._turn
        is_abandoned = loader._is_iterating
        # Its number.
        epoch, sample, _ = loader._position
        self.number, self._next_sample = (epoch + 1, 0) if is_abandoned else (epoch, sample)
        # Whether a batch was asked for.
        self.has_begun = False
        self._has_ended = False
        # A batch whose copy to the device has begun.
        self._ahead: tuple[Any, Any, Any] | None = None

    def __len__(self) -> int:
        """Batches that are left."""
        if self._has_ended:
            return 0
        return self._loader._batches_after(self._loader._position[1] if self.has_begun else self._next_sample)

    def __iter__(self) -> Epoch:
        return self

    def __next__(self) -> tuple[Any, Any]:
        """The next batch; threads that share the iterator get one each."""
        with self._loader._lock:
            return self._next()

    def _next(self) -> tuple[Any, Any]:
        loader = self._loader
        if self._has_ended:
            raise StopIteration
        if self._turn != loader._turn:
            raise RuntimeError("another iteration of this loader has begun since, or its position was changed")
        if not self.has_begun:
            self.has_begun = True
            loader._move_to(self.number, self._next_sample, iterates=True)
            self._turn = loader._turn
        try:
            batch = self._fetch() if loader._copies is None else self._copied(loader._copies)
        except BaseException:
            # What was taken and not delivered comes again.
            self._next_sample, self._ahead = loader._position[1], None
            raise
        if self._turn != loader._turn:
            raise RuntimeError("the position of this loader was changed while it waited for a batch")
        if batch is None:
            self._has_ended = True
            loader._move_to(self.number + 1, 0)
            raise StopIteration
        epoch, sample, seed = loader._position
        loader._position = epoch, min(sample + loader._global_batch(), len(loader.dataset)), seed
        return batch

    def _fetch(self) -> tuple[Any, Any] | None:
        batch = self._loader._fetch(self.number, self._next_sample)
        if batch is not None:
            self._next_sample += self._loader._global_batch()
        return batch

    def _copied(self, copies: _tensors.Copies) -> tuple[Any, Any] | None:
        ready = self._ahead or self._begin_copy(copies)
        self._ahead = None
        if ready is None:
            return None
        try:
            self._ahead = self._begin_copy(copies)
        except _native.DataError:
            # What is ready comes first; the next call meets the error again.
            pass
        return copies.end(*ready)

    def _begin_copy(self, copies: _tensors.Copies) -> tuple[Any, Any, Any] | None:
        batch = self._fetch()
        return None if batch is None else copies.begin(*batch)


# Loaders that there are.
_alive: weakref.WeakSet[Loader] = weakref.WeakSet()


def _renew_locks() -> None:
    """Makes new locks in a forked child, since threads that held the old ones are not there."""
    for loader in _alive:
        loader._lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_locks)


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number of a range."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r}, expected a whole number") from None
    if isinstance(value, bool) or not least <= number <= most:
        raise ValueError(f"{name}={value!r}, expected a whole number {least} to {most}")
    return number


def flag(name: str, value: Any) -> bool:
    """True or False, of Python or NumPy."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(f"{name}={value!r}, expected True or False")
    return bool(value)


def real(name: str, value: Any) -> float:
    """A number; which ones are allowed Rust says."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r}, expected a number") from None


def three(name: str, value: Any, default: float) -> tuple[float, ...]:
    """Numbers for R, G and B."""
    try:
        values = [default if value is None else value] * 3 if value is None or not is_list(value) else list(value)
        numbers = tuple(float(number) for number in values)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 3 or any(number != number or abs(number) == float("inf") for number in numbers):
        raise ValueError(f"{name}={value!r}, expected three numbers for R, G and B, one for all, or 'dataset'")
    return numbers


def of_pixels(name: str, value: Any, default: float) -> tuple[float, ...]:
    """A mean or standard deviation of R, G and B, in the units of pixels."""
    numbers = three(name, value, default)
    is_small = max(numbers) <= 1 if name == "mean" else max(numbers) < 1
    if is_small and any(numbers) and min(numbers) >= 0:
        raise ValueError(f"{name}={numbers}: mean and std are in units of 0..=255; multiply those for 0..=1 by 255")
    least, most = (0, 255) if name == "mean" else (0.01, 256)
    if not least <= min(numbers) <= max(numbers) <= most:
        raise ValueError(f"{name}={numbers}, expected numbers from {least} to {most}; pixels are from 0 to 255")
    return numbers


def is_list(value: Any) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, str)


def type_name(dtype: Any) -> str:
    """The name of a type: a string, or a type of PyTorch or NumPy."""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", None) or str(dtype)
    name = name.removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype={dtype!r}, expected one of {', '.join(DTYPES)}{transforms.nearest(name, DTYPES)}")
    return name
