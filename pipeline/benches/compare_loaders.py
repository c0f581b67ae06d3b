"""Compares the loader with PyTorch's DataLoader, DALI and FFCV: the same images, crops, flips and batches, alternating.

    cargo build --release --bin bench_loader
    python compare_loaders.py DIR [--augment random_resized_crop] [--crop 224] [--form u8|f32] [--workers 2]
                                  [--images 16000] [--rounds 3]

Needs torch, numpy and pyarrow; for --augment random_resized_crop torchvision, and for JPEG shards that or pillow. DALI,
FFCV, SPDL, litdata and Lance are measured if installed:

    pip install nvidia-dali-cuda130    # works on the CPU too
    apt-get install g++ pkg-config libopencv-dev libturbojpeg0-dev
    pip install pillow ffcv
    pip install spdl litdata pylance

Fovea is measured as `bench_loader` does and, where `pip install ./pipeline/python` has been done, through Python.

DIR is a folder written by prepare_imagenet. DataLoader and DALI memory-map the shards through pyarrow. FFCV maps a
.beton file, which is first written to a temporary folder: pixels from raw shards, the JPEG files unchanged from JPEG
shards. litdata's chunks and Lance's table are written there too, with the same bytes; SPDL, which has no format, maps the
shards. These three take views as the DataLoader does. All output u8 [N,3,H,W], or f32 [N,3,H,W] minus the channel means, with each library's usual operations; the
default of --form is u8 for raw shards and f32 for JPEG shards. FFCV is measured twice: with its default layout, NHWC in
memory (`channels_last`), and with NCHW in memory, like the others. Only Fovea also computes colour jitter, but for u8
through Python.

The augmentation is a random crop and a flip or, with --augment random_resized_crop, a rectangle of random area and shape,
rescaled with antialiasing where the library has it (FFCV's does not), and a flip. PyTorch's DataLoader does that by
torchvision's transforms v2, and decodes JPEG files by torchvision.
"""

import argparse
import functools
import importlib.metadata
import io
import json
import os
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

import numpy as np
import pyarrow as pa
import torch

import storage_loaders

BENCH = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", pathlib.Path(__file__).parents[2] / "target"))
BENCH = BENCH / "release" / "bench_loader"
BATCH = 128


class View:
    """Makes the augmented view of a stored image; it can be sent to other processes."""

    def __init__(self, info, form, crop, resized):
        self.raw, self.side = info["encoding"] == "raw", info["image_size"]
        self.form, self.crop = form, crop
        self.mean = torch.tensor(info["statistics"]["mean"], dtype=torch.float32).reshape(3, 1, 1)
        self.transform = None
        if resized:
            from torchvision.transforms import v2

            self.transform = v2.Compose([v2.RandomResizedCrop(self.crop, antialias=True), v2.RandomHorizontalFlip()])

    def __call__(self, stored):
        """The view of the image that these bytes hold: u8 or f32 [3,H,W]."""
        if self.transform:
            view = self.transform(self.image(stored))
        else:
            if self.raw:
                image = np.frombuffer(stored, np.uint8).reshape(3, self.side, self.side)
            else:
                from PIL import Image

                image = np.asarray(Image.open(io.BytesIO(stored))).transpose(2, 0, 1)
            x, y = random.randrange(self.side - self.crop + 1), random.randrange(self.side - self.crop + 1)
            view = image[:, y : y + self.crop, x : x + self.crop]
            if random.random() < 0.5:
                view = view[:, :, ::-1]
            view = torch.from_numpy(view.copy())
        return view if self.form == "u8" else view.float() - self.mean

    def image(self, stored):
        """The stored image, u8 [3,S,S]."""
        stored = torch.frombuffer(bytearray(stored), dtype=torch.uint8)
        if self.raw:
            return stored.reshape(3, self.side, self.side)
        from torchvision.io import ImageReadMode, decode_jpeg

        return decode_jpeg(stored, mode=ImageReadMode.RGB)


