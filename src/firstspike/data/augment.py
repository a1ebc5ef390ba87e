"""Random small changes of images, in plain torch."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def distort(
    images: Tensor,
    *,
    shift_px: float = 0.0,
    rotation_deg: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    elastic_px: float = 0.0,
) -> Tensor:
    """Return each image under a random affine map and a random smooth displacement of its own.

    Bilinear; what comes from outside the image is black. A shift alone is by whole pixels, at most
    ``floor(shift_px)``, which leaves every intensity as it is. The random numbers come from torch's
    global state.

    Args:
        images: uint8 ``(batch, height, width)``.
        shift_px: largest shift along each axis.
        rotation_deg: largest rotation, either way.
        scale: largest relative change of size along each axis.
        shear: largest shear.
        elastic_px: standard deviation of the displacement of a 5 x 5 grid of control points, bicubic
            in between.

    Returns:
        uint8 of the same shape.
    """
    if not any((shift_px, rotation_deg, scale, shear, elastic_px)):
        return images
    count, height, width = images.shape
    if not any((rotation_deg, scale, shear, elastic_px)):
        return _shift_whole_pixels(images, math.floor(shift_px))

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count) * 2 - 1) * limit

    angle = uniform(math.radians(rotation_deg))
    scale_x, scale_y = 1 + uniform(scale), 1 + uniform(scale)
    slant = uniform(shear)
    # affine_grid's coordinates run from -1 to 1, so a pixel is 2 / size.
    shift_x, shift_y = uniform(2 * shift_px / width), uniform(2 * shift_px / height)
    row_x = torch.stack([angle.cos() * scale_x, slant - angle.sin() * scale_y, shift_x], 1)
    row_y = torch.stack([angle.sin() * scale_x, angle.cos() * scale_y, shift_y], 1)
    maps = torch.stack([row_x, row_y], 1)
    grid = F.affine_grid(maps, [count, 1, height, width], align_corners=False)
    if elastic_px > 0:
        points = torch.randn(count, 2, 5, 5) * elastic_px
        points = points * torch.tensor([2 / width, 2 / height]).reshape(1, 2, 1, 1)
        smooth = F.interpolate(points, (height, width), mode="bicubic", align_corners=True)
        grid = grid + smooth.permute(0, 2, 3, 1)
    moved = F.grid_sample(images.unsqueeze(1).to(torch.float32), grid, align_corners=False)
    return moved.squeeze(1).round_().clamp_(0, 255).to(torch.uint8)


def _shift_whole_pixels(images: Tensor, limit: int) -> Tensor:
    count, height, width = images.shape
    padded = F.pad(images, (limit, limit, limit, limit))
    down = torch.randint(0, 2 * limit + 1, (count, 1, 1)) + torch.arange(height).reshape(1, -1, 1)
    right = torch.randint(0, 2 * limit + 1, (count, 1, 1)) + torch.arange(width).reshape(1, 1, -1)
    return padded[torch.arange(count).reshape(-1, 1, 1), down, right]
