"""Ranks, and going on after an interruption."""

import json
import subprocess
import sys

import pytest
from conftest import AUGMENTED, TRAIN, copied, numbers

import fovea_loader as fovea


def test_ranks_together_have_the_batches_of_one_rank(make):
    for drop_last in (True, False):
        parameters = {"transform": AUGMENTED, "drop_last": drop_last}
        whole = make(batch_size=12, **parameters)
        ranks = [make(batch_size=4, rank=rank, world=3, **parameters) for rank in range(3)]
        assert len({len(loader) for loader in [whole, *ranks]}) == 1
        for _ in range(2):
            parts = zip(*ranks, strict=True)
            for (images, target), batches in zip(whole, parts, strict=True):
                assert b"".join(part.tobytes() for part, _ in batches) == images.tobytes()
                assert [label for _, labels in batches for label in labels] == target.tolist()


def test_ranks_have_as_many_batches_where_there_are_too_few_images(make):
    # 20 validation images: of the last 4, rank 0 has all and rank 1 none.
    ranks = [make(split="val", batch_size=4, rank=rank, world=2) for rank in range(2)]
    assert [[len(target) for _, target in loader] for loader in ranks] == [[4, 4, 4], [4, 4, 0]]


@pytest.mark.parametrize("delivered", [0, 1, 3, 6])
def test_a_state_in_mid_epoch_goes_on_with_the_same_batches(make, delivered):
    loader = make(transform=AUGMENTED, seed=5)
    list(loader)
    batches = iter(loader)
    for _ in range(delivered):
        next(batches)
    state = json.loads(json.dumps(loader.state_dict()))
    assert (state["epoch"], state["sample_in_epoch"], state["seed"]) == (1, 8 * delivered, 5)
    rest, following = copied(batches), copied(loader)
    assert len(rest) == 6 - delivered

    resumed = make(transform=AUGMENTED)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert len(iter(resumed)) == 6 - delivered
    assert copied(resumed) == rest
    assert copied(resumed) == following


def test_a_state_goes_on_with_another_number_of_ranks_and_another_batch(make):
    before = [make(batch_size=4, rank=rank, world=2, drop_last=False) for rank in range(2)]
    seen = []
    for parts in zip(*map(iter, before), strict=True):
        seen += [number for images, _ in parts for number in numbers(images)]
        if len(seen) == 24:
            break
    states = [loader.state_dict() for loader in before]
    assert states[0] == states[1]
    order = [number for images, _ in make(drop_last=False) for number in numbers(images)]
    # 24 is no multiple of 3 times 5 images.
    after = [make(batch_size=5, rank=rank, world=3, drop_last=False) for rank in range(3)]
    for loader in after:
        loader.load_state_dict(states[0])
    for parts in zip(*after, strict=True):
        seen += [number for images, _ in parts for number in numbers(images)]
    assert seen == order and len(set(seen)) == TRAIN
    assert {loader.epoch for loader in after} == {1}


def test_epochs_go_on_where_a_state_was_saved(make):
    loader, batches, states = make(), [], []
    for epoch in loader.epochs(3):
        for images, _ in epoch:
            batches.append((epoch.number, numbers(images)))
            states.append(loader.state_dict())
    assert [number for number, _ in batches] == [0] * 6 + [1] * 6 + [2] * 6
    assert list(loader.epochs(3)) == []
    for at in (0, 8, 11, 17):
        resumed = make()
        resumed.load_state_dict(states[at])
        rest = [(epoch.number, numbers(images)) for epoch in resumed.epochs(3) for images, _ in epoch]
        assert rest == batches[at + 1 :]


def test_an_epoch_that_ended_before_its_checkpoint_is_finished_without_batches(make):
    loader = make()
    batches = iter(loader)
    for _ in range(6):
        next(batches)
    resumed = make()
    resumed.load_state_dict(loader.state_dict())
    lengths = [(epoch.number, len(list(epoch))) for epoch in resumed.epochs(2)]
    assert lengths == [(0, 0), (1, 6)]


def test_a_loop_that_is_left_early_is_followed_by_the_next_epoch(make):
    expected = make()
    first, second = copied(expected), copied(expected)
    loader = make()
    for batch in loader:
        break
    assert copied([batch]) == first[:1]
    assert copied(loader) == second
    # Epochs that are not iterated over at all pass.
    assert [epoch.number for epoch in loader.epochs(5)] == [2, 3, 4]


class Interrupted:
    """Batches of a stream, the first of which is taken when a signal raises."""

    def __init__(self, stream):
        self.stream, self.close = stream, stream.close

    def next(self):
        self.stream.next()
        raise KeyboardInterrupt


@pytest.mark.parametrize("goes_on", ["the iterator", "a state"])
def test_a_batch_that_was_taken_when_a_signal_raises_is_not_lost(make, goes_on):
    expected = copied(make())
    loader = make()
    batches = iter(loader)
    found = copied([next(batches), next(batches)])
    loader._stream = Interrupted(loader._stream)
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    if goes_on == "a state":
        loader.load_state_dict(loader.state_dict())
        batches = iter(loader)
    assert found + copied(batches) == expected


