"""Errors name what was given, what was expected, and what was probably meant."""

import numpy
import pytest
from conftest import copied

import fovea_loader as fovea

PARAMETERS = [
    ({"batchsize": 8}, TypeError, "no parameter 'batchsize'; did you mean 'batch_size'"),
    ({"batch_size": 0}, ValueError, "batch_size=0, expected a whole number 1 to"),
    ({"batch_size": 1.5}, TypeError, "batch_size=1.5, expected a whole number"),
    ({"batch_size": 51}, ValueError, "larger than the data set of 50 images"),
    ({"workers": 0}, ValueError, "workers=0, expected a whole number 1 to 1024"),
    ({"seed": -1}, ValueError, "seed=-1"),
    ({"split": "trian"}, ValueError, "unknown split \"trian\", expected one of train, val"),
    ({"dtype": "flaot32"}, ValueError, "dtype='flaot32', expected one of uint8, float16, float32; did you mean 'float32'"),
    ({"dtype": float}, ValueError, "expected one of uint8"),
    ({"rank": 1}, ValueError, "rank=1, world=None: give both"),
    ({"rank": 2, "world": 2}, ValueError, "rank 2 of 2"),
    ({"mean": 100}, ValueError, "mean and std need dtype='float16' or 'float32'"),
    ({"dtype": "float32", "mean": (1, 2)}, ValueError, "mean=.*expected three numbers"),
    ({"dtype": "float32", "std": 0}, ValueError, "expected numbers from 0.01"),
    ({"dtype": "float32", "std": (0.229, 0.224, 0.225)}, ValueError, "units of 0..=255; multiply"),
    ({"dtype": "float32", "mean": (0.485, 0.456, 0.406)}, ValueError, "mean=.*units of 0..=255; multiply"),
    ({"dtype": "float32", "mean": (123, 116, 300)}, ValueError, "mean=.*300.*expected numbers from 0 to 255"),
    ({"dtype": "float32", "mean": -1}, ValueError, "mean=.*-1.*expected numbers from 0 to 255"),
    ({"dtype": "float32", "std": (58, 57, 0.001)}, ValueError, "std=.*expected numbers from 0.01 to 256"),
    ({"dtype": "float32", "std": (58, 57, 300)}, ValueError, "std=.*300.*expected numbers from 0.01 to 256"),
    ({"dtype": "float32", "mean": float("nan")}, ValueError, "mean=nan, expected three numbers"),
    ({"dtype": "float32", "mean": "datset"}, ValueError, "or 'dataset'"),
    ({"arrays": "nunpy"}, ValueError, "expected 'torch' or 'numpy'; did you mean 'numpy'"),
    ({"device": "cuda", "arrays": "numpy"}, ValueError, "device and pin_memory need PyTorch"),
    ({"on_bad_record": "sikp"}, ValueError, "\"sikp\", expected one of stop, skip; did you mean 'skip'"),
    ({"transform": ["random_corp"]}, ValueError, "no transform 'random_corp'.*did you mean 'random_crop'"),
    ({"transform": [{"op": "random_crop", "sise": 8}]}, ValueError, "unknown field `sise`.*did you mean 'size'"),
    ({"transform": [{"size": 8}]}, ValueError, "has no name"),
    ({"on_bad_record": None}, TypeError, "on_bad_record=None, expected 'stop' or 'skip'"),
    ({"mixup_alpha": None}, TypeError, "mixup_alpha=None, expected a number"),
    ({"shuffle": "no"}, TypeError, "shuffle='no', expected True or False"),
    ({"drop_last": 2}, TypeError, "drop_last=2, expected True or False"),
    ({"transform": 5}, TypeError, "transform=5, expected a list of transforms"),
    ({"transform": [fovea.Flip(float("nan"))]}, ValueError, "transform=.*a parameter is no finite number"),
    ({"transform": [fovea.RandomCrop({8})]}, TypeError, r"transform: a parameter is \{8\}"),
    ({"transform": [print]}, TypeError, "expected one of fovea_loader's"),
    ({"transform": [fovea.RandomCrop(25)]}, ValueError, "cuts 25x25 pixels out of an image of 24x24"),
    ({"transform": [fovea.RandomResizedCrop(8, scale=(0.5, 0.1))]}, ValueError, r"scale = \[0.5, 0.1\]"),
    ({"transform": [fovea.Flip(1.5)]}, ValueError, "p = 1.5, expected a probability"),
    ({"transform": [fovea.PcaJitter()]}, ValueError, "adds an offset to colours.*use dtype=\"float16\""),
    ({"transform": [fovea.PcaJitter(scale="stdev")], "dtype": "float32"}, ValueError, "did you mean 'stddev'"),
]


