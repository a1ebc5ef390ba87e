"""S4NN's online learning: a whole epoch, one image and one update at a time, in one compiled call."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from firstspike.decision import PAPERS, STRICT, Score
from firstspike.kernels.cpu import s4nn as kernel
from firstspike.kernels.cpu.vectors import LANES
from firstspike.spikes import check_num_steps, check_times

TargetKind = Literal["relative", "aggressive"]
ErrorNorm = Literal["l2", "l1"]


@dataclass(frozen=True, kw_only=True)
class S4NN:
    """The numbers of S4NN's learning rule, as its published code runs it (arXiv 1910.09495).

    Neurons fire one step after ``V > threshold``: ``Causal(threshold=..., strict=True, delay=1)``.

    Attributes:
        num_steps: ``T``.
        thresholds: of each layer, above 0.
        gamma: margin of the relative targets in steps.
        rate: learning rate ``eta``.
        weight_decay: ``lambda``; after each image ``w -= eta lambda w``.
        loss: "relative" (S4NN's targets) or "aggressive" (Spiking-GAN's, Eqs. 6-7).
        norm: each layer's errors are divided by their norm: "l2" (S4NN) or "l1" (Spiking-GAN).
    """

    num_steps: int = 256
    thresholds: tuple[float, ...] = (100.0, 100.0)
    gamma: float = 3.0
    rate: float = 0.2
    weight_decay: float = 1e-6
    loss: TargetKind = "relative"
    norm: ErrorNorm = "l2"

    def __post_init__(self) -> None:
        check_num_steps(self.num_steps)
        object.__setattr__(self, "thresholds", tuple(self.thresholds))
        if not self.thresholds or not all(0 < theta < float("inf") for theta in self.thresholds):
            raise ValueError(f"S4NN.thresholds must be above 0 and finite, found {self.thresholds}")
        if not 0 <= self.gamma <= self.num_steps:
            raise ValueError(f"S4NN.gamma must be 0 ... {self.num_steps} steps, found {self.gamma}")
        if not 0 <= self.rate < float("inf"):
            raise ValueError(f"S4NN.rate must be 0 or more and finite, found {self.rate}")
        if not (self.weight_decay >= 0 and self.rate * self.weight_decay < 1):
            raise ValueError(
                f"S4NN.weight_decay must be 0 or more and below 1 / rate, found {self.weight_decay}"
            )
        for name, value, choices in (
            ("loss", self.loss, get_args(TargetKind)),
            ("norm", self.norm, get_args(ErrorNorm)),
        ):
            if value not in choices:
                raise ValueError(f"S4NN.{name} must be one of {', '.join(choices)}; found {value!r}")


@dataclass(frozen=True, eq=False)
class SortedSpikes:
    """The spikes of many images in the order of time, made once and used in every epoch.

    Four bytes per spike, whatever the number of steps. `sort_spikes` makes it.

    Attributes:
        lists: input and step of each spike, image after image, and where each image starts.
        in_features: inputs per image.
        num_steps: ``T``.
    """

    lists: tuple[np.ndarray, np.ndarray, np.ndarray]
    in_features: int
    num_steps: int

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


def sort_spikes(times: Tensor, num_steps: int) -> SortedSpikes:
    """Return the spikes of `times` ``(images, in_features)`` in the order of time.

    Raises:
        TypeError: `times` is not a tensor of numbers.
        ValueError: it has not two axes, or a time is not a whole step in ``0 ... num_steps``.
    """
    check_num_steps(num_steps)
    if not isinstance(times, Tensor) or times.dim() != 2:
        found = tuple(times.shape) if isinstance(times, Tensor) else type(times).__name__
        raise ValueError(f"times must be a tensor (images, in_features), found {found}")
    check_times(times if times.dtype != torch.float32 else times[:0], num_steps)
    try:
        lists = kernel.list_images(times.detach().to(torch.float32).contiguous().numpy(), num_steps)
    except ValueError:
        check_times(times, num_steps)
        raise
    return SortedSpikes(lists, times.shape[1], num_steps)


def s4nn_epoch(
    images: Tensor | SortedSpikes,
    labels: Tensor,
    weights: Sequence[Tensor],
    config: S4NN,
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
        images: spike times ``(images, in_features)``, ``T`` silent, or `sort_spikes` of them, which
            saves the sorting in later epochs.
        labels: int64 ``(images,)``.
        weights: one ``(out_features, in_features)`` per layer, all float32 or all float64.
        config: the rule.
        order: int64, which image to learn from when; each once as given by default (S4NN's).

    Returns:
        output times, hidden firing rates and scores, during learning.

    Raises:
        TypeError: tensors of other types.
        ValueError: shapes that do not fit, a time, label or index out of range, weights not finite.

    S4NN re-draws, after each epoch, hidden neurons that fired too rarely (`nn.redraw_dead`):

    >>> from firstspike import Causal, Linear, redraw_dead
    >>> neuron = Causal(threshold=100, strict=True, delay=1)
    >>> hidden, output = Linear(3, 4, 256, neuron), Linear(4, 2, 256, neuron)
    >>> _ = torch.nn.init.uniform_(hidden.weight, 0, 50), torch.nn.init.uniform_(output.weight, 0, 48)
    >>> spikes = sort_spikes(torch.tensor([[0, 3, 256], [256, 0, 9]]), 256)
    >>> for _ in range(3):
    ...     seen = s4nn_epoch(spikes, torch.tensor([0, 1]), [hidden.weight, output.weight], S4NN())
    ...     redrawn = redraw_dead(hidden, seen.firing_rates[0], low=0, high=50)
    >>> seen.output_times.shape
    torch.Size([2, 2])
    """
    spikes = images if isinstance(images, SortedSpikes) else sort_spikes(images, config.num_steps)
    sizes = _check_weights(spikes, weights, config)
    _check_index("labels", labels, (len(spikes),), sizes[-1])
    if order is None:
        order = torch.arange(len(spikes))
    else:
        _check_index("order", order, (len(order),) if order.dim() else (0,), len(spikes))
    spare = weights[0].new_zeros(LANES)
    flat = torch.cat([*(weight.detach().t().flatten() for weight in weights), spare])
    out, fired = kernel.learn(
        spikes.lists,
        order.contiguous().numpy(),
        labels.contiguous().numpy(),
        flat.numpy(),
        sizes,
        config.thresholds,
        num_steps=config.num_steps,
        gamma=float(config.gamma),
        rate=config.rate,
        keep=1.0 - config.rate * config.weight_decay,
        aggressive=config.loss == "aggressive",
        l1=config.norm == "l1",
    )
    parts = flat.split([*(weight.numel() for weight in weights), len(spare)])
    for weight, part in zip(weights, parts[:-1], strict=True):
        weight.detach().copy_(part.reshape(weight.shape[1], weight.shape[0]).t())
    times = torch.from_numpy(out)
    seen = labels[order]
    return OnlineEpoch(
        output_times=times,
        firing_rates=[torch.from_numpy(count / max(len(order), 1)).to(torch.float32) for count in fired],
        strict=STRICT.score(times, seen, config.num_steps),
        papers=PAPERS.score(times, seen, config.num_steps),
    )


def _check_weights(spikes: SortedSpikes, weights: Sequence[Tensor], config: S4NN) -> tuple[int, ...]:
    """Return the sizes of the input and of each layer."""
    if spikes.num_steps != config.num_steps:
        raise ValueError(
            f"images were sorted for {spikes.num_steps} steps, config.num_steps is {config.num_steps}"
        )
    if len(weights) != len(config.thresholds):
        raise ValueError(f"{len(config.thresholds)} thresholds need as many weights, found {len(weights)}")
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


def _check_index(name: str, values: Tensor, shape: tuple[int, ...], end: int) -> None:
    if values.dtype != torch.int64:
        raise TypeError(f"{name} must be int64, found {values.dtype}")
    if tuple(values.shape) != shape:
        raise ValueError(f"{name} must have the shape {shape}, found {tuple(values.shape)}")
    if not values.numel():
        return
    low, high = (int(bound) for bound in torch.aminmax(values))
    if low < 0 or high >= end:
        raise ValueError(f"{name} must lie in 0 ... {end - 1}, found {low} ... {high}")
