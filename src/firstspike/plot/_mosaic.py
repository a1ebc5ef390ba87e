"""Many small images as one, with a gap between them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CELL_DOTS = 56


def dots_per_pixel(height: int, width: int) -> int:
    """Return how many dots wide a pixel is drawn: an integer, for images of like sizes."""
    return max(1, round(CELL_DOTS / max(height, width)))


def mosaic(
    images: NDArray[Any], columns: int, gap: tuple[int, int]
) -> np.ma.MaskedArray[Any, np.dtype[Any]]:
    """Return `images` side by side, row after row, masked where there is no image.

    Args:
        images: ``(count, height, width)``, of colour ``(count, height, width, 3)``.
        columns: images per row.
        gap: masked pixels between rows and between columns.

    Returns:
        ``(rows * (height + gap) - gap, columns * (width + gap) - gap)``, of colour by 3.
    """
    count, height, width, *channels = images.shape
    rows = -(-count // columns)
    pitch_y, pitch_x = height + gap[0], width + gap[1]
    shape = (rows * pitch_y - gap[0], columns * pitch_x - gap[1], *channels)
    result = np.ma.masked_array(np.zeros(shape, images.dtype), mask=True)
    for index, image in enumerate(images):
        top, left = index // columns * pitch_y, index % columns * pitch_x
        result[top : top + height, left : left + width] = image
    return result
