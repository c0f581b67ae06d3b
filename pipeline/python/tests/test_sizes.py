"""Images of differing sizes, and another size of view from an epoch on."""

import numpy
import pytest
from conftest import AUGMENTED, TRAIN, copied
from PIL import Image

import fovea_loader as fovea

# Width and height of the photos of a data set, and what they are stored as.
SIZES = {(40, 20): (40, 20), (20, 50): (20, 50), (20, 20): (20, 20), (90, 45): (40, 20), (400, 20): (320, 20)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Raw shards of photos in their own proportions."""
    photos = tmp_path_factory.mktemp("photos")
    for number, (width, height) in enumerate(SIZES):
        y, x = numpy.mgrid[:height, :width]
        image = numpy.stack([(x * 5 + number) % 256, (y * 7) % 256, (x + y) % 256], axis=-1)
        path = photos / "train" / "a" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(numpy.uint8)).save(path)
    out = tmp_path_factory.mktemp("data") / "whole"
    fovea.prepare(photos, out=out, size=20, resize="keep")
    return out


def test_photos_keep_their_proportions(whole):
    dataset = fovea.Dataset(whole)
    assert (dataset.image_shape, dataset.image_size) == ("keep", 20)
    assert "20 pixels along the shorter side" in repr(dataset)
    sizes = list(SIZES.values())
    for index, (image, _) in enumerate(dataset):
        width, height = sizes[int(dataset.key(index).split("/")[-1].removesuffix(".png"))]
        assert (image.shape, image.dtype) == ((3, height, width), numpy.uint8)
    assert fovea.verify(whole)["problems"] == []
    assert fovea.inspect(whole)["info"]["cut_images"] == 1


@pytest.mark.parametrize("channels_last", [False, True])
def test_crops_are_those_of_the_whole_photo(make, whole, channels_last):
    loader = make(whole, batch_size=5, shuffle=False, transform=fovea.CenterCrop(16), channels_last=channels_last)
    ((images, _),) = loader
    for view, (image, _) in zip(images, loader.dataset):
        top, left = (image.shape[1] - 16) // 2, (image.shape[2] - 16) // 2
        expected = image[:, top : top + 16, left : left + 16]
        assert (view == (expected.transpose(1, 2, 0) if channels_last else expected)).all()


def test_whole_photos_need_a_crop_to_be_a_batch(make, whole):
    with pytest.raises(ValueError, match="random_resized_crop"):
        make(whole, batch_size=2)
    with pytest.raises(ValueError, match="21x21 pixels out of an image of 20x20"):
        make(whole, batch_size=2, transform=fovea.RandomCrop(21))
    loader = make(whole, batch_size=5, transform=fovea.RandomResizedCrop(24))
    ((images, _),) = loader
    assert images.shape == (5, 3, 24, 24)


def test_the_size_changes_with_the_epoch(make):
    loader = make(transform=AUGMENTED, sizes={0: 8, 2: 16, 3: 12}, seed=3, drop_last=False)
    epochs = [list(epoch) for epoch in loader.epochs(5)]
    assert [{images.shape[2:] for images, _ in epoch} for epoch in epochs] == [
        {(8, 8)},
        {(8, 8)},
        {(16, 16)},
        {(12, 12)},
        {(12, 12)},
    ]
    # Each epoch is that of a loader with that one size.
    for number, size in ((1, 8), (2, 16), (4, 12)):
        only = make(transform=[fovea.RandomResizedCrop(size), *AUGMENTED[1:]], seed=3, drop_last=False)
        only.set_epoch(number)
        assert copied(only) == copied(epochs[number])
    loader.set_epoch(2)
    assert copied(loader) == copied(epochs[2])


def test_a_position_is_saved_and_loaded_across_a_change_of_size(make):
    parameters = {"transform": AUGMENTED, "sizes": {0: 8, 1: 16}}
    loader = make(**parameters)
    expected = [copied(epoch) for epoch in loader.epochs(3)]
    for batches in (2, len(loader), len(loader) + 3):
        loader = make(**parameters)
        seen = (batch for epoch in loader.epochs(3) for batch in epoch)
        for _ in range(batches):
            next(seen)
        other = make(**parameters)
        other.load_state_dict(loader.state_dict())
        rest = [batch for epoch in other.epochs(3) for batch in copied(epoch)]
        assert rest == [batch for epoch in expected for batch in epoch][batches:]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sizes": {1: 8}}, "from epoch 0 on"),
        ({"sizes": 8}, "from epoch 0 on"),
        ({"sizes": {}}, "from epoch 0 on"),
        ({"sizes": {0: 0}}, "the size of epoch 0 is 0"),
        ({"sizes": {0: 8, -1: 8}}, "an epoch is -1"),
        ({"sizes": {0: 8}, "transform": fovea.Flip()}, "found 0"),
        ({"sizes": {0: 8}, "transform": [fovea.RandomCrop(20), fovea.CenterCrop(8)]}, "found 2"),
        ({"sizes": {0: 8, 4: 30}, "transform": fovea.RandomCrop(8)}, "30x30 pixels out of an image of 24x24"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(make, parameters, message):
    with pytest.raises(ValueError, match=message):
        make(**{"transform": AUGMENTED, **parameters})
    with pytest.raises(TypeError, match="whole number"):
        make(transform=AUGMENTED, sizes={0: "8"})
    assert len(make().dataset) == TRAIN
