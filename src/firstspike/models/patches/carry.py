"""The neurons of a one-step layer: a walk over patches that carries the membrane along."""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from firstspike.kernels.arrays import to_array, to_tensor
from firstspike.kernels.cpu.patches import Walk
from firstspike.kernels.untraced import untraced
from firstspike.models.patches.grid import PatchGrid, cover, merge_patches, split_patches
from firstspike.models.patches.settings import PatchCarry
from firstspike.models.surrogates import surrogate
from firstspike.neurons.base import once


def project(left: Tensor, before: Tensor, neuron: PatchCarry) -> Tensor:
    """Return ``Omega(G, G')`` for membranes left by the previous patch and by the previous layer."""
    angle = neuron.theta * math.pi / 2
    if neuron.projection == "sine_patch":
        return 2 * torch.sin(angle * left) * torch.cos(angle * before)
    if neuron.projection == "sine_layer":
        return 2 * torch.sin(angle * before) * torch.cos(angle * left)
    total = left + before
    if neuron.projection == "linear":
        return total
    functions = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
    return functions[neuron.projection](total)


def carry_patches(
    current: Tensor, before: Tensor | None, neuron: PatchCarry, grid: PatchGrid
) -> tuple[Tensor, Tensor]:
    """Return spikes and left-over membranes of a layer, both ``(B, C, Y, X)`` in the current's type.

    Spikes are 0 or 1; with `neuron.fractional` the mean of the patches that overlap. The gradient is that
    of the whole recurrence with the surrogate for the threshold's; the region threshold passes it straight
    through.

    Args:
        current: ``I``, float32 or bfloat16 ``(B, C, Y, X)``.
        before: left-over membranes of the previous layer, of the same shape; None for none: ``G'`` is 0,
            and where only it is carried there is no projection.
        neuron: what to carry, threshold and surrogate.
        grid: the patches.

    Raises:
        ValueError: the shapes do not fit, or the type is another one.
    """
    if current.dim() != 4 or tuple(current.shape[2:]) != grid.shape:
        raise ValueError(f"expected currents (batch, channels, {grid.shape}), found {tuple(current.shape)}")
    if before is not None and before.shape != current.shape:
        raise ValueError(
            f"the previous layer's membranes {tuple(before.shape)} do not fit currents "
            f"{tuple(current.shape)}"
        )
    if current.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"currents must be float32 or bfloat16, found {current.dtype}")
    if current.device.type == "cpu":
        return _compiled(current, before, neuron, grid)
    spikes, left = walk_patches(
        current.to(torch.float32),
        None if before is None else before.to(torch.float32),
        neuron,
        grid,
        lambda distance: _Spike.apply(distance, neuron),
    )
    return spikes.to(current.dtype), left.to(current.dtype)


def walk_patches(
    current: Tensor,
    before: Tensor | None,
    neuron: PatchCarry,
    grid: PatchGrid,
    spike: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Return what `carry_patches` does, in tensor operations over all samples and places of a patch.

    Args:
        current, before, neuron, grid: as for `carry_patches`.
        spike: of the membrane's distance from the threshold; differentiable.
    """
    carried = neuron.carried
    if before is None:
        carried = "patch" if carried in ("both", "patch") else "none"
    currents = split_patches(current, grid)
    nothing = torch.zeros_like(currents[0])
    befores = None if before is None or carried == "patch" else split_patches(before, grid)
    left, spikes, lefts = nothing, [], []
    for p, drive in enumerate(currents):
        if carried == "none":
            membrane = drive
        else:
            omega = project(
                nothing if carried == "layer" else left, nothing if befores is None else befores[p], neuron
            )
            membrane = drive + neuron.alpha * omega
        spikes.append(spike(membrane - neuron.threshold))
        left = membrane - neuron.threshold * spikes[-1]
        lefts.append(left)
    mean, leftover = merge_patches(torch.stack(spikes), grid), merge_patches(torch.stack(lefts), grid)
    if not neuron.fractional:
        region = (mean > neuron.region_threshold).to(mean.dtype)
        # In this order the second term is exactly 0.
        mean = region + (mean - mean.detach())
    return mean, leftover


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, distance: Tensor, neuron: PatchCarry) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.neuron = neuron  # type: ignore[attr-defined]
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    @once
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (distance,) = ctx.saved_tensors  # type: ignore[attr-defined]
        neuron: PatchCarry = ctx.neuron  # type: ignore[attr-defined]
        return grad_outputs[0] * surrogate(distance, neuron.surrogate, neuron.width), None


@untraced
def _compiled(
    current: Tensor, before: Tensor | None, neuron: PatchCarry, grid: PatchGrid
) -> tuple[Tensor, Tensor]:
    spikes, left = _Compiled.apply(current, before, neuron, grid)
    return spikes, left


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, current: Tensor, before: Tensor | None, neuron: PatchCarry, grid: PatchGrid
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(current, before)  # type: ignore[arg-type]
        ctx.neuron, ctx.grid = neuron, grid  # type: ignore[attr-defined]
        fired = _walk(neuron, grid, current.shape[1]).fire(*_arrays(current, before))
        return _tensor(fired[0], current), _tensor(fired[1], current)

    @staticmethod
    @once
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        current, before = ctx.saved_tensors  # type: ignore[attr-defined]
        walk = _walk(ctx.neuron, ctx.grid, current.shape[1])  # type: ignore[attr-defined]
        grads = (_array(grad.to(current.dtype)) for grad in grad_outputs)
        to_current, to_before = walk.gradient(*_arrays(current, before), *grads)
        return (
            _tensor(to_current, current),
            None if to_before is None else _tensor(to_before, current),
            None,
            None,
        )


# The kernel's words for a patch.


@lru_cache(maxsize=64)
def _walk(neuron: PatchCarry, grid: PatchGrid, channels: int) -> Walk:
    return Walk(
        np.array(grid.corners) * (1, channels),
        (grid.sides[0], grid.sides[1] * channels),
        (1 / cover(grid).to(torch.float32)).repeat_interleave(channels, 1).numpy(),
        projection=neuron.projection,
        carried=neuron.carried,
        surrogate=neuron.surrogate,
        angle=neuron.theta * math.pi / 2,
        alpha=neuron.alpha,
        threshold=neuron.threshold,
        region_threshold=neuron.region_threshold,
        width=neuron.width,
        fractional=neuron.fractional,
    )


def _arrays(current: Tensor, before: Tensor | None) -> tuple[np.ndarray, np.ndarray | None]:
    return _array(current), None if before is None else _array(before.to(current.dtype))


def _array(maps: Tensor) -> np.ndarray:
    """Maps as the kernel takes them, ``(B, Y, X C)``; a view where memory is channels last."""
    last = maps.permute(0, 2, 3, 1).contiguous().flatten(2)
    return to_array(last)


def _tensor(array: np.ndarray, like: Tensor) -> Tensor:
    last = to_tensor(array, like.dtype)
    return last.unflatten(2, (like.shape[3], like.shape[1])).permute(0, 3, 1, 2)
