"""Tensors of PyTorch, where it is installed."""

import gc
import subprocess
import sys

import pytest
from conftest import copied

import fovea_loader as fovea

torch = pytest.importorskip("torch")


def test_batches_are_tensors_in_the_memory_of_the_loader(make):
    expected = copied(make(dtype="float16"))
    loader = make(dtype=torch.float16, arrays=None)
    batches = list(loader)
    assert copied([(images.numpy(), target.numpy()) for images, target in batches]) == expected
    images, target = batches[0]
    assert (images.dtype, images.shape, target.dtype) == (torch.float16, (8, 3, 24, 24), torch.int64)
    assert images.is_contiguous() and len({images.data_ptr() for images, _ in batches}) == 6
    view = images[3]
    del batches, images
    gc.collect()
    assert loader.stats()["held_buffers"] == 1
    del view
    assert loader.stats()["held_buffers"] == 0


def test_channels_last_is_a_memory_format(make):
    for images, _ in make(arrays="torch", channels_last=True, drop_last=False):
        assert images.shape[1:] == (3, 24, 24)
        assert images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()


def test_a_device_gets_copies_of_every_batch(make):
    loader = make(arrays=None, device="meta")
    shapes = [(images.device.type, images.shape, target.shape) for images, target in loader]
    assert shapes == [("meta", (8, 3, 24, 24), (8,))] * 6
    # The position is that of what was delivered, not of what is copied ahead.
    batches = iter(loader)
    next(batches)
    assert loader.state_dict()["sample_in_epoch"] == 8
    assert len(list(batches)) == 5
    assert copied((images.numpy(), target.numpy()) for images, target in make(arrays=None, device="cpu")) == copied(make())


def test_page_locked_memory_is_given_away_and_replaced(make, monkeypatch):
    """Without a GPU there is none; ordinary memory takes the same way."""
    empty, made = torch.empty, []

    def allocate(size, **options):
        assert options.pop("pin_memory")
        made.append(empty(size + 64, **options))
        return made[-1][-made[-1].data_ptr() % 64 :][:size]

    monkeypatch.setattr(torch, "empty", allocate)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    for parameters in ({"dtype": "uint8"}, {"dtype": "float32"}, {"channels_last": True}):
        loader = make(arrays="torch", pin_memory=True, drop_last=False, **parameters)
        made.clear()
        kept = [batch for _ in range(2) for batch in loader]
        expected = make(arrays="torch", drop_last=False, **parameters)
        numpy_batches = [
            batch for _ in range(2) for batch in copied((images.numpy(), target.numpy()) for images, target in expected)
        ]
        assert [images.stride() for images, _ in kept] == [images.stride() for _ in range(2) for images, _ in expected]
        assert copied((images.numpy(), target.numpy()) for images, target in kept) == numpy_batches
        # Two that the loader fills, and one for each that was given away.
        assert len(made) == 2 + len(kept)


def test_page_locked_memory_without_a_gpu_is_refused(make):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="pin_memory needs a GPU that PyTorch can use"):
        make(arrays="torch", pin_memory=True)


RANKS = """
import sys, torch
import fovea_loader as fovea
path, rank = sys.argv[1], int(sys.argv[2])
torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=2)
loader = fovea.Loader(path, batch_size=4)
for images, target in loader:
    print(loader.rank, loader.world, images.sum().item(), target.tolist())
torch.distributed.destroy_process_group()
"""


def test_rank_and_world_are_those_of_torch_distributed(shards, tmp_path, make):
    command = [sys.executable, "-c", RANKS, str(shards)]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for rank, process in enumerate(ranks):
        lines = process.communicate(timeout=300)[0].splitlines()
        expected = make(batch_size=4, rank=rank, world=2)
        assert lines == [f"{rank} 2 {images.sum()} {target.tolist()}" for images, target in expected]


def test_a_data_set_serves_the_data_loader_of_torch(shards):
    dataset = fovea.Dataset(shards)
    loader = torch.utils.data.DataLoader(dataset, batch_size=5, num_workers=2)
    labels = torch.cat([target for _, target in loader]).tolist()
    assert labels == [dataset.label(index) for index in range(len(dataset))]


@pytest.mark.parametrize("channels_last", [False, True])
def test_views_of_an_image_are_an_axis_of_their_own(make, channels_last):
    transform = [fovea.RandomResizedCrop(16), fovea.ColorJitter(0.4, 0.4, 0.4, 0.1)]
    parameters = {"arrays": "torch", "channels_last": channels_last, "transform": transform, "drop_last": False}
    for (image, label), (views, labels) in zip(make(**parameters), make(**parameters, views=2), strict=True):
        assert views.shape == (len(labels), 2, 3, 16, 16) and torch.equal(labels, label)
        assert torch.equal(views[:, 0], image) and not torch.equal(views[:, 1], image)
        # In the memory of the loader.
        strides = (768, 1, 48, 3) if channels_last else (768, 256, 16, 1)
        assert views.flatten(0, 1).stride() == strides
