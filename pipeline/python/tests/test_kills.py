"""Training that is killed and started again: the same batches and losses as of a run that was not.

A program dies by SIGKILL at a numbered call of one of its functions, so at the same place every time.
"""

import pathlib
import signal
import subprocess
import sys

import pytest

import fovea_loader as fovea

EXAMPLE = pathlib.Path(__file__).parent.parent / "examples" / "train.py"
# A process that hangs is stopped after so many seconds.
HANGS = 300

# Runs a program and kills it when it calls `module.function` for the n-th time: MODULE.FUNCTION N PROGRAM ARGUMENT…
KILLED = """
import importlib, os, runpy, signal, sys
place, number, *sys.argv = sys.argv[1:]
module, name = place.rsplit(".", 1)
module, calls = importlib.import_module(module), 0
function = getattr(module, name)

def counted(*arguments, **named):
    global calls
    calls += 1
    if calls == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments, **named)

setattr(module, name, counted)
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# Softmax regression with momentum, in NumPy: PLACE CHECKPOINT EPOCHS CACHE LIMIT
REGRESSION = """
import json, os, sys
import numpy
import fovea_loader as fovea

place, checkpoint, epochs, cache, limit = sys.argv[1:]
elsewhere = {"cache": cache, "cache_limit": limit} if cache else {}
form = {"dtype": "float32", "mean": 128, "std": 64, "arrays": "numpy"}
augmentation = [fovea.RandomResizedCrop(16), fovea.Flip()]
loader = fovea.Loader(place, batch_size=8, seed=1, transform=augmentation, **form, **elsewhere)
weights = numpy.zeros((3 * 16 * 16, len(loader.dataset.classes)), "float32")
momentum = numpy.zeros_like(weights)

def save():
    with open(checkpoint + ".new", "wb") as file:
        numpy.savez(file, weights=weights, momentum=momentum, data=json.dumps(loader.state_dict()))
    os.replace(checkpoint + ".new", checkpoint)

if os.path.exists(checkpoint):
    with numpy.load(checkpoint) as state:
        weights, momentum = state["weights"], state["momentum"]
        loader.load_state_dict(json.loads(str(state["data"])))

for epoch in loader.epochs(int(epochs)):
    for step, (images, target) in enumerate(epoch, start=1):
        rows = images.reshape(len(images), -1)
        logits = rows @ weights
        shares = numpy.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        loss = -numpy.log(shares[numpy.arange(len(rows)), target]).mean()
        shares[numpy.arange(len(rows)), target] -= 1
        momentum = 0.9 * momentum + rows.T @ shares / len(rows)
        weights = weights - numpy.float32(0.001) * momentum
        pixels = images.astype(float).sum()
        print(f"epoch {epoch.number}: pixels {pixels:.4f}, classes {target.tolist()}, loss {loss:.6f}", flush=True)
        if step % 2 == 0:
            save()
    save()
"""


def run(program, *arguments):
    """What a run to its end prints."""
    command = [sys.executable, program, *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    return lines_of(done.stdout)


def run_killed(place, number, program, *arguments):
    """What a run prints that is killed at the call of this number of the function `place`."""
    command = [sys.executable, "-c", KILLED, place, number, program, *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    return lines_of(done.stdout)


def lines_of(text):
    return [line for line in text.splitlines() if not line.startswith("goes on from ")]


def spans(runs, whole):
    """Where the lines of each run begin and end among those of the whole one, which they must be."""
    assert len(set(whole)) == len(whole)
    found = [(whole.index(lines[0]), whole.index(lines[-1]) + 1) for lines in runs]
    assert runs == [whole[first:end] for first, end in found]
    return found


@pytest.fixture
def regression(tmp_path):
    program = tmp_path / "regression.py"
    program.write_text(REGRESSION)
    return program


# An epoch has six batches. It is saved after the second, the fourth and the last, and when it has ended.
MOMENTS = {
    "in the first epoch": ("numpy.exp", 6, [(0, 5), (4, 12)]),
    "in the second epoch": ("numpy.exp", 10, [(0, 9), (8, 12)]),
    "in a checkpoint": ("numpy.savez", 6, [(0, 10), (8, 12)]),
    "before a checkpoint takes its place": ("os.replace", 6, [(0, 10), (8, 12)]),
    "between the last batch and the end of an epoch": ("os.replace", 4, [(0, 6), (6, 12)]),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_to_the_same_batches_and_losses(regression, shards, tmp_path, moment):
    whole = run(regression, shards, tmp_path / "whole", 2, "", "")
    place, number, expected = MOMENTS[moment]
    options = shards, tmp_path / "checkpoint", 2, "", ""
    runs = [run_killed(place, number, regression, *options), run(regression, *options)]
    assert spans(runs, whole) == expected
    assert run(regression, *options) == []


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_losses(regression, shards, tmp_path):
    whole = run(regression, shards, tmp_path / "whole", 2, "", "")
    options = shards, tmp_path / "checkpoint", 2, "", ""
    # Each lives for three batches, of which two are saved.
    runs = [run_killed("numpy.exp", 4, regression, *options) for _ in range(5)]
    runs.append(run(regression, *options))
    assert spans(runs, whole) == [(0, 3), (2, 5), (4, 7), (6, 9), (8, 11), (10, 12)]


def test_a_killed_run_goes_on_with_shards_from_a_url_in_windows(regression, shards, tmp_path):
    # For two shards of each split, of the five of training images.
    limit = 4 * max(shard["bytes"] for shard in fovea.Dataset(shards).info["train"])
    url = f"file://{shards}"
    whole = run(regression, url, tmp_path / "whole", 2, tmp_path / "cache of the whole", limit)
    assert whole != run(regression, shards, tmp_path / "global", 2, "", "")
    options = url, tmp_path / "checkpoint", 2, tmp_path / "cache", limit
    runs = [run_killed("numpy.exp", 10, regression, *options), run(regression, *options)]
    assert spans(runs, whole) == [(0, 9), (8, 12)]


def test_the_example_that_is_killed_goes_on_to_the_same_batches_and_losses(shards, tmp_path):
    pytest.importorskip("torchvision")

    def options(checkpoint):
        sizes = "--epochs", 2, "--batch", 8, "--crop", 16, "--save-every", 2
        return shards, *sizes, "--verbose", "--device", "cpu", "--checkpoint", tmp_path / checkpoint

    whole = run(EXAMPLE, *options("whole.pt"))
    # An epoch has a line for each of six batches, and one about the validation images.
    assert len(whole) == 14
    runs = [
        run_killed("torch.nn.functional.cross_entropy", 4, EXAMPLE, *options("last.pt")),
        run_killed("torch.save", 2, EXAMPLE, *options("last.pt")),
        run_killed("os.replace", 3, EXAMPLE, *options("last.pt")),
        run(EXAMPLE, *options("last.pt")),
    ]
    # The second dies while it saves for the second time, the third before a checkpoint takes its place.
    assert spans(runs, whole) == [(0, 3), (2, 6), (4, 9), (7, 14)]
    assert run(EXAMPLE, *options("last.pt")) == []
