"""Data sets at URLs."""

import functools
import gc
import http.server
import pickle
import threading
import urllib.request
import weakref

import numpy
import pytest

import fovea_loader as fovea


def batches(loader, epochs=1):
    return [(numpy.array(images), numpy.array(labels)) for _ in range(epochs) for images, labels in loader]


def same(found, expected):
    pairs = zip(found, expected, strict=True)
    return all((one[0] == other[0]).all() and (one[1] == other[1]).all() for one, other in pairs)


def loader(place, **more):
    # More images than a shard has.
    return fovea.Loader(place, batch_size=16, seed=3, arrays="numpy", **more)


@pytest.fixture
def url(shards):
    return f"file://{shards}"


@pytest.fixture
def silent_server(shards):
    """A server of which only the first shard arrives, and an event: that another one is asked for."""
    asked, ends = threading.Event(), threading.Event()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path.endswith(".arrow") and not self.path.endswith("-00000.arrow"):
                asked.set()
                ends.wait(120)
            else:
                super().do_GET()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(shards)))
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    ends.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def bucket(monkeypatch):
    """The URL of a bucket of an S3 server on this machine."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT")).close()
    yield "s3://bucket"
    server.stop()


def test_a_data_set_is_prepared_at_a_url_inspected_and_verified_there(photos, shards, bucket, tmp_path):
    url, work, cache = f"{bucket}/set", tmp_path / "work", tmp_path / "cache"
    options = {"out": url, "size": fovea.Dataset(shards).info["image_size"], "shard_bytes": 20_000, "work": work}
    done = fovea.prepare(photos, **options)
    info = fovea.inspect(shards)["info"]
    files = [shard["file"] for split in ("train", "val") for shard in info[split]]
    sent = done["uploaded"]
    assert (done["directory"], sent["url"], sent["skipped"]) == (str(work), url, 0)
    # The shards, dataset.json, and what says how they were prepared.
    assert sent["files"] >= len(files) + 2
    assert fovea.prepare(photos, **options)["uploaded"] == {"url": url, "files": 0, "bytes": 0, "skipped": sent["files"]}

    there = fovea.inspect(url, cache=cache)
    assert there["info"] == info
    assert there["preparation"] == fovea.inspect(work)["preparation"]
    assert not list(cache.rglob("*.arrow")), "inspect fetches shards"
    limit = 2 * max(shard["bytes"] for split in ("train", "val") for shard in info[split])
    report = fovea.verify(url, cache=cache, cache_limit=limit)
    assert report == fovea.verify(shards)
    assert same(batches(loader(url, cache=cache)), batches(loader(shards)))


def test_where_nothing_can_be_written_is_said_before_the_work(photos, bucket, tmp_path):
    work = tmp_path / "work"
    for out, kind, message in [
        ("https://127.0.0.1:1/set", fovea.DataError, "127.0.0.1:1/set"),
        ("s3://none/set", fovea.DataError, "NoSuchBucket"),
        ("ftp://host/set", ValueError, "unknown scheme `ftp`"),
        (tmp_path / "out", ValueError, "out is no URL"),
    ]:
        with pytest.raises(kind, match=message):
            fovea.prepare(photos, out=out, work=work)
    assert not work.exists()


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
    with pytest.raises(fovea.DataError, match="limit"):
        loader(url, cache=tmp_path / "another", cache_limit=limit, window=len(sizes) - 1)
    assert not list((tmp_path / "another").rglob("*.arrow"))
    with pytest.raises(ValueError, match="window=1, this one has None"):
        loader(shards).load_state_dict(position)


def test_the_smallest_cache_is_enough_to_train_and_evaluate_and_less_is_refused(photos, tmp_path):
    shards = tmp_path / "shards"
    fovea.prepare(photos, out=shards, size=24, shard_bytes=30_000)
    url, info = f"file://{shards}", fovea.inspect(shards)["info"]
    two = {split: sum(sorted((shard["bytes"] for shard in info[split]), reverse=True)[:2]) for split in ("train", "val")}
    least = fovea.inspect(url, cache=tmp_path / "cache")["smallest_cache_bytes"]
    assert least == sum(two.values())
    with pytest.raises(fovea.DataError, match=f"limit of {least - 1} bytes is too small to train with; give at least {least}"):
        loader(url, cache=tmp_path / "cache", cache_limit=least - 1)
    small = {"cache": tmp_path / "cache", "cache_limit": least}
    train, val = loader(url, **small), loader(url, split="val", **small)
    assert train.window == 1
    # While batches of training images are ahead, and held.
    begun = iter(train)
    next(begun)
    assert same(batches(val), batches(loader(shards, split="val")))
    assert same(batches(train), batches(loader(shards, window=1), 2)[len(train) :])


def test_a_data_set_at_a_url_is_read_image_by_image_and_pickled(shards, url, tmp_path):
    there = pickle.loads(pickle.dumps(fovea.Dataset(url, "val", cache=tmp_path, cache_limit="1GB")))
    here = fovea.Dataset(shards, "val")
    assert (there.digest, there.name, there.path) == (here.digest, here.name, url)
    assert all((there[index][0] == here[index][0]).all() for index in range(len(here)))


def test_a_small_cache_is_enough_for_images_one_by_one(shards, url, tmp_path):
    limit = 2 * max(shard["bytes"] for shard in fovea.Dataset(shards).info["train"])
    there, here = fovea.Dataset(url, cache=tmp_path, cache_limit=limit), fovea.Dataset(shards)
    order = [*range(len(here)), *range(0, len(here), 3)]
    assert all((there[index][0] == here[index][0]).all() for index in order)


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


def test_a_loader_is_closed_while_another_thread_waits_for_what_does_not_arrive(silent_server, tmp_path):
    url, asked = silent_server
    waiting_loader, errors = loader(url, cache=tmp_path), []

    def wait():
        with pytest.raises(RuntimeError) as raised:
            next(iter(waiting_loader))
        errors.append(str(raised.value))

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert asked.wait(60)
    closing = threading.Thread(target=waiting_loader.close)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()
    waiting.join()
    assert errors == ["the loader was closed while this batch was waited for"]


def test_a_loader_that_nobody_holds_ends_while_another_thread_waits_for_a_shard_that_it_needs(silent_server, tmp_path):
    url, asked = silent_server
    dataset = fovea.Dataset(url, cache=tmp_path)
    of_first_shard = dataset.info["train"][0]["images"]
    threading.Thread(target=dataset.__getitem__, args=[of_first_shard], daemon=True).start()
    assert asked.wait(60)
    begun = fovea.Loader(dataset, batch_size=of_first_shard // 2, shuffle=False, arrays="numpy", workers=2)
    batches = iter(begun)
    next(batches)
    ended = threading.Event()
    weakref.finalize(begun, ended.set)

    def drop():
        nonlocal begun, batches
        begun = batches = None
        gc.collect()

    threading.Thread(target=drop, daemon=True).start()
    assert ended.wait(20)
