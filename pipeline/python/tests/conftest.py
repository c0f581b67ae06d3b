"""Small data sets of photos that the tests draw themselves."""

import numpy
import pytest
from PIL import Image

import fovea_loader as fovea

# Images of both splits, in five classes.
TRAIN, VAL, CLASSES = 50, 20, 5
# Side of the stored images in pixels.
SIDE = 24


def draw(number, side):
    """An image that differs from the others: its first pixel is grey with the image's number."""
    y, x = numpy.mgrid[:side, :side]
    image = numpy.stack([(x * 5 + number * 3) % 256, (y * 7 + number * 11) % 256, (x * y + number) % 256], axis=-1)
    image[0, 0] = number
    return Image.fromarray(image.astype(numpy.uint8))


def draw_folder(folder, first=0):
    for split, images in (("train", TRAIN), ("val", VAL)):
        for number in range(images):
            path = folder / split / f"class-{number % CLASSES}" / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(first + number, SIDE).save(path)
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return draw_folder(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def shards(photos, tmp_path_factory):
    """Raw shards, several of each split."""
    out = tmp_path_factory.mktemp("data") / "shards"
    fovea.prepare(photos, out=out, size=SIDE, shard_bytes=20_000)
    return out


@pytest.fixture(scope="session")
def jpeg_shards(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "jpeg"
    fovea.prepare(photos, out=out, size=SIDE, encoding="jpeg", quality=95)
    return out


@pytest.fixture(scope="session")
def other_shards(tmp_path_factory):
    """As many images as `shards`, but others."""
    photos = draw_folder(tmp_path_factory.mktemp("others"), first=100)
    out = tmp_path_factory.mktemp("data") / "others"
    fovea.prepare(photos, out=out, size=SIDE)
    return out


@pytest.fixture
def make(shards, monkeypatch):
    """A loader of `shards` with arrays of NumPy, of one rank, whatever started the tests."""
    for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)

    def make(path=shards, split=None, **parameters):
        return fovea.Loader(path, split, **{"batch_size": 8, "arrays": "numpy", "workers": 2, **parameters})

    return make


AUGMENTED = [fovea.RandomResizedCrop(16), fovea.Flip(), fovea.ColorJitter(0.4, 0.4, 0.4)]


def copied(batches):
    """Batches as bytes, to be compared."""
    return [(images.tobytes(), target.tolist()) for images, target in batches]


def numbers(images):
    """The numbers that are drawn into uncropped images."""
    return images[:, 0, 0, 0].tolist()
