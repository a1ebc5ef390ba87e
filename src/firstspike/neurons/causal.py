"""The causal neuron of S4NN and Spiking-GAN: all layers on one clock, instantaneous synapses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from firstspike.kernels.cpu.norms import unit_rows
from firstspike.kernels.untraced import untraced
from firstspike.neurons.base import Events, EventWiring, Neuron, Synapses, check_field, check_read, once
from firstspike.spikes import Spikes
from firstspike.support import check_integer, check_numbers

Norm = Literal["none", "l1", "l2"]
Bias = Literal["start", "current"]


@dataclass(frozen=True, kw_only=True)
class Causal(Neuron):
    """A neuron on the clock that all layers share; it may fire while its inputs still arrive.

    An input spike adds its weight to the membrane at once: ``V_j(t) = sum_i w_ji [t_i <= t]`` (S4NN,
    Spiking-GAN Eq. 1). At threshold the neuron fires, and stays at rest for the other steps, so it fires
    at most once.

    The gradient is the published one (Spiking-GAN Eqs. 8-15, arXiv 2106.15420; S4NN, arXiv 1910.09495),
    which treats the neuron as a ReLU of ``T - t``: ``dt_j/dw_ji = -[t_i <= t_j]`` and
    ``dt_j/dt_i = w_ji [t_i <= t_j]``. A silent neuron counts as one that fires at ``T``; a silent input
    receives nothing.

    Attributes:
        threshold: membrane at which it fires, above 0, in units of the weights.
        strict: fire at ``V > threshold`` (S4NN's code) instead of ``V >= threshold``.
        delay: steps from crossing to output spike; 0 is the papers' equation, 1 S4NN's code.
        norm: divide each sample's output gradient by its L1 or L2 norm ("l1" is Spiking-GAN's, "l2"
            S4NN's), then by the batch size, so that a layer's update is a mean over samples.
        bias: what a layer's bias is, if it has one: the membrane before the first input ("start"; a neuron
            that starts at threshold fires at step 0), or a constant current, added at every step
            ("current").
    """

    has_bias: ClassVar[bool] = False
    by_input: ClassVar[bool] = True
    threshold: float = 1.0
    strict: bool = False
    delay: int = 0
    norm: Norm = "none"
    bias: Bias = "start"

    def __post_init__(self) -> None:
        check_numbers(self, "threshold", low=0, above=True)
        check_field(self, "norm", get_args(Norm))
        check_field(self, "bias", get_args(Bias))
        object.__setattr__(self, "delay", check_integer("Causal", "delay", self.delay, low=0))

    def scale(self) -> float:
        """Return the threshold: weights start in its units."""
        return self.threshold

    def drive(self) -> float:
        """Return twice the threshold, which half of the inputs reach: weights about 0 leave it silent."""
        return 2 * self.threshold

    def any_window(self) -> bool:
        """Return that they do unless a constant current adds up over the steps."""
        return not self.bias_is_current

    def check(self, connection: Synapses) -> None:
        """Raise ValueError behind a transposed convolution, which has no event kernel."""
        if connection.wiring.kind == "transposed":
            raise ValueError(f"ConvTranspose2d does not take {type(self).__name__} neurons; take Window")

    def check_all(self, connections: Sequence[Synapses]) -> None:
        """Raise ValueError for several connections that are not all dense."""
        if len(connections) > 1 and any(one.wiring.kind != "dense" for one in connections):
            raise ValueError("several connections into a layer of causal neurons must be dense")

    @property
    def bias_is_current(self) -> bool:
        """Whether a bias is added at every step, as `bias` says."""
        return self.bias == "current"

    def additions(self, steps: int, *, biased: bool) -> int:
        """Return 0, or one addition per step of a constant current."""
        return steps if biased and self.bias_is_current else 0

    def events(self) -> Events:
        """Return threshold, strictness and delay."""
        return Events(threshold=self.threshold, strict=self.strict, delay=self.delay)

    def membrane(self, connection: Synapses, spikes: Spikes) -> Tensor:
        """Return the membrane at the last step as if the neuron never reset.

        It is the sum of the weights of all inputs that fired. Gradients reach the weights, not the input
        times, on which it does not depend.
        """
        fired = (~spikes.silent).to(connection.weight.dtype)
        return connection(fired, bias=self._clock(spikes.steps))

    @untraced
    def fire(self, connection: Synapses, spikes: Spikes) -> Spikes:
        """Return the spikes on the shared clock; neurons that cross in one step tie.

        Raises:
            ValueError: weights, biases or times hold NaN.
        """
        wiring, weight, times = _wiring(connection), connection.weight, spikes.times
        if connection.bias is not None:
            wiring, weight, times = wiring.with_clock(
                times, weight, connection.bias, self._clock(spikes.steps)
            )
        out: Tensor = _Fire.apply(times, weight, wiring, spikes.steps, self)
        return Spikes.trusted(out, spikes.steps)

    def read_all(self, inputs: Sequence[tuple[Synapses, Spikes]]) -> tuple[Spikes, Tensor]:
        """Return spikes and membrane of a layer with several dense connections, whose inputs are joined.

        Raises:
            ValueError: a connection is not dense, or reads another window.
        """
        if len(inputs) == 1:
            return self.read(*inputs[0])
        membranes = [self.membrane(connection, spikes) for connection, spikes in inputs]
        return self.fire(*self._joined(inputs)), sum(membranes[1:], membranes[0])

    def _joined(self, inputs: Sequence[tuple[Synapses, Spikes]]) -> tuple[Synapses, Spikes]:
        """One connection from the inputs of all."""
        connections, windows = [one for one, _ in inputs], [spikes.steps for _, spikes in inputs]
        self.check_all(connections)
        if len(set(windows)) > 1:
            raise ValueError(
                "connections of causal neurons read one window, found windows of "
                f"{', '.join(map(str, windows))} steps"
            )
        times = torch.cat([spikes.times for _, spikes in inputs], 1)
        weight = torch.cat([connection.weight for connection in connections], 1)
        biases = [connection.bias for connection in connections if connection.bias is not None]
        bias = sum(biases[1:], biases[0]) if biases else None
        return Synapses(connections[0].wiring, weight, bias), Spikes.trusted(times, windows[0])

    def simulate(self, connection: Synapses, spikes: Spikes) -> Spikes:
        """Return the spikes of a walk through the steps (Spiking-GAN Eqs. 1-2).

        The membrane sums the weights of arriving spikes; at threshold the neuron fires, resets to 0 and is
        clamped there for ``t_ref = T`` steps. Weights of one step are added in input order, of a
        convolution (channel, ky, kx), in the weights' own precision, which makes the result the same to
        the last bit as the event-driven kernel's.
        """
        wiring, weight, times = _wiring(connection), connection.weight.detach(), spikes.times.detach()
        if connection.bias is not None:
            clock = self._clock(spikes.steps)
            wiring, weight, times = wiring.with_clock(times, weight, connection.bias.detach(), clock)
        parts = [
            self._walk(inputs, weights, spikes.steps)
            for inputs, weights in wiring.patches(times, weight, float(spikes.steps))
        ]
        return Spikes.trusted(wiring.from_patches(parts, times.shape), spikes.steps)

    def simulate_all(self, inputs: Sequence[tuple[Synapses, Spikes]]) -> Spikes:
        """Return the spikes of such a walk with several dense connections."""
        return self.simulate(*(inputs[0] if len(inputs) == 1 else self._joined(inputs)))

    def _walk(self, times_BI: Tensor, weight_OI: Tensor, steps: int) -> Tensor:
        shape = (len(times_BI), len(weight_OI))
        membrane = torch.zeros(shape, dtype=weight_OI.dtype)
        refractory = torch.zeros(shape, dtype=torch.int64)
        out = torch.full(shape, float(steps))
        for t in range(steps):
            arriving = times_BI == t
            for i in arriving.any(0).nonzero().flatten().tolist():
                membrane = membrane + torch.where(arriving[:, i : i + 1], weight_OI[:, i], 0.0)
            crosses = membrane > self.threshold if self.strict else membrane >= self.threshold
            fires = crosses & (refractory == 0)
            out = torch.where(fires, float(min(t + self.delay, steps)), out)
            refractory = torch.where(fires, steps, refractory)
            membrane = torch.where(refractory > 0, 0.0, membrane)
        return out

    def _clock(self, steps: int) -> int:
        """How many spikes of a clock neuron add the bias."""
        return steps if self.bias_is_current else 1

    def least_membrane(self, dtype: torch.dtype) -> float:
        """Return the least membrane of that precision at which the neuron fires."""
        if not self.strict:
            return self.threshold
        precision = np.float32 if dtype == torch.float32 else np.float64
        return float(np.nextafter(precision(self.threshold), precision(math.inf)))


def _wiring(connection: Synapses) -> EventWiring:
    # `Causal.check` refuses the one that has no event kernels.
    return cast(EventWiring, connection.wiring)


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, times: Tensor, weight: Tensor, wiring: EventWiring, steps: int, neuron: Causal
    ) -> Tensor:
        given = times.detach().to(torch.float32).contiguous()
        try:
            crossing = wiring.crossings(given, weight.detach(), neuron.least_membrane(weight.dtype), steps)
        except ValueError:
            # The kernel looks as it reads, and does not know what it found.
            check_read(Spikes.trusted(given, steps), weight)
            raise
        ctx.save_for_backward(given, weight, crossing)
        ctx.wiring, ctx.steps, ctx.neuron, ctx.dtype = wiring, steps, neuron, times.dtype
        out = (crossing + neuron.delay).clamp_(max=steps) if neuron.delay else crossing
        return out.to(times.dtype)

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        times, weight, crossing = ctx.saved_tensors
        delta = normalise_gradient(grad.to(weight.dtype), ctx.neuron.norm)
        for_times, for_weight, *_ = ctx.needs_input_grad
        grad_times, grad_weight = ctx.wiring.gradients(
            times, weight.detach(), crossing, delta, ctx.steps, for_times=for_times, for_weight=for_weight
        )
        return None if grad_times is None else grad_times.to(ctx.dtype), grad_weight, None, None, None


def normalise_gradient(delta: Tensor, norm: Norm) -> Tensor:
    """Return `delta` ``(batch, ...)`` with unit norm per sample, divided by the batch size.

    "none" returns it unchanged. A sample whose gradient is all zero stays zero.
    """
    if norm == "none":
        return delta
    share = 1 / max(delta.shape[0], 1)
    flat = delta.flatten(1).contiguous()
    if flat.device.type != "cpu":
        size = torch.linalg.vector_norm(flat, ord=1 if norm == "l1" else 2, dim=1, keepdim=True)
        unit = torch.where(size > 0, flat / size.clamp_min(torch.finfo(flat.dtype).tiny), 0.0)
        return (unit * share).reshape(delta.shape)
    return torch.from_numpy(unit_rows(flat.numpy(), 1 if norm == "l1" else 2, share)).reshape(delta.shape)
