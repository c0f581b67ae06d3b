"""Several threads of a program, with and without Python's global lock."""

import queue
import sys
import sysconfig
import threading

import numpy
import pytest
from conftest import SIDE, TRAIN, VAL, numbers
from test_processes import run

import fovea_loader as fovea

THREADS = 8


def together(work):
    """What `work(number)` returns in each of several threads that begin together; an error of one is raised here."""
    begin, results = threading.Barrier(THREADS), [None] * THREADS

    def thread(number):
        begin.wait()
        try:
            results[number] = work(number)
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=thread, args=[number]) for number in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def test_threads_that_share_an_epoch_have_each_image_once(make):
    loader = make(split="val", batch_size=1, workers=3, arrays="numpy")
    for epoch in range(20):
        batches = iter(loader)
        found = sum(together(lambda _: [number for images, _ in batches for number in numbers(images)]), [])
        assert sorted(found) == list(range(VAL)), f"epoch {epoch}"
        assert loader.state_dict()["epoch"] == epoch + 1


def test_states_that_another_thread_asks_for_are_positions_between_batches(make):
    loader = make(split="val", batch_size=3, arrays="numpy")
    over = threading.Event()

    def work(number):
        if number > 0:
            states = []
            while not over.is_set():
                states.append(loader.state_dict())
            return states
        for _ in range(30):
            for _ in loader:
                pass
        over.set()
        return []

    states = sum(together(work), [])
    assert {state["sample_in_epoch"] for state in states} <= {0, 3, 6, 9, 12, 15, 18, VAL}
    assert {state["epoch"] for state in states} <= set(range(31))


def test_batches_are_read_and_dropped_by_other_threads(make):
    loader = make(batch_size=2, workers=2, arrays="numpy")
    taken = queue.Queue(4)

    def work(number):
        if number == 0:
            for _ in range(8):
                for images, _ in loader:
                    taken.put((images, images.copy()))
                    del images
            for _ in range(THREADS):
                taken.put(None)
            return 0
        count = 0
        while (batch := taken.get()) is not None:
            images, copy = batch
            assert numpy.array_equal(images, copy), "a batch that is held was written over"
            count += len(images)
            # The memory goes back to the loader here.
            del images, batch
        return count

    assert sum(together(work)) == 8 * TRAIN
    assert loader.stats()["held_buffers"] == 0


def test_one_array_is_taken_by_many_threads(shards):
    config = fovea.Dataset(shards, "val")
    image = config._native.image(3)
    expected = numpy.array(config[3][0])

    def work(number):
        for turn in range(200):
            # A capsule that nobody takes, and one that is.
            image.__dlpack__(max_version=(1, 0) if turn % 2 else None)
            assert numpy.array_equal(numpy.from_dlpack(image), expected)

    together(work)
    del image


def test_threads_read_the_images_of_a_data_set(shards):
    dataset = fovea.Dataset(shards)
    expected = [numpy.array(dataset[number][0]) for number in range(TRAIN)]

    def work(number):
        fresh = fovea.Dataset(shards)
        for at in range(TRAIN):
            assert numpy.array_equal(dataset[(at + number) % TRAIN][0], expected[(at + number) % TRAIN])
            assert numpy.array_equal(fresh[at][0], expected[at])

    together(work)
    assert expected[0].shape == (3, SIDE, SIDE)


def test_a_loader_that_is_closed_while_threads_use_it_ends_their_epoch(make):
    loader = make(batch_size=2, arrays="numpy")

    def work(number):
        if number == 0:
            loader.close()
            return
        batches = iter(loader)
        try:
            for _ in batches:
                pass
        except RuntimeError as error:
            assert "another iteration of this loader has begun" in str(error)

    for _ in range(10):
        together(work)
    assert sum(len(images) for images, _ in loader) == TRAIN


FORKED = """
import os, sys, threading
import fovea_loader as fovea
loader = fovea.Loader(sys.argv[1], batch_size=8, arrays="numpy")
batches = iter(loader)
next(batches)
held, over = threading.Event(), threading.Event()

def hold():
    # As a thread does that waits for a batch.
    with loader._lock:
        held.set()
        over.wait()

threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if child == 0:
    try:
        next(batches)
    except RuntimeError as error:
        print(error)
    sys.stdout.flush()
    os._exit(0)
print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
over.set()
print("parent:", len(list(batches)))
"""


def test_a_child_that_is_forked_while_a_thread_waits_does_not_hang(shards):
    lines = run(FORKED, shards).splitlines()
    assert "belongs to process" in lines[0]
    assert lines[1:] == ["status 0", "parent: 5"]


@pytest.mark.skipif(not hasattr(sys, "_is_gil_enabled"), reason="this Python has no such builds")
def test_the_package_leaves_the_global_lock_off_where_it_is():
    assert sys._is_gil_enabled() == (not sysconfig.get_config_var("Py_GIL_DISABLED"))


class Waiting:
    """A stream whose next batch does not come before it is let go."""

    def __init__(self, stream):
        self.stream, self.close, self.end_wait = stream, stream.close, stream.end_wait
        self.asked, self.goes_on = threading.Event(), threading.Event()

    def next(self):
        self.asked.set()
        assert self.goes_on.wait(60)
        return self.stream.next()


def test_a_state_is_there_while_another_thread_waits_for_a_batch(make):
    loader = make()
    batches = iter(loader)
    next(batches)
    before = loader.state_dict()
    loader._stream = stream = Waiting(loader._stream)
    waiting = threading.Thread(target=next, args=[batches])
    waiting.start()
    assert stream.asked.wait(60)
    states = []
    asking = threading.Thread(target=lambda: states.append(loader.state_dict()))
    asking.start()
    asking.join(60)
    waits = waiting.is_alive()
    stream.goes_on.set()
    waiting.join()
    assert waits and states == [before]
    assert loader.state_dict()["sample_in_epoch"] == 2 * before["sample_in_epoch"]


class Moving(Waiting):
    """A stream that something happens to while its next batch is waited for, as in the handler of a signal."""

    def __init__(self, stream, happens):
        super().__init__(stream)
        self.happens = happens

    def next(self):
        self.happens()
        return self.stream.next()


@pytest.mark.parametrize("happens", ["set_epoch", "load_state_dict", "close"])
def test_a_position_that_changes_while_a_batch_is_waited_for_loses_none(make, happens):
    expected, loader = make(), make()
    expected.set_epoch(3)
    batches, state = iter(loader), {**loader.state_dict(), "epoch": 3}
    next(batches)
    changes = {
        "set_epoch": lambda: loader.set_epoch(3),
        "load_state_dict": lambda: loader.load_state_dict(state),
        "close": lambda: (loader.close(), loader.set_epoch(3)),
    }
    loader._stream = Moving(loader._stream, changes[happens])
    with pytest.raises(RuntimeError, match="while it waited for a batch|while this batch was waited for"):
        next(batches)
    assert (loader.state_dict()["epoch"], loader.state_dict()["sample_in_epoch"]) == (3, 0)
    assert [labels.tolist() for _, labels in loader] == [labels.tolist() for _, labels in expected]


def test_a_state_is_one_that_was_set(make):
    loader = make()
    states = [{**loader.state_dict(), "seed": seed, "epoch": seed} for seed in (1, 2)]
    loader.load_state_dict(states[0])
    ends = threading.Event()

    def change():
        while not ends.is_set():
            for state in states:
                loader.load_state_dict(state)

    changing = threading.Thread(target=change)
    changing.start()
    found = [loader.state_dict() for _ in range(100_000)]
    ends.set()
    changing.join()
    assert all(state["seed"] == state["epoch"] for state in found)
