"""Random small changes of images, in plain torch."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(images: Tensor, *, shift: float = 0.0, rotation: float = 0.0, scale: float = 0.0) -> Tensor:
    """Return each image shifted, rotated and scaled at random, bilinear, black outside.

    Args:
        images: uint8 ``(batch, height, width)``.
        shift: largest shift along each axis in pixels.
        rotation: largest angle in degrees, either way.
        scale: largest change of size, as a share of 1.

    Returns:
        uint8 of the same shape. The random numbers come from torch's global state.
    """
    if shift == 0 and rotation == 0 and scale == 0:
        return images
    count, height, width = images.shape
    angle = _uniform(count) * math.radians(rotation)
    factor = 1 + _uniform(count) * scale
    cos, sin = torch.cos(angle) / factor, torch.sin(angle) / factor
    dx, dy = _uniform(count) * (2 * shift / width), _uniform(count) * (2 * shift / height)
    rows = torch.stack([torch.stack([cos, -sin, dx], 1), torch.stack([sin, cos, dy], 1)], 1)
    grid = F.affine_grid(rows, [count, 1, height, width], align_corners=False)
    moved = F.grid_sample(images.unsqueeze(1).to(torch.float32), grid, align_corners=False)
    return moved.squeeze(1).round().clamp(0, 255).to(torch.uint8)


def _uniform(count: int) -> Tensor:
    return torch.rand(count) * 2 - 1
