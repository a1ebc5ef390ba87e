"""The door through which images enter a network."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstspike.models.layout import Shape


def image_levels(images: Any, in_shape: Shape) -> Tensor:
    """Return images ``(batch, *in_shape)`` on the scale 0 ... 255: uint8, or float32 for floats.

    The same image has the same levels, whatever its type: floats that are multiples of 1/255 up to rounding
    become whole levels.

    Args:
        images: uint8, bool (0 and 255), or float32 or float64 in 0 ... 1; a tensor or a numpy array.
        in_shape: shape of one image.

    Raises:
        TypeError: images of another type.
        ValueError: of another shape, none, or an intensity that is NaN or outside 0 ... 1.
    """
    images = _as_images(images)
    if tuple(images.shape[1:]) != tuple(in_shape) or not images.dim():
        hint = "; give grey images an axis for their channel, images[:, None]" if images.dim() == 3 else ""
        raise ValueError(
            f"expected images (batch, {', '.join(map(str, in_shape))}), found {tuple(images.shape)}{hint}"
        )
    if not len(images):
        raise ValueError("there are no images")
    if images.dtype == torch.uint8:
        return images
    levels = images.to(torch.float64) * 255
    whole = levels.round()
    return torch.where((levels - whole).abs() < 1e-4, whole, levels).to(torch.float32)


def _as_images(images: Any) -> Tensor:
    """Images as uint8, or as float32 or float64 in 0 ... 1."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(images)
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a tensor or a numpy array, found {type(images).__name__}")
    if images.dtype == torch.uint8:
        return images
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    if images.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"images must be uint8, bool, or floats in 0 ... 1, found {images.dtype}")
    if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):
        low, high = (float(bound) for bound in torch.aminmax(images))
        raise ValueError(f"float images must lie in 0 ... 1, found {low} ... {high}; divide them by 255")
    return images
