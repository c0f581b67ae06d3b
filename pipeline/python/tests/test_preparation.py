"""Shards made from Python and from the command line."""

import json
import subprocess
import sys

import pytest
from conftest import SIDE, TRAIN, VAL

import fovea_loader as fovea


def test_a_preparation_says_what_it_has_done(photos, tmp_path):
    calls = []
    out = tmp_path / "out"
    (photos / "train" / "class-0" / "broken.png").write_bytes(b"no image")
    try:
        summary = fovea.prepare(photos, out=out, size=16, encoding="jpeg", progress=lambda *call: calls.append(call))
    finally:
        (photos / "train" / "class-0" / "broken.png").unlink()
    assert (summary["directory"], summary["rejected"]) == (str(out), 1)
    assert sum(shard["images"] for shard in summary["info"]["train"]) == TRAIN
    assert calls[-1] == (TRAIN + VAL + 1, TRAIN + VAL + 1, 1)
    assert fovea.verify(out) == {"images": TRAIN + VAL, "shards": 2, "problems": []}
    found = fovea.inspect(out)
    assert found["info"] == summary["info"]
    assert (found["preparation"]["size"], found["preparation"]["encoding"]) == (16, "jpeg")


def test_the_embedded_sample_needs_no_photos(tmp_path):
    fovea.prepare(embedded_sample=True, out=tmp_path, size=28, limit_per_class=3)
    dataset = fovea.Dataset(tmp_path)
    assert (len(dataset), dataset.class_names[9]) == (30, "Ankle boot")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"encoding": "jpg"}, ValueError, "unknown encoding \"jpg\", expected one of raw, jpeg; did you mean 'jpeg'"),
        ({"size": 0}, ValueError, "size"),
        ({"size": -1}, ValueError, "size"),
        ({"quality": 101}, ValueError, "quality"),
        ({"layout": "fodlers"}, ValueError, "did you mean 'folders'"),
        ({"train": "nowhere"}, fovea.DataError, "nowhere"),
        ({"train": None}, ValueError, "give the images to prepare"),
        ({"embedded_sample": True}, ValueError, "give the images to prepare"),
    ],
)
def test_options_that_make_no_sense_are_refused(photos, tmp_path, options, kind, message):
    with pytest.raises(kind, match=message):
        fovea.prepare(**{"train": photos, "out": tmp_path, **options})


def test_an_exception_of_the_progress_ends_the_preparation(photos, tmp_path):
    def stop(*_):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        fovea.prepare(photos, out=tmp_path, size=SIDE, progress=stop)


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "fovea_loader", *map(str, arguments)], capture_output=True, text=True)


def test_the_command_line_prepares_inspects_and_verifies(photos, tmp_path):
    out = tmp_path / "out"
    done = command("prepare", "--train", photos, "--out", out, "--size", SIDE)
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout and f"{TRAIN} images in 1 shards" in done.stdout
    done = command("inspect", out)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, str(out))
    assert json.loads(command("inspect", out, "--json").stdout) == fovea.inspect(out)
    done = command("verify", out)
    assert (done.returncode, done.stdout) == (0, f"{out}: {TRAIN + VAL} images in 2 shards, all is well\n")
    (out / "train-00000.arrow").write_bytes(b"")
    done = command("verify", out)
    assert done.returncode == 1 and "train-00000.arrow" in done.stdout


def test_the_exit_code_tells_wrong_usage_from_failure(tmp_path):
    for arguments, code, message in [
        (["prepare", "--out", tmp_path], 2, "give the images to prepare"),
        (["prepare"], 2, "--out"),
        (["prepare", "--embedded-sample", "--out", tmp_path, "--size", 0], 2, "size"),
        (["prepare", "--train", tmp_path / "nowhere", "--out", tmp_path], 1, "nowhere"),
        (["inspect", tmp_path / "nowhere"], 1, "no dataset.json"),
        (["examine", tmp_path], 2, "invalid choice"),
    ]:
        done = command(*arguments)
        assert done.returncode == code and message in done.stderr, done
        assert "Traceback" not in done.stderr
