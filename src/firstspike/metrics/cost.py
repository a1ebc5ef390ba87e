"""What a decision costs: spikes, steps, synaptic operations, energy.

Every function reads spike times; nothing is estimated from rates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from firstspike.neurons import Causal, Phased
from firstspike.nn import Stack

# 45 nm, 0.9 V: M. Horowitz, "Computing's energy problem", ISSCC 2014.
ADD_PJ = 0.9
MULTIPLY_ADD_PJ = 4.6


def steps_to_decision(stack: Stack, output_times: Tensor) -> Tensor:
    """Return the step of the first output spike on the input's clock, float32 ``(batch,)``.

    A sample without output spike waits to the end of the output window. Window networks count from
    the first input step: depth x T plus the winner's time in the last window.

    Args:
        stack: the network, for the windows' first steps.
        output_times: ``(batch, classes)``, local to the last window.
    """
    return output_times.min(1).values + stack.offsets[-1]


def spikes_to_decision(stack: Stack, traced: Sequence[Tensor]) -> Tensor:
    """Return the spikes of the input and of each layer up to the decision, float32 ``(batch, layers + 1)``.

    A spike counts if it comes no later than the first output spike; without one, all count.

    Args:
        stack: the network.
        traced: spike times of the input and of every layer, as `Stack.trace` returns.
    """
    decision = steps_to_decision(stack, traced[-1]).unsqueeze(1)
    windows = [stack.num_steps, *(layer.out_steps for layer in stack)]
    counts = [
        ((times < steps) & (times + start <= decision)).sum(1)
        for times, steps, start in zip(traced, windows, stack.offsets, strict=True)
    ]
    return torch.stack(counts, 1).to(torch.float32)


def spikes_per_layer(stack: Stack, traced: Sequence[Tensor]) -> Tensor:
    """Return all spikes of the input and of each layer over the whole window, ``(batch, layers + 1)``."""
    windows = [stack.num_steps, *(layer.out_steps for layer in stack)]
    counts = [(times < steps).sum(1) for times, steps in zip(traced, windows, strict=True)]
    return torch.stack(counts, 1).to(torch.float32)


def synaptic_operations(stack: Stack, spikes: Tensor) -> Tensor:
    """Return the additions that spikes cause at their targets, float32 ``(batch,)``: spikes x fan-out.

    Args:
        stack: the network.
        spikes: per layer, as `spikes_to_decision` or `spikes_per_layer` returns.
    """
    fan_out = torch.tensor([float(layer.out_features) for layer in stack])
    return spikes[:, :-1] @ fan_out


def membrane_updates(stack: Stack) -> int:
    """Return the additions per sample that membranes need without any spike.

    A window neuron adds its current in each step of its input window and its drive in each step of
    its own; a phased one adds both until its phase ends; a ramp synapse adds its current in each step.
    The step synapse needs none.
    """
    total = 0
    for layer in stack:
        if isinstance(layer.neuron, Causal):
            steps = layer.num_steps if layer.neuron.synapse == "ramp" else 0
        elif isinstance(layer.neuron, Phased):
            steps = layer.neuron.target[1]
        else:
            steps = layer.num_steps + layer.out_steps
        total += layer.out_features * steps
    return total


def multiply_adds(stack: Stack) -> int:
    """Return the multiply-adds per sample of the ordinary network of the same shape."""
    return sum(layer.in_features * layer.out_features for layer in stack)


@dataclass(frozen=True)
class Energy:
    """Energy per sample in pJ with the operations that it is made of.

    Attributes:
        synops: additions caused by spikes.
        updates: additions that membranes need without spikes.
        spiking_pj: ``(synops + updates) * ADD_PJ``.
        dense_pj: ``multiply-adds * MULTIPLY_ADD_PJ`` of the ordinary network of the same shape.
    """

    synops: float
    updates: float
    spiking_pj: float
    dense_pj: float


def energy(stack: Stack, synops: float) -> Energy:
    """Return the arithmetic energy per sample for a mean number of synaptic operations.

    Memory traffic, which dominates on most chips, is left out, as in the papers compared with.
    """
    updates = membrane_updates(stack)
    return Energy(synops, updates, (synops + updates) * ADD_PJ, multiply_adds(stack) * MULTIPLY_ADD_PJ)
