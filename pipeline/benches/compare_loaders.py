"""The loader and PyTorch's DataLoader on this machine: the same shards, crops, flips and batches, in turns.

    cargo build --release --bin bench_loader
    python compare_loaders.py DIR [--workers 2] [--images 16000] [--rounds 3]

Needs torch, numpy and pyarrow, for JPEG shards pillow as well. DIR is a folder that prepare_imagenet has written. DataLoader
reads the shards as Fovea does, mapped into memory through pyarrow, and makes what its users make: u8 [N,3,H,W] from raw
shards, f32 [N,3,H,W] minus the channel means from JPEG shards. It leaves the colour jitter out, which Fovea does.
"""

import argparse
import io
import json
import os
import pathlib
import random
import statistics
import subprocess
import time

import numpy as np
import pyarrow as pa
import torch

BENCH = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", pathlib.Path(__file__).parents[2] / "target"))
BENCH = BENCH / "release" / "bench_loader"
BATCH = 128


class Shards(torch.utils.data.Dataset):
    """`images` views of the training images, which may come several times."""

    def __init__(self, directory, images):
        self.info = json.loads((directory / "dataset.json").read_text())
        self.raw = self.info["encoding"] == "raw"
        self.side, self.images = self.info["image_size"], images
        self.crop = self.side * 7 // 8
        tables = [pa.ipc.open_file(pa.memory_map(str(directory / shard["file"]))).read_all() for shard in self.info["train"]]
        self.records = [image.as_buffer() for table in tables for chunk in table["image"].chunks for image in chunk]
        self.labels = [label for table in tables for label in table["label"].to_pylist()]
        self.mean = torch.tensor(self.info["statistics"]["mean"], dtype=torch.float32).reshape(3, 1, 1)

    def __len__(self):
        return self.images

    def __getitem__(self, index):
        index %= len(self.records)
        if self.raw:
            image = np.frombuffer(self.records[index], np.uint8).reshape(3, self.side, self.side)
        else:
            from PIL import Image

            image = np.asarray(Image.open(io.BytesIO(self.records[index]))).transpose(2, 0, 1)
        x, y = random.randrange(self.side - self.crop + 1), random.randrange(self.side - self.crop + 1)
        view = image[:, y : y + self.crop, x : x + self.crop]
        if random.random() < 0.5:
            view = view[:, :, ::-1]
        view = torch.from_numpy(view.copy())
        return (view if self.raw else view.float() - self.mean), self.labels[index]


def data_loader(shards, workers):
    """Images per second over one pass; the workers are started before the clock."""
    loader = torch.utils.data.DataLoader(shards, BATCH, shuffle=True, num_workers=workers, drop_last=True)
    batches = iter(loader)
    next(batches)
    started = time.perf_counter()
    count = sum(len(labels) for _, labels in batches)
    return count / (time.perf_counter() - started)


def fovea(directory, workers, form):
    command = [str(BENCH), str(directory), "--workers", str(workers), "--form", form, "--batch", str(BATCH), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)["images_per_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=16000, help="images of a round of DataLoader")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    shards = Shards(options.directory, options.images)
    form = "u8" if shards.raw else "f32"
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(fovea(options.directory, options.workers, form))
        theirs.append(data_loader(shards, options.workers))
    ratios = [a / b for a, b in zip(ours, theirs)]
    print(f"{shards.info['encoding']} -> {form}, {options.workers} workers, medians of {options.rounds} rounds:")
    print(f"fovea {statistics.median(ours):.0f} images/s, DataLoader (PyTorch {torch.__version__}) {statistics.median(theirs):.0f}, "
          f"ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