@pytest.mark.parametrize(("parameters", "kind", "message"), PARAMETERS)
def test_parameters_that_make_no_sense_are_refused(make, parameters, kind, message):
    with pytest.raises(kind, match=message):
        make(**parameters)


def test_parameters_of_transforms_may_be_of_numpy(make):
    given = [fovea.RandomResizedCrop(numpy.int64(16), scale=numpy.array([0.5, 1.0])), fovea.Flip(numpy.float32(0.5))]
    plain = [fovea.RandomResizedCrop(16, scale=(0.5, 1.0)), fovea.Flip(0.5)]
    assert copied(make(transform=given)) == copied(make(transform=plain))


def test_numbers_of_threads_that_make_no_sense_are_refused(shards, tmp_path):
    for workers in (0, -1, 1025):
        with pytest.raises(ValueError, match=f"workers={workers}, expected a whole number 1 to 1024"):
            fovea.verify(shards, workers=workers)
        with pytest.raises(ValueError, match=f"workers={workers}, expected a whole number 1 to 1024"):
            fovea.prepare(shards, out=tmp_path / "out", workers=workers)


def test_names_of_transforms_are_suggested():
    with pytest.raises(AttributeError, match="did you mean 'RandomCrop'"):
        fovea.transforms.RandomCorp


def test_a_folder_that_is_no_data_set_is_refused(make, tmp_path):
    with pytest.raises(fovea.DataError, match="no dataset.json"):
        make(path=tmp_path)


def damage(shards, folder, number):
    """A copy in which a bit of the pixels of image `number` is flipped."""
    import shutil

    copy = folder / "damaged"
    shutil.copytree(shards, copy)
    dataset = fovea.Dataset(copy)
    pixels = dataset[number][0].tobytes()
    for path in sorted(copy.glob("train-*.arrow")):
        content = bytearray(path.read_bytes())
        place = content.find(pixels)
        if place >= 0:
            content[place + 100] ^= 1
            path.write_bytes(content)
            return copy, path.name, dataset.key(number)
    raise AssertionError("no shard has the image")


def test_a_damaged_record_is_named_and_can_be_skipped(make, shards, tmp_path):
    path, shard, key = damage(shards, tmp_path, 20)
    loader = make(path=path, shuffle=False)
    batches = iter(loader)
    delivered = 0
    for _ in range(2):
        with pytest.raises(fovea.DataError, match=f"{shard}: record .*{key}.*: checksum"):
            for _ in batches:
                delivered += 1
    assert loader.state_dict()["sample_in_epoch"] == 8 * delivered <= 16
    skipping = make(path=path, shuffle=False, on_bad_record="skip")
    assert [len(target) for _, target in skipping] == [8, 8, 7, 8, 8, 8, 2]
    assert skipping.stats()["skipped"] == 1
    with pytest.raises(fovea.DataError, match=f"{shard}: record .*checksum"):
        fovea.Dataset(path)[20]
    report = fovea.verify(path)
    assert report["images"] > 0
    assert any(shard in problem["path"] and key in problem["problem"] for problem in report["problems"])
