"""Batches of images for training, from memory-mapped shards: the loader of Fovea.

    import fovea_loader as fovea

    fovea.prepare("photos", out="shards")
    loader = fovea.Loader("shards", batch_size=128, transform=[fovea.RandomResizedCrop(224), fovea.Flip()])
    for images, target in loader:
        ...
"""

from . import transforms
from ._dataset import Dataset
from ._loader import IMAGENET_MEAN, IMAGENET_STD, Epoch, Loader
from ._native import DataError, __version__, report_bus_errors
from ._preparation import inspect, prepare, verify
from .transforms import (
    CenterCrop,
    ColorJitter,
    Flip,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    PcaJitter,
    RandAugment,
    RandomCrop,
    RandomErasing,
    RandomResizedCrop,
    Transform,
    TrivialAugment,
    VerticalFlip,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "CenterCrop",
    "ColorJitter",
    "DataError",
    "Dataset",
    "Epoch",
    "Flip",
    "GaussianBlur",
    "Grayscale",
    "HorizontalFlip",
    "Loader",
    "PcaJitter",
    "RandAugment",
    "RandomCrop",
    "RandomErasing",
    "RandomResizedCrop",
    "Transform",
    "TrivialAugment",
    "VerticalFlip",
    "__version__",
    "inspect",
    "prepare",
    "report_bus_errors",
    "transforms",
    "verify",
]
