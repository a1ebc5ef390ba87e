"""The largest membrane of squares of places, which fires first."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from firstspike.kernels.arrays import to_array, to_tensor
from firstspike.kernels.cpu import largest as kernel
from firstspike.kernels.untraced import untraced
from firstspike.neurons.base import once

# What the compiled loops hold: places in a byte, and these types.
_LARGEST_SIZE = 16
_TYPES = (torch.float32, torch.bfloat16)


def max_pool(membranes: Tensor, size: int) -> Tensor:
    """Return the largest of each ``size x size`` places of maps; rows and columns left over have none.

    Args:
        membranes: ``(B, C, y, x)``.
        size: side of the squares.
    """
    if size == 1:
        return membranes
    trained = membranes.device.type == "cpu" and membranes.requires_grad
    if trained and membranes.dtype in _TYPES and size <= _LARGEST_SIZE:
        return _compiled(membranes, size)
    return F.max_pool2d(membranes, size)


@untraced
def _compiled(membranes: Tensor, size: int) -> Tensor:
    pooled: Tensor = _Largest.apply(membranes, size)
    return pooled


class _Largest(torch.autograd.Function):
    """The same in one pass each way, with a byte for the place of each largest one."""

    @staticmethod
    def forward(ctx: FunctionCtx, membranes: Tensor, size: int) -> Tensor:
        pooled, place = kernel.largest(_array(membranes), size)
        ctx.place, ctx.size, ctx.shape = place, size, membranes.shape  # type: ignore[attr-defined]
        return to_tensor(pooled, membranes.dtype).permute(0, 3, 1, 2)

    @staticmethod
    @once
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (grad,) = grad_outputs
        count, channels, height, width = ctx.shape  # type: ignore[attr-defined]
        out = kernel.gradient(
            ctx.place,  # type: ignore[attr-defined]
            _array(grad),
            ctx.size,  # type: ignore[attr-defined]
            (count, height, width, channels),
        )
        return to_tensor(out, grad.dtype).permute(0, 3, 1, 2), None


def _array(maps: Tensor) -> "kernel.np.ndarray":
    """Maps channels last, a view where memory is so."""
    return to_array(maps.detach().permute(0, 2, 3, 1).contiguous())
