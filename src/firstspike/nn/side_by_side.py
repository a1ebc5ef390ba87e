"""Convolutions in the form that the processor's library does well: narrow maps several images at once.

Shapes: ``B`` images in ``B / n`` groups of ``n``, maps ``(I, y, x)`` in and ``O`` out.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

# Matrix units take the places of a row together; beyond this width rows fill them, and copies cost more
# than they bring.
_NARROW = 8
_ROW = 64


def convolution(values: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1) -> Tensor:
    """Return a convolution with padding ``(k - 1) // 2``, of narrow bfloat16 maps several side by side.

    Args:
        values: ``(B, I, y, x)``.
        weight: ``(O, I, k, k)`` of the same type.
        bias: ``(O,)``.
        stride: along both axes.
    """
    kernel = weight.shape[-1]
    padding = (kernel - 1) // 2
    if kernel == 1 and stride > 1:
        values, stride = every(values, (stride, stride)), 1
    # An even kernel gives a place less than it takes.
    count = _in_a_row(values, padding) if stride == 1 and kernel > 1 and kernel % 2 else 1
    if count == 1:
        return F.conv2d(values, weight, bias, stride=stride, padding=padding)
    width = values.shape[-1]
    row = _beside(values, count, padding)
    return _apart(F.conv2d(row, weight, bias, padding=padding), count, width)


def every(values: Tensor, stride: tuple[int, int]) -> Tensor:
    """Return the places, `stride` apart along y and x, that a kernel of one place with that stride sees.

    Left to do it, oneDNN writes past its memory where channels-last maps are fewer than a vector holds:
    wrong gradients, or an abort. https://github.com/uxlfoundation/oneDNN/issues/6035
    """
    y, x = stride
    return values[:, :, ::y, ::x]


def _in_a_row(values: Tensor, gap: int) -> int:
    """How many images stand side by side: a divisor of the batch."""
    batch, width = len(values), values.shape[-1]
    if values.dtype != torch.bfloat16 or values.device.type != "cpu" or width > _NARROW:
        return 1
    return max(n for n in range(1, _ROW // (width + gap) + 1) if batch % n == 0)


def _beside(values: Tensor, count: int, gap: int) -> Tensor:
    """Return ``(B / n, I, y, n (x + gap))``, `gap` columns of zeros behind each image."""
    batch, channels, height, width = values.shape
    last = values.permute(0, 2, 3, 1).reshape(batch // count, count, height, width, channels)
    row = F.pad(last.transpose(1, 2), (0, 0, 0, gap))
    return row.reshape(batch // count, height, count * (width + gap), channels).permute(0, 3, 1, 2)


def _apart(row: Tensor, count: int, width: int) -> Tensor:
    """Return ``(B, O, y, x)`` of ``(B / n, O, y, n (x + gap))``."""
    groups, channels, height, _ = row.shape
    last = row.permute(0, 2, 3, 1).reshape(groups, height, count, -1, channels)[:, :, :, :width]
    return last.transpose(1, 2).reshape(groups * count, height, width, channels).permute(0, 3, 1, 2)
