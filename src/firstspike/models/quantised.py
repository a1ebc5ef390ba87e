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
        membrane: ``u``, of any shape; float32 and bfloat16 are fast on the CPU.
        steps: ``T``.
        high: membrane of the highest level.
    """
    values: Tensor = _quantised(membrane).apply(membrane, steps, high, False)[0]
    return values


@untraced
def quantise_and_add_up(membrane: Tensor, steps: int, high: float) -> tuple[Tensor, Tensor]:
    """Return the values of `quantise` and their sum, a float32 scalar, for a penalty on spikes.

    The gradient of the sum takes part in the pass of the values' gradient; apart it would be two more.

    Args:
        membrane: of two axes or more, the first of which are samples.
        steps, high: as for `quantise`.
    """
    values, total = _quantised(membrane).apply(membrane, steps, high, True)
    return values, total


def fire(
    connection: NormedConnection, values: Tensor, steps: int, high: float, *, add_up: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the values of a layer's neurons, those of `quantise` of its membranes, and their sum.

    In training on the CPU, batch normalisation and levels are one operation: membranes of half precision
    are not rounded in between, and none are kept. As the connection itself does, it moves the running
    statistics. Under ``torchrun``, where ``torch.compile`` has taken the connection over, and where it or
    its normalisation has hooks, both are called as modules instead.

    Args:
        connection: of the layer.
        values: of the layer before, ``(B, I)`` or ``(B, I, y, x)``.
        steps, high: as for `quantise`.
        add_up: whether the sum, a float32 scalar, is wanted; else it may be None.
    """
    norm = connection.norm
    if connection.training and values.device.type == "cpu" and _bare(connection) and _bare(norm):
        sums = connection.before_norm(values)
        if sums.dtype in _COMPILED and norm.normalises_by_batch(sums):
            return fire_sums(sums, norm, steps, high)
        membrane = norm(sums)
    else:
        membrane = connection(values)
    return quantise_and_add_up(membrane, steps, high) if add_up else (quantise(membrane, steps, high), None)


_COMPILED = torch.float32, torch.bfloat16


def _quantised(membrane: Tensor) -> type[torch.autograd.Function]:
    fast = membrane.device.type == "cpu" and membrane.dtype in _COMPILED
    return _Compiled if fast else _Plain


def _bare(module: torch.nn.Module) -> bool:
    """Whether calling the module runs its ``forward`` and nothing else."""
    return not (module._forward_hooks or module._forward_pre_hooks or module._compiled_call_impl)


def _total(values: Tensor, wanted: bool) -> Tensor:
    if not wanted:
        return torch.zeros((), device=values.device)
    # By sample in the values' own type: bfloat16 is added up in float32 and rounded once a sample.
    return values.sum(tuple(range(1, values.dim()))).sum(dtype=torch.float32)


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, membrane: Tensor, steps: int, high: float, add_up: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(membrane)
        ctx.high = high  # type: ignore[attr-defined]
        values = _tensor(kernel.quantise(_array(membrane), steps, high), membrane)
        return values, _total(values, add_up)

    @staticmethod
    @once
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor | None) -> tuple[Tensor, None, None, None]:
        (membrane,) = ctx.saved_tensors  # type: ignore[attr-defined]
        arrays = _array(membrane), _array(_given(grad_outputs[0], membrane))
        grad = kernel.gradient(*arrays, ctx.high, _number(grad_outputs[1]))  # type: ignore[attr-defined]
        return _tensor(grad, membrane), None, None, None


class _Plain(torch.autograd.Function):
    """The same in torch's operations, for other devices and types."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, membrane: Tensor, steps: int, high: float, add_up: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(membrane)
        ctx.high = high  # type: ignore[attr-defined]
        levels = membrane.mul(steps / high).add_(0.5).clamp_(0, steps).floor_()
        values = levels.div_(steps)
        return values, _total(values, add_up)

    @staticmethod
    @once
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor | None) -> tuple[Tensor, None, None, None]:
        (membrane,) = ctx.saved_tensors  # type: ignore[attr-defined]
        high: float = ctx.high  # type: ignore[attr-defined]
        grad, of_total = _given(grad_outputs[0], membrane), grad_outputs[1]
        if of_total is not None:
            grad = grad + of_total.to(grad.dtype)
        inside = torch.ops.aten.hardtanh_backward(grad, membrane, 0, high)
        return inside.mul_(1 / high), None, None, None


@untraced
def fire_sums(sums: Tensor, norm: BatchNorm, steps: int, high: float) -> tuple[Tensor, Tensor]:
    """Return the values of neurons, and the sum of these, whose own sums this batch's statistics normalise.

    Args:
        sums: ``(B, O)`` or ``(B, O, y, x)``, on the CPU, float32 or bfloat16; of a feature more than one.
        norm: whose running statistics move.
        steps, high: as for `quantise`.
    """
    fired, total = _NormedLevels.apply(sums, norm.weight, norm.bias, norm, steps, high)
    return fired, total


class _NormedLevels(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, sums: Tensor, gain: Tensor, bias: Tensor, norm: BatchNorm, steps: int, high: float
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        rows = _rows(sums)
        scale, shift = (one.detach().to(torch.float32).numpy() for one in (gain, bias))
        how = normed_levels.normal(rows, scale, shift, norm.epsilon)
        norm.move(torch.from_numpy(how.mean), torch.from_numpy(how.variance), len(rows))
        ctx.save_for_backward(sums)
        ctx.how, ctx.high, ctx.dtype = how, high, gain.dtype  # type: ignore[attr-defined]
        values, total = normed_levels.fire(rows, how, steps, high)
        return _like(values, sums), torch.tensor(total, dtype=torch.float32)

    @staticmethod
    @once
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        (sums,) = ctx.saved_tensors  # type: ignore[attr-defined]
        arrays = _rows(sums), _rows(_given(grad_outputs[0], sums))
        how, high, dtype = ctx.how, ctx.high, ctx.dtype  # type: ignore[attr-defined]
        grad, *others = normed_levels.gradient(*arrays, how, high, _number(grad_outputs[1]))
        gain, bias = (torch.from_numpy(one).to(dtype) for one in others)
        return _like(grad, sums), gain, bias, None, None, None


def _given(grad: Tensor | None, membrane: Tensor) -> Tensor:
    return torch.zeros_like(membrane) if grad is None else grad.to(membrane.dtype)


def _number(grad: Tensor | None) -> float:
    return 0.0 if grad is None else float(grad.item())


def _array(values: Tensor) -> np.ndarray:
    """Values as the kernel takes them: maps channels last, a view where memory is so."""
    return to_array((values.permute(0, 2, 3, 1) if values.dim() == 4 else values).detach().contiguous())


def _tensor(array: np.ndarray, like: Tensor) -> Tensor:
    last = to_tensor(array, like.dtype)
    return last.permute(0, 3, 1, 2) if like.dim() == 4 else last


def _rows(values: Tensor) -> np.ndarray:
    """Values as ``(places, features)``, a view where memory is so."""
    return _array(values).reshape(-1, values.shape[1])


def _like(rows: np.ndarray, values: Tensor) -> Tensor:
    batch, features, *sides = values.shape
    return _tensor(rows.reshape(batch, *sides, features), values)
