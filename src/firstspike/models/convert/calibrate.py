"""Ranges of activations from data: what a window of T levels spans."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from firstspike.models.convert.fold import targets
from firstspike.models.convert.graph import Clip, Convolve, Graph, MaxPool, Node, Op
from firstspike.models.precision import fast_precision
from firstspike.support import InputError

Ranges = Literal["error", "maximum"] | float

# Shares of the largest value among which the range of least error is sought.
_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
# Values of a channel that are kept, for the search and for `refit`.
_SEEN = 8192
BATCH = 50


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
        membranes: some of what is before it, at the `sampled` places of every batch, ``(channels, S)``.
        output: what the network gives, ``(images, ...)``.
    """

    ranges: dict[int, Range]
    means: dict[int, Tensor]
    membranes: dict[int, Tensor]
    output: Tensor


@torch.no_grad()
def calibrate(graph: Graph, images: Tensor, steps: int, ranges: Ranges) -> Calibration:
    """Run the network on images ``(count, ...)`` in 0 ... 1 and look at every activation.

    Raises:
        InputError: an activation is never above its lowest value, or not finite.
    """
    order = graph.order()
    wanted = targets(graph)
    seen = {id(one): _Seen(one, len(images)) for one in wanted}
    left = {key: len(users) for key, users in graph.users().items()}
    ops = {id(one): _fast(one.op) for one in order}
    outputs = []
    for number, batch in enumerate(images.split(BATCH)):
        values, waiting = {id(graph.input): batch}, dict(left)
        for one in order:
            if (op := ops[id(one)]) is not None:
                values[id(one)] = op(*(values[id(before)] for before in one.inputs))
            if id(one) in seen:
                before = one.inputs[0] if isinstance(one.op, Clip) else one
                seen[id(one)].look(values[id(before)], values[id(one)], number)
            for before in one.inputs:
                waiting[id(before)] -= 1
                if not waiting[id(before)] and before is not graph.output:
                    del values[id(before)]
        outputs.append(values[id(graph.output)])
    found = {id(graph.input): Range(0.0, torch.ones(graph.input.shape[0]))}
    for one in order:
        if id(one) in seen and (one is not graph.output or isinstance(one.op, Clip)):
            found[id(one)] = seen[id(one)].range(steps, ranges)
            if one is graph.output:
                # Outputs are compared with each other, so they share one range.
                top = seen[id(one)].top - found[id(one)].low
                found[id(one)] = Range(found[id(one)].low, torch.full_like(top, float(top.max())))
        elif isinstance(one.op, MaxPool):
            found[id(one)] = found[id(one.inputs[0])]
    means = {key: one.sums / one.count for key, one in seen.items()}
    membranes = {key: torch.cat(one.membranes, 1) for key, one in seen.items()}
    return Calibration(found, means, membranes, torch.cat(outputs))


def sampled(area: int, images: int, number: int) -> Tensor:
    """Return the places of a map that are looked at in the `number`-th batch of so many images."""
    count = max(1, min(area, _SEEN // images))
    return (torch.arange(count) * area // count + 7 * number) % area


def _fast(op: Op | None) -> Op | None:
    """The operation; a convolution in the precision that this processor does well.

    Not one in groups: torch 2.13 gives NaN or other numbers for some of these in bfloat16.
    """
    if not isinstance(op, Convolve) or op.groups > 1 or fast_precision("cpu") == "float32":
        return op
    return replace(op, weight=op.weight.to(torch.bfloat16, memory_format=torch.channels_last))


class _Seen:
    """What was seen of an activation: sums, extremes and some values of each channel."""

    def __init__(self, node: Node, images: int) -> None:
        self.node, self.images, self.count = node, images, 0
        channels, self.area = node.shape[0], math.prod(node.shape[1:])
        self.sums = torch.zeros(channels, dtype=torch.float64)
        self.top, self.least = torch.full((channels,), -math.inf), math.inf
        self.values: list[Tensor] = []
        self.membranes: list[Tensor] = []

    def look(self, membrane: Tensor, value: Tensor, number: int) -> None:
        """Take in a batch, the `number`-th, before and after the activation."""
        rows, membrane = by_place(value), by_place(membrane)
        self.count += len(rows) * self.area
        self.sums += (sums := membrane.sum((0, 2)))
        if not bool(torch.isfinite(sums).all()):
            raise InputError(f"{self.node.name} gives NaN or infinity on the calibration images")
        self.top = torch.maximum(self.top, rows.amax((0, 2)))
        if not isinstance(self.node.op, Clip):
            self.least = min(self.least, float(rows.min()))
        places = sampled(self.area, self.images, number)
        for kept, values in ((self.values, rows), (self.membranes, membrane)):
            kept.append(values[:, :, places].transpose(0, 1).flatten(1))

    def range(self, steps: int, ranges: Ranges) -> Range:
        """Return the range of the activation's levels."""
        low = self.node.op.low if isinstance(self.node.op, Clip) else min(self.least, 0.0)
        top, values = self.top - low, torch.cat(self.values, 1) - low
        if not bool((top > 0).any()):
            raise InputError(
                f"{self.node.name} is never active on the calibration images; give images as the network "
                "was trained on, or train it again without this dead layer"
            )
        if isinstance(ranges, float):
            span = torch.quantile(values.double(), ranges, dim=1).float()
        elif ranges == "maximum":
            span = top
        else:
            tried = torch.stack([top * share for share in _SHARES])
            errors = torch.stack([_error(values, span, steps) for span in tried])
            span = tried.gather(0, errors.argmin(0, keepdim=True))[0]
        # A channel that is silent here gets the widest range: it may be active elsewhere.
        widest = span.max() if bool((span > 0).any()) else top.max()
        return Range(low, torch.where(span > 0, span, widest))


def by_place(values: Tensor) -> Tensor:
    """Return values ``(count, channels, ...)`` as ``(count, channels, places)``."""
    return values.flatten(2) if values.dim() > 2 else values.unsqueeze(2)


def _error(values: Tensor, span: Tensor, steps: int) -> Tensor:
    """Root of the summed squared errors of each row in so many levels."""
    unit = torch.where(span > 0, span, 1.0) / steps
    levels = values / unit.unsqueeze(1)
    rounded = levels.round().clamp_(max=steps)
    return torch.linalg.vector_norm(rounded.sub_(levels), dim=1) * unit
