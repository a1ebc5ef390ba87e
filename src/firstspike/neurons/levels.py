"""Training of causal neurons through the running maximum of their membranes, looked at in a few steps."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from firstspike.kernels.dispatch import common_device, kernels_for
from firstspike.kernels.untraced import untraced
from firstspike.neurons.base import check_read, once
from firstspike.spikes import Spikes
from firstspike.support import check_integer, check_numbers


@dataclass(frozen=True, kw_only=True)
class RunningMax:
    """A surrogate gradient through the running maximum of a causal neuron's membrane.

    A neuron that sums weights has fired by step t exactly if its membrane has reached threshold at
    some step up to t. At a few steps, the levels, the derivative of this cumulative spike train is
    replaced by ``1 / (1 + |M - theta| / width)^2`` (the fast sigmoid's) of the largest membrane ``M`` at
    the levels so far, and handed to the level that holds it. A peak between two levels is fired upon, but
    not seen by the gradient. Our own rule; see ``docs/faithfulness.md``.

    Attributes:
        levels: steps at which the membrane is looked at, ascending, below ``T``.
        width: width of the surrogate in units of the membrane.
    """

    levels: tuple[int, ...] = (0, 1, 2, 3, 5, 8, 12, 18, 27, 40, 60, 90, 130, 190)
    width: float = 0.5

    def __post_init__(self) -> None:
        levels = tuple(check_integer("RunningMax", "levels", level, low=0) for level in self.levels)
        object.__setattr__(self, "levels", levels)
        if not levels or any(a >= b for a, b in pairwise(levels)):
            raise ValueError(f"RunningMax.levels must be ascending time steps, found {self.levels}")
        check_numbers(self, "width", low=0, above=True)


@untraced
def fire_at_levels(
    cumulative: Tensor | None,
    spikes: Spikes,
    weight: Tensor,
    threshold: Tensor,
    rule: RunningMax,
    current: Tensor | None = None,
) -> tuple[Tensor, Spikes]:
    """Return cumulative spikes ``(batch, levels, out)`` and spikes of a dense layer of causal neurons.

    The gradient runs through the cumulative spikes, layer by layer, by `rule`; the times carry none. The
    times are those of `Causal.fire`.

    Args:
        cumulative: of the layer before, ``(batch, levels, in)``; None at the input.
        spikes: of the layer before, ``(batch, in)``, the truth that `cumulative` samples.
        weight: ``(out, in)``, float32.
        threshold: ``(batch, out)``, float32, so that training can ask for a margin.
        rule: levels and width of the surrogate.
        current: ``(out,)``, what `Causal` with the bias "current" adds at every step: ``T`` more inputs.

    Raises:
        TypeError: weights or thresholds are not float32.
        ValueError: shapes do not fit; a level is not below ``T``; weights or times hold NaN.
    """
    for name, values in (("weight", weight), ("threshold", threshold)):
        if values.dtype != torch.float32:
            raise TypeError(f"{name} must be float32, found {values.dtype}")
    if rule.levels[-1] >= spikes.steps:
        raise ValueError(f"levels must be below {spikes.steps} steps, found {rule.levels[-1]}")
    shape = (len(spikes), len(weight))
    if threshold.shape != shape or spikes.shape[1:] != weight.shape[1:]:
        raise ValueError(
            f"expected times {(len(spikes), weight.shape[-1])} and threshold {shape}, found "
            f"{tuple(spikes.shape)} and {tuple(threshold.shape)}"
        )
    times = spikes.times
    if current is not None:
        clock = torch.arange(spikes.steps, dtype=times.dtype, device=times.device)
        times = torch.cat([clock.expand(len(times), -1), times], 1)
        weight = torch.cat([current.unsqueeze(1).expand(-1, spikes.steps), weight], 1)
        if cumulative is not None:
            ticked = clock <= torch.tensor(rule.levels, device=times.device).unsqueeze(1)
            cumulative = torch.cat([ticked.to(weight.dtype).expand(len(times), -1, -1), cumulative], 2)
    fired, times = _Levels.apply(cumulative, times, weight, threshold, spikes.steps, rule)
    return fired, spikes.with_times(times)


class _Levels(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        cumulative: Tensor | None,
        times: Tensor,
        weight: Tensor,
        threshold: Tensor,
        steps: int,
        rule: RunningMax,
    ) -> tuple[Tensor, Tensor]:
        place = common_device(times=times, weight=weight, threshold=threshold, cumulative=cumulative)
        levels = torch.tensor(rule.levels, device=place)
        times_BI, threshold_BO = times.to(torch.float32).contiguous(), threshold.contiguous()
        rows = weight.detach().t().contiguous()
        try:
            out_BO, peak = kernels_for(place).levels.forward(times_BI, rows, threshold_BO, levels, steps)
        except ValueError:
            # The kernel looks as it reads, and does not know what it found.
            check_read(Spikes.trusted(times_BI, steps), weight)
            raise
        ctx.save_for_backward(times_BI, weight, threshold_BO, peak, levels)
        ctx.steps, ctx.width = steps, rule.width
        ctx.mark_non_differentiable(out_BO)
        fired = torch.empty_like(peak)
        torch.le(out_BO.unsqueeze(1), levels.reshape(1, -1, 1), out=fired)
        return fired, out_BO

    @staticmethod
    @once
    def backward(
        ctx: Any, grad_cumulative: Tensor, _: Tensor
    ) -> tuple[Tensor | None, None, Tensor, None, None, None]:
        times, weight, threshold, peak, levels = ctx.saved_tensors
        kernels = kernels_for(times.device).levels
        through = grad_cumulative.contiguous(), peak, threshold, ctx.width
        grad_weight = kernels.weight_gradient(times, *through, levels, ctx.steps).t()
        # Made a second time: layers whose input has a gradient are narrow, and weights need only its sums.
        grad_input = kernels.membrane_gradient(*through) @ weight if ctx.needs_input_grad[0] else None
        return grad_input, None, grad_weight, None, None, None
