"""Layers one after the other, with the clock they share."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from firstspike.inputs import as_images
from firstspike.neurons import Neuron
from firstspike.nn.geometry import Shape
from firstspike.nn.layers import Layer
from firstspike.nn.pool import AvgPool2d
from firstspike.spikes import Spikes, check_spikes
from firstspike.support import check_num_steps


class Stack(torch.nn.Module):
    """A feed-forward network of single-spike layers.

    Maps ``(batch, channels, y, x)`` are flattened before a fully connected layer. What depends on the size
    of the maps is known when an input comes, so it is checked then.

    Args:
        layers: each takes the spikes that the one before gives, or those that its `source` names; its
            shortcuts likewise.
        steps: length ``T`` of the input window.

    Raises:
        TypeError: something else than layers.
        ValueError: no layers, or sizes, channels, windows or phases of neighbours that do not fit.

    >>> import firstspike as fs
    >>> net = fs.Stack(fs.Linear(4, 8), fs.Linear(8, 2, fs.Window.output(steps=32)), steps=16)
    >>> out = net(net.encode([[0.0, 0.3, 0.6, 1.0]]))
    >>> out.shape, out.steps
    (torch.Size([1, 2]), 32)
    """

    def __init__(self, *layers: Layer | AvgPool2d, steps: int) -> None:
        super().__init__()
        if not layers:
            raise ValueError("a Stack needs at least one layer")
        for depth, layer in enumerate(layers):
            _check_layer(depth, layer)
        self.steps = check_num_steps(steps)
        self.layers = torch.nn.ModuleList(layers)
        _check_sources(layers)
        _check_sizes(layers)
        windows = self.windows
        for depth, (neuron, (first, *_)) in enumerate(zip(self.neurons, self.sources, strict=True)):
            try:
                neuron.check_steps(windows[first])
            except ValueError as error:
                raise ValueError(f"layer {depth}: {error}") from None
        for depth, layer in enumerate(layers):
            before = _first(depth, layer) - 1
            if before >= 0:
                try:
                    layer.neuron.follow(layers[before].neuron)
                except ValueError as error:
                    raise ValueError(f"layer {depth} {error}, layer {before}'s") from None

    def extra_repr(self) -> str:
        """Return the input's window, for printing."""
        return f"steps={self.steps}"

    def __iter__(self) -> Iterator[Layer]:
        """Walk through the layers from the input on."""
        return (cast(Layer, layer) for layer in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, depth: int) -> Layer:
        return cast(Layer, self.layers[depth])

    @property
    def neurons(self) -> list[Neuron]:
        """The neuron of each layer."""
        return [layer.neuron for layer in self]

    @property
    def windows(self) -> list[int]:
        """Length in steps of the input's window, then of each layer's."""
        windows = [self.steps]
        for layer, (first, *_) in zip(self, self.sources, strict=True):
            windows.append(layer.neuron.out_steps(windows[first]))
        return windows

    @property
    def sources(self) -> list[tuple[int, ...]]:
        """Whose spikes each connection of each layer takes, the first one's first: see `Connection`."""
        return [
            (_first(depth, layer), *(cast(int, shortcut.source) for shortcut in layer.shortcuts))
            for depth, layer in enumerate(self)
        ]

    @property
    def out_steps(self) -> int:
        """Length in steps of the window of the last layer."""
        return self.windows[-1]

    @property
    def offsets(self) -> list[int]:
        """First step of each window on the clock of the input: the input's, then each layer's.

        Causal layers share one window, so their offset is their input's. A window layer starts when
        the latest of its input windows has ended.
        """
        starts, windows = [0], self.windows
        for neuron, sources in zip(self.neurons, self.sources, strict=True):
            starts.append(max(starts[source] + neuron.waits(windows[source]) for source in sources))
        return starts

    @property
    def last_step(self) -> int:
        """Steps from the first input step to the end of the last layer's window or phase."""
        return self.offsets[-1] + self.neurons[-1].ends(self.windows[self.sources[-1][0]])

    def shapes(self, in_shape: Shape | None = None) -> list[Shape]:
        """Return the shape of a sample's input and of every layer's output.

        Args:
            in_shape: of the input; a network whose first layer is fully connected knows it.

        Raises:
            ValueError: a layer does not take what comes, or `in_shape` is needed and missing.
        """
        if in_shape is None:
            kind, count = self[0].takes
            if kind != "features" or count is None:
                raise ValueError("give in_shape = (channels, y, x): the first layer takes maps of any size")
            in_shape = (count,)
        shapes = [tuple(in_shape)]
        for depth, layer in enumerate(self):
            shapes.append(_out_shape(depth, layer, shapes[_first(depth, layer)]))
        return shapes

    def encode(self, images: Any) -> Spikes:
        """Return images as the spikes that the network takes; see `Neuron.encode`.

        Args:
            images: uint8, bool, or floats in 0 ... 1, ``(batch, height, width)``, with channels
                ``(batch, channels, height, width)``, or ``(batch, features)``.
        """
        images = as_images(images)
        if images.dim() < 2:
            raise ValueError(f"images must be (batch, ...), found {tuple(images.shape)}; add a batch axis")
        if self[0].takes[0] == "features":
            images = images.flatten(1)
        elif images.dim() == 3:
            images = images.unsqueeze(1)
        return self[0].neuron.encode(images, self.steps)

    def forward(self, spikes: Spikes) -> Spikes:
        """Return the last layer's spikes, local to its window."""
        return self.trace(spikes)[-1]

    def trace(self, spikes: Spikes) -> list[Spikes]:
        """Return the spikes of the input and of every layer, each local to its window."""
        traced = [self._entering(spikes)]
        for depth, layer in enumerate(self):
            traced.append(layer(*self._inputs(depth, traced)))
        return traced

    def read(self, spikes: Spikes) -> tuple[list[Spikes], Tensor]:
        """Return what `trace` returns and the last layer's membrane."""
        traced = [self._entering(spikes)]
        *first, output = self
        for depth, layer in enumerate(first):
            traced.append(layer(*self._inputs(depth, traced)))
        last, membrane = output.read(*self._inputs(len(first), traced))
        return [*traced, last], membrane

    def _entering(self, spikes: Spikes) -> Spikes:
        if check_spikes(spikes).steps != self.steps:
            raise ValueError(
                f"the network takes windows of {self.steps} steps, found spikes of {spikes.steps}; encode "
                f"them with steps={self.steps}"
            )
        return spikes

    def _inputs(self, depth: int, traced: list[Spikes]) -> list[Spikes]:
        """What layer `depth` takes, after a look at its shape."""
        layer = self[depth]
        spikes = traced[_first(depth, layer)]
        _out_shape(depth, layer, tuple(spikes.shape[1:]))
        return [spikes, *(traced[cast(int, shortcut.source)] for shortcut in layer.shortcuts)]


