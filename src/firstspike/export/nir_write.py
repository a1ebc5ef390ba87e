"""Causal networks as NIR, the Neuromorphic Intermediate Representation: graphs that other simulators read.

NIR's integrate-and-fire neurons fire again and again, and most readers know no reset but their own. So each
neuron is connected to itself, by a weight that takes back more than its inputs could ever give: where a
connection back takes one step, as in every reader that knows one, a neuron fires at most once. ``v_reset``
is 0, for a reader that keeps it also starts there.
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from firstspike import __version__
from firstspike.export.nir_files import nir_package, write_whole
from firstspike.neurons import Events
from firstspike.nn import AvgPool2d, Connection, Layer, Stack
from firstspike.nn.description import describe
from firstspike.nn.geometry import Shape
from firstspike.support import InputError, expanded

Array = np.ndarray
# Digits of a membrane: sums of so many units are exact.
_DIGITS = {np.dtype(np.float32): 24, np.dtype(np.float64): 53}


def nir(net: Stack, path: str | Path, *, in_shape: Shape | None = None) -> None:
    """Write a causal network to a NIR file, see `nir_graph`; `firstspike.from_nir` reads it back.

    Args:
        net: a stack of causal neurons.
        path: of the file, by custom ``.nir``.
        in_shape: of an input sample, ``(channels, y, x)``, where the first layer takes maps.

    Raises:
        InputError: as `nir_graph`.
        OSError: the file cannot be written.
    """
    graph = nir_graph(net, in_shape=in_shape)
    write_whole(expanded(path, "path"), nir_package().write, graph)


def nir_graph(net: Stack, *, in_shape: Shape | None = None) -> Any:
    """Return a causal network as a ``nir.NIRGraph``.

    A layer becomes Affine or Conv2d (zero biases where it has none), IF, and the connection of its neurons
    to themselves; pooling becomes SumPool2d and IF; a neuron's delay becomes Delay. A time step is NIR's
    unit of time (``r = 1``), so a reader that asks for its step is given ``dt = 1``. A bias "start" is
    taken off each neuron's threshold, a "current" is NIR's bias.

    Thresholds lie between what just fires and what does not, so that ``v > v_threshold``, NIR's rule, and
    the ``>=`` of some readers are the same. For certain they are where weights are multiples of a power of
    two so that every sum is exact, as those of deep networks; otherwise up to rounding.

    Args:
        net: a stack of causal neurons.
        in_shape: of an input sample, ``(channels, y, x)``, where the first layer takes maps.

    Raises:
        InputError: what NIR cannot say: other neurons, grouped convolutions, kernels that are not square;
            weights that are not finite; `in_shape` is needed or does not fit; the package nir is missing.
    """
    try:
        describe(net)
        shapes = net.shapes(in_shape)
    except (TypeError, ValueError) as error:
        raise InputError(f"the network cannot be written as NIR: {error}") from error
    for depth, neuron in enumerate(net.neurons):
        if neuron.events() is None:
            raise InputError(
                f"layer {depth} has {type(neuron).__name__} neurons, which NIR cannot say: its neurons add "
                "up weights as spikes come and fire at once at a threshold; train Causal neurons"
            )
    writer = _Writer(nir_package(), net, shapes)
    for depth in range(len(net)):
        writer.add(depth)
    return writer.graph()


class _Writer:
    """Nodes and edges; `ends` names the node that gives the input's spikes, then each layer's."""

    def __init__(self, package: Any, net: Stack, shapes: list[Shape]) -> None:
        self.nir, self.net, self.shapes = package, net, shapes
        self.nodes: dict[str, Any] = {"input": package.Input(np.array(shapes[0]))}
        self.edges: list[tuple[str, str]] = []
        self.ends = ["input"]

    def graph(self) -> Any:
        self.nodes["output"] = self.nir.Output(np.array(self.shapes[-1]))
        self.edges.append((self.ends[-1], "output"))
        known = {"firstspike": __version__, "steps": self.net.steps}
        return self.nir.NIRGraph(self.nodes, self.edges, metadata=known)

    def add(self, depth: int) -> None:
        layer, sources, name = self.net[depth], self.net.sources[depth], f"layer {depth}"
        events = layer.neuron.events()
        assert events is not None
        shape, neurons = self.shapes[depth + 1], f"neurons_{depth}"
        if isinstance(layer, AvgPool2d):
            pool, count = f"pool_{depth}", layer.count
            self.nodes[pool] = self.nir.SumPool2d(
                *(np.array(one) for one in (layer.kernel_size, layer.stride, layer.padding))
            )
            self.join(self.ends[sources[0]], pool, neurons)
            size = math.prod(layer.kernel_size)
            self.fire(
                neurons,
                shape,
                np.full(shape, count - 0.5, np.float32),
                latch(self.net.steps * size, count),
                {},
            )
        else:
            weights, currents, start = [], [], None
            ways = zip(sources, (layer, *layer.shortcuts), strict=True)
            for place, (source, connection) in enumerate(ways):
                weight, bias = _arrays(connection, name)
                if bias is not None and not layer.neuron.bias_is_current:
                    start, bias = (bias if start is None else start + bias), None
                node = f"weights_{depth}_{place}" if place else f"weights_{depth}"
                self.connect(node, source, neurons, connection, weight, bias, name)
                weights.append(weight)
                currents += [] if bias is None else [bias]
            self.add_neurons(neurons, shape, events, weights, currents, start)
        self.ends.append(neurons)
        if events.delay:
            self.nodes[f"delay_{depth}"] = self.nir.Delay(np.full(shape, float(events.delay)))
            self.edges.append((neurons, f"delay_{depth}"))
            self.ends[-1] = f"delay_{depth}"

    def join(self, *names: str) -> None:
        self.edges += pairwise(names)

    def connect(
        self,
        node: str,
        source: int,
        neurons: str,
        connection: Connection,
        weight: Array,
        bias: Array | None,
        name: str,
    ) -> None:
        """Add the weights of one connection."""
        wiring, shape, before = cast(Any, connection.wiring), self.shapes[source], self.ends[source]
        if bias is None:
            bias = np.zeros(wiring.gives[1], weight.dtype)
        if wiring.kind == "dense":
            self.nodes[node] = self.nir.Affine(weight, bias)
            if len(shape) > 1:
                flat = node.replace("weights", "flatten")
                self.nodes[flat] = self.nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1)
                self.join(before, flat)
                before = flat
            self.join(before, node, neurons)
            return
        if wiring.groups > 1 or len(set(wiring.kernel_size)) > 1:
            found = f"{wiring.groups} groups" if wiring.groups > 1 else f"a kernel of {wiring.kernel_size}"
            raise InputError(
                f"{name} is a convolution with {found}, of which NIR computes wrong shapes; use one group "
                "and square kernels"
            )
        self.nodes[node] = self.nir.Conv2d(
            input_shape=shape[1:],
            weight=weight,
            stride=wiring.stride,
            padding=wiring.padding,
            dilation=(1, 1),
            groups=1,
            bias=bias,
        )
        self.join(before, node, neurons)

    def add_neurons(
        self,
        neurons: str,
        shape: Shape,
        events: Events,
        weights: list[Array],
        currents: list[Array],
        start: Array | None,
    ) -> None:
        """Add the neurons behind these weights."""
        steps = self.net.steps
        given = thresholds(events, weights, currents, start, steps)
        # One for each map.
        placed = given.reshape(*given.shape, *[1] * (len(shape) - given.ndim)) if given.ndim else given
        drive = sum(np.maximum(_rows(one), 0).sum(1) for one in weights)
        drive = float(np.max(drive + sum(np.maximum(one, 0) for one in currents)))
        known: dict[str, Any] = {"threshold": events.threshold, "strict": events.strict}
        if start is not None:
            known["start"] = start
        big = latch(steps * drive, float(np.abs(given).max()))
        self.fire(neurons, shape, np.broadcast_to(placed, shape).copy(), big, known)

    def fire(self, neurons: str, shape: Shape, threshold: Array, big: float, known: dict[str, Any]) -> None:
        """Add neurons and their connection to themselves, which comes first among their edges.

        Norse takes what it executes last for the output, and executes along the edges in their order.
        """
        kind, count = threshold.dtype, shape[0]
        self.nodes[neurons] = self.nir.IF(
            r=np.ones(shape, kind), v_threshold=threshold, v_reset=np.zeros(shape, kind), metadata=known
        )
        own, zeros = -big * np.eye(count, dtype=kind), np.zeros(count, kind)
        back = neurons.replace("neurons", "inhibition")
        self.nodes[back] = (
            self.nir.Affine(own, zeros)
            if len(shape) == 1
            else self.nir.Conv2d(shape[1:], own[:, :, None, None], (1, 1), (0, 0), (1, 1), 1, zeros)
        )
        self.join(neurons, back, neurons)


def thresholds(
    events: Events, weights: list[Array], currents: list[Array], start: Array | None, steps: int
) -> Array:
    """Return ``v_threshold`` of the neurons behind some weights: one for all, or of the shape of `start`.

    A membrane above it makes the neuron fire; none that occurs is equal to it where sums are exact.

    Args:
        events: what the neuron does.
        weights: of each connection, ``(out, ...)``.
        currents: biases that each step adds.
        start: membrane before the first step.
        steps: length of the window.
    """
    kind = weights[0].dtype.type
    least = kind(events.threshold)
    if events.strict:
        least = np.nextafter(least, kind(math.inf))
    begin = np.zeros((), kind) if start is None else start
    unit = _unit([*weights, *currents, begin])
    bound = float(
        np.max(
            sum(np.abs(_rows(one)).sum(1) for one in weights)
            + sum(steps * np.abs(one.astype(np.float64)) for one in currents)
        )
        + np.abs(begin).max()
    )
    level = math.ceil(float(least) / unit) * unit if unit else float(least)
    between = level - unit / 2 - begin.astype(np.float64)
    reach = unit * 2.0 ** (_DIGITS[weights[0].dtype] - 1)
    if unit and bound <= 2 * reach and float(np.abs(between).max()) < reach:
        return between.astype(kind)
    return np.asarray(np.nextafter(least - begin, kind(-math.inf)))


def latch(drive: float, threshold: float) -> float:
    """Return a power of two that is more than `drive`, what inputs can give, and the threshold together."""
    # At most what float32 holds.
    return min(2.0 ** (math.floor(math.log2(drive + abs(threshold) + 1)) + 1), 2.0**127)


def _unit(arrays: list[Array]) -> float:
    """The greatest power of two of which all values are multiples; 0 if all of them are 0."""
    values = np.concatenate([one.astype(np.float64).ravel() for one in arrays])
    mantissas, exponents = np.frexp(values[values != 0])
    if not mantissas.size:
        return 0.0
    whole = (mantissas * 2.0**53).astype(np.int64)
    lowest = np.log2((whole & -whole).astype(np.float64))
    return float(2.0 ** (lowest + exponents - 53).min())


def _rows(weight: Array) -> Array:
    return weight.reshape(len(weight), -1).astype(np.float64)


def _arrays(connection: Connection | Layer, name: str) -> tuple[Array, Array | None]:
    """Weights and bias as arrays."""
    values = [one for one in (connection.weight, connection.bias) if one is not None]
    if not all(bool(torch.isfinite(one).all()) for one in values):
        raise InputError(f"weights or biases of {name} hold NaN or infinity; did the training diverge?")
    arrays = [_array(one) for one in values]
    return arrays[0], arrays[1] if len(arrays) > 1 else None


def _array(value: Tensor) -> Array:
    return value.detach().cpu().contiguous().numpy().copy()
