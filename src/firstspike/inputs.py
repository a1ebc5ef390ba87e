"""What comes from outside, checked once: numbers, images and labels (`Spikes` checks its own times)."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64)

# How far an image in 0 ... 1 may overshoot by rounding.
_OVERSHOOT = 1e-6


def to_tensor(values: Any, name: str) -> Tensor:
    """Return numbers as a tensor; TypeError, which says what `name` is, if they are none."""
    try:
        if isinstance(values, np.ndarray):
            # torch takes no other byte order and no negative strides, and warns of read-only memory.
            values = np.require(values, values.dtype.newbyteorder("="), ["C", "W"])
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be a tensor or array of numbers: {error}") from error


def as_tensor(values: Any, name: str) -> Any:
    """Return numpy arrays, lists and tuples of numbers as tensors, anything else as it is.

    Raises:
        TypeError: they hold something else; the message says what `name` is.
    """
    return to_tensor(values, name) if isinstance(values, np.ndarray | list | tuple) else values


def as_images(images: Any) -> Tensor:
    """Return images as uint8 0 ... 255, or float32 or float64 in 0 ... 1: the one door for images.

    Args:
        images: any shape. uint8 passes as it is; bool becomes 0 and 255; floating point must lie in
            0 ... 1, rounding error aside, which is cut off. Lists and numpy arrays are taken too.

    Raises:
        TypeError: another type of number; int64 images, for instance, do not say what white is.
        ValueError: an intensity is NaN or outside 0 ... 1.
    """
    if not isinstance(images, Tensor):
        images = to_tensor(images, "images")
    if images.dtype == torch.uint8:
        return images
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    if images.dtype not in FLOATS:
        raise TypeError(
            "images must be uint8, bool, or float32 or float64 in 0 ... 1, found "
            f"{images.dtype}; convert them, or give encode_latency a max_intensity"
        )
    return check_unit_range(images, "images", 1.0)


def check_unit_range(values: Tensor, name: str, scale: float) -> Tensor:
    """Return `values`, which are shares of `scale`, cut to 0 ... 1; ValueError beyond rounding errors."""
    if not values.numel():
        return values
    low, high = (float(bound) for bound in torch.aminmax(values.detach()))
    if math.isnan(low) or math.isnan(high):
        raise ValueError(f"{name} hold NaN")
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ValueError(
            f"{name} must lie in 0 ... {scale:g}, found {low * scale!r} ... {high * scale!r}; scale them, "
            "or give encode_latency their max_intensity"
        )
    return values if low >= 0 and high <= 1 else values.clamp(0, 1)


def check_labels(labels: Any, count: int, classes: int) -> Tensor:
    """Return labels as int64 ``(count,)`` after checking that each names a class.

    Args:
        labels: integers ``(count,)``; a tensor, list or numpy array.
        count: number of samples.
        classes: number of classes. On a CUDA device values are left to the operation that reads them, which
            checks them without a synchronisation.

    Raises:
        TypeError: labels are not integers.
        ValueError: another shape, or a label outside ``0 ... classes - 1``.
    """
    if not isinstance(labels, Tensor):
        labels = to_tensor(labels, "labels")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be integers, found {labels.dtype}")
    if labels.shape != (count,):
        raise ValueError(
            f"labels must have the shape ({count},), one per sample, found {tuple(labels.shape)}"
        )
    labels = labels.to(torch.int64)
    if count and labels.device.type == "cpu":
        low, high = (int(bound) for bound in torch.aminmax(labels))
        if low < 0 or high >= classes:
            raise ValueError(f"labels must lie in 0 ... {classes - 1}, found {low} ... {high}")
    return labels