def test_an_epoch_can_be_set(make):
    loader = make()
    epochs = [copied(loader) for _ in range(3)]
    for number in (2, 0, 0, 1):
        loader.set_epoch(number)
        assert loader.epoch == number
        assert copied(loader) == epochs[number]
    # What was loaded in this epoch stays.
    batches = iter(loader)
    loader.set_epoch(1)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    resumed = make()
    resumed.load_state_dict(state)
    resumed.set_epoch(1)
    assert copied(resumed) == epochs[1][1:]
    for count in (1.5, float("nan"), -1):
        with pytest.raises((TypeError, ValueError), match="count=.*expected a whole number"):
            next(loader.epochs(count))
    with pytest.raises(ValueError, match="epoch=18446744073709551615"):
        loader.set_epoch(2**64 - 1)
    # In the middle of an epoch it begins anew.
    batches = iter(loader)
    next(batches)
    number = loader.epoch
    loader.set_epoch(number)
    assert len(copied(loader)) == 6


def test_an_iteration_ends_where_another_begins(make):
    loader = make()
    old = iter(loader)
    next(old)
    next(iter(loader))
    with pytest.raises(RuntimeError, match="another iteration of this loader has begun"):
        next(old)


def test_a_state_of_another_data_set_is_refused_by_name(make, other_shards):
    state = make().state_dict()
    other = make(path=other_shards)
    with pytest.raises(ValueError, match="another data set: 'shards', train, 50 images.*reads 'others', train"):
        other.load_state_dict(state)
    with pytest.raises(ValueError, match="another data set: 'shards', train.*'shards', val, 20 images"):
        make(split="val").load_state_dict(state)
    # Wherever the same shards lie.
    make().load_state_dict({**state, "dataset": {**state["dataset"], "name": "copy"}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2, expected 1"),
        ({"sample_in_epoch": 51}, "sample_in_epoch=51, expected a whole number 0 to 50"),
        ({"sample_in_epoch": -1}, "sample_in_epoch=-1"),
        ({"epoch": "one"}, "epoch='one', expected a whole number"),
        ({"shuffle": False}, "shuffle=False, this one has True"),
        ({"dataset": {}}, "has {} as its data set"),
        ({"dataset": None}, "has None as its data set"),
        ({"epoch": 2**64 - 1}, "epoch=18446744073709551615, expected a whole number 0 to 18446744073709551614"),
    ],
)
def test_a_state_that_makes_no_sense_is_refused(make, change, message):
    loader = make()
    with pytest.raises((ValueError, TypeError), match=message):
        loader.load_state_dict({**loader.state_dict(), **change})
    with pytest.raises(ValueError, match="no state of a Loader"):
        loader.load_state_dict({"epoch": 1})


LAUNCHED = [
    ({"RANK": "1", "WORLD_SIZE": "4"}, (1, 4)),
    ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}, (2, 3)),
    ({"PMI_RANK": "0", "PMI_SIZE": "2"}, (0, 2)),
    ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}, (3, 4)),
    # A batch script: srun has not been called.
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1)),
]


@pytest.mark.parametrize(("environment", "expected"), LAUNCHED)
def test_rank_and_world_are_those_of_the_launcher(make, monkeypatch, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    loader = make(batch_size=4)
    assert (loader.rank, loader.world) == expected
    # What is given counts.
    loader = make(rank=0, world=1)
    assert (loader.rank, loader.world) == (0, 1)


def test_an_environment_that_makes_no_sense_is_refused_by_name(make, monkeypatch):
    monkeypatch.setenv("RANK", "one")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="RANK is 'one', expected a number"):
        make()
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ValueError, match="torchrun's RANK and WORLD_SIZE: rank 2 of 2"):
        make()


KILLED = """
import json, os, sys
import fovea_loader as fovea
path, state_file, end = sys.argv[1:]
loader = fovea.Loader(path, batch_size=8, seed=3, arrays="numpy", transform=[fovea.RandomCrop(16), fovea.Flip()])
if os.path.exists(state_file):
    loader.load_state_dict(json.load(open(state_file)))
done = 0
for epoch in loader.epochs(2):
    for images, target in epoch:
        print(epoch.number, images.sum(), target.tolist())
        done += 1
        if done == int(end):
            json.dump(loader.state_dict(), open(state_file, "w"))
            os.kill(os.getpid(), 9)
"""


def test_a_program_that_is_killed_goes_on_to_the_same_batches(shards, tmp_path):
    def run(state, end):
        command = [sys.executable, "-u", "-c", KILLED, shards, tmp_path / state, str(end)]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300).stdout

    uninterrupted = run("none", -1)
    assert len(uninterrupted.splitlines()) == 12
    assert run("state", 4) + run("state", 5) + run("state", -1) == uninterrupted

