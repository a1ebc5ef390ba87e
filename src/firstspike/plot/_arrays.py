"""What the figures accept: tensors or arrays, checked and turned into NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

ArrayLike = Tensor | NDArray[Any]


def to_numpy(values: ArrayLike) -> NDArray[Any]:
    """Return `values` as an array on the CPU, without its gradient."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def to_images(images: ArrayLike, name: str = "images") -> NDArray[np.uint8]:
    """Return `images` as uint8 ``(count, height, width)``, count at least 1.

    Raises:
        TypeError: the values are not uint8.
        ValueError: the shape is another one, or there is no image.
    """
    array = to_numpy(images)
    if array.dtype != np.uint8:
        raise TypeError(f"{name} must be uint8 in 0 ... 255, found {array.dtype}")
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"{name} must be (count, height, width) with count >= 1, found {array.shape}")
    return array


def to_pictures(images: ArrayLike, name: str = "images") -> NDArray[np.uint8]:
    """Return `images`, grey as `to_images` does or of colour as uint8 ``(count, height, width, 3)``.

    Args:
        images: uint8 ``(count, height, width)`` or ``(count, 3, height, width)``.
        name: for messages.

    Raises:
        TypeError: the values are not uint8.
        ValueError: the shape is another one, or there is no image.
    """
    array = to_numpy(images)
    if array.ndim != 4:
        return to_images(array, name)
    if array.shape[1] != 3:
        raise ValueError(f"{name} of colour must be (count, 3, height, width), found {array.shape}")
    planes = [to_images(array[:, channel], name) for channel in range(3)]
    return np.stack(planes, axis=-1)


def to_image(image: ArrayLike, name: str = "image") -> NDArray[np.uint8]:
    """Return `image` as uint8 ``(height, width)``.

    Raises:
        TypeError: the values are not uint8.
        ValueError: the shape is another one.
    """
    array = to_numpy(image)
    if array.ndim != 2:
        raise ValueError(f"{name} must be one image (height, width), found {array.shape}")
    return to_images(array[None], name)[0]
