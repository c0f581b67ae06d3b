"""Reads a data set written by prepare_imagenet: python3 read_shards.py DIR

Needs pyarrow and numpy, and Pillow for JPEG shards. With Hugging Face's `datasets` installed, also reads it through that.
"""

import json
import sys
import zlib
from pathlib import Path

import pyarrow as pa


def read_with_pyarrow(directory, info):
    """Memory-maps every shard and verifies the checksum of every image."""
    for split in ("train", "val"):
        images = 0
        for shard in info[split]:
            with pa.memory_map(str(directory / shard["file"])) as file:
                table = pa.ipc.open_file(file).read_all()
                for image, crc32 in zip(table["image"], table["crc32"]):
                    assert zlib.crc32(image.as_buffer()) == crc32.as_py()
                images += table.num_rows
        print(f"{split}: {images} images")


def first_image(directory, info):
    """The first training image: pixels u8 [3, H, W], class and key."""
    import numpy

    with pa.memory_map(str(directory / info["train"][0]["file"])) as file:
        record = pa.ipc.open_file(file).get_batch(0)
        image, label, key = (record[name][0] for name in ("image", "label", "key"))
        if info["encoding"] == "raw":
            height = width = info["image_size"]
            if "width" in record.schema.names:
                height, width = (record[name][0].as_py() for name in ("height", "width"))
            pixels = numpy.frombuffer(image.as_buffer(), numpy.uint8).reshape(3, height, width).copy()
        else:
            import io

            from PIL import Image

            pixels = numpy.asarray(Image.open(io.BytesIO(image.as_py()))).transpose(2, 0, 1)
        return pixels, info["classes"][label.as_py()], key.as_py()


def read_with_datasets(directory, info):
    """Loads labels as ClassLabel and JPEG images as Image, according to the metadata of the shards.

    Without `features`, labels are still ClassLabel, but JPEG images stay bytes: `datasets` would have to store them in a
    column of another type.
    """
    import datasets

    files = {split: [str(directory / shard["file"]) for shard in info[split]] for split in ("train", "val")}
    files = {split: paths for split, paths in files.items() if paths}
    with pa.memory_map(next(iter(files.values()))[0]) as shard:
        metadata = json.loads(pa.ipc.open_file(shard).schema.metadata[b"huggingface"])
    features = datasets.Features.from_dict(metadata["info"]["features"])
    return datasets.load_dataset("arrow", data_files=files, features=features)


def main():
    directory = Path(sys.argv[1])
    info = json.loads((directory / "dataset.json").read_text())
    read_with_pyarrow(directory, info)
    if info["train"]:
        try:
            pixels, label, key = first_image(directory, info)
            print(f"first image: {key}, {label['wnid']} ({label['name']}), {pixels.dtype} {pixels.shape}")
        except ImportError as missing:
            print(f"no look at an image: {missing}")
    try:
        splits = read_with_datasets(directory, info)
    except ImportError as missing:
        print(f"no look through Hugging Face datasets: {missing}")
        return
    for split, records in splits.items():
        print(f"{split}: {records.features}")
        record = {name: value for name, value in records[0].items() if name != "image"}
        print(f"{split}: {type(records[0]['image'])} {record}")


if __name__ == "__main__":
    main()
