"""Layers one after the other, with the clock they share."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from firstspike.functional import window_fire
from firstspike.neurons import Phased, Window
from firstspike.nn.conv import Conv2d, ConvTranspose2d
from firstspike.nn.geometry import Shape
from firstspike.nn.linear import Linear
from firstspike.nn.pool import AvgPool2d

Layer = Linear | Conv2d | ConvTranspose2d | AvgPool2d


class Shortcut(torch.nn.Module):
    """A connection past some layers: one layer also hears what an earlier one heard.

    Its spikes wait, as in a delay line, so long that their window ends with that layer's input window.

    Args:
        source: whose times it takes: 0 is the network's input, ``d + 1`` what layer ``d`` gives.
        target: number of the layer that hears it too, a `Conv2d` of window neurons.
        connection: a `Conv2d` of window neurons, of which the membrane is added to the target's.
    """

    def __init__(self, source: int, target: int, connection: Conv2d) -> None:
        super().__init__()
        self.source, self.target, self.connection = source, target, connection


class Stack(torch.nn.Module):
    """A feed-forward network of single-spike layers.

    Maps ``(batch, channels, y, x)`` are flattened before a `Linear`. What depends on the size of the maps
    is known when an input comes, so it is checked then.

    Args:
        layers: each takes the times that the one before gives.
        shortcuts: connections past layers, at most one into each.

    Raises:
        ValueError: no layers, or sizes, channels or windows of neighbours that do not fit.
    """

    def __init__(self, layers: Sequence[Layer], shortcuts: Sequence[Shortcut] = ()) -> None:
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
        _check_shortcuts(layers, shortcuts)
        self.shortcuts = torch.nn.ModuleList(shortcuts)

    def __iter__(self) -> Iterator[Layer]:
        """Walk through the layers from the input on."""
        return (cast(Layer, layer) for layer in self.layers)

    def shortcut_into(self, depth: int) -> Shortcut | None:
        """Return the connection that layer `depth` hears beside its input, if there is one."""
        return next((shortcut for shortcut in self.past if shortcut.target == depth), None)

    @property
    def past(self) -> list[Shortcut]:
        """The connections past layers."""
        return [cast(Shortcut, shortcut) for shortcut in self.shortcuts]

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
        return self.trace(times)[-1]

    def trace(self, times: Tensor) -> list[Tensor]:
        """Return the spike times of the input and of every layer, each local to its window."""
        traced = [times]
        for depth in range(len(self.layers)):
            traced.append(self._layer(depth, traced))
        return traced

    def read(self, times: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return what `trace` returns and the last layer's membrane."""
        traced = [times]
        *first, output = self
        for depth in range(len(first)):
            traced.append(self._layer(depth, traced))
        last, membrane = output.read(_fit(len(first), output, traced[-1]))
        return [*traced, last], membrane

    def _layer(self, depth: int, traced: list[Tensor]) -> Tensor:
        layer = cast(Layer, self.layers[depth])
        heard = _fit(depth, layer, traced[-1])
        shortcut = self.shortcut_into(depth)
        if shortcut is None:
            return cast(Tensor, layer(heard))
        assert isinstance(layer.neuron, Window)
        membrane, past = layer.membrane(heard), shortcut.connection.membrane(traced[shortcut.source])
        if membrane.shape != past.shape:
            raise ValueError(
                f"the shortcut into layer {depth} gives maps {tuple(past.shape[1:])}, the layer has "
                f"{tuple(membrane.shape[1:])}"
            )
        membrane = membrane + past
        return window_fire(membrane, layer.out_steps, layer.neuron)


def _check_shortcuts(layers: Sequence[Layer], shortcuts: Sequence[Shortcut]) -> None:
    windows = [layers[0].num_steps, *(layer.out_steps for layer in layers)]
    for shortcut in shortcuts:
        name = f"the shortcut from {shortcut.source} to layer {shortcut.target}"
        if not 0 <= shortcut.source <= shortcut.target < len(layers) - 1:
            raise ValueError(f"{name} must lead forward to a layer before the last of {len(layers)}")
        if [other.target for other in shortcuts].count(shortcut.target) > 1:
            raise ValueError(f"{name} is not the only one into that layer")
        target, connection = layers[shortcut.target], shortcut.connection
        if not isinstance(target, Conv2d) or not isinstance(target.neuron, Window):
            raise ValueError(
                f"{name} needs a Conv2d of window neurons there, found {type(target).__name__}"
            )
        if not isinstance(connection.neuron, Window):
            raise ValueError(f"{name} needs a connection of window neurons, found {connection.neuron}")
        if connection.out_channels != target.out_channels:
            raise ValueError(f"{name} gives {connection.out_channels} channels to {target.out_channels}")
        if connection.num_steps != windows[shortcut.source]:
            raise ValueError(
                f"{name} reads a window of {connection.num_steps} steps, its source fires in one of "
                f"{windows[shortcut.source]}"
            )


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
