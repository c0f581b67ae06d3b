"""What a loader delivers: shapes, types, values, order."""

import numpy
import pytest
from conftest import AUGMENTED, SIDE, TRAIN, VAL, copied, numbers

import fovea_loader as fovea


def test_batches_are_arrays_of_the_documented_shapes_and_types(make):
    for dtype in ("uint8", "float16", "float32"):
        loader = make(dtype=dtype, transform=[fovea.RandomCrop(16)])
        batches = list(loader)
        assert len(batches) == len(loader) == TRAIN // 8
        for images, target in batches:
            assert (images.shape, images.dtype) == ((8, 3, 16, 16), dtype)
            assert (target.shape, target.dtype) == ((8,), "int64")
            assert images.flags.c_contiguous and images.flags.writeable


def test_every_image_comes_once_an_epoch_with_its_label(make):
    dataset = fovea.Dataset(make().dataset.path)
    labels = {int(image[0, 0, 0]): label for image, label in dataset}
    loader = make(drop_last=False)
    for _ in range(2):
        seen = {}
        for images, target in loader:
            seen.update(zip(numbers(images), target.tolist(), strict=True))
        assert seen == labels and len(labels) == TRAIN


def test_epochs_differ_and_the_seed_decides(make):
    loader = make()
    first, second = copied(loader), copied(loader)
    assert first != second
    again, other = make(), make(seed=1)
    assert (copied(again), copied(again)) == (first, second)
    assert copied(other) != first


def test_the_order_is_that_of_the_loader_in_rust(make):
    # `pipeline/src/order.rs` has the same numbers.
    dataset = fovea.Dataset(make().dataset.path)
    stored = {int(image[0, 0, 0]): index for index, (image, _) in enumerate(dataset)}
    loader = make(seed=7)
    loader.set_epoch(3)
    images, _ = next(iter(loader))
    assert [stored[number] for number in numbers(images)] == ORDER_OF_EPOCH_3


ORDER_OF_EPOCH_3 = [12, 19, 14, 34, 43, 0, 16, 29]


def test_batches_are_the_same_bytes_for_one_and_four_workers(make, jpeg_shards):
    for parameters in ({}, {"path": jpeg_shards, "dtype": "float32"}):
        one = make(workers=1, transform=AUGMENTED, **parameters)
        four = make(workers=4, transform=AUGMENTED, **parameters)
        for _ in range(3):
            assert copied(one) == copied(four)


def test_validation_is_in_the_order_of_the_shards_and_complete(make):
    loader = make(split="val")
    dataset = loader.dataset
    assert (loader.shuffle, loader.drop_last, len(loader)) == (False, False, 3)
    for _ in range(2):
        batches = list(loader)
        assert [len(target) for _, target in batches] == [8, 8, 4]
        images = numpy.concatenate([images for images, _ in batches])
        assert len(dataset) == VAL
        assert all((dataset[index][0] == images[index]).all() for index in range(VAL))


def test_floats_are_pixels_minus_mean_over_std(make):
    mean, std = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    for dtype, tolerance in (("float32", 1e-6), ("float16", 2e-3)):
        pixels, _ = next(iter(make()))
        floats, _ = next(iter(make(dtype=dtype, mean=mean, std=std)))
        expected = (pixels - numpy.reshape(mean, (3, 1, 1))) / numpy.reshape(std, (3, 1, 1))
        assert numpy.abs(floats - expected).max() <= tolerance
        shares, _ = next(iter(make(dtype=dtype)))
        assert numpy.abs(shares - pixels / 255).max() <= tolerance / 2
    dataset = make().dataset
    own, _ = next(iter(make(dtype="float32", mean="dataset", std="dataset")))
    expected = (pixels - numpy.reshape(dataset.mean, (3, 1, 1))) / numpy.reshape(dataset.std, (3, 1, 1))
    assert numpy.abs(own - expected).max() <= 1e-5


def test_channels_can_be_last(make, jpeg_shards):
    for parameters in ({}, {"path": jpeg_shards}):
        for dtype in ("uint8", "float16", "float32"):
            first = make(dtype=dtype, transform=AUGMENTED, **parameters)
            last = make(dtype=dtype, transform=AUGMENTED, channels_last=True, **parameters)
            for (images, _), (same, _) in zip(first, last, strict=True):
                assert same.shape == (8, 16, 16, 3) and same.flags.c_contiguous
                assert (same.transpose(0, 3, 1, 2) == images).all()


def test_types_of_numpy_are_types(make):
    images, _ = next(iter(make(dtype=numpy.float32)))
    assert images.dtype == numpy.float32


def test_transforms_can_be_names_and_dicts(make):
    by_class = make(transform=[fovea.RandomCrop(16), fovea.Flip(0.25)])
    by_name = make(transform=[{"op": "random_crop", "size": 16}, {"op": "horizontal_flip", "p": 0.25}])
    assert copied(by_class) == copied(by_name)
    one = make(transform="horizontal_flip")
    assert copied(one) == copied(make(transform=fovea.Flip()))


def test_every_transform_of_the_registry_has_a_class():
    for name in fovea.transforms.names():
        made = getattr(fovea.transforms, fovea.transforms.camel_case(name))
        parameters = {"size": 8} if "crop" in name else {"kernel_size": 3} if "blur" in name else {}
        assert made(**parameters) == fovea.Transform(name, **parameters)


def test_transforms_take_the_parameters_of_torchvision_and_change_images(make):
    plain = copied(make(transform=None))
    for transform in (
        fovea.VerticalFlip(1.0),
        fovea.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        fovea.Grayscale(0.2),
        fovea.GaussianBlur(5, (0.5, 2.0), p=0.5),
        fovea.RandomErasing(0.25, (0.1, 0.3), (0.5, 2.0), "random"),
        fovea.RandomErasing(value=(124, 116, 104)),
        fovea.TrivialAugment(interpolation="bilinear", fill=(124, 116, 104)),
        fovea.RandAugment(3, 15, 31, fill=128),
    ):
        assert copied(make(transform=[transform])) != plain, transform


@pytest.mark.parametrize("channels_last", [False, True])
def test_views_of_an_image_differ_and_the_first_is_that_of_one_view(make, channels_last):
    one = make(transform=AUGMENTED, channels_last=channels_last)
    two = make(transform=AUGMENTED, channels_last=channels_last, views=2)
    assert len(one) == len(two)
    for (image, label), (views, labels) in zip(one, two, strict=True):
        assert views.shape == (len(labels), 2, *image.shape[1:])
        assert (views[:, 0] == image).all() and (labels == label).all()
        assert (views[:, 0] != views[:, 1]).any()


def test_images_of_a_data_set_are_those_of_the_photos(shards, photos):
    dataset = fovea.Dataset(shards, "train")
    assert (len(dataset), dataset.image_size, dataset.encoding) == (TRAIN, SIDE, "raw")
    assert dataset.classes == [f"class-{number}" for number in range(5)]
    from PIL import Image

    for index in (0, 17, -1):
        image, label = dataset[index]
        photo = numpy.asarray(Image.open(photos / "train" / dataset.key(index)))
        assert (image == photo.transpose(2, 0, 1)).all()
        assert dataset.key(index).startswith(dataset.classes[label])
        assert dataset.label(index) == label
    for index in (TRAIN, -TRAIN - 1):
        with pytest.raises(IndexError, match=f"image {index} of {TRAIN} images"):
            dataset[index]
