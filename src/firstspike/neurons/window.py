"""The window neuron: it integrates during its input window and fires in the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from firstspike.codes import Rounding, encode_latency
from firstspike.kernels.cpu import window as kernel
from firstspike.kernels.untraced import untraced
from firstspike.neurons.base import Neuron, Quantiser, Synapses, check_field, once
from firstspike.spikes import Spikes
from firstspike.support import check_num_steps, check_numbers

Saturation = Literal["closed", "one_sided", "smooth", "open"]


@dataclass(frozen=True, kw_only=True)
class Window(Neuron):
    """A neuron that integrates during its input window and fires in the next.

    An input spike at local step ``t_i`` starts a constant current until the window ends, so the input
    is the value ``x_i = input_low + (input_high - input_low)(1 - t_i / T)`` and the membrane at the end
    ``u_j = b_j + sum_i w_ji x_i``. In its own window of ``steps`` a constant drive carries the neuron to
    threshold: it fires at ``t_j = steps - floor(V_j)`` with
    ``V_j = clip((u_j - low) / (high - low), 0, 1) * steps``, and never if ``floor(V_j)`` is 0.

    It is the B1 neuron of Stanojevic et al. (Nat. Commun. 2024) with integer time steps, and a clipped ReLU
    with ``steps`` levels. The gradient passes the floor straight through.

    Attributes:
        low, high: membranes that mean silent and step 0.
        input_low, input_high: values of a silent input and of one at step 0; (-1, 1) centres.
        steps: length of the neuron's own window; None takes the input window's.
        input_rounding: how intensities become the spikes of an input: "up" to the next level, so that
            whatever is not black fires, or to the "nearest".
        saturation: what a neuron at and outside the ends of its range receives. "closed": nothing
            outside, the exact gradient of the clip. "one_sided": outside, only what pulls it back.
            "smooth": the slope ``sech^2`` of a tanh over the range, which fades towards the ends and
            beyond instead of stopping there. "open": everything.
    """

    low: float = 0.0
    high: float = 4.0
    input_low: float = 0.0
    input_high: float = 1.0
    steps: int | None = None
    input_rounding: Rounding = "up"
    saturation: Saturation = "closed"

    def __post_init__(self) -> None:
        check_numbers(self, "low", "high", "input_low", "input_high")
        if not self.low < self.high:
            raise ValueError(f"Window needs low < high, found {self.low} and {self.high}")
        if not self.input_low < self.input_high:
            raise ValueError(
                f"Window needs input_low < input_high, found {self.input_low} and {self.input_high}"
            )
        if self.steps is not None:
            object.__setattr__(self, "steps", check_num_steps(self.steps, name="Window.steps"))
        check_field(self, "input_rounding", get_args(Rounding))
        check_field(self, "saturation", get_args(Saturation))

    @classmethod
    def output(cls, steps: int | None = None) -> "Window":
        """Return the neuron of an output layer: a range of 0 ... 1 that trains at both of its ends."""
        return cls(low=0.0, high=1.0, steps=steps, saturation="one_sided")

    def any_window(self) -> bool:
        """Return that they do: values are shares of a window."""
        return True

    def out_steps(self, steps: int) -> int:
        """Return the length of the neuron's own window."""
        return steps if self.steps is None else self.steps

    def waits(self, steps: int) -> int:
        """Return the length of the input window, after which its own begins."""
        return steps

    def additions(self, steps: int, *, biased: bool) -> int:
        """Return a current in each step of the input window and a drive in each step of its own."""
        return steps + self.out_steps(steps)

    def quantiser(self) -> Quantiser:
        """Return the ranges of membrane and inputs."""
        return Quantiser(low=self.low, high=self.high, input_low=self.input_low, input_high=self.input_high)

    def encode(self, images: Any, steps: int) -> Spikes:
        """Return intensities as input spikes, rounded as `input_rounding` says."""
        return encode_latency(images, steps, rounding=self.input_rounding)

    def membrane(self, connection: Synapses, spikes: Spikes) -> Tensor:
        """Return the membrane at the end of the input window, ``u = b + W x``."""
        return connection(self.values(spikes, connection.weight.dtype), silent=self.input_low)

    @untraced
    def values(self, spikes: Spikes, dtype: torch.dtype) -> Tensor:
        """Return the values ``x_i`` of inputs with these spikes."""
        times, share = spikes.times.to(dtype), (self.input_high - self.input_low) / spikes.steps
        if times.device.type == "cpu":
            values: Tensor = _CompiledValues.apply(times, self.input_high, share)
            return values
        return self.input_high - times * share

    def fire(self, connection: Synapses, spikes: Spikes) -> Spikes:
        """Return the spikes in the neuron's own window, local to it."""
        return self.read(connection, spikes)[0]

    def read(self, connection: Synapses, spikes: Spikes) -> tuple[Spikes, Tensor]:
        """Return spikes and membrane together."""
        membrane = self.membrane(connection, spikes)
        return self.quantise(membrane, spikes.steps).to(spikes.times.dtype), membrane

    def check_all(self, connections: Sequence[Synapses]) -> None:
        """Take any: their membranes add up."""

    def read_all(self, inputs: Sequence[tuple[Synapses, Spikes]]) -> tuple[Spikes, Tensor]:
        """Return spikes and membrane of a layer with several connections, whose membranes add up.

        Spikes of an earlier window wait, as in a delay line, until the window of the latest ends.
        """
        membrane = self.membrane(*inputs[0])
        for connection, spikes in inputs[1:]:
            membrane = membrane + self.membrane(connection, spikes)
        first = inputs[0][1]
        return self.quantise(membrane, first.steps).to(first.times.dtype), membrane

    @untraced
    def quantise(self, membrane: Tensor, steps: int) -> Spikes:
        """Return the spikes of neurons with these membranes, for an input window of `steps`."""
        own = self.out_steps(steps)
        unit = own / (self.high - self.low)
        if membrane.dtype not in (torch.float32, torch.float64):
            # Under autocast: half precision cannot count the steps.
            membrane = membrane.to(torch.float32)
        if membrane.device.type == "cpu" and self.saturation in kernel.GRADIENTS:
            times = _CompiledFire.apply(membrane, self.low, unit, own, self.saturation)
        else:
            times = _Fire.apply((membrane - self.low) * unit, own, self.saturation)
        return Spikes.trusted(times, own)

    def simulate(self, connection: Synapses, spikes: Spikes) -> Spikes:
        """Return the spikes of a walk through both windows.

        In the input window an input spike starts a constant current that lasts to the window's end. In
        the neuron's own window a constant drive of one unit per step carries the membrane to threshold.
        """
        return self.simulate_all([(connection, spikes)])

    def simulate_all(self, inputs: Sequence[tuple[Synapses, Spikes]]) -> Spikes:
        """Return the spikes of a walk through every input window and the neuron's own."""
        own = self.out_steps(inputs[0][1].steps)
        unit = (self.high - self.low) / own
        resting = [
            connection(
                torch.full_like(spikes.times, self.input_low, dtype=connection.weight.dtype),
                silent=self.input_low,
            )
            for connection, spikes in inputs
        ]
        membrane = (sum(resting[1:], resting[0]) - self.low) / unit
        for connection, spikes in inputs:
            share = (self.input_high - self.input_low) / spikes.steps / unit
            current = torch.zeros_like(membrane)
            for arriving in spikes.raster().to(connection.weight.dtype):
                current = current + connection(arriving, bias=0) * share
                membrane = membrane + current
        out = torch.full(membrane.shape, float(own))
        for t in reversed(range(own)):
            out = torch.where(membrane + t >= own, float(t), out)
        return Spikes.trusted(out, own)


