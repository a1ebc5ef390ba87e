"""From output spikes to votes, logits and decisions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from firstspike.models.raster.settings import Readout


def votes(spikes: Tensor, readout: Readout) -> Tensor:
    """Return the mean vote of each class's neurons, of "first_spike" the first one's, ``(batch, classes)``.

    A sum over steps of what a neuron that has fired adds, ``w[t] - w[t+1]`` with silence voting ``w[T]``,
    which equals the vote of the spike's step.

    Args:
        spikes: cumulative, of the output neurons, class by class, ``(T, batch, classes *
            neurons_per_class)``.
        readout: decoder "exponential", "linear" or "first_spike", which votes like "linear".
    """
    worth = torch.tensor(readout.votes(len(spikes)), dtype=torch.float32, device=spikes.device)
    grouped = spikes.to(torch.float32).unflatten(2, (-1, readout.neurons_per_class))
    # A class's first spike is the highest of its neurons'.
    by_class = grouped.amax(3) if readout.decoder == "first_spike" else grouped.mean(3)
    return torch.tensordot(worth[:-1] - worth[1:], by_class, dims=1)


def by_membrane(membrane: Tensor, readout: Readout) -> Tensor:
    """Return the mean membrane of each class's neurons at the last step, ``(batch, classes)``."""
    return membrane.to(torch.float32).unflatten(1, (-1, readout.neurons_per_class)).mean(2)


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the output spikes of a batch say.

    Attributes:
        label: class with the highest total vote, int64 ``(batch,)``; the first of equals.
        tied: whether several classes share it, bool ``(batch,)``.
        silent: whether no output neuron spiked.
        steps: step after which the decision could no longer change, float32; ``T`` if it was open to the
            end.
    """

    label: Tensor
    tied: Tensor
    silent: Tensor
    steps: Tensor


def decide(times: Tensor, num_steps: int, readout: Readout) -> Verdict:
    """Return the decisions that spike times of output neurons stand for, by the decoder's votes.

    "first_spike" goes by the earliest spike of a class. For the voting decoders a decision is final once
    no other class can catch up, even if all its silent neurons spiked at the next step.

    Args:
        times: ``(batch, classes * neurons_per_class)``, integer steps, ``T`` silent.
        num_steps: ``T``.
        readout: decoder; of "membrane", which is no spike decision, the spikes vote as for "linear".
    """
    grouped = times.unflatten(1, (-1, readout.neurons_per_class))
    silent = (times >= num_steps).all(1)
    if readout.decoder == "first_spike":
        first = grouped.min(2).values
        earliest = first.min(1)
        tied = (first == earliest.values.unsqueeze(1)).sum(1) > 1
        return Verdict(earliest.indices, tied, silent, earliest.values)
    # Whole numbers, so that equal sums are equal in whatever order they are added.
    worth = torch.tensor(readout.votes(num_steps), dtype=torch.float64, device=times.device)
    worth = torch.round(worth * 2**36)
    steps = torch.full((len(times),), float(num_steps), device=times.device)
    for step in reversed(range(num_steps)):
        fired = grouped <= step
        so_far = torch.where(fired, worth[grouped.long()], 0.0).sum(2)
        # Silence at the end votes w[T], which the linear decoder's 0 and the exponential's share.
        most = so_far + (~fired).sum(2) * worth[step + 1]
        leader = so_far.max(1)
        rivals = most.scatter(1, leader.indices.unsqueeze(1), float("-inf")).max(1).values
        steps[leader.values > rivals] = step
    total = worth[grouped.long()].sum(2)
    best = total.max(1)
    tied = (total == best.values.unsqueeze(1)).sum(1) > 1
    return Verdict(best.indices, tied, silent, steps)
