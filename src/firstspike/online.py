"""S4NN's online learning: a whole epoch, one image and one update at a time, in one compiled call."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from firstspike.decision import FirstSpike, Score
from firstspike.inputs import check_labels
from firstspike.kernels.cpu import s4nn as kernel
from firstspike.kernels.cpu.vectors import LANES
from firstspike.nn import Layer
from firstspike.spikes import Spikes, check_spikes
from firstspike.support import check_choice, check_num_steps, check_number, check_numbers

TargetKind = Literal["relative", "aggressive"]
ErrorNorm = Literal["l2", "l1"]


@dataclass(frozen=True, kw_only=True)
class S4NNRule:
    """The numbers of S4NN's learning rule, as its published code runs it (arXiv 1910.09495).

    Neurons fire one step after ``V > threshold``: ``Causal(threshold=..., strict=True, delay=1)``.

    Attributes:
        steps: ``T``.
        thresholds: of each layer, above 0.
        gamma: margin of the relative targets in steps.
        rate: learning rate ``eta``.
        weight_decay: ``lambda``; after each image ``w -= eta lambda w``.
        loss: "relative" (S4NN's targets) or "aggressive" (Spiking-GAN's, Eqs. 6-7).
        norm: each layer's errors are divided by their norm: "l2" (S4NN) or "l1" (Spiking-GAN).
    """

    steps: int = 256
    thresholds: tuple[float, ...] = (100.0, 100.0)
    gamma: float = 3.0
    rate: float = 0.2
    weight_decay: float = 1e-6
    loss: TargetKind = "relative"
    norm: ErrorNorm = "l2"

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", check_num_steps(self.steps, name="S4NNRule.steps"))
        thresholds = tuple(
            check_number("S4NNRule", "thresholds", each, low=0, above=True) for each in self.thresholds
        )
        object.__setattr__(self, "thresholds", thresholds)
        if not self.thresholds:
            raise ValueError("S4NNRule.thresholds must name one per layer, found none")
        check_number("S4NNRule", "gamma", self.gamma, high=self.steps)
        check_numbers(self, "gamma", "rate", "weight_decay", low=0)
        if self.rate * self.weight_decay >= 1:
            raise ValueError(f"S4NNRule.weight_decay must be below 1 / rate, found {self.weight_decay}")
        check_choice("S4NNRule", "loss", self.loss, get_args(TargetKind))
        check_choice("S4NNRule", "norm", self.norm, get_args(ErrorNorm))


@dataclass(frozen=True, eq=False)
class SortedSpikes:
    """The spikes of many images in the order of time, made once and used in every epoch.

    Four bytes per spike, whatever the number of steps. `sort_spikes` makes it.

    Attributes:
        lists: input and step of each spike, image after image, and where each image starts.
        in_features: inputs per image.
        steps: ``T``.
    """

    lists: tuple[np.ndarray, np.ndarray, np.ndarray]
    in_features: int
    steps: int

    def __len__(self) -> int:
        return len(self.lists[2]) - 1


@dataclass(frozen=True, eq=False)
class OnlineEpoch:
    """What an epoch saw, each image with the weights that it met.

    Attributes:
        output_times: float32 ``(images, classes)``, in the order of learning; ``T`` silent.
        firing_rates: of each hidden layer, share of images on which each neuron fired, ``(neurons,)``.
        strict: score with ties and silence wrong.
        papers: score with a tie that holds the label right, silence wrong. S4NN's code also reads
            membranes where all outputs are silent.
    """

    output_times: Tensor
    firing_rates: list[Tensor]
    strict: Score
    papers: Score


def sort_spikes(spikes: Spikes) -> SortedSpikes:
    """Return spikes ``(images, in_features)`` in the order of time.

    Raises:
        ValueError: they have not two axes, or a time is NaN, not an integer or outside ``0 ... T``.
    """
    if check_spikes(spikes).times.dim() != 2:
        raise ValueError(f"spikes must be (images, in_features), found {tuple(spikes.shape)}")
    lists = kernel.list_images(spikes.times.detach().to(torch.float32).contiguous().numpy(), spikes.steps)
    return SortedSpikes(lists, spikes.shape[1], spikes.steps)


def s4nn_epoch(
    images: Spikes | SortedSpikes,
    labels: Any,
    weights: Sequence[Tensor],
    rule: S4NNRule,
    *,
    order: Tensor | None = None,
) -> OnlineEpoch:
    """Learn from every image in turn, changing `weights` in place, and return what was seen.

    For each image, as the published code does it: forward; ``delta_j = (T_j - t_j) / T`` divided by its
    norm; ``w_ji -= eta delta_j [t_i < t_j]``, then ``w -= eta lambda w``; the layer below gets
    ``delta_i = sum_j delta_j [t_i < t_j] w_ji`` with the weights already updated, and goes on likewise.

    The decay is kept as one factor of all weights and multiplied in at the end, so that an image costs
    its spikes and not all weights. That differs from the published order of roundings only: with
    ``weight_decay=0`` every sum is that of the plain algorithm to the last bit. A published decay of
    2e-7 per image, on float32 weights, is itself of the size of their rounding.

    The work is done on one core without the GIL, and does not depend on the number of steps.

    Args:
        images: spikes ``(images, in_features)``, or `sort_spikes` of them, which saves the sorting in later
            epochs.
        labels: integers ``(images,)``.
        weights: one ``(out_features, in_features)`` per layer, all float32 or all float64.
        rule: its numbers.
        order: int64, which image to learn from when; each once as given by default (S4NN's).

    Returns:
        output times, hidden firing rates and scores, during learning.

    Raises:
        TypeError: tensors of other types.
        ValueError: shapes that do not fit, a time, label or index out of range, weights not finite.

    S4NN re-draws, after each epoch, hidden neurons that fired too rarely (`redraw_dead`):

    >>> from firstspike import Causal, Linear, Spikes, redraw_dead
    >>> neuron = Causal(threshold=100, strict=True, delay=1)
    >>> hidden, output = Linear(3, 4, neuron), Linear(4, 2, neuron)
    >>> _ = torch.nn.init.uniform_(hidden.weight, 0, 50), torch.nn.init.uniform_(output.weight, 0, 48)
    >>> spikes = sort_spikes(Spikes([[0, 3, 256], [256, 0, 9]], steps=256))
    >>> for _ in range(3):
    ...     seen = s4nn_epoch(spikes, [0, 1], [hidden.weight, output.weight], S4NNRule())
    ...     redrawn = redraw_dead(hidden, seen.firing_rates[0], low=0, high=50)
    >>> seen.output_times.shape
    torch.Size([2, 2])
    """
    spikes = images if isinstance(images, SortedSpikes) else sort_spikes(images)
    sizes = _check_weights(spikes, weights, rule)
    labels = check_labels(labels, len(spikes), sizes[-1])
    if order is None:
        order = torch.arange(len(spikes))
    else:
        _check_order(order, len(spikes))
    spare = weights[0].new_zeros(LANES)
    flat = torch.cat([*(weight.detach().t().flatten() for weight in weights), spare])
    out, fired = kernel.learn(
        spikes.lists,
        order.contiguous().numpy(),
        labels.contiguous().numpy(),
        flat.numpy(),
        sizes,
        rule.thresholds,
        num_steps=rule.steps,
        gamma=float(rule.gamma),
        rate=rule.rate,
        keep=1.0 - rule.rate * rule.weight_decay,
        aggressive=rule.loss == "aggressive",
        l1=rule.norm == "l1",
    )
    parts = flat.split([*(weight.numel() for weight in weights), len(spare)])
    for weight, part in zip(weights, parts[:-1], strict=True):
        weight.detach().copy_(part.reshape(weight.shape[1], weight.shape[0]).t())
    outputs, seen = Spikes.trusted(torch.from_numpy(out), rule.steps), labels[order]
    return OnlineEpoch(
        output_times=outputs.times,
        firing_rates=[torch.from_numpy(count / max(len(order), 1)).to(torch.float32) for count in fired],
        strict=FirstSpike().decide(outputs).score(seen),
        papers=FirstSpike(ties="label").decide(outputs).score(seen),
    )


def _check_weights(spikes: SortedSpikes, weights: Sequence[Tensor], rule: S4NNRule) -> tuple[int, ...]:
    """Return the sizes of the input and of each layer."""
    if spikes.steps != rule.steps:
        raise ValueError(f"images have windows of {spikes.steps} steps, the rule is for {rule.steps}")
    if len(weights) != len(rule.thresholds):
        raise ValueError(f"{len(rule.thresholds)} thresholds need as many weights, found {len(weights)}")
    kinds = {weight.dtype for weight in weights}
    if len(kinds) != 1 or not kinds <= {torch.float32, torch.float64}:
        raise TypeError(f"weights must be all float32 or all float64, found {sorted(map(str, kinds))}")
    shapes = [tuple(weight.shape) for weight in weights]
    if any(len(shape) != 2 or 0 in shape for shape in shapes):
        raise ValueError(f"weights must be (out_features, in_features), found {shapes}")
    if shapes[0][1] != spikes.in_features or any(two[1] != one[0] for one, two in pairwise(shapes)):
        raise ValueError(
            f"images have {spikes.in_features} features and each layer takes what the one before gives; "
            f"found weights {shapes}"
        )
    if not all(bool(torch.isfinite(weight.detach()).all()) for weight in weights):
        raise ValueError("weights hold NaN or infinity")
    return (spikes.in_features, *(shape[0] for shape in shapes))


def _check_order(order: Tensor, count: int) -> None:
    if order.dtype != torch.int64 or order.dim() != 1:
        raise TypeError(f"order must be int64 with one axis, found {order.dtype} {tuple(order.shape)}")
    if order.numel() and not 0 <= int(order.min()) <= int(order.max()) < count:
        raise ValueError(
            f"order must lie in 0 ... {count - 1}, found {int(order.min())} ... {int(order.max())}"
        )


@torch.no_grad()
def redraw_dead(
    layer: Layer,
    firing_rate: Tensor,
    *,
    low: float,
    high: float,
    min_rate: float = 1e-3,
    generator: torch.Generator | None = None,
) -> int:
    """Re-draw the incoming weights of neurons that fire too rarely; return how many.

    S4NN (arXiv 1910.09495) does so after each epoch for hidden neurons that fired on less than 0.1 %
    of the images.

    Args:
        layer: a fully connected layer, changed in place.
        firing_rate: share of samples on which each neuron fired, ``(out_features,)``.
        low, high: bounds of the uniform distribution of new weights.
        min_rate: neurons strictly below this share are re-drawn.
        generator: source of randomness.
    """
    dead = (firing_rate < min_rate).nonzero().flatten()
    if len(dead):
        fresh = torch.empty(len(dead), layer.weight.shape[1]).uniform_(low, high, generator=generator)
        layer.weight[dead] = fresh
    return len(dead)
