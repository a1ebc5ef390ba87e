"""The door through which images enter a network of maps."""

from typing import Any

import torch
from torch import Tensor

from firstspike.inputs import as_images
from firstspike.models.layout import Shape


def check_maps(images: Any, in_shape: Shape) -> Tensor:
    """Return images ``(batch, *in_shape)`` as `spikes.as_images` does, after a look at the shape.

    Raises:
        TypeError: images of another type.
        ValueError: of another shape, none, or an intensity that is NaN or outside 0 ... 1.
    """
    images = as_images(images)
    if tuple(images.shape[1:]) != tuple(in_shape) or not images.dim():
        hint = "; give grey images an axis for their channel, images[:, None]" if images.dim() == 3 else ""
        raise ValueError(
            f"expected images (batch, {', '.join(map(str, in_shape))}), found {tuple(images.shape)}{hint}"
        )
    if not len(images):
        raise ValueError("there are no images")
    return images


def levels(images: Tensor) -> Tensor:
    """Return checked images on the scale 0 ... 255: uint8 as they are, floats as float32.

    Floats that are multiples of 1/255 up to rounding become integers, so that an image has the same levels
    whatever its type.
    """
    if images.dtype == torch.uint8:
        return images
    scaled = images.to(torch.float64) * 255
    whole = scaled.round()
    return torch.where((scaled - whole).abs() < 1e-4, whole, scaled).to(torch.float32)
