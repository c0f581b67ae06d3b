"""SPDL, litdata and Lance for `compare_loaders.py`: loaders of PyTorch's users that bring threads or a format of their own.

What makes one is called with the shards, the number of workers, the size of batches and a temporary folder, and returns
an iterable over the batches `(images, labels)` of an epoch.
"""

import os
import random

import torch


def collated(samples):
    images, labels = zip(*samples, strict=True)
    return torch.stack(images), torch.tensor(labels)


def unique(shards):
    """The numbers of the images that are stored: those of an epoch may repeat them."""
    return range(min(len(shards.records), len(shards)))


class Spdl:
    """Threads that take images from the shards, and one that makes batches."""

    def __init__(self, shards, workers, batch, _folder):
        from spdl.pipeline import PipelineBuilder

        self.builder, self.shards, self.workers, self.batch = PipelineBuilder, shards, workers, batch

    def __iter__(self):
        order = random.sample(range(len(self.shards)), len(self.shards))
        pipeline = self.builder().add_source(order).pipe(self.shards.__getitem__, concurrency=self.workers)
        pipeline = pipeline.aggregate(self.batch, drop_last=True).pipe(collated).add_sink(2)
        with (built := pipeline.build(num_threads=self.workers)).auto_stop():
            yield from built


def litdata(shards, workers, batch, folder):
    """Chunks of 64 MB in litdata's format, read by its own DataLoader."""
    from litdata import StreamingDataLoader, StreamingDataset, optimize

    class Samples(StreamingDataset):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return shards.view(image), label

    folder = os.path.join(folder, "litdata")

    def stored(number):
        return bytes(shards.records[number]), shards.labels[number]

    numbers = [*unique(shards)]
    optimize(stored, numbers, folder, chunk_bytes="64MB", num_workers=1, start_method="fork", verbose=False)
    return StreamingDataLoader(Samples(folder, shuffle=True), batch_size=batch, num_workers=workers, drop_last=True)


class LanceRows(torch.utils.data.Dataset):
    """The rows of a table, opened by each process on its own and taken by batches."""

    def __init__(self, folder, rows, images, view):
        self.folder, self.rows, self.images, self.view, self.table = folder, rows, images, view, None

    def __len__(self):
        return self.images

    def __getitems__(self, numbers):
        import lance

        self.table = self.table or lance.dataset(self.folder)
        rows = self.table.take([number % self.rows for number in numbers])
        stored = zip(rows["image"].to_pylist(), rows["label"].to_pylist(), strict=True)
        return [(self.view(image), label) for image, label in stored]


def lance(shards, workers, batch, folder):
    """A table of Lance, read by PyTorch's DataLoader in processes that are spawned, as Lance asks for."""
    import pyarrow
    from lance import write_dataset

    folder, numbers = os.path.join(folder, "lance"), unique(shards)
    images = pyarrow.array([bytes(shards.records[number]) for number in numbers], pyarrow.large_binary())
    labels = pyarrow.array([shards.labels[number] for number in numbers], pyarrow.int64())
    write_dataset(pyarrow.table({"image": images, "label": labels}), folder)
    rows = LanceRows(folder, len(numbers), len(shards), shards.view)
    return torch.utils.data.DataLoader(
        rows, batch, shuffle=True, num_workers=workers, drop_last=True, multiprocessing_context="spawn"
    )


# Name, package that has its version, and what makes a loader.
MAKERS = [("SPDL", "spdl", Spdl), ("litdata", "litdata", litdata), ("Lance", "pylance", lance)]
