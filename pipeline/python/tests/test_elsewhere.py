"""Data sets at URLs."""

import pickle

import numpy
import pytest

import fovea_loader as fovea


def batches(loader, epochs=1):
    return [(numpy.array(images), numpy.array(labels)) for _ in range(epochs) for images, labels in loader]


def same(found, expected):
    pairs = zip(found, expected, strict=True)
    return all((one[0] == other[0]).all() and (one[1] == other[1]).all() for one, other in pairs)


def loader(place, **more):
    # Shards have seven images: they hold several batches, as shards do.
    return fovea.Loader(place, batch_size=2, seed=3, arrays="numpy", **more)


@pytest.fixture
def url(shards):
    return f"file://{shards}"


def test_batches_from_a_url_are_those_from_the_folder(shards, url, tmp_path):
    assert same(batches(loader(url, cache=tmp_path), 2), batches(loader(shards), 2))
    assert list(tmp_path.rglob("train-00000.arrow"))


def test_a_small_cache_shuffles_in_windows_and_resumes(shards, url, tmp_path):
    sizes = [shard["bytes"] for shard in fovea.Dataset(shards).info["train"]]
    limit = 4 * max(sizes)
    small = loader(url, cache=tmp_path, cache_limit=limit)
    assert small.window == 1 < len(sizes)
    found = batches(small, 2)
    assert same(found, batches(loader(shards, window=1), 2))
    assert not same(found, batches(loader(shards), 2))
    held = [path.stat().st_size for path in tmp_path.rglob("*.arrow") if path.parent.name != "locks"]
    assert sum(held) <= limit
    position = small.state_dict()
    assert same(batches(small), (lambda other: other.load_state_dict(position) or batches(other))(loader(shards, window=1)))
    with pytest.raises(ValueError, match="window=1, this one has None"):
        loader(shards).load_state_dict(position)


def test_a_data_set_at_a_url_is_read_image_by_image_and_pickled(shards, url, tmp_path):
    there = pickle.loads(pickle.dumps(fovea.Dataset(url, "val", cache=tmp_path, cache_limit="1GB")))
    here = fovea.Dataset(shards, "val")
    assert (there.digest, there.name, there.path) == (here.digest, here.name, url)
    assert all((there[index][0] == here[index][0]).all() for index in range(len(here)))


def test_what_cannot_be_reached_or_makes_no_sense_is_refused(shards, url, tmp_path):
    for more, kind, message in [
        ({"path": "ftp://host/set"}, ValueError, "unknown scheme `ftp`"),
        ({"path": f"file://{tmp_path}/none"}, fovea.DataError, "no dataset.json"),
        ({"path": "http://127.0.0.1:1/set", "timeout": 0.5}, fovea.DataError, "http://127.0.0.1:1/set/dataset.json: "),
        ({"path": url, "timeout": 0.0}, ValueError, "timeout=0"),
        ({"path": url, "cache_limit": "many"}, ValueError, "cache_limit=\"many\", expected a whole number of bytes"),
        ({"path": url, "cache_limit": 1000}, ValueError, "cache limit of 1000 bytes is too small"),
    ]:
        with pytest.raises(kind, match=message):
            fovea.Dataset(more.pop("path"), **{"cache": tmp_path / "cache", **more})
    with pytest.raises(ValueError, match="cache: give them to the Dataset"):
        loader(fovea.Dataset(shards), cache=tmp_path)
