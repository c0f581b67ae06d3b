"""Whose memory a batch is."""

import gc
import os
import threading
import weakref

import numpy
import pytest
from conftest import copied

import fovea_loader as fovea


def test_batches_that_are_kept_are_not_written_over(make):
    loader = make()
    expected = [batch for _ in range(3) for batch in copied(loader)]
    loader = make()
    kept = [batch for _ in range(3) for batch in loader]
    assert copied(kept) == expected
    addresses = {images.ctypes.data for images, _ in kept}
    assert len(addresses) == len(kept) == 18
    assert loader.stats()["held_buffers"] == 18
    assert loader.stats()["extra_buffers"] == 16


def test_a_loop_uses_the_same_memory_again_and_again(make):
    loader = make()
    addresses = set()
    for _ in range(5):
        for images, _ in loader:
            addresses.add(images.ctypes.data)
    assert len(addresses) <= 4
    assert loader.stats()["extra_buffers"] == 0


def test_memory_is_given_back_when_the_last_view_is_gone(make):
    loader = make()
    kept = [images for images, _ in loader]
    row = kept[0][0, 0]
    value = row.copy()
    del kept
    gc.collect()
    assert loader.stats()["held_buffers"] == 1
    list(loader)
    assert (row == value).all()
    del row
    assert loader.stats()["held_buffers"] == 0


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_memory_of_kept_batches_is_freed_with_them(make):
    # 8 MB a batch.
    loader = make(transform=[fovea.RandomResizedCrop(600)], workers=1)
    kept = [images for images, _ in loader]
    size = kept[0].nbytes
    kept.clear()
    before = resident_bytes()
    kept += [images for _ in range(4) for images, _ in loader]
    assert resident_bytes() - before > 18 * size
    kept.clear()
    assert resident_bytes() - before < 4 * size


def test_a_loader_that_is_left_in_mid_epoch_is_gone_with_its_last_name(make):
    gc.disable()
    try:
        loader = make()
        for _ in loader:
            break
        gone = weakref.ref(loader)
        del loader
        assert gone() is None
    finally:
        gc.enable()


def test_a_batch_outlives_its_loader(make):
    loader = make()
    expected = copied(loader)
    loader = make()
    batches = list(loader)
    loader.close()
    del loader
    gc.collect()
    assert copied(batches) == expected


def test_what_is_written_into_a_batch_does_not_come_back(make):
    expected = make()
    loader = make()
    for _ in range(3):
        for (images, target), (same, labels) in zip(expected, loader, strict=True):
            assert (images == same).all() and (target == labels).all()
            same[:] = 7
            labels[:] = -5


def test_arrays_are_given_by_dlpack_once_for_all(shards):
    array = fovea._native.Dataset(shards, "train").image(0)
    assert array.__dlpack_device__() == (1, 0)
    assert '"dltensor_versioned"' in repr(array.__dlpack__(max_version=(1, 0)))
    # A consumer of before version 1.
    assert '"dltensor"' in repr(array.__dlpack__())
    assert '"dltensor"' in repr(array.__dlpack__(max_version=(0, 8)))
    one, other = numpy.from_dlpack(array), numpy.from_dlpack(array)
    assert one.ctypes.data == other.ctypes.data
    for request in ({"stream": 1}, {"dl_device": (2, 0)}, {"copy": True}):
        with pytest.raises(BufferError):
            array.__dlpack__(**request)


def test_two_threads_can_share_an_epoch(make):
    # Each batch goes to one of them.
    expected = sorted(copied(make(split="val", batch_size=1)))
    stream = make(split="val", batch_size=1)._phases[0].config.start(seed=0, epoch=0, first_sample=0)
    seen, lock = [], threading.Lock()

    def take():
        for _ in range(10):
            images, labels = stream.next()
            with lock:
                seen.append((numpy.from_dlpack(images).copy(), numpy.from_dlpack(labels).copy()))

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(copied(seen)) == expected
