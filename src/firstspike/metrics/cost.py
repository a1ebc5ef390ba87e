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
    counts = [active.flatten(1).sum(1) for active in _active(stack, traced, decision)]
    return torch.stack(counts, 1).to(torch.float32)


def spikes_per_layer(stack: Stack, traced: Sequence[Spikes]) -> Tensor:
    """Return all spikes of the input and of each layer over the whole window, ``(batch, layers + 1)``."""
    counts = [active.flatten(1).sum(1) for active in _active(stack, traced, None)]
    return torch.stack(counts, 1).to(torch.float32)


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
    total = torch.zeros(len(traced[-1]), dtype=torch.float64, device=traced[-1].device)
    for depth, active in enumerate(_active(stack, traced, decision)):
        for fan_out in _fan_outs(stack, depth, tuple(active.shape[1:])):
            fan_out = fan_out.to(active.device)
            counts = active.sum(tuple(range(1, active.dim() - fan_out.dim())))
            total += (counts * fan_out).reshape(len(counts), -1).sum(1) if len(counts) else 0
    return total.to(torch.float32)


def _active(stack: Stack, traced: Sequence[Spikes], until: Tensor | None) -> Iterator[Tensor]:
    """Which neurons of the input and of each layer spike, bool; only up to a step ``(batch,)`` if given."""
    for spikes, start in zip(traced, stack.offsets, strict=True):
        active = ~spikes.silent
        if until is not None:
            active &= spikes.times + start <= until.reshape(-1, *([1] * (spikes.times.dim() - 1)))
        yield active


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
