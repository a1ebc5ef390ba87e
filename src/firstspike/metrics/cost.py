"""What a decision costs: spikes, steps, synaptic operations, energy.

Every function reads spike times; nothing is estimated from rates.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from firstspike.nn import Stack
from firstspike.nn.geometry import Shape
from firstspike.spikes import Spikes

# 45 nm, 0.9 V: M. Horowitz, "Computing's energy problem", ISSCC 2014.
ADD_PJ = 0.9
MULTIPLY_ADD_PJ = 4.6


def steps_to_decision(stack: Stack, out: Spikes) -> Tensor:
    """Return the step of the first output spike on the input's clock, float32 ``(batch,)``.

    A sample without output spike waits to the end of the output window. Window networks count from
    the first input step: depth x T plus the winner's time in the last window.

    Args:
        stack: the network, for the windows' first steps.
        out: output spikes ``(batch, classes)``, local to the last window.
    """
    return out.first() + stack.offsets[-1]


def spikes_to_decision(stack: Stack, traced: Sequence[Spikes], decision: Tensor | None = None) -> Tensor:
    """Return the spikes of the input and of each layer up to the decision, float32 ``(batch, layers + 1)``.

    A spike counts if it comes no later than the first output spike; without one, all count.

    Args:
        stack: the network.
        traced: spikes of the input and of every layer, as `Stack.trace` returns.
        decision: step ``(batch,)`` up to which to count, if it is not the first output spike's.
    """
    decision = steps_to_decision(stack, traced[-1]) if decision is None else decision
    return SpikeCounts.of(stack, traced).until(decision).per_layer()


def spikes_per_layer(stack: Stack, traced: Sequence[Spikes]) -> Tensor:
    """Return all spikes of the input and of each layer over the whole window, ``(batch, layers + 1)``."""
    return SpikeCounts.of(stack, traced).per_layer()


def synaptic_operations(
    stack: Stack,
    traced: Sequence[Spikes],
    *,
    until_decision: bool = True,
    decision: Tensor | None = None,
) -> Tensor:
    """Return the additions that spikes cause at their targets, float32 ``(batch,)``: spikes x fan-out.

    A spike's fan-out is the number of neurons that receive it, which in a convolution is smaller near the
    border.

    Args:
        stack: the network.
        traced: spikes of the input and of every layer, as `Stack.trace` returns.
        until_decision: count the spikes that `spikes_to_decision` counts; otherwise all.
        decision: as for `spikes_to_decision`.
    """
    if until_decision and decision is None:
        decision = steps_to_decision(stack, traced[-1])
    counts = SpikeCounts.of(stack, traced)
    return (counts if decision is None else counts.until(decision)).synaptic_operations()


@dataclass(frozen=True, eq=False)
class SpikeCounts:
    """The spikes of a batch, counted once for all that is made of them.

    Attributes:
        stack: the network.
        traced: spikes of the input and of every layer, as `Stack.trace` returns.
        places: how many of each were counted at each place of the maps, over all channels,
            ``(batch, y * x)``; ``(batch, 1)`` of neurons that form no maps.
    """

    stack: Stack
    traced: Sequence[Spikes]
    places: Sequence[Tensor]

    @classmethod
    def of(cls, stack: Stack, traced: Sequence[Spikes]) -> "SpikeCounts":
        """Return the counts over the whole window."""
        return cls(stack, traced, [_count(spikes, spikes.steps - 1) for spikes in traced])

    def until(self, step: Tensor) -> "SpikeCounts":
        """Return the counts up to a step ``(batch,)`` on the input's clock."""
        places = []
        for spikes, start, counted in zip(self.traced, self.stack.offsets, self.places, strict=True):
            last = (step - start).clamp(max=spikes.steps - 1)
            # A window that has ended by then in all samples, as before a window layer, is counted already.
            ended = bool((last == spikes.steps - 1).all())
            places.append(counted if ended else _count(spikes, last))
        return SpikeCounts(self.stack, self.traced, places)

    def per_layer(self) -> Tensor:
        """Return the spikes of the input and of each layer, float32 ``(batch, layers + 1)``."""
        counts = [places.sum(1, dtype=torch.float64) for places in self.places]
        return torch.stack(counts, 1).to(torch.float32)

    def synaptic_operations(self) -> Tensor:
        """Return the additions that the spikes cause, float32 ``(batch,)``: spikes x fan-out."""
        total = torch.zeros(len(self.traced[-1]), dtype=torch.float64, device=self.traced[-1].device)
        for depth, (spikes, places) in enumerate(zip(self.traced, self.places, strict=True)):
            for fan_out in _fan_outs(self.stack, depth, tuple(spikes.shape[1:])):
                reached = fan_out.to(places.device).flatten().expand(places.shape[1])
                total += places.to(torch.float64) @ reached
        return total.to(torch.float32)


