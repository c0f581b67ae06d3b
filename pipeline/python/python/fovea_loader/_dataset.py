"""A split of a prepared data set, image by image."""

from __future__ import annotations

import functools
import json
import operator
import os
from collections.abc import Iterator
from typing import Any

import numpy

from . import _native


def cache_options(cache: str | os.PathLike[str] | None, cache_limit: int | str | None, timeout: float) -> dict[str, Any]:
    """Where what comes from a URL is kept, with the limit in bytes."""
    if isinstance(cache_limit, str):
        cache_limit = _native.bytes_of(cache_limit)
    return {"cache": cache, "cache_limit": cache_limit, "timeout": timeout}


class Dataset:
    """The images of a split of a prepared data set, in the order of its shards.

    `dataset[i]` is `(image, label)`: pixels `uint8 [3,H,W]` as a new NumPy array, and an int; or as the label an array
    `uint8 [K]` or `float32 [K]`, see `labels`. It serves as a map-style data set of PyTorch as well, in workers that are
    forked or spawned.

    path: a folder that `prepare` has made, or the URL of one: s3://, gs://, az://, https://, hf:// or file://.
    split: "train" or "val".
    cache: folder that keeps what is fetched from a URL [default: `data` in FOVEA_CACHE or ~/.cache/fovea].
    cache_limit: most bytes of shards in it, a number or a text such as "100GB" [default: no limit].
    timeout: seconds that the server of a URL may fail before an error.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str = "train",
        *,
        cache: str | os.PathLike[str] | None = None,
        cache_limit: int | str | None = None,
        timeout: float = 120.0,
    ) -> None:
        self._cache = cache_options(cache, cache_limit, timeout)
        self._native = _native.Dataset(path, split, **self._cache)
        self.path = os.fspath(path) if _native.is_url(path) else os.path.abspath(path)
        self.split = split
        self.info: dict[str, Any] = json.loads(self._native.info())

    def __len__(self) -> int:
        return len(self._native)

    def __getitem__(self, index: int) -> tuple[numpy.ndarray, int | numpy.ndarray]:
        return numpy.from_dlpack(self._native.image(self._index(index))), self.label(index)

    def __iter__(self) -> Iterator[tuple[numpy.ndarray, int | numpy.ndarray]]:
        return (self[index] for index in range(len(self)))

    def label(self, index: int) -> int | numpy.ndarray:
        """The label of an image: a position in `classes`, or marks or numbers in the order of `classes`."""
        label = self._native.label(self._index(index))
        return label if isinstance(label, int) else numpy.from_dlpack(label)

    def key(self, index: int) -> str:
        """The key of an image: its path in the folder or archive that it came from."""
        return self._native.key(self._index(index))

    @property
    def classes(self) -> list[str]:
        """The ids of the classes, WordNet ids or names of folders, or the names of numbers; a label is a position in this
        list, or has a mark or number for each element of it."""
        return [entry["wnid"] for entry in self.info["classes"]]

    @property
    def labels(self) -> str:
        """What labels are: "class", "multi-hot" (1 for each class of an image, 0 for others) or "values" (numbers)."""
        return self.info.get("labels", "class")

    @property
    def class_names(self) -> list[str]:
        """The readable names of the classes, in the order of `classes`."""
        return [entry["name"] for entry in self.info["classes"]]

    @property
    def image_size(self) -> int:
        """Side S of every image, in pixels; the shorter side if `image_shape` is "keep"."""
        return self.info["image_size"]

    @property
    def image_shape(self) -> str:
        """ "square", or "keep": each image has the proportions of its photo."""
        return self.info.get("image_shape", "square")

    @property
    def encoding(self) -> str:
        """How images are stored: "raw" or "jpeg"."""
        return self.info["encoding"]

    @property
    def mean(self) -> tuple[float, float, float]:
        """Mean of R, G and B over the training images, in units of 0..=255."""
        return tuple(self._statistics()["mean"])

    @property
    def std(self) -> tuple[float, float, float]:
        """Standard deviation of R, G and B over the training images, in units of 0..=255."""
        covariance = self._statistics()["covariance"]
        return tuple(max(covariance[channel][channel], 0.0) ** 0.5 for channel in range(3))

    @property
    def digest(self) -> str:
        """A digest of the images and their order, in hexadecimal: equal for equal shards, wherever they lie."""
        return self._native.digest()

    @property
    def name(self) -> str:
        """The name of its folder."""
        return os.path.basename(self.path.rstrip("/")) or self.path

    def __repr__(self) -> str:
        side = self.image_size
        pixels = f"{side}x{side} pixels" if self.image_shape == "square" else f"{side} pixels along the shorter side"
        images = f"{len(self)} images of {pixels}, {self.encoding}"
        return f"<fovea_loader.Dataset {self.path!r}, {self.split}: {images}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(Dataset, **self._cache), (self.path, self.split)

    def _index(self, index: int) -> int:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"image {index} of {len(self)} images")
        return position % len(self)

    def _statistics(self) -> dict[str, Any]:
        statistics = self.info["statistics"]
        if statistics is None:
            raise ValueError(f"{self.path}: the data set has no training images, so it has no colour statistics")
        return statistics