class _CompiledValues(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, times: Tensor, high: float, share: float) -> Tensor:
        ctx.share = share
        return torch.from_numpy(kernel.values(times.detach().contiguous().numpy(), high, share))

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad * -ctx.share, None, None


class _CompiledFire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, membrane: Tensor, low: float, unit: float, steps: int, saturation: str) -> Tensor:
        held = membrane.detach().contiguous()
        ctx.save_for_backward(held)
        ctx.window = low, unit, steps, saturation
        return torch.from_numpy(kernel.fire(held.numpy(), low, unit, steps))

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (membrane,) = ctx.saved_tensors
        arrays = membrane.numpy(), grad.to(membrane.dtype).contiguous().numpy()
        return torch.from_numpy(kernel.gradient(*arrays, *ctx.window)), None, None, None, None


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scaled: Tensor, steps: int, saturation: str) -> Tensor:
        ctx.save_for_backward(scaled)
        ctx.steps, ctx.saturation = steps, saturation
        return steps - torch.floor(scaled.clamp(0, steps))

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (scaled,) = ctx.saved_tensors
        if ctx.saturation == "open":
            return -grad, None, None
        if ctx.saturation == "smooth":
            centred = scaled * (2 / ctx.steps) - 1
            return -grad * (1 - torch.tanh(centred).square()), None, None
        below, above = scaled < 0, scaled > ctx.steps
        if ctx.saturation == "one_sided":
            # Descent moves the membrane along +grad: below the range only grad > 0 leads back.
            below, above = below & (grad < 0), above & (grad > 0)
        return torch.where(below | above, 0.0, -grad), None, None
