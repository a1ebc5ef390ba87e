"""The quantised, clipped ReLU that window neurons compute, alone and with the normalisation before it.

In training the gradient passes straight through the levels inside the range.
"""

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from firstspike.kernels.arrays import to_array, to_tensor
from firstspike.kernels.cpu import normed_levels
from firstspike.kernels.cpu import quantise as kernel
from firstspike.kernels.untraced import untraced
from firstspike.neurons.base import once
from firstspike.nn.normed import BatchNorm, NormedConnection


@untraced
def quantise(membrane: Tensor, steps: int, high: float) -> Tensor:
    """Return ``floor(clip(u T / high + 1/2, 0, T)) / T``, straight through inside the range.

    Args:
        membrane: ``u``, float32 or bfloat16 of any shape.
        steps: ``T``.
        high: membrane of the highest level.
    """
    values: Tensor = _quantised(membrane.device).apply(membrane, steps, high, False)[0]
    return values


@untraced
def quantise_and_add_up(membrane: Tensor, steps: int, high: float) -> tuple[Tensor, Tensor]:
    """Return the values of `quantise` and their sum, a float32 scalar, for a penalty on spikes.

    The gradient of the sum takes part in the pass of the values' gradient; apart it would be two more.
    """
    values, total = _quantised(membrane.device).apply(membrane, steps, high, True)
    return values, total


def _quantised(device: torch.device) -> type[torch.autograd.Function]:
    return _Compiled if device.type == "cpu" else _Plain


def _total(values: Tensor, wanted: bool) -> Tensor:
    if not wanted:
        return torch.zeros((), device=values.device)
    # By sample in the values' own type: bfloat16 is added up in float32 and rounded once a sample.
    return values.sum(tuple(range(1, values.dim()))).sum(dtype=torch.float32)


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, membrane: Tensor, steps: int, high: float, total: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(membrane)
        ctx.high = high  # type: ignore[attr-defined]
        values = _tensor(kernel.quantise(_array(membrane), steps, high), membrane)
        return values, _total(values, total)

    @staticmethod
    @once
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (membrane,) = ctx.saved_tensors  # type: ignore[attr-defined]
        arrays = _array(membrane), _array(grad_outputs[0].to(membrane.dtype))
        grad = kernel.gradient(*arrays, ctx.high, grad_outputs[1].item())  # type: ignore[attr-defined]
        return _tensor(grad, membrane), None, None, None


def _array(values: Tensor) -> np.ndarray:
    """Values as the kernel takes them: maps channels last, a view where memory is so."""
    return to_array((values.permute(0, 2, 3, 1) if values.dim() == 4 else values).detach().contiguous())


def _tensor(array: np.ndarray, like: Tensor) -> Tensor:
    last = to_tensor(array, like.dtype)
    return last.permute(0, 3, 1, 2) if like.dim() == 4 else last


class _Plain(torch.autograd.Function):
    """The same in torch's operations, for devices without the compiled loops."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, membrane: Tensor, steps: int, high: float, total: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(membrane)
        ctx.high = high  # type: ignore[attr-defined]
        levels = membrane.mul(steps / high).add_(0.5).clamp_(0, steps).floor_()
        values = levels.div_(steps)
        return values, _total(values, total)

    @staticmethod
    @once
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (membrane,) = ctx.saved_tensors  # type: ignore[attr-defined]
        high: float = ctx.high  # type: ignore[attr-defined]
        grad = grad_outputs[0] + grad_outputs[1].to(grad_outputs[0].dtype)
        inside = torch.ops.aten.hardtanh_backward(grad, membrane, 0, high)
        return inside.mul_(1 / high), None, None, None


@untraced
def fire(connection: NormedConnection, values: Tensor, steps: int, high: float) -> tuple[Tensor, Tensor]:
    """Return the values of a layer's neurons and their sum, as `quantise_and_add_up` of its membranes.

    On the CPU normalisation and levels are one operation in training, where neither rounds membranes of
    half precision nor keeps them. A connection that ``torch.compile`` has taken over stays as it is.

    Args:
        connection: of the layer.
        values: of the layer before.
        steps, high: as for `quantise`.
    """
    norm = connection.norm
    if values.device.type == "cpu" and connection._compiled_call_impl is None:
        sums = connection.before_norm(values) if connection.training else values
        if norm.normalises_by_batch(sums):
            fired, total = _NormedLevels.apply(sums, norm.weight, norm.bias, norm, steps, high)
            return fired, total
    return quantise_and_add_up(connection(values), steps, high)


class _NormedLevels(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, sums: Tensor, gain: Tensor, bias: Tensor, norm: BatchNorm, steps: int, high: float
    ) -> tuple[Tensor, Tensor]:
        rows = _rows(sums)
        how = normed_levels.normal(rows, to_array(gain.detach()), to_array(bias.detach()), norm.epsilon)
        norm.move(torch.from_numpy(how.mean), torch.from_numpy(how.variance), len(rows))
        ctx.save_for_backward(sums)
        ctx.how, ctx.high = how, high  # type: ignore[attr-defined]
        values, total = normed_levels.fire(rows, how, steps, high)
        return _like(values, sums), torch.tensor(total, dtype=torch.float32)

    @staticmethod
    @once
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (sums,) = ctx.saved_tensors  # type: ignore[attr-defined]
        given, more = grad_outputs
        arrays = _rows(sums), _rows(given.to(sums.dtype))
        grad, *others = normed_levels.gradient(*arrays, ctx.how, ctx.high, more.item())  # type: ignore[attr-defined]
        gain, bias = (torch.from_numpy(one.astype(np.float32)) for one in others)
        return _like(grad, sums), gain, bias, None, None, None


def _rows(values: Tensor) -> np.ndarray:
    """Values as ``(places, features)``, a view where memory is so."""
    return _array(values).reshape(-1, values.shape[1])


def _like(rows: np.ndarray, values: Tensor) -> Tensor:
    batch, features, *sides = values.shape
    return _tensor(rows.reshape(batch, *sides, features), values)