def _count(spikes: Spikes, last: Tensor | int) -> Tensor:
    """How many spikes come no later than a step ``(batch,)`` at each place, as `SpikeCounts` holds them."""
    times = spikes.times.detach()
    if isinstance(last, Tensor):
        last = last.reshape(-1, *([1] * (times.dim() - 1)))
    # As numbers at once: to add truth values, torch would convert them first.
    early = torch.le(times, last, out=torch.empty_like(times))
    return early.sum(1).reshape(len(times), math.prod(times.shape[2:]))


def membrane_updates(stack: Stack, in_shape: Shape | None = None) -> int:
    """Return the additions per sample that membranes need without any spike.

    Each neuron answers for itself, see `Neuron.additions`: a window neuron, for instance, adds its current
    in each step of its input window and its drive in each step of its own.

    Args:
        stack: the network.
        in_shape: shape of a sample's input; needed if the first layer is not fully connected.
    """
    windows = stack.windows
    return sum(
        math.prod(shape)
        * layer.neuron.additions(windows[first], biased=getattr(layer, "bias", None) is not None)
        for layer, (first, *_), shape in zip(stack, stack.sources, stack.shapes(in_shape)[1:], strict=True)
    )


def multiply_adds(stack: Stack, in_shape: Shape | None = None) -> int:
    """Return the multiply-adds per sample of the ANN of the same shape.

    One per input and neuron that receives it; products with padding are not counted.

    Args:
        stack: the network.
        in_shape: shape of a sample's input; needed if the first layer is not fully connected.
    """
    total = 0
    for depth, shape in enumerate(stack.shapes(in_shape)):
        for fan_out in _fan_outs(stack, depth, shape):
            total += round(float(fan_out.sum()) * math.prod(shape[: len(shape) - fan_out.dim()]))
    return total


def _fan_outs(stack: Stack, depth: int, shape: Shape) -> Iterator[Tensor]:
    """How many neurons receive each neuron of the input (0) or a layer, for each connection that it has."""
    for layer, sources in zip(stack, stack.sources, strict=True):
        for connection, source in zip((layer, *layer.shortcuts), sources, strict=True):
            if source == depth:
                yield connection.fan_out(shape).to(torch.float64)


@dataclass(frozen=True)
class Energy:
    """Energy per sample in pJ with the operations that it is made of.

    Attributes:
        synops: additions caused by spikes.
        updates: additions that membranes need without spikes.
        spiking_pj: ``(synops + updates) * ADD_PJ``.
        dense_pj: ``multiply-adds * MULTIPLY_ADD_PJ`` of the ANN of the same shape.
    """

    synops: float
    updates: float
    spiking_pj: float
    dense_pj: float


def energy(stack: Stack, synops: float, in_shape: Shape | None = None) -> Energy:
    """Return the arithmetic energy per sample for a mean number of synaptic operations.

    Memory traffic, which dominates on most chips, is left out, as in the papers compared with.

    Args:
        stack: the network.
        synops: additions caused by spikes.
        in_shape: shape of a sample's input; needed if the first layer is not fully connected.
    """
    updates = membrane_updates(stack, in_shape)
    dense_pj = multiply_adds(stack, in_shape) * MULTIPLY_ADD_PJ
    return Energy(synops, updates, (synops + updates) * ADD_PJ, dense_pj)
