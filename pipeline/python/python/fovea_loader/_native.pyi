"""The part in Rust."""

import os
from collections.abc import Callable, Sequence
from typing import Any, final

__version__: str

class DataError(RuntimeError):
    """Shards, photos or archives that cannot be used: missing, damaged, or not what is expected."""

@final
class Array:
    """An array in memory of the loader, for `numpy.from_dlpack` and `torch.from_dlpack`."""

    @property
    def shape(self) -> list[int]: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any: ...

@final
class Dataset:
    def __new__(
        cls,
        path: str | os.PathLike[str],
        split: str,
        *,
        cache: str | os.PathLike[str] | None = None,
        cache_limit: int | None = None,
        timeout: float = 120.0,
    ) -> Dataset: ...
    def __len__(self) -> int: ...
    def window_that_fits(self) -> int | None: ...
    def check_window(self, window: int) -> None: ...
    def info(self) -> str: ...
    def digest(self) -> str: ...
    def image(self, index: int) -> Array: ...
    def label(self, index: int) -> int | Array: ...
    def key(self, index: int) -> str: ...

@final
class Config:
    def __new__(
        cls,
        dataset: Dataset,
        *,
        batch_size: int,
        transform: str,
        dtype: str,
        mean: Sequence[float],
        std: Sequence[float],
        channels_last: bool,
        shuffle: bool,
        rank: int,
        world: int,
        drop_last: bool,
        workers: int | None,
        buffers: int,
        on_bad_record: str,
        views: int,
        window: int | None,
        mixup_alpha: float,
        cutmix_alpha: float,
    ) -> Config: ...
    def side(self) -> int: ...
    def start(
        self,
        *,
        seed: int,
        epoch: int,
        first_sample: int,
        until: int | None = None,
        allocate: Callable[[int], Any] | None = None,
    ) -> Stream: ...
    def stats(self, stream: Stream | None = None) -> dict[str, Any]: ...

@final
class Stream:
    def next(self) -> tuple[Any, Array] | None: ...
    def end_wait(self) -> None: ...
    def close(self) -> None: ...

def prepare(
    *,
    train: str | os.PathLike[str] | None,
    val: str | os.PathLike[str] | None,
    devkit: str | os.PathLike[str] | None,
    labels: str | os.PathLike[str] | None,
    embedded_sample: bool,
    out: str | os.PathLike[str],
    work: str | os.PathLike[str] | None,
    layout: str,
    orientation: str,
    resize: str,
    filter: str,
    size: int,
    seed: int,
    encoding: str,
    quality: int,
    shard_bytes: int,
    limit_per_class: int | None,
    workers: int | None,
    update: bool,
    progress: Callable[[int, int, int], Any] | None,
) -> str: ...
def verify(
    path: str | os.PathLike[str],
    *,
    workers: int | None,
    cache: str | os.PathLike[str] | None,
    cache_limit: int | None,
    timeout: float,
) -> str: ...
def inspect(
    path: str | os.PathLike[str],
    *,
    cache: str | os.PathLike[str] | None,
    cache_limit: int | None,
    timeout: float,
) -> str: ...
def report_bus_errors() -> None:
    """From now on, a page of a shard that cannot be read ends the process with a line that names the file."""

def bytes_of(text: str) -> int: ...
def is_url(path: str | os.PathLike[str]) -> bool: ...
def transform_names() -> list[str]: ...
