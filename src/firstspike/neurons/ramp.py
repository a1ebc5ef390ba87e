"""The ramp neuron: a causal neuron whose synapses start a constant current, with exact gradients."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from firstspike.kernels.cpu import ramp as kernel
from firstspike.kernels.untraced import untraced
from firstspike.neurons.base import Neuron, Synapses, check_on_cpu, check_read, once
from firstspike.spikes import Spikes
from firstspike.support import check_integer, check_numbers


@dataclass(frozen=True, kw_only=True)
class Ramp(Neuron):
    """A neuron on the clock that all layers share; an input spike starts a constant current.

    The membrane is ``V_j(t) = sum_i w_ji (t - t_i)`` over the inputs before ``t``, so the crossing is
    ``t_j = (theta + sum w t_i) / A`` with the slope ``A = sum w``, and the gradients are exact:
    ``dt_j/dw_ji = (t_i - t_j) / A``, ``dt_j/dt_i = w_ji / A``. The neuron fires at the first time step at
    which it has crossed; this rounding up is passed straight through. One that does not cross has no
    such gradient.

    Attributes:
        threshold: membrane at which it fires, above 0, in units of weights times steps.
        strict: fire at ``V > threshold`` instead of ``V >= threshold``.
        delay: steps from crossing to output spike.
        min_slope: slopes below this count as this in the gradient, which bounds it.
        silent_slope: a silent neuron that the loss asks to fire earlier gets the gradient of a crossing at
            step ``T`` with this slope; None gives it none, and then an output neuron that falls silent for
            a class stays so. Our own rule; see ``docs/faithfulness.md``.
    """

    has_bias: ClassVar[bool] = False
    by_input: ClassVar[bool] = True
    threshold: float = 1.0
    strict: bool = False
    delay: int = 0
    min_slope: float = 1e-6
    silent_slope: float | None = None

    def __post_init__(self) -> None:
        check_numbers(self, "threshold", "min_slope", low=0, above=True)
        if self.silent_slope is not None:
            check_numbers(self, "silent_slope", low=0, above=True)
        object.__setattr__(self, "delay", check_integer("Ramp", "delay", self.delay, low=0))

    def scale(self) -> float:
        """Return the threshold: weights start in its units."""
        return self.threshold

    def check(self, connection: Synapses) -> None:
        """Raise ValueError for a bias, or a connection that is not dense."""
        if connection.bias is not None:
            raise ValueError("Ramp neurons have no bias; change their threshold instead")
        if connection.wiring.kind != "dense":
            raise ValueError(f"Ramp neurons take dense connections, found a {connection.wiring.kind} one")

    def additions(self, steps: int, *, biased: bool) -> int:
        """Return a current in each step."""
        return steps

    def membrane(self, connection: Synapses, spikes: Spikes) -> Tensor:
        """Return the membrane at the last step as if the neuron never reset: ``sum w (T - 1 - t_i)``."""
        return connection((spikes.steps - 1 - spikes.times.to(connection.weight.dtype)).clamp(min=0))

    @untraced
    def fire(self, connection: Synapses, spikes: Spikes) -> Spikes:
        """Return the spikes on the shared clock; neurons that cross in one step tie.

        Raises:
            ValueError: weights or times hold NaN, or do not lie on the CPU.
        """
        check_on_cpu(self, spikes.times, connection.weight)
        check_read(spikes, connection.weight)
        out: Tensor = _Fire.apply(spikes.times, connection.weight, spikes.steps, self)
        return Spikes.trusted(out, spikes.steps)

    def simulate(self, connection: Synapses, spikes: Spikes) -> Spikes:
        """Return the spikes of a walk through the steps: spikes start currents, which move the membrane."""
        raster = spikes.raster().to(connection.weight.dtype)
        membrane = torch.zeros_like(connection(raster[0]))
        current = torch.zeros_like(membrane)
        out = torch.full(membrane.shape, float(spikes.steps))
        for t, arriving in enumerate(raster):
            membrane = membrane + current
            current = current + connection(arriving)
            crosses = membrane > self.threshold if self.strict else membrane >= self.threshold
            out = torch.where(crosses & (out == spikes.steps), float(t), out)
        return Spikes.trusted((out + self.delay).clamp(max=spikes.steps), spikes.steps)


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, times: Tensor, weight: Tensor, steps: int, neuron: Ramp) -> Tensor:
        given = times.detach().to(torch.float32).contiguous()
        rows = weight.detach().t().contiguous()
        crossing, slope = (
            torch.from_numpy(array)
            for array in kernel.forward(given.numpy(), rows.numpy(), neuron.threshold, neuron.strict, steps)
        )
        ctx.save_for_backward(given, weight, crossing, slope)
        ctx.steps, ctx.neuron, ctx.dtype = steps, neuron, times.dtype
        step = torch.ceil(crossing)
        if neuron.strict:
            step = torch.where((step == crossing) & (slope > 0), step + 1, step)
        return (step + neuron.delay).clamp_(max=steps).to(times.dtype)

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        times, weight, crossing, slope = ctx.saved_tensors
        neuron: Ramp = ctx.neuron
        grad = grad.to(torch.float64)
        pull = 0.0 if neuron.silent_slope is None else grad.clamp(min=0) / neuron.silent_slope
        scaled = torch.where(slope > 0, grad / slope.clamp(min=neuron.min_slope), pull)
        rows = weight.detach().t().contiguous()
        grad_weight, grad_times = kernel.backward(
            times.numpy(),
            rows.numpy(),
            crossing.numpy(),
            scaled.numpy(),
            ctx.steps,
            for_times=ctx.needs_input_grad[0],
        )
        return (
            torch.from_numpy(grad_times).to(ctx.dtype) if ctx.needs_input_grad[0] else None,
            torch.from_numpy(grad_weight).t().to(weight.dtype),
            None,
            None,
        )
