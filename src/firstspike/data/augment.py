"""Random small changes of images, in plain torch."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.support import InputError

Border = Literal["black", "reflect"]


def distort(
    images: Tensor,
    *,
    shift_px: float = 0.0,
    rotation_deg: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    elastic_px: float = 0.0,
    border: Border = "black",
) -> Tensor:
    """Return each image under a random affine map and a random smooth displacement of its own.

    Bilinear; what comes from outside the image is black. A shift alone is by whole pixels, at most
    ``floor(shift_px)``, which leaves every intensity as it is. The random numbers come from torch's
    global state.

    Args:
        images: uint8 ``(batch, height, width)`` or ``(batch, channels, height, width)``, whose channels are
            moved together.
        shift_px: largest shift along each axis.
        rotation_deg: largest rotation, either way.
        scale: largest relative change of size along each axis.
        shear: largest shear.
        elastic_px: standard deviation of the displacement of a 5 x 5 grid of control points, bicubic
            in between.
        border: what a shift comes upon outside: "black", or the image reflected at the middle of its
            outermost pixels; for a shift without any other change only.

    Returns:
        uint8 of the same shape.

    Raises:
        InputError: something is to be changed, and the images are not uint8; a reflected border beside
            other changes than a shift.
    """
    if not any((shift_px, rotation_deg, scale, shear, elastic_px)):
        return images
    check_bytes(images)
    check_border(border, rotation_deg, scale, shear, elastic_px)
    count, height, width = len(images), *images.shape[-2:]
    if not any((rotation_deg, scale, shear, elastic_px)):
        return shift(images, math.floor(shift_px), border)

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count) * 2 - 1) * limit

    angle = uniform(math.radians(rotation_deg))
    scale_x, scale_y = 1 + uniform(scale), 1 + uniform(scale)
    slant = uniform(shear)
    # affine_grid's coordinates run from -1 to 1, so a pixel is 2 / size.
    shift_x, shift_y = uniform(2 * shift_px / width), uniform(2 * shift_px / height)
    row_x = torch.stack([angle.cos() * scale_x, slant - angle.sin() * scale_y, shift_x], 1)
    row_y = torch.stack([angle.sin() * scale_x, angle.cos() * scale_y, shift_y], 1)
    affine = torch.stack([row_x, row_y], 1)
    grid = F.affine_grid(affine, [count, 1, height, width], align_corners=False)
    if elastic_px > 0:
        points = torch.randn(count, 2, 5, 5) * elastic_px
        points = points * torch.tensor([2 / width, 2 / height]).reshape(1, 2, 1, 1)
        smooth = F.interpolate(points, (height, width), mode="bicubic", align_corners=True)
        grid = grid + smooth.permute(0, 2, 3, 1)
    maps = images.reshape(count, -1, height, width).to(torch.float32)
    moved = F.grid_sample(maps, grid, align_corners=False)
    return moved.reshape(images.shape).round_().clamp_(0, 255).to(torch.uint8)


def check_bytes(images: Tensor) -> None:
    """Raise InputError for images that are not uint8, such as a table of numbers."""
    if images.dtype != torch.uint8:
        raise InputError(f"augmentation is for uint8 images, found {images.dtype}; train without it")


def check_border(border: Border, *changes: float) -> None:
    """Raise InputError for a reflected border where the image changes by more than a shift."""
    if border == "reflect" and any(changes):
        raise InputError(
            'border="reflect" is for a shift alone, and rotation_deg, scale, shear or elastic_px is above '
            '0; leave them at 0, or take border="black"'
        )


def flip_horizontally(images: Tensor, probability: float = 0.5) -> Tensor:
    """Return each image flipped horizontally with this probability; uint8 ``(batch, ..., y, x)``.

    Raises:
        InputError: the images are not uint8.
    """
    check_bytes(images)
    flipped = torch.rand(len(images)) < probability
    return torch.where(flipped.reshape(-1, *([1] * (images.dim() - 1))), images.flip(-1), images)


def flip_alternately(images: Tensor, index: Tensor, epoch: int) -> Tensor:
    """Return half of the images flipped horizontally, and in the next epoch the other half.

    Two epochs in a row show each image once each way (Jordan 2024, arXiv 2404.00498).

    Args:
        images: uint8 ``(batch, ..., y, x)``.
        index: int64 ``(batch,)``, their places in the training set.
        epoch: from 0.

    Raises:
        InputError: the images are not uint8.
    """
    check_bytes(images)
    # Half of all places, in no order that a data set may have: a bit of a multiplicative hash.
    flipped = ((index * 40503 >> 7) + epoch) % 2 == 1
    return torch.where(flipped.reshape(-1, *([1] * (images.dim() - 1))), images.flip(-1), images)


def cut_out(images: Tensor, size_px: int) -> Tensor:
    """Return each image with a black square at a random place, clipped at the borders.

    Args:
        images: uint8 ``(batch, ..., height, width)``.
        size_px: side of the square.

    Raises:
        InputError: the images are not uint8.
    """
    check_bytes(images)
    count, height, width = len(images), *images.shape[-2:]
    top = torch.randint(height, (count, 1)) - size_px // 2
    left = torch.randint(width, (count, 1)) - size_px // 2
    rows, columns = torch.arange(height), torch.arange(width)
    down, right = (rows >= top) & (rows < top + size_px), (columns >= left) & (columns < left + size_px)
    square = down.unsqueeze(2) & right.unsqueeze(1)
    return images.masked_fill(square.reshape(count, *([1] * (images.dim() - 3)), height, width), 0)


def shift(images: Tensor, limit: int, border: Border = "black") -> Tensor:
    """Return each image shifted at random by up to `limit` whole pixels along each axis; gradients pass.

    Args:
        images: ``(batch, height, width)`` or ``(batch, channels, height, width)``, bytes or floats.
        limit: largest shift.
        border: see `distort`.
    """
    if not limit:
        return images
    count, height, width = len(images), *images.shape[-2:]
    if border == "black":
        padded = F.pad(images, (limit, limit, limit, limit))
    else:
        rows, columns = _reflected(height, limit), _reflected(width, limit)
        padded = images[..., rows, :][..., columns]
    down = torch.randint(0, 2 * limit + 1, (count, 1, 1)) + torch.arange(height).reshape(1, -1, 1)
    right = torch.randint(0, 2 * limit + 1, (count, 1, 1)) + torch.arange(width).reshape(1, 1, -1)
    # Gathered by flat places: by three indices it takes three times as long.
    places = (down * padded.shape[-1] + right).to(images.device)
    places = places.reshape(count, *([1] * (images.dim() - 3)), height * width)
    moved = padded.flatten(-2).gather(-1, places.expand(*images.shape[:-2], height * width))
    return moved.unflatten(-1, (height, width))


def _reflected(side: int, limit: int) -> Tensor:
    """Which place each one of an axis with a reflected border shows; the edge itself comes once."""
    last = side - 1
    return last - (torch.arange(-limit, side + limit) % max(2 * last, 1) - last).abs()
