"""Shards of photos: made, verified, inspected."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, Union

from . import _native
from ._dataset import cache_options
from ._loader import MOST, whole
from .transforms import explain

Path = Union[str, "os.PathLike[str]"]

# Whole numbers among the options of `prepare`, and the largest that Rust takes.
NUMBERS = {
    "size": 2**32 - 1,
    "seed": MOST,
    "quality": 255,
    "shard_bytes": MOST,
    "limit_per_class": MOST,
}


def prepare(
    train: Path | None = None,
    val: Path | None = None,
    devkit: Path | None = None,
    *,
    labels: Path | None = None,
    out: Path,
    work: Path | None = None,
    size: int = 256,
    encoding: str = "raw",
    quality: int = 90,
    orientation: str = "ignore",
    resize: str = "short-side",
    filter: str = "lanczos3",
    seed: int = 0,
    shard_bytes: int = 256 << 20,
    limit_per_class: int | None = None,
    layout: str = "auto",
    workers: int | None = None,
    update: bool = False,
    embedded_sample: bool = False,
    progress: Callable[[int, int, int], Any] | None = None,
) -> dict[str, Any]:
    """Makes shards for training out of ImageNet's archives or any folder of labelled photos.

    The layout is detected. A preparation that was interrupted goes on when it is called again, and ends with the same
    bytes. Images that cannot be decoded are left out and listed in `rejected.tsv`.

    train, val: training and validation images: an archive, a folder with a folder for each class, or as `train` a data
        set with both splits.
    devkit: development kit of ILSVRC: classes and validation labels.
    labels: labels of the photos in the folder `train`: a CSV file with a line for each photo, whose header is `file,label` (a
        class), `file,labels` (any number of classes, separated by ; or |) or `file,NAME,NAME,…` (numbers), perhaps
        with a column `split` (train or val).
    out: folder to write to, or a URL s3://, gs:// or az:// to upload to: shards first, `dataset.json` last.
    work: folder in which the data set is prepared before it is uploaded, and stays [default: one for the URL in
        `prepare` in FOVEA_CACHE or ~/.cache/fovea].
    size: side S of the stored images, in pixels; the shorter side with resize="keep".
    encoding: "raw", which is fastest to read, or "jpeg", which takes an eighth of the space.
    quality: of JPEG, 1 to 100.
    orientation: of photos by their EXIF data: "ignore" or "apply".
    resize: "short-side" stores the square at the centre, "squash" distorts to a square, "keep" stores the whole
        photo; of one longer than 16 to 1, the middle.
    filter: kernel for resizing: "lanczos3", "bicubic" or "bilinear".
    seed: of the order in which training images are stored.
    shard_bytes: approximate size of a shard, in bytes.
    limit_per_class: takes only so many images of each class and split.
    layout: "auto", "classes", "splits", or the name of a layout.
    workers: threads [default: the cores that this process may use].
    update: prepares again what `out` holds if images have changed since; refused without it.
    embedded_sample: prepares the small data set inside the package (Fashion-MNIST, 28x28 pixels) in place of `train`.
    progress: called now and then with the images that are done, those there are, and those that were rejected.

    Returns a dict: `directory`, `info` (the content of `dataset.json`), `rejected`, `shards_kept`, `notes`, and
    `uploaded`: None, or a dict of `url`, `files`, `bytes` and `skipped`, the files that were there already.
    """
    if embedded_sample == bool(train or val or devkit or labels):
        raise ValueError("give the images to prepare: train, val or both, or else embedded_sample")
    options = dict(
        train=train,
        val=val,
        devkit=devkit,
        labels=labels,
        embedded_sample=embedded_sample,
        out=out,
        work=work,
        layout=layout,
        orientation=orientation,
        resize=resize,
        filter=filter,
        size=size,
        seed=seed,
        encoding=encoding,
        quality=quality,
        shard_bytes=shard_bytes,
        limit_per_class=limit_per_class,
        workers=workers,
        update=update,
        progress=progress,
    )
    # Before Python 3.11 the error of Rust does not name the parameter.
    for name, most in NUMBERS.items():
        if options[name] is not None:
            options[name] = whole(name, options[name], 0, most)
    options["workers"] = threads(workers)
    try:
        return json.loads(_native.prepare(**options))
    except (ValueError, OverflowError) as error:
        raise explain(error) from None


def threads(workers: int | None) -> int | None:
    return None if workers is None else whole("workers", workers, 1, 1024)


def verify(
    path: Path,
    *,
    workers: int | None = None,
    cache: Path | None = None,
    cache_limit: int | str | None = None,
    timeout: float = 120.0,
) -> dict[str, Any]:
    """Reads every byte of a prepared data set and checks digests, checksums, counts, labels and images.

    path: its folder or URL.
    workers: threads [default: the cores that this process may use].
    cache, cache_limit, timeout: for a URL, as for a `Dataset`.

    Returns a dict: `images`, `shards`, and `problems`, a list of `{"path", "problem"}` that is empty if all is well.
    """
    return json.loads(_native.verify(path, workers=threads(workers), **cache_options(cache, cache_limit, timeout)))


def inspect(
    path: Path, *, cache: Path | None = None, cache_limit: int | str | None = None, timeout: float = 120.0
) -> dict[str, Any]:
    """What a prepared data set holds: `info`, the content of `dataset.json`, `preparation`, how it was made, and
    `smallest_cache_bytes`, the least `cache_limit` with which a program can train on it and evaluate from a URL.

    path: its folder or URL, of which no shard is fetched.
    cache, cache_limit, timeout: for a URL, as for a `Dataset`.
    """
    return json.loads(_native.inspect(path, **cache_options(cache, cache_limit, timeout)))