class Shards(torch.utils.data.Dataset):
    """`images` augmented training images, which repeat if there are fewer."""

    def __init__(self, directory, images, form, crop=None, resized=False):
        self.info = json.loads((directory / "dataset.json").read_text())
        if "image_shape" in self.info:
            raise SystemExit(f"{directory}: holds whole photos; give one of squares, which all the libraries read alike")
        self.raw = self.info["encoding"] == "raw"
        self.form = form or ("u8" if self.raw else "f32")
        self.side, self.images = self.info["image_size"], images
        self.crop = crop or self.side * 7 // 8
        self.resized = resized
        tables = [pa.ipc.open_file(pa.memory_map(str(directory / shard["file"]))).read_all() for shard in self.info["train"]]
        self.records = [image.as_buffer() for table in tables for chunk in table["image"].chunks for image in chunk]
        self.labels = [label for table in tables for label in table["label"].to_pylist()]
        self.view = View(self.info, self.form, self.crop, resized)

    def __len__(self):
        return self.images

    def epochs(self):
        """Passes over the images of a round of Fovea, at least as many images as of the others."""
        return -(-self.images // len(self.records))

    def __getitem__(self, index):
        index %= len(self.records)
        return self.view(self.records[index]), self.labels[index]


def one_pass(loader):
    """Images per second over one epoch; workers start and code is compiled before the clock starts."""
    batches = iter(loader)
    next(batches)
    started = time.perf_counter()
    count = sum(len(labels) for _, labels in batches)
    return count / (time.perf_counter() - started)


def data_loader(shards, workers):
    return one_pass(torch.utils.data.DataLoader(shards, BATCH, shuffle=True, num_workers=workers, drop_last=True))


def dali(shards, workers):
    """Images per second of DALI's pipeline on the CPU, fed with images drawn at random."""
    from nvidia.dali import fn, pipeline_def, types

    draws = np.random.default_rng(0)

    def source():
        drawn = [np.frombuffer(shards.records[i], np.uint8) for i in draws.integers(len(shards.records), size=BATCH)]
        return np.stack(drawn).reshape(BATCH, 3, shards.side, shards.side) if shards.raw else drawn

    @pipeline_def(batch_size=BATCH, num_threads=workers, device_id=None)
    def pipeline():
        images = fn.external_source(source=source, batch=True, layout="CHW" if shards.raw else None, dtype=types.UINT8)
        view = {
            "crop": (shards.crop, shards.crop),
            "crop_pos_x": fn.random.uniform(range=(0.0, 1.0)),
            "crop_pos_y": fn.random.uniform(range=(0.0, 1.0)),
            "mirror": fn.random.coin_flip(),
            "output_layout": "CHW",
        }
        if shards.resized:
            view = {"mirror": fn.random.coin_flip(), "output_layout": "CHW"}
            crop = {"size": shards.crop, "antialias": True}
            if shards.raw:
                images = fn.random_resized_crop(images, **crop)
            else:
                # Decodes only the part that the crop needs.
                shape = {"random_area": [0.08, 1.0], "random_aspect_ratio": [3 / 4, 4 / 3]}
                part = fn.decoders.image_random_crop(images, device="cpu", **shape)
                images = fn.resize(part, resize_x=shards.crop, resize_y=shards.crop, antialias=True)
        elif not shards.raw:
            images = fn.decoders.image(images, device="cpu")
        if shards.form == "u8":
            return fn.crop_mirror_normalize(images, dtype=types.UINT8, mean=[0.0], std=[1.0], **view)
        means = shards.info["statistics"]["mean"]
        return fn.crop_mirror_normalize(images, dtype=types.FLOAT, mean=means, std=[1.0] * 3, **view)

    built = pipeline()
    built.build()
    built.run()
    batches = shards.images // BATCH
    started = time.perf_counter()
    for _ in range(batches):
        built.run()
    return batches * BATCH / (time.perf_counter() - started)


def ffcv_loaders(shards, workers, folder):
    """FFCV's loaders of one .beton file, by the memory layout of their batches."""
    import numba

    numba.config.THREADING_LAYER = "omp"  # as fast as TBB, and faster when PyTorch copies the batch

    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
    from ffcv.fields.rgb_image import IMAGE_MODES
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, Squeeze, ToTensor, ToTorchImage
    from ffcv.writer import DatasetWriter

    class StoredImage(RGBImageField):
        """An image whose bytes are stored unchanged; RGBImageField would compress pixels to JPEG."""

        def encode(self, destination, image, malloc):
            destination["mode"] = IMAGE_MODES["raw" if shards.raw else "jpg"]
            destination["height"] = destination["width"] = shards.side
            destination["data_ptr"], storage = malloc(image.nbytes)
            storage[:] = image

    class Samples:
        def __len__(self):
            return min(len(shards.records), shards.images)

        def __getitem__(self, index):
            image = np.frombuffer(shards.records[index], np.uint8)
            return (image.reshape(3, -1).T.reshape(-1) if shards.raw else image), shards.labels[index]

    path, samples = os.path.join(folder, "train.beton"), Samples()
    fields = {"image": StoredImage(), "label": IntField()}
    DatasetWriter(path, fields, num_workers=workers).from_indexed_dataset(samples)

    def loader(channels_last):
        # A square of this share of the area is exactly the crop, so nothing is resized.
        share = (shards.crop / shards.side) ** 2
        part = {} if shards.resized else {"scale": (share, share), "ratio": (1.0, 1.0)}
        decoder = RandomResizedCropRGBImageDecoder((shards.crop, shards.crop), **part)
        image = [decoder, RandomHorizontalFlip()]
        if shards.form == "f32":
            image.append(NormalizeImage(np.array(shards.info["statistics"]["mean"]), np.ones(3), np.float32))
        image += [ToTensor(), ToTorchImage(channels_last=channels_last)]
        return Loader(
            path,
            BATCH,
            num_workers=workers,
            os_cache=True,
            order=OrderOption.RANDOM,
            indices=np.arange(shards.images, dtype=np.uint64) % np.uint64(len(samples)),
            pipelines={"image": image, "label": [IntDecoder(), ToTensor(), Squeeze()]},
            custom_fields=fields,
            drop_last=True,
        )

    return {"NHWC in memory": loader(True), "NCHW in memory": loader(False)}


def fovea(directory, workers, shards):
    command = [str(BENCH), str(directory), "--workers", str(workers), "--form", shards.form, "--batch", str(BATCH)]
    command += ["--crop", str(shards.crop), "--epochs", str(shards.epochs()), "--json"]
    if shards.resized:
        command += ["--augment", "random_resized_crop,horizontal_flip,pca_jitter"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)["images_per_s"]


def fovea_in_python(directory, workers, shards):
    """Images per second of the package `fovea_loader`, over as long a time as `bench_loader` takes."""
    import fovea_loader

    floats = {} if shards.form == "u8" else {"dtype": "float32", "mean": "dataset", "std": 1.0}
    crop = fovea_loader.RandomResizedCrop if shards.resized else fovea_loader.RandomCrop
    transform = [crop(shards.crop), fovea_loader.Flip()]
    if floats:
        transform.append(fovea_loader.PcaJitter())
    loader = fovea_loader.Loader(directory, batch_size=BATCH, workers=workers, transform=transform, **floats)
    # The first epoch warms the page cache and verifies the checksums.
    for _ in loader:
        pass
    epochs = 5 * shards.epochs()
    started, count = time.perf_counter(), 0
    for _ in range(epochs):
        for _, labels in loader:
            count += len(labels)
    return count / (time.perf_counter() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--augment", choices=("random_crop", "random_resized_crop"), default="random_crop")
    parser.add_argument("--crop", type=int, help="side of the views in pixels [default: 7/8 of the image's]")
    parser.add_argument("--form", choices=("u8", "f32"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=16000, help="images of a round of the others")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    resized = options.augment == "random_resized_crop"
    shards = Shards(options.directory, options.images, options.form, options.crop, resized)
    runners = {
        "Fovea": lambda: fovea(options.directory, options.workers, shards),
        f"DataLoader (PyTorch {torch.__version__})": lambda: data_loader(shards, options.workers),
    }
    try:
        import fovea_loader

        name = f"Fovea in Python {fovea_loader.__version__}"
        runners[name] = lambda: fovea_in_python(options.directory, options.workers, shards)
    except ImportError as reason:
        print(f"without Fovea in Python: {reason}")
    try:
        import nvidia.dali

        runners[f"DALI {nvidia.dali.__version__}"] = lambda: dali(shards, options.workers)
    except ImportError as reason:
        print(f"without DALI: {reason}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for layout, loader in ffcv_loaders(shards, options.workers, folder).items():
                name = f"FFCV {importlib.metadata.version('ffcv')}, {layout}"
                runners[name] = functools.partial(one_pass, loader)
        except ImportError as reason:
            print(f"without FFCV: {reason}")
        for name, package, make in storage_loaders.MAKERS:
            try:
                loader = make(shards, options.workers, BATCH, folder)
            except ImportError as reason:
                print(f"without {name}: {reason}")
                continue
            runners[f"{name} {importlib.metadata.version(package)}"] = functools.partial(one_pass, loader)
        for _ in range(options.rounds):
            for name, runner in runners.items():
                found.setdefault(name, []).append(runner())
    work = f"{shards.info['encoding']} {shards.side} px -> {shards.form} {shards.crop} px, {options.augment}"
    print(f"{work}, {options.workers} workers, medians of {options.rounds} rounds:")
    for name, speeds in found.items():
        ratios = [ours / theirs for ours, theirs in zip(found["Fovea"], speeds)]
        print(f"{name}: {statistics.median(speeds):.0f} images/s; Fovea is {statistics.median(ratios):.1f} times as fast")


if __name__ == "__main__":
    main()