def _check_layer(depth: int, layer: Any) -> None:
    """Raise TypeError, with what to do, for something else than a layer."""
    if isinstance(layer, torch.nn.Module) and hasattr(layer, "neuron"):
        return
    kind = layer if isinstance(layer, type) else type(layer)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    advice = "take firstspike's own, Linear or Conv2d for instance, whose neuron stands for the activation"
    if isinstance(layer, torch.nn.Flatten):
        advice = "leave it out: maps are flattened before a fully connected layer"
    elif isinstance(layer, torch.nn.AvgPool2d):
        advice = "take firstspike's AvgPool2d"
    elif isinstance(layer, torch.nn.MaxPool2d):
        advice = "take EarliestPool2d: the earliest spike stands for the greatest number"
    elif isinstance(layer, Sequence | Stack | torch.nn.Sequential | torch.nn.ModuleList):
        advice = "give its layers one by one: Stack(*layers, steps=T)"
    raise TypeError(f"layer {depth} is no layer of spikes, found {name}; {advice}")


def _first(depth: int, layer: Layer | AvgPool2d) -> int:
    """Whose spikes the first connection of layer `depth` takes."""
    return depth if layer.source is None else layer.source


def _out_shape(depth: int, layer: Layer, shape: Shape) -> Shape:
    try:
        return layer.out_shape(shape)
    except ValueError as error:
        raise ValueError(f"layer {depth} ({type(layer).__name__}) {error}") from None


def _check_sources(layers: Sequence[Layer | AvgPool2d]) -> None:
    for depth, layer in enumerate(layers):
        named = [("connection", layer), *(("shortcut", shortcut) for shortcut in layer.shortcuts)]
        for what, connection in named:
            source = connection.source
            if source is not None and not 0 <= source <= depth:
                raise ValueError(
                    f"the {what} from {source} into layer {depth} must come from the input (0) or a layer "
                    f"before ({depth} at most)"
                )
        for shortcut in layer.shortcuts:
            name = f"the shortcut from {shortcut.source} into layer {depth}"
            if shortcut.wiring.gives != layer.gives:
                raise ValueError(
                    f"{name} gives {_words(shortcut.wiring.gives)}, the layer {_words(layer.gives)}"
                )


def _check_sizes(layers: Sequence[Layer | AvgPool2d]) -> None:
    """Raise ValueError for neighbours that fit for no size of the maps."""
    # What is known of the input and of what each layer gives; pooling leaves the number of maps.
    known: list[tuple[str, int | None]] = [("", None)]
    for depth, layer in enumerate(layers):
        source = _first(depth, layer)
        known.append(layer.gives if layer.gives[1] is not None else ("channels", known[source][1]))
        taken = [(source, f"layer {depth}", layer.takes)]
        for shortcut in layer.shortcuts:
            name = f"the shortcut from {shortcut.source} into layer {depth}"
            taken.append((cast(int, shortcut.source), name, shortcut.wiring.takes))
        for source, name, wanted in taken:
            if not _fits(known[source], wanted):
                raise ValueError(
                    f"layer {source - 1} gives {_words(known[source])}, {name} takes {_words(wanted)}"
                )


def _fits(given: tuple[str, int | None], wanted: tuple[str, int | None]) -> bool:
    """Whether what a layer gives may be what another takes; an input of an unknown kind may."""
    kind, count = given
    wanted_kind, number = wanted
    if not kind:
        return True
    if count is None or number is None:
        return kind in (wanted_kind, "channels")
    if kind == wanted_kind:
        return count == number
    # Maps are flattened; features do not become maps.
    return kind == "channels" and number % count == 0


def _words(kind: tuple[str, int | None]) -> str:
    return f"maps of {kind[1] or 'any'} channels" if kind[0] == "channels" else f"{kind[1]} features"
