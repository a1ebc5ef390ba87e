"""The phased neuron: a causal neuron on one clock, whose layer fires in a phase of it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from firstspike.codes import encode_latency
from firstspike.kernels.cpu import phased as kernel
from firstspike.kernels.untraced import untraced
from firstspike.neurons.base import Neuron, Synapses, check_on_cpu, check_read, once
from firstspike.spikes import Spikes
from firstspike.support import check_integer, check_numbers


@dataclass(frozen=True, kw_only=True)
class Phased(Neuron):
    """A causal neuron on one shared clock whose layer fires in a phase of it; ramp synapse.

    ``V_j(t) = t + sum_i c_ji (min(t, g) - t_i)+``: a drive of one unit per step, and an input spike
    starts a current that ends at the gate ``g``, the last step of the input phase. The neuron fires once,
    at the first step at which its membrane reaches its threshold, before its own phase ends. It may
    fire while inputs still arrive, and then never receives the later ones. Drive and gate can be read as
    two clock neurons that spike once, at step 0 and at step ``g``, in every pass.

    A spike at step t of a phase ``(first, last)`` stands for the value ``(last - t) / (last - first)``.
    The layer is trained in the coordinates of `Window`: ``u = b + W x`` with the inputs' values mapped
    to ``input_low ... input_high`` and its own value ``(u - low) / (high - low)``; weights and thresholds
    follow from them, and after the gate ``t_j`` is exactly what that value asks for. The gradient is exact
    except for the rounding up to the next step.

    Attributes:
        source: first and last step of the inputs' phase.
        target: of the layer's own.
        low, high, input_low, input_high: as for `Window`.
        saturates: drop a gradient that pushes a spike before the own phase; a silent neuron's gradient
            towards silence is always dropped.
        min_slope: slopes at the crossing below this count as this in the exact gradient.
    """

    by_input: ClassVar[bool] = True
    source: tuple[int, int]
    target: tuple[int, int]
    low: float = 0.0
    high: float = 4.0
    input_low: float = 0.0
    input_high: float = 1.0
    saturates: bool = False
    min_slope: float = 0.5

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            phase = tuple(check_integer("Phased", name, step, low=0) for step in getattr(self, name))
            if len(phase) != 2 or not phase[0] < phase[1]:
                raise ValueError(f"Phased.{name} must be (first, last) with first < last, found {phase}")
            object.__setattr__(self, name, phase)
        check_numbers(self, "low", "high", "input_low", "input_high")
        if not (self.low < self.high and self.input_low < self.input_high):
            raise ValueError("Phased needs low < high and input_low < input_high")
        check_numbers(self, "min_slope", low=0, above=True)

    def check(self, connection: Synapses) -> None:
        """Raise ValueError for a connection that is not dense."""
        if connection.wiring.kind != "dense":
            raise ValueError(f"Phased neurons take dense connections, found a {connection.wiring.kind} one")

    def follow(self, before: Neuron) -> None:
        """Raise ValueError if the layer before fires in another phase than this neuron reads."""
        if isinstance(before, Phased) and before.target != self.source:
            raise ValueError(f"receives in the phase {self.source}, which is not {before.target}")

    def earliest(self) -> int:
        """Return the first step of its phase."""
        return self.target[0]

    def ends(self, steps: int) -> int:
        """Return the end of its phase."""
        return self.target[1]

    def additions(self, steps: int, *, biased: bool) -> int:
        """Return current and drive until its phase ends."""
        return self.target[1]

    def encode(self, images: Any, steps: int) -> Spikes:
        """Return one spike per intensity in the inputs' phase; what would fire at its end stays silent."""
        first, last = self.source
        local = encode_latency(images, last - first)
        times = torch.where(local.silent, float(steps), local.times + first)
        return Spikes.trusted(times, steps)

    def decode(self, spikes: Spikes) -> Tensor:
        """Return the intensities of spikes in its phase; one before it is white, one after it black."""
        first, last = self.target
        return ((last - spikes.times) / (last - first)).clamp(0, 1)

    def admit(self, spikes: Spikes) -> Spikes:
        """Return spikes of which those before the input phase wait for it; the gradient does not notice."""
        times = spikes.times
        return spikes.with_times(times + (times.clamp(min=self.source[0]) - times).detach())

    def membrane(self, connection: Synapses, spikes: Spikes) -> Tensor:
        """Return ``u = b + W x``, all inputs received."""
        first, last = self.source
        values = (last - spikes.times.to(connection.weight.dtype).clamp(max=last)) / (last - first)
        return connection(self.input_low + (self.input_high - self.input_low) * values)

    @untraced
    def fire(self, connection: Synapses, spikes: Spikes) -> Spikes:
        """Return the spikes on the shared clock.

        Raises:
            TypeError: weights that are not float32.
            ValueError: a phase ends after the clock; weights, biases or times hold NaN, or do not lie on
                the CPU.
        """
        if connection.weight.dtype != torch.float32:
            raise TypeError(f"Phased neurons take float32 weights, found {connection.weight.dtype}")
        self.check_steps(spikes.steps)
        check_on_cpu(self, spikes.times, connection.weight)
        currents, threshold = self.parameters(connection)
        check_read(spikes, currents, threshold)
        out: Tensor = _Fire.apply(spikes.times, currents, threshold, spikes.steps, self)
        return Spikes.trusted(out, spikes.steps)

    def parameters(self, connection: Synapses) -> tuple[Tensor, Tensor]:
        """Return input currents per step ``(out, in)`` and thresholds ``(out,)``."""
        steps_in = self.source[1] - self.source[0]
        steps_out = self.target[1] - self.target[0]
        span, unit = self.input_high - self.input_low, steps_out / (self.high - self.low)
        resting = self.input_low * connection.weight.sum(1) - self.low
        if connection.bias is not None:
            resting = resting + connection.bias
        return connection.weight * (span / steps_in * unit), self.target[1] - unit * resting

    def simulate(self, connection: Synapses, spikes: Spikes) -> Spikes:
        """Return the spikes of a walk through the steps; currents end at the gate, the drive does not."""
        self.check_steps(spikes.steps)
        currents, threshold = self.parameters(connection)
        raster = spikes.raster().to(currents.dtype)
        membrane = torch.zeros(len(spikes), len(currents), dtype=currents.dtype)
        current = torch.zeros_like(membrane)
        out = torch.full(membrane.shape, float(spikes.steps))
        for t in range(self.target[1]):
            if t > 0:
                membrane = membrane + 1 + current
            out = torch.where((membrane >= threshold) & (out == spikes.steps), float(t), out)
            received = t < self.source[1]
            current = current + raster[t] @ currents.T if received else torch.zeros_like(current)
        return Spikes.trusted(out, spikes.steps)

    def check_steps(self, steps: int) -> None:
        """Raise ValueError if a phase ends after the clock."""
        if max(self.source[1], self.target[1]) > steps:
            raise ValueError(f"phases {self.source}, {self.target} must end by the clock's {steps} steps")


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, times: Tensor, currents: Tensor, threshold: Tensor, steps: int, neuron: Phased
    ) -> Tensor:
        given = times.detach().to(torch.float32).contiguous()
        rows = currents.detach().t().contiguous()
        ends = neuron.source[1], neuron.target[1]
        out, slope = (
            torch.from_numpy(array)
            for array in kernel.forward(
                given.numpy(), rows.numpy(), threshold.detach().numpy(), *ends, steps
            )
        )
        ctx.save_for_backward(given, currents, out, slope)
        ctx.steps, ctx.neuron, ctx.dtype = steps, neuron, times.dtype
        return out.to(times.dtype, copy=True)

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        times, currents, out, slope = ctx.saved_tensors
        neuron: Phased = ctx.neuron
        outwards = (out == ctx.steps) & (grad < 0)
        if neuron.saturates:
            outwards |= (out <= neuron.target[0]) & (grad > 0)
        scaled = torch.where(outwards, 0.0, grad / slope.clamp(min=neuron.min_slope)).contiguous()
        seen = out.clamp(max=neuron.source[1])
        grad_currents = torch.from_numpy(
            kernel.weight_gradient(times.numpy(), seen.numpy(), scaled.numpy(), ctx.steps)
        ).t()
        grad_times = None
        if ctx.needs_input_grad[0]:
            rows = currents.detach().t().contiguous()
            grad_times = torch.from_numpy(
                kernel.input_gradient(times.numpy(), rows.numpy(), seen.numpy(), scaled.numpy())
            ).to(ctx.dtype)
        return grad_times, grad_currents, scaled.sum(0), None, None
