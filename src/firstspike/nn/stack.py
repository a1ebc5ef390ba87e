"""Layers one after the other, with the clock they share."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from firstspike.neurons import Phased, Window
from firstspike.nn.conv import Conv2d, ConvTranspose2d
from firstspike.nn.geometry import Shape
from firstspike.nn.linear import Linear
from firstspike.nn.pool import AvgPool2d

Layer = Linear | Conv2d | ConvTranspose2d | AvgPool2d


class Stack(torch.nn.Module):
    """A feed-forward network of single-spike layers.

    Maps ``(batch, channels, y, x)`` are flattened before a `Linear`. What depends on the size of the maps
    is known when an input comes, so it is checked then.

    Args:
        layers: each takes the times that the one before gives.

    Raises:
        ValueError: no layers, or sizes, channels or windows of neighbours that do not fit.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        if not layers:
            raise ValueError("a Stack needs at least one layer")
        _check_sizes(layers)
        for depth, (one, two) in enumerate(pairwise(layers)):
            if one.out_steps != two.num_steps:
                raise ValueError(
                    f"layer {depth} fires in a window of {one.out_steps} steps, layer {depth + 1} "
                    f"reads one of {two.num_steps}"
                )
            if (
                isinstance(one.neuron, Phased)
                and isinstance(two.neuron, Phased)
                and one.neuron.target != two.neuron.source
            ):
                raise ValueError(
                    f"layer {depth} speaks in the phase {one.neuron.target}, layer {depth + 1} listens in "
                    f"{two.neuron.source}"
                )
        self.layers = torch.nn.ModuleList(layers)

    def __iter__(self) -> Iterator[Layer]:
        """Walk through the layers from the input on."""
        return (cast(Layer, layer) for layer in self.layers)

    @property
    def num_steps(self) -> int:
        """Length of the input window in steps."""
        return next(iter(self)).num_steps

    @property
    def out_steps(self) -> int:
        """Length in steps of the window of the last layer."""
        return list(self)[-1].out_steps

    @property
    def offsets(self) -> list[int]:
        """First step of each window on the clock of the input: the input's, then each layer's.

        Causal layers share one window, so their offset is their input's. A window layer starts when
        its input window has ended.
        """
        starts = [0]
        for layer in self:
            waits = layer.num_steps if isinstance(layer.neuron, Window) else 0
            starts.append(starts[-1] + waits)
        return starts

    @property
    def last_step(self) -> int:
        """Steps from the first input step to the end of the last layer's window or phase."""
        last = list(self)[-1]
        if isinstance(last.neuron, Phased):
            return last.neuron.target[1]
        return self.offsets[-1] + last.out_steps

    def shapes(self, in_shape: Shape | None = None) -> list[Shape]:
        """Return the shape of a sample's input and of every layer's output.

        Args:
            in_shape: of the input; a network whose first layer is a `Linear` knows it.

        Raises:
            ValueError: a layer does not take what comes, or `in_shape` is needed and missing.
        """
        first = next(iter(self))
        if in_shape is None:
            if not isinstance(first, Linear):
                raise ValueError("give in_shape = (channels, y, x): the first layer takes maps of any size")
            in_shape = (first.in_features,)
        shapes = [tuple(in_shape)]
        for depth, layer in enumerate(self):
            shapes.append(_out_shape(depth, layer, shapes[-1]))
        return shapes

    def forward(self, times: Tensor) -> Tensor:
        """Return the last layer's spike times, local to its window."""
        for depth, layer in enumerate(self):
            times = layer(_fit(depth, layer, times))
        return times

    def trace(self, times: Tensor) -> list[Tensor]:
        """Return the spike times of the input and of every layer, each local to its window."""
        traced = [times]
        for depth, layer in enumerate(self):
            traced.append(layer(_fit(depth, layer, traced[-1])))
        return traced

    def read(self, times: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return what `trace` returns and the last layer's membrane."""
        traced = [times]
        *first, output = self
        for depth, layer in enumerate(first):
            traced.append(layer(_fit(depth, layer, traced[-1])))
        last, membrane = output.read(_fit(len(first), output, traced[-1]))
        return [*traced, last], membrane


def _fit(depth: int, layer: Layer, times: Tensor) -> Tensor:
    """The times as the layer takes them, after a look at their shape."""
    _out_shape(depth, layer, tuple(times.shape[1:]))
    return times.flatten(1) if isinstance(layer, Linear) and times.dim() > 2 else times


def _out_shape(depth: int, layer: Layer, shape: Shape) -> Shape:
    try:
        return layer.out_shape(shape)
    except ValueError as error:
        raise ValueError(f"layer {depth} ({type(layer).__name__}) {error}") from None


def _check_sizes(layers: Sequence[Layer]) -> None:
    """Raise ValueError for neighbours that fit for no size of the maps."""
    channels: int | None = None
    for depth, (one, two) in enumerate(pairwise(layers)):
        gives, takes = f"layer {depth} gives", f"layer {depth + 1} takes"
        if isinstance(one, Linear):
            if not isinstance(two, Linear):
                raise ValueError(f"{gives} {one.out_features} features, {takes} maps (channels, y, x)")
            if one.out_features != two.in_features:
                raise ValueError(f"{gives} {one.out_features} features, {takes} {two.in_features}")
            continue
        if not isinstance(one, AvgPool2d):
            channels = one.out_channels
        if channels is None or isinstance(two, AvgPool2d):
            continue
        if isinstance(two, Linear):
            if two.in_features % channels:
                raise ValueError(
                    f"{gives} {channels} channels, {takes} {two.in_features} features, no multiple of them"
                )
        elif two.in_channels != channels:
            raise ValueError(f"{gives} {channels} channels, {takes} {two.in_channels}")
