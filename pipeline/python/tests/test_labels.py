"""Labels of several kinds, and mixed images."""

import numpy
import pytest
from conftest import AUGMENTED, SIDE, draw

import fovea_loader as fovea

PHOTOS = 20
CLASSES = ["blue", "green", "red"]


def marks_of(number):
    return [int((number + place) % 3 == 0 or number % 7 == place) for place in range(3)]


def numbers_of(number):
    return [number / 4, -float(number)]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Shards of the same photos with marks of classes, and with numbers."""
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "photos").mkdir()
    for number in range(PHOTOS):
        draw(number, SIDE).save(folder / "photos" / f"{number:02}.png")
    names = {"multi-hot": "file,labels", "values": "file,a,b"}
    for kind, header in names.items():
        lines = [header]
        for number in range(PHOTOS):
            marked = [name for name, mark in zip(CLASSES, marks_of(number), strict=True) if mark]
            label = ";".join(marked) if kind == "multi-hot" else ",".join(map(str, numbers_of(number)))
            lines.append(f"{number:02}.png,{label}")
        (folder / f"{kind}.csv").write_text("\n".join(lines) + "\n")
        fovea.prepare(folder / "photos", labels=folder / f"{kind}.csv", out=folder / kind, size=SIDE)
    return folder


@pytest.mark.parametrize("kind, expected, dtype", [("multi-hot", marks_of, "uint8"), ("values", numbers_of, "float32")])
def test_targets_are_marks_or_numbers_in_every_form(labelled, kind, expected, dtype):
    dataset = fovea.Dataset(labelled / kind)
    assert dataset.labels == kind
    assert dataset.classes == (CLASSES if kind == "multi-hot" else ["a", "b"])
    for image, label in dataset:
        assert (label.dtype, label.tolist()) == (dtype, expected(int(image[0, 0, 0])))
    floats = {"mean": 0, "std": 1}
    for parameters in ({}, {"dtype": "float16", "channels_last": True, **floats}, {"dtype": "float32", **floats}):
        loader = fovea.Loader(dataset, batch_size=8, drop_last=False, arrays="numpy", workers=2, **parameters)
        seen = 0
        for images, target in loader:
            first = images[:, 0, 0, 0]
            assert (target.dtype, target.shape) == (dtype, (len(images), len(dataset.classes)))
            assert target.tolist() == [expected(int(number)) for number in first]
            seen += len(images)
        assert seen == PHOTOS


def test_tensors_of_pytorch_have_them_too(labelled):
    torch = pytest.importorskip("torch")
    for kind, dtype in (("multi-hot", torch.uint8), ("values", torch.float32)):
        _, target = next(iter(fovea.Loader(labelled / kind, batch_size=8, workers=1)))
        assert (target.dtype, target.shape[0]) == (dtype, 8)


def test_mixed_images_have_mixed_targets(labelled, shards):
    for path, classes in ((shards, 5), (labelled / "multi-hot", 3), (labelled / "values", 2)):
        plain = fovea.Loader(path, batch_size=8, arrays="numpy", dtype="float32", mean=0, std=1, workers=2)
        mixed = fovea.Loader(
            path, batch_size=8, arrays="numpy", dtype="float32", mean=0, std=1, workers=2, mixup_alpha=0.8
        )
        for (images, target), (blended, soft) in zip(plain, mixed, strict=True):
            assert (soft.dtype, soft.shape) == ("float32", (8, classes))
            own = numpy.eye(classes)[target] if target.ndim == 1 else target.astype("float64")
            partner = numpy.arange(8) ^ 1
            difference = (images - images[partner]).reshape(8, -1)
            at = numpy.abs(difference).argmax(axis=1)
            rows = numpy.arange(8)
            share = (blended.reshape(8, -1) - images[partner].reshape(8, -1))[rows, at] / difference[rows, at]
            assert numpy.allclose(share, share[0], atol=1e-3) and 0 <= share[0] <= 1
            assert numpy.allclose(soft, share[0] * own + (1 - share[0]) * own[partner], atol=1e-2 * numpy.abs(own).max())


def test_mixing_is_the_same_after_a_restart_and_for_any_number_of_workers(shards):
    def make(workers):
        return fovea.Loader(
            shards, batch_size=8, arrays="numpy", dtype="float32", workers=workers, transform=AUGMENTED, mixup_alpha=1, cutmix_alpha=1
        )

    def content(batches):
        return [(images.tobytes(), target.tobytes()) for images, target in batches]

    whole = content(make(1))
    assert content(make(3)) == whole
    begun = make(2)
    batches = iter(begun)
    for _ in range(3):
        next(batches)
    resumed = make(2)
    resumed.load_state_dict(begun.state_dict())
    assert content(resumed) == whole[3:]


def test_what_cannot_be_mixed_or_labelled_is_refused(labelled, shards, tmp_path):
    with pytest.raises(ValueError, match="mixup_alpha = -1.0, expected 0 to 1000"):
        fovea.Loader(shards, batch_size=8, mixup_alpha=-1)
    table = tmp_path / "labels.csv"
    table.write_text("file,age\n00.png,old\n")
    with pytest.raises(fovea.DataError, match="labels.csv:2: expected a finite number for `age`"):
        fovea.prepare(labelled / "photos", labels=table, out=tmp_path / "out")
