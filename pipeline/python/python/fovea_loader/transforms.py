"""Transforms: random changes of an image, drawn anew for every use of it.

Each is a class with the name of an augmentation of Fovea in CamelCase: `RandomResizedCrop(224)` is
`random_resized_crop` with `size = 224`. Parameters that are left out have their defaults. Draws are functions of
(seed, epoch, position in the epoch), so they depend neither on threads nor on ranks.
"""

from __future__ import annotations

import difflib
import json
import operator
import re
from collections.abc import Iterable, Mapping
from typing import Any

from . import _native

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Flip",
    "GaussianBlur",
    "Grayscale",
    "HorizontalFlip",
    "PcaJitter",
    "RandAugment",
    "RandomCrop",
    "RandomErasing",
    "RandomResizedCrop",
    "Transform",
    "TrivialAugment",
    "VerticalFlip",
    "names",
]


# Those that leave another size.
CROPS = ("random_resized_crop", "random_crop", "center_crop")


def names() -> list[str]:
    """The names of all transforms, as recipes give them: `random_resized_crop`, …"""
    return _native.transform_names()


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?` with the known word that is most like `word`, or nothing."""
    found = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


class Transform:
    """The transform `op` of `names()` with parameters by name: `Transform("random_crop", size=224)`."""

    def __init__(self, op: str, **parameters: Any) -> None:
        if op not in names():
            known = names()
            raise ValueError(f"there is no transform {op!r}; there are {', '.join(known)}{nearest(op, known)}")
        self.op = op
        self.parameters = {name: value for name, value in parameters.items() if value is not None}

    def __repr__(self) -> str:
        parameters = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return f"{camel_case(self.op)}({parameters})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transform) and (self.op, self.parameters) == (other.op, other.parameters)

    def __hash__(self) -> int:
        return hash(repr(self))


class RandomResizedCrop(Transform):
    """A rectangle of random area and shape, rescaled to a square; as torchvision's.

    size: side of the resulting square in pixels.
    scale: least and largest share of the image's area [default: (0.08, 1)].
    ratio: least and largest width over height [default: (3/4, 4/3)].
    """

    def __init__(
        self,
        size: int,
        *,
        scale: tuple[float, float] | None = None,
        ratio: tuple[float, float] | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__("random_resized_crop", size=size, scale=scale, ratio=ratio, **parameters)


class RandomCrop(Transform):
    """A square of `size` pixels at a random position, without rescaling."""

    def __init__(self, size: int, **parameters: Any) -> None:
        super().__init__("random_crop", size=size, **parameters)


class CenterCrop(Transform):
    """The square of `size` pixels at the centre, without rescaling."""

    def __init__(self, size: int, **parameters: Any) -> None:
        super().__init__("center_crop", size=size, **parameters)


class HorizontalFlip(Transform):
    """Mirrors left to right with the probability `p` [default: 0.5]."""

    def __init__(self, p: float | None = None, **parameters: Any) -> None:
        super().__init__("horizontal_flip", p=p, **parameters)


Flip = HorizontalFlip


class VerticalFlip(Transform):
    """Mirrors top to bottom with the probability `p` [default: 0.5]."""

    def __init__(self, p: float | None = None, **parameters: Any) -> None:
        super().__init__("vertical_flip", p=p, **parameters)


class ColorJitter(Transform):
    """Brightness, contrast, saturation and hue changed in random order; as torchvision's.

    brightness, contrast, saturation: a factor is drawn from 1 ± the parameter, but not below 0 [default: 0].
    hue: hues are turned by at most this part of a circle, 0 to 0.5 [default: 0].
    p: probability that an image is changed [default: 1].
    """

    def __init__(
        self,
        brightness: float | None = None,
        contrast: float | None = None,
        saturation: float | None = None,
        hue: float | None = None,
        *,
        p: float | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__(
            "color_jitter",
            brightness=brightness,
            contrast=contrast,
            saturation=saturation,
            hue=hue,
            p=p,
            **parameters,
        )


class Grayscale(Transform):
    """All channels become the luma, with the probability `p` [default: 0.1]; as torchvision's RandomGrayscale."""

    def __init__(self, p: float | None = None, **parameters: Any) -> None:
        super().__init__("grayscale", p=p, **parameters)


class GaussianBlur(Transform):
    """Smoothing by a Gaussian kernel of random width; as torchvision's.

    kernel_size: side of the kernel in pixels, odd.
    sigma: least and largest standard deviation in pixels [default: (0.1, 2)].
    p: probability that an image is smoothed [default: 1].
    """

    def __init__(
        self,
        kernel_size: int,
        sigma: tuple[float, float] | None = None,
        *,
        p: float | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__("gaussian_blur", kernel_size=kernel_size, sigma=sigma, p=p, **parameters)


class RandomErasing(Transform):
    """A rectangle of random place, area and shape painted over; as torchvision's, but before the normalisation.

    p: probability [default: 0.5].
    scale: least and largest share of the image's area [default: (0.02, 0.33)].
    ratio: least and largest height over width [default: (0.3, 3.3)].
    value: a number of 0 to 255, three of them for red, green and blue, or "random" [default: 0].
    """

    def __init__(
        self,
        p: float | None = None,
        scale: tuple[float, float] | None = None,
        ratio: tuple[float, float] | None = None,
        value: float | tuple[float, float, float] | str | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__("random_erasing", p=p, scale=scale, ratio=ratio, value=value, **parameters)


class TrivialAugment(Transform):
    """One of 14 operations with a random magnitude; as torchvision's TrivialAugmentWide.

    num_magnitude_bins: magnitudes of each operation [default: 31].
    interpolation: "nearest" or "bilinear" [default: "nearest"].
    fill: colour of what comes from outside the image, 0 to 255, or three numbers [default: 0].
    """

    def __init__(
        self,
        num_magnitude_bins: int | None = None,
        *,
        interpolation: str | None = None,
        fill: float | tuple[float, float, float] | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__(
            "trivial_augment",
            num_magnitude_bins=num_magnitude_bins,
            interpolation=interpolation,
            fill=fill,
            **parameters,
        )


class RandAugment(Transform):
    """Several of 14 operations with one magnitude; as torchvision's.

    num_ops: operations [default: 2].
    magnitude: magnitude of all operations, 0 to num_magnitude_bins - 1 [default: 9].
    num_magnitude_bins: magnitudes that there are [default: 31].
    interpolation: "nearest" or "bilinear" [default: "nearest"].
    fill: colour of what comes from outside the image, 0 to 255, or three numbers [default: 0].
    """

    def __init__(
        self,
        num_ops: int | None = None,
        magnitude: int | None = None,
        num_magnitude_bins: int | None = None,
        *,
        interpolation: str | None = None,
        fill: float | tuple[float, float, float] | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__(
            "rand_augment",
            num_ops=num_ops,
            magnitude=magnitude,
            num_magnitude_bins=num_magnitude_bins,
            interpolation=interpolation,
            fill=fill,
            **parameters,
        )


class PcaJitter(Transform):
    """Adds a random offset along the principal axes of the colours (Krizhevsky et al., 2012); not for uint8.

    stddev: standard deviation of the draw along each axis [default: 0.1].
    scale: "eigenvalue", as the paper prints it, or "stddev", as its authors' code has it.
    statistics: "dataset" or "imagenet": where the axes come from.
    """

    def __init__(
        self,
        stddev: float | None = None,
        *,
        scale: str | None = None,
        statistics: str | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__("pca_jitter", stddev=stddev, scale=scale, statistics=statistics, **parameters)


def camel_case(op: str) -> str:
    return "".join(word.capitalize() for word in op.split("_"))


def __getattr__(name: str) -> Any:
    """Transforms that have no class above, with parameters by name."""
    by_class = {camel_case(op): op for op in names()}
    if name in by_class:
        return lambda **parameters: Transform(by_class[name], **parameters)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{nearest(name, by_class)}")


def to_json(transform: Iterable[Transform | str | Mapping[str, Any]] | Transform | str | None) -> str:
    """The list that Rust reads. A step is a `Transform`, a name, or `{"op": name, …parameters}`."""
    if transform is None:
        transform = []
    elif isinstance(transform, (Transform, str, Mapping)):
        transform = [transform]
    elif not isinstance(transform, Iterable):
        raise TypeError(f"transform={transform!r}, expected a list of transforms, such as [RandomResizedCrop(224), Flip()]")
    steps = []
    for step in transform:
        if isinstance(step, str):
            step = Transform(step)
        elif isinstance(step, Mapping):
            if not isinstance(step.get("op"), str):
                raise ValueError(f"transform {dict(step)!r} has no name: expected {{'op': name, …}}")
            step = Transform(**step)
        elif not isinstance(step, Transform):
            raise TypeError(
                f"transform {step!r} is of {type(step).__module__}.{type(step).__qualname__}, expected one of "
                "fovea_loader's: RandomResizedCrop(224), …"
            )
        steps.append({"op": step.op, **step.parameters})
    try:
        return json.dumps(steps, default=plain, allow_nan=False)
    except ValueError:
        raise ValueError(f"transform={steps!r}: a parameter is no finite number") from None


def plain(value: Any) -> Any:
    """The numbers of a scalar or an array of NumPy or PyTorch."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"transform: a parameter is {value!r}, of {type(value).__module__}.{type(value).__qualname__}")


def by_epoch(transform: Any, sizes: Mapping[int, int] | None) -> list[tuple[int, str]]:
    """For each epoch from which on views have another size, the list that Rust reads, with that size of the crop."""
    text = to_json(transform)
    if sizes is None:
        return [(0, text)]
    if not isinstance(sizes, Mapping) or 0 not in sizes:
        raise ValueError(f"sizes={sizes!r}, expected sizes in pixels by epochs, from epoch 0 on, such as {{0: 128, 10: 224}}")
    steps = json.loads(text)
    crops = [number for number, step in enumerate(steps) if step["op"] in CROPS]
    if len(crops) != 1:
        raise ValueError(f"sizes needs one of {', '.join(CROPS)} among the transforms, found {len(crops)}")
    configs = []
    for epoch, size in sorted((whole_key("an epoch", epoch, 0), size) for epoch, size in sizes.items()):
        steps[crops[0]]["size"] = whole_key(f"the size of epoch {epoch}", size, 1)
        configs.append((epoch, json.dumps(steps)))
    return configs


def whole_key(name: str, value: Any, least: int) -> int:
    """A number in `sizes`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"sizes: {name} is {value!r}, expected a whole number") from None
    if isinstance(value, bool) or not least <= number < 2**32:
        raise ValueError(f"sizes: {name} is {value!r}, expected a whole number from {least} on")
    return number


def explain(error: ValueError | OverflowError) -> ValueError:
    """The error of Rust, with the name that was probably meant."""
    message = "\n".join([str(error), *getattr(error, "__notes__", [])])
    wrong = re.search(r"unknown (?:field|variant) `([^`]*)`, expected (.*)", message)
    if wrong:
        message += nearest(wrong[1], re.findall(r"`([^`]*)`", wrong[2]))
    wrong = re.search(r'unknown .* "([^"]*)", expected one of (.*)', message)
    if wrong:
        message += nearest(wrong[1], wrong[2].split(", "))
    return ValueError(message)
