"""Ranges of activations from data: what a window of T levels spans."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from firstspike.models.convert.fold import targets
from firstspike.models.convert.graph import Clip, Graph, MaxPool, Node
from firstspike.support import InputError

Ranges = Literal["error", "maximum"] | float

# Shares of the largest value among which the range of least error is sought.
_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
# Values of a channel that the search looks at.
_SEEN = 4096
_BATCH = 100


@dataclass(frozen=True, eq=False)
class Range:
    """What the levels of a node's neurons stand for: ``low`` for silence, ``low + span`` for step 0.

    Attributes:
        low: one for all.
        span: of each channel or feature.
    """

    low: float
    span: Tensor


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was seen of a network on some images.

    Attributes:
        ranges: of every node with neurons but the output, by node id.
        means: mean of each channel before the activation, of every target, by node id.
        output: what the network gives, ``(images, ...)``.
    """

    ranges: dict[int, Range]
    means: dict[int, Tensor]
    output: Tensor


@torch.no_grad()
def calibrate(graph: Graph, images: Tensor, steps: int, ranges: Ranges) -> Calibration:
    """Run the network on images ``(count, ...)`` in 0 ... 1 and look at every activation.

    Raises:
        InputError: an activation is never above its lowest value, or not finite.
    """
    found = {id(graph.input): Range(0.0, torch.ones(graph.input.shape[0]))}
    means: dict[int, Tensor] = {}
    wanted = {id(one) for one in targets(graph)}
    order, left = graph.order(), {key: len(users) for key, users in graph.users().items()}
    values = {id(graph.input): images}
    for one in order:
        if one.op is not None:
            taken = [values[id(before)] for before in one.inputs]
            parts = zip(*(value.split(_BATCH) for value in taken), strict=True)
            values[id(one)] = torch.cat([one.op(*part) for part in parts])
        if id(one) in wanted:
            membrane = values[id(one.inputs[0])] if _activates(one) else values[id(one)]
            means[id(one)] = _by_channel(membrane).to(torch.float64).mean(1)
            _check_finite(one, membrane)
            if one is not graph.output or _activates(one):
                found[id(one)] = _range(one, values[id(one)], steps, ranges)
        elif isinstance(one.op, MaxPool):
            found[id(one)] = found[id(one.inputs[0])]
        for before in one.inputs:
            left[id(before)] -= 1
            if not left[id(before)]:
                del values[id(before)]
    return Calibration(found, means, values[id(graph.output)])


def _activates(one: Node) -> bool:
    return isinstance(one.op, Clip)


def _by_channel(values: Tensor) -> Tensor:
    """Values ``(count, channels, ...)`` as one row a channel."""
    return values.transpose(0, 1).flatten(1)


def _check_finite(one: Node, values: Tensor) -> None:
    if not bool(torch.isfinite(values.sum())):
        raise InputError(f"{one.name} gives NaN or infinity on the calibration images; look at the weights")


def _range(one: Node, values: Tensor, steps: int, ranges: Ranges) -> Range:
    rows = _by_channel(values)
    low = one.op.low if isinstance(one.op, Clip) else min(float(rows.min()), 0.0)
    top = rows.amax(1) - low
    if not bool((top > 0).any()):
        raise InputError(
            f"{one.name} is never active on the calibration images; give images as the network was trained "
            "on, or train it again without this dead layer"
        )
    # Stepping over the values evenly, by a stride that shares no factor with the size of a map.
    every = max(1, rows.shape[1] // _SEEN)
    seen = rows[:, :: every + (every % 2 == 0)] - low
    if isinstance(ranges, float):
        span = torch.quantile(seen.double(), ranges, dim=1).float()
    elif ranges == "maximum":
        span = top
    else:
        tried = torch.stack([top * share for share in _SHARES])
        errors = torch.stack([_error(seen, span, steps) for span in tried])
        span = tried.gather(0, errors.argmin(0, keepdim=True))[0]
    # A channel that is silent here gets the widest range: it may be active elsewhere.
    widest = span.max() if bool((span > 0).any()) else top.max()
    return Range(low, torch.where(span > 0, span, widest))


def _error(values: Tensor, span: Tensor, steps: int) -> Tensor:
    """Mean squared error of each row in so many levels."""
    unit = torch.where(span > 0, span, math.inf).unsqueeze(1) / steps
    levels = (values / unit).round().clamp(max=steps)
    return (torch.nan_to_num(levels * unit) - values).square().mean(1)
