"""Arrays of the loader as tensors of PyTorch or arrays of NumPy, and their copies on devices."""

from __future__ import annotations

import importlib.util
from typing import Any

from .transforms import nearest

LIBRARIES = ("torch", "numpy")


def library(arrays: str | None) -> str:
    """ "torch" or "numpy"; by default torch where it is installed."""
    if arrays is None:
        return "torch" if importlib.util.find_spec("torch") else "numpy"
    if arrays not in LIBRARIES:
        raise ValueError(f"arrays={arrays!r}, expected 'torch' or 'numpy'{nearest(str(arrays), LIBRARIES)}")
    return arrays


class NumpyArrays:
    """Batches as arrays of NumPy: images [N,3,H,W], or [N,H,W,3] with the channels last; of several views [N,V,…]."""

    def __init__(self, channels_last: bool, views: int) -> None:
        import numpy

        self.from_dlpack = numpy.from_dlpack
        self.channels_last = channels_last
        self.views = views

    def batch(self, images: Any, labels: Any) -> tuple[Any, Any]:
        images = self.from_dlpack(images)
        if self.channels_last:
            images = images.transpose(0, 2, 3, 1)
        labels = self.from_dlpack(labels)
        if self.views > 1:
            images = images.reshape(len(labels), self.views, *images.shape[1:])
        return images, labels


class TorchTensors:
    """Batches as tensors of PyTorch: images [N,3,H,W], in the memory format `channels_last` if asked for; of several
    views [N,V,3,H,W]."""

    def __init__(self, dtype: str, side: int, channels_last: bool, pin_memory: bool, views: int) -> None:
        import torch

        self.torch = torch
        self.dtype = getattr(torch, dtype)
        self.side = side
        self.channels_last = channels_last
        self.pin_memory = pin_memory
        self.views = views
        if pin_memory:
            try:
                self.pinned(64)
            except RuntimeError as error:
                raise ValueError(f"pin_memory needs a GPU that PyTorch can use, or leave it out: {error}") from None

    def pinned(self, size: int) -> Any:
        """Page-locked memory of `size` bytes, which PyTorch does not give away before copies of it are done."""
        return self.torch.empty(size, dtype=self.torch.uint8, pin_memory=True)

    def batch(self, images: Any, labels: Any) -> tuple[Any, Any]:
        labels = self.torch.from_dlpack(labels)
        if not self.pin_memory:
            return self._of_samples(self.torch.from_dlpack(images), len(labels)), labels
        count = len(labels) * self.views
        values = images.view(self.dtype)[: count * 3 * self.side * self.side]
        if self.channels_last:
            images = values.view(count, self.side, self.side, 3).permute(0, 3, 1, 2)
        else:
            images = values.view(count, 3, self.side, self.side)
        return self._of_samples(images, len(labels)), labels.pin_memory()

    def _of_samples(self, images: Any, samples: int) -> Any:
        return images if self.views == 1 else images.unflatten(0, (samples, self.views))


class Copies:
    """Copies of batches on a device. On CUDA they run beside what the program computes, one batch ahead."""

    def __init__(self, device: Any) -> None:
        import torch

        self.cuda = torch.cuda
        self.device = torch.device(device)
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def begin(self, images: Any, labels: Any) -> tuple[Any, Any, Any]:
        """Images and labels on the device, and the event at which they are there."""
        if self.stream is None:
            return images.to(self.device), labels.to(self.device), None
        with self.cuda.stream(self.stream):
            images = images.to(self.device, non_blocking=True)
            labels = labels.to(self.device, non_blocking=True)
            return images, labels, self.stream.record_event()

    def end(self, images: Any, labels: Any, copied: Any) -> tuple[Any, Any]:
        """The batch, for the stream that the program computes on."""
        if copied is not None:
            current = self.cuda.current_stream(self.device)
            current.wait_event(copied)
            images.record_stream(current)
            labels.record_stream(current)
        return images, labels
