"""The once-only threshold over a raster, and the gradients that stand in for its derivative.

Rasters have time first. Cumulative spikes are 1 from the neuron's spike on, so they never fall.
"""

from itertools import pairwise

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from firstspike.kernels.arrays import to_array, to_tensor
from firstspike.kernels.cpu import cumulative as kernel
from firstspike.kernels.untraced import untraced
from firstspike.models.raster.settings import RasterNeuron
from firstspike.models.surrogates import surrogate
from firstspike.neurons.base import once


@untraced
def fire(membrane: Tensor, neuron: RasterNeuron, pool: int = 1, *, forced: bool = False) -> Tensor:
    """Return how many neurons of each pool have fired by each step, in the membrane's type.

    With ``pool`` 1 these are the cumulative spikes ``F[t] = max_{s <= t} [H[s] >= 1]``. Otherwise it is
    average pooling without the division, which is left to the next layer's weights: it is linear, so each
    neuron still spikes once.

    Args:
        membrane: ``H``, ``(T, batch, ...)``; ``(T, batch, channels, y, x)`` to be pooled.
        neuron: surrogate gradient.
        pool: side of the pools, which divides both sides of the map.
        forced: neurons that never cross fire at the last step.
    """
    on_cpu = membrane.device.type == "cpu"
    counts: Tensor = (_Compiled if on_cpu else _Plain).apply(membrane, neuron, pool, forced)
    return counts


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, membrane: Tensor, neuron: RasterNeuron, pool: int, forced: bool
    ) -> Tensor:
        ctx.save_for_backward(membrane)
        ctx.neuron, ctx.pool, ctx.forced = neuron, pool, forced  # type: ignore[attr-defined]
        return _tensor(kernel.fire(_array(membrane), pool, forced), membrane)

    @staticmethod
    @once
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (membrane,) = ctx.saved_tensors  # type: ignore[attr-defined]
        neuron: RasterNeuron = ctx.neuron  # type: ignore[attr-defined]
        out = kernel.gradient(
            _array(membrane),
            _array(grad_outputs[0].to(membrane.dtype)),
            ctx.pool,  # type: ignore[attr-defined]
            ctx.forced,  # type: ignore[attr-defined]
            neuron.gradient,
            neuron.surrogate,
            neuron.width,
        )
        return _tensor(out, membrane), None, None, None


def _array(raster: Tensor) -> "kernel.np.ndarray":
    """The raster as the kernel takes it, ``(T, B, Y, X, C)``; a view where memory is channels last."""
    shaped = raster if raster.dim() == 5 else raster.flatten(2)[..., None, None]
    last = shaped.permute(0, 1, 3, 4, 2).contiguous()
    return to_array(last)


def _tensor(array: "kernel.np.ndarray", like: Tensor) -> Tensor:
    """The kernel's answer as a raster with the number of axes of `like`."""
    shaped = to_tensor(array, like.dtype).permute(0, 1, 4, 2, 3)
    return shaped if like.dim() == 5 else shaped.reshape(like.shape)


class _Plain(torch.autograd.Function):
    """The same in torch's operations, for devices without the compiled loops."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, membrane: Tensor, neuron: RasterNeuron, pool: int, forced: bool
    ) -> Tensor:
        fired = crossed(membrane)
        ctx.save_for_backward(membrane, fired)
        ctx.neuron, ctx.pool, ctx.forced = neuron, pool, forced  # type: ignore[attr-defined]
        if forced:
            fired = fired.clone()
            fired[-1] = True
        values = fired.to(membrane.dtype)
        if pool == 1:
            return values
        counts = F.avg_pool2d(values.flatten(0, 1), pool, divisor_override=1)
        return counts.unflatten(0, membrane.shape[:2])

    @staticmethod
    @once
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = grad_outputs
        membrane, fired = ctx.saved_tensors  # type: ignore[attr-defined]
        neuron: RasterNeuron = ctx.neuron  # type: ignore[attr-defined]
        pool: int = ctx.pool  # type: ignore[attr-defined]
        if pool > 1:
            grad = grad.repeat_interleave(pool, 3).repeat_interleave(pool, 4)
        if ctx.forced:  # type: ignore[attr-defined]
            # The last value is 1 whatever the membrane is.
            grad = grad.clone()
            grad[-1] = 0
        if neuron.gradient == "firing_step":
            # F[s] = sum of S[t] over t <= s, so a spike receives the gradients of all later steps.
            grad = grad.flip(0).cumsum(0).flip(0) * _spikes(fired)
        elif neuron.gradient == "bptt":
            grad = _through_time(grad, membrane, fired)
        return grad * surrogate(membrane - 1, neuron.surrogate, neuron.width), None, None, None


def crossed(membrane: Tensor) -> Tensor:
    """Return whether each neuron has reached the threshold 1 by each step, bool like `membrane`."""
    fired = membrane >= 1
    for earlier, later in pairwise(fired):
        later |= earlier
    return fired


def _spikes(fired: Tensor) -> Tensor:
    spikes = fired.clone()
    spikes[1:] &= ~fired[:-1]
    return spikes


def _through_time(grad: Tensor, membrane: Tensor, fired: Tensor) -> Tensor:
    """The gradient at each ``Theta``: ``l[t] (1 - F[t-1])``, ``l[t] = g[t] + l[t+1] (1 - Theta[t+1])``."""
    total = grad.clone()
    above = membrane >= 1
    for step in range(len(grad) - 2, -1, -1):
        total[step] += total[step + 1] * ~above[step + 1]
    total[1:] *= ~fired[:-1]
    return total
