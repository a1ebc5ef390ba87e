"""NIR graphs of integrate-and-fire neurons as networks of causal neurons."""

import heapq
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from firstspike.export.nir_files import damaged, nir_package, read_tree
from firstspike.export.nir_write import Array, thresholds
from firstspike.neurons import Causal
from firstspike.nn import Stack
from firstspike.nn.description import (
    ConnectionDescription,
    LayerDescription,
    PoolDescription,
    StackDescription,
)
from firstspike.nn.geometry import Pair
from firstspike.nn.wiring import Convolution, Dense
from firstspike.support import InputError, check_num_steps, check_number, expanded, one_line

_WEIGHTS = ("Affine", "Linear", "Conv2d")
_POOLS = ("SumPool2d", "AvgPool2d")
_READ = ("Input", "Output", "IF", *_WEIGHTS, *_POOLS, "Flatten", "Delay")


def from_nir(source: Any, *, steps: int | None = None, dt: float = 1.0) -> Stack:
    """Return a NIR graph of integrate-and-fire neurons as a network of causal neurons.

    What `firstspike.export.nir` wrote gives the same network back: weights, thresholds, steps (only
    ``norm``, which is for training, is not kept). Graphs of others may hold Affine, Linear, Conv2d,
    SumPool2d or AvgPool2d before each IF, Flatten, Delay, and connections by which neurons inhibit
    themselves. Every neuron then fires at most once, also one that fires again elsewhere.

    Args:
        source: path of a file, or a ``nir.NIRGraph``.
        steps: length of the window; None for what the file says, which those of others do not.
        dt: of a time step, in the graph's unit of time. A step adds ``r dt`` times the input; it must be 1.

    Raises:
        InputError: the file cannot be read, is damaged or holds no NIR graph; a node, or how nodes are
            connected, has no meaning here; `steps` is needed; or the package nir is missing.
        TypeError, ValueError: `steps` or `dt` out of range.
    """
    dt = check_number("from_nir", "dt", dt, low=0, above=True)
    package, name = nir_package(), "the graph"
    if not isinstance(source, package.NIRNode):
        name = Path(source).name
        source = _read(expanded(source, "path"))
    if not isinstance(source, package.NIRGraph):
        raise InputError(f"{name} holds {type(source).__name__} alone; give a graph with input and output")
    reader = _Reader(source, name, _steps(source, steps, name), dt)
    try:
        return reader.stack()
    except InputError:
        raise
    except Exception as error:
        # Nodes hold what a file says, of any type and shape.
        reason = one_line(str(error)) or type(error).__name__
        raise InputError(f"{name} is no network that can be read: {reason}") from error


def _read(path: Path) -> Any:
    """The graph in a file, after a look at whether the package knows its nodes."""
    package, tree = nir_package(), read_tree(path)
    try:
        root = tree["node"]
        for name, node in root.get("nodes", {}).items():
            if node["type"] not in package.__all__:
                raise _unread(path.name, name, one_line(str(node["type"])))
        if root["type"] == "NIRGraph":
            # Its own check of types has wrong shapes for some convolutions; shapes are looked at below.
            root["type_check"] = False
        return package.dict2NIRNode(root)
    except InputError:
        raise
    except Exception as error:
        # What else a file may hold makes errors of any kind.
        raise damaged(path, one_line(str(error)) or type(error).__name__) from error


def _unread(graph: str, name: str, kind: str) -> InputError:
    return InputError(
        f"{graph}: {name!r} ({kind}) is not read; a network of causal neurons is made of {', '.join(_READ)}"
    )


def _steps(graph: Any, steps: int | None, name: str) -> int:
    if steps is not None:
        return check_num_steps(steps)
    known = np.asarray(graph.metadata.get("steps"))
    if known.dtype.kind not in "iu" or known.size != 1:
        raise InputError(f"{name} does not say how many time steps it runs; give steps")
    try:
        return check_num_steps(known.item())
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error


@dataclass(frozen=True)
class _Incoming:
    """One way into a layer's neurons: its node, what gives it spikes, and their shape."""

    name: str
    node: Any
    source: int
    shape: tuple[int, ...]


class _Reader:
    """Walks from the input to the output; a layer is the neurons of one IF node."""

    def __init__(self, graph: Any, name: str, steps: int, dt: float) -> None:
        self.nodes: Mapping[str, Any] = graph.nodes
        self.name, self.steps, self.dt = name, steps, dt
        self.before: dict[str, list[str]] = {one: [] for one in self.nodes}
        self.after: dict[str, list[str]] = {one: [] for one in self.nodes}
        for start, end in dict.fromkeys(map(tuple, graph.edges)):
            for one in (start, end):
                if one not in self.nodes:
                    raise InputError(f"{name} has an edge of {one!r}, a node that it does not hold")
            self.before[end].append(start)
            self.after[start].append(end)
        self.tensors: dict[str, torch.Tensor] = {}
        # Which spikes a node gives on: 0 the input's, d + 1 those of layer d; and their shapes.
        self.given: dict[str, int] = {}
        self.shapes: list[tuple[int, ...]] = []

    def kind(self, node: str) -> str:
        return type(self.nodes[node]).__name__

    def refuse(self, node: str, why: str) -> InputError:
        return InputError(f"{self.name}: {node!r} ({self.kind(node)}) {why}")

    def stack(self) -> Stack:
        for node in self.nodes:
            if self.kind(node) not in _READ and not self.inhibits(node):
                raise _unread(self.name, node, self.kind(node))
        inputs, outputs = (self.named(kind) for kind in ("Input", "Output"))
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(
                f"{self.name} has {len(inputs)} inputs and {len(outputs)} outputs; give a graph with one "
                "of each"
            )
        self.given[inputs[0]] = 0
        self.shapes.append(_shape(self.nodes[inputs[0]].input_type["input"]))
        layers = [self.layer(depth, node) for depth, node in enumerate(self.order())]
        if not layers or self.given.get(self.only(outputs[0])) != len(layers):
            raise self.refuse(outputs[0], "must take the spikes of the last IF neurons")
        stack = StackDescription(layers=tuple(layers), steps=self.steps).build()
        stack.load_state_dict(self.tensors)
        return stack

    def named(self, kind: str) -> list[str]:
        return [node for node in self.nodes if self.kind(node) == kind]

    def inhibits(self, node: str) -> bool:
        """Whether a node only gives each of some IF neurons its own spikes back, as a negative weight."""
        before, after = self.before[node], self.after[node]
        return (
            before == after
            and len(before) == 1
            and self.kind(before[0]) == "IF"
            and _negative(self.nodes[node])
        )

    def sources(self, node: str) -> list[str]:
        """What gives spikes to a node; to neurons also through weights, their own inhibition aside."""
        return [one for one in self.before[node] if not self.inhibits(one)]

    def order(self) -> list[str]:
        """IF nodes, each after all that it takes spikes from, else by the numbers in their names."""
        sorter = TopologicalSorter({node: self.above(node) for node in self.named("IF")})
        try:
            sorter.prepare()
        except CycleError as error:
            raise self.refuse(
                error.args[1][0],
                "lies in a loop; connections back are read only where they inhibit each neuron by its own "
                "spikes",
            ) from error
        ready: list[tuple[list[Any], str]] = []
        ordered = list[str]()
        while sorter.is_active():
            for node in sorter.get_ready():
                heapq.heappush(ready, (_by_number(node), node))
            _, node = heapq.heappop(ready)
            sorter.done(node)
            ordered.append(node)
        return ordered

    def above(self, node: str) -> set[str]:
        """IF nodes that give spikes to `node` without another between."""
        found, seen, going = set[str](), set[str](), self.sources(node)
        while going:
            one = going.pop()
            if self.kind(one) == "IF":
                found.add(one)
            elif one not in seen:
                seen.add(one)
                going += self.before[one]
        return found

    def layer(self, depth: int, neurons: str) -> LayerDescription | PoolDescription:
        ways = [self.incoming(one) for one in self.sources(neurons)]
        if not ways:
            raise self.refuse(neurons, "has no inputs")
        delay = self.delay(depth, neurons)
        pools = [way for way in ways if self.kind(way.name) in _POOLS]
        if pools and len(ways) > 1:
            raise self.refuse(neurons, "takes a pooling and something else; one of them is read")
        if pools:
            pool = self.pool(depth, ways[0], neurons, delay)
            self.note(neurons, pool.build().out_shape(ways[0].shape))
            return pool
        layer, shape = self.weighted(depth, ways, neurons, delay)
        self.note(neurons, shape)
        return layer

    def note(self, neurons: str, found: tuple[int, ...]) -> None:
        """Note the shape of neurons, which must be what their inputs give; one number stands for all."""
        threshold = self.nodes[neurons].v_threshold
        if np.size(threshold) > 1 and np.shape(threshold) != found:
            raise self.refuse(neurons, f"has the shape {np.shape(threshold)}, its inputs give {found}")
        self.shapes.append(found)

    def incoming(self, name: str) -> _Incoming:
        """The way into some neurons that ends in the node `name`."""
        if self.kind(name) not in (*_WEIGHTS, *_POOLS):
            raise self.refuse(
                name, f"leads into IF neurons; expected one of {', '.join((*_WEIGHTS, *_POOLS))}"
            )
        source, flat = self.only(name), False
        if self.kind(source) == "Flatten":
            node = self.nodes[source]
            source, flat = self.only(source), True
            if int(node.start_dim) != 0 or int(node.end_dim) not in (-1, len(self.shape(source)) - 1):
                raise self.refuse(name, "is flattened in part; flatten from 0 to -1")
        shape = self.shape(source)
        return _Incoming(name, self.nodes[name], self.given[source], (math.prod(shape),) if flat else shape)

    def only(self, node: str) -> str:
        if len(self.before[node]) != 1:
            raise self.refuse(node, f"has {len(self.before[node])} inputs; one is read")
        return self.before[node][0]

    def shape(self, source: str) -> tuple[int, ...]:
        """Shape of what a node gives, which must be spikes."""
        if source not in self.given:
            raise self.refuse(source, "gives no spikes to the weights after it; put IF neurons between")
        return self.shapes[self.given[source]]

    def delay(self, depth: int, neurons: str) -> int:
        """Steps from crossing to spike; notes who gives the layer's spikes."""
        delays = [one for one in self.after[neurons] if self.kind(one) == "Delay"]
        if not delays:
            self.given[neurons] = depth + 1
            return 0
        others = [one for one in self.after[neurons] if one not in delays and not self.inhibits(one)]
        if len(delays) > 1 or others:
            raise self.refuse(neurons, "gives its spikes with and without a delay; one of them is read")
        self.given[delays[0]] = depth + 1
        found = _one(self.nodes[delays[0]].delay, f"{self.name}: {delays[0]!r}.delay") / self.dt
        if found < 0 or not math.isclose(found, round(found), rel_tol=1e-6, abs_tol=1e-9):
            raise self.refuse(delays[0], f"delays by {found:g} steps; an integer is read")
        return round(found)

    def threshold(self, neurons: str) -> Array:
        """``v_threshold``, once `r` fits the time step."""
        node, name = self.nodes[neurons], f"{self.name}: {neurons!r}"
        r = _one(node.r, f"{name}.r")
        if not math.isclose(r * self.dt, 1, rel_tol=1e-6):
            raise self.refuse(
                neurons, f"has r = {r:g}, which times dt = {self.dt:g} is not 1; give dt={1 / r:g}"
            )
        return _numbers(node.v_threshold, f"{name}.v_threshold")

    def pool(self, depth: int, way: _Incoming, neurons: str, delay: int) -> PoolDescription:
        kernel, stride, padding = (
            _pair(getattr(way.node, field)) for field in ("kernel_size", "stride", "padding")
        )
        size = math.prod(kernel)
        threshold = _one(self.threshold(neurons), f"{self.name}: {neurons!r}.v_threshold")
        # Spikes that bring the membrane above it.
        count = math.floor(threshold * (size if self.kind(way.name) == "AvgPool2d" else 1)) + 1
        if not 1 <= count <= size:
            raise self.refuse(
                neurons, f"fires with {count} of the {size} inputs of a patch, which cannot be"
            )
        return PoolDescription(
            kernel_size=kernel,
            stride=stride,
            padding=padding,
            source=None if way.source == depth else way.source,
            neuron=None if count == 1 and not delay else Causal(threshold=count / size, delay=delay),
        )

    def weighted(
        self, depth: int, ways: list[_Incoming], neurons: str, delay: int
    ) -> tuple[LayerDescription, tuple[int, ...]]:
        read = [self.weights(way) for way in ways]
        weights, currents = [one[1] for one in read], [one[2] for one in read if one[2] is not None]
        first = read[0][0]
        out = tuple(first.out_shape(ways[0].shape))
        neuron, start = self.neuron(neurons, weights, currents, out, delay)
        if currents or start is not None:
            self.check_biased(ways[0], first, weights[0])
        described = []
        for place, ((wiring, weight, bias), way) in enumerate(zip(read, ways, strict=True)):
            key = f"layers.{depth}." + (f"shortcuts.{place - 1}." if place else "")
            bias = start if bias is None and place == 0 else bias
            self.tensors[f"{key}weight"] = torch.from_numpy(weight)
            if bias is not None:
                self.tensors[f"{key}bias"] = torch.from_numpy(bias)
            described.append(
                ConnectionDescription(
                    wiring=wiring,
                    source=None if way.source == depth and place == 0 else way.source,
                    bias=None if bias is None else bias.shape,
                    dtype="float64" if weight.dtype == np.float64 else "float32",
                )
            )
        layer = LayerDescription(**vars(described[0]), neuron=neuron, shortcuts=tuple(described[1:]))
        return layer, out

    def check_biased(self, way: _Incoming, wiring: Dense | Convolution, weight: Array) -> None:
        """Refuse connections that our neurons take without a bias only."""
        kernel = wiring.kernel_size if isinstance(wiring, Convolution) else ()
        inputs = torch.zeros(1, wiring.takes[1], *kernel)
        try:
            wiring.with_clock(inputs, torch.from_numpy(weight), torch.zeros(wiring.gives[1]), 1)
        except ValueError as error:
            raise self.refuse(way.name, f"{error}") from error

    def weights(self, way: _Incoming) -> tuple[Dense | Convolution, Array, Array | None]:
        """Wiring, weights and bias of one connection; a bias of zeros is none."""
        name, node = f"{self.name}: {way.name!r}", way.node
        weight = _numbers(node.weight, f"{name}.weight")
        bias = _numbers(node.bias, f"{name}.bias").astype(weight.dtype) if hasattr(node, "bias") else None
        maps = self.kind(way.name) == "Conv2d"
        if weight.ndim != (4 if maps else 2):
            raise self.refuse(
                way.name, f"has weights of shape {weight.shape}; one connection has one matrix"
            )
        if bias is not None and bias.shape != weight.shape[:1]:
            raise self.refuse(way.name, f"has {len(weight)} outputs and a bias of shape {bias.shape}")
        wiring = (
            _convolution(weight, node)
            if maps
            else Dense(in_features=weight.shape[1], out_features=len(weight))
        )
        try:
            wiring.out_shape(way.shape)
        except ValueError as error:
            raise self.refuse(way.name, f"{error}") from error
        return wiring, weight, bias if bias is not None and bias.any() else None

    def neuron(
        self, neurons: str, weights: list[Array], currents: list[Array], out: tuple[int, ...], delay: int
    ) -> tuple[Causal, Array | None]:
        """The neuron, and a membrane at the start where thresholds differ."""
        given, kind = self.threshold(neurons), weights[0].dtype.type
        bias: Any = "current" if currents else "start"
        own = self.kept(neurons, weights, currents, given, out)
        if own is not None:
            return Causal(threshold=own[0], strict=own[1], delay=delay, bias=bias), own[2]
        values = np.unique(given)
        if values.size == 1 and values[0] > 0:
            return Causal(threshold=float(values[0]), strict=True, delay=delay, bias=bias), None
        if currents:
            raise self.refuse(
                neurons,
                "has a bias before it, and thresholds that differ or are not above 0; one of both is read",
            )
        highest = float(values[-1]) if values[-1] > 0 else 1.0
        start = (highest - given.astype(np.float64)).astype(kind).reshape(-1)
        if start.size > out[0]:
            # One for each map.
            places = start.reshape(out[0], -1)
            if (places != places[:, :1]).any():
                raise self.refuse(
                    neurons, "has thresholds that differ within a map; one for each map is read"
                )
            start = places[:, 0]
        start = np.full(out[0], start[0], kind) if start.size == 1 else start
        return Causal(threshold=highest, strict=True, delay=delay), start

    def kept(
        self, neurons: str, weights: list[Array], currents: list[Array], given: Array, out: tuple[int, ...]
    ) -> tuple[float, bool, Array | None] | None:
        """Threshold, strictness and start that the file says of itself, if they are those of its graph."""
        known = self.nodes[neurons].metadata
        if not {"threshold", "strict"} <= set(known):
            return None
        threshold, strict = float(known["threshold"]), bool(known["strict"])
        start = np.asarray(known["start"]) if "start" in known else None
        events = Causal(threshold=threshold, strict=strict).events()
        wanted = thresholds(events, weights, currents, start, self.steps)
        wanted = wanted.reshape(*wanted.shape, *[1] * (len(out) - wanted.ndim)) if wanted.ndim else wanted
        same = given.shape == out and np.array_equal(np.broadcast_to(wanted, out), given)
        return (threshold, strict, start) if same else None


def _by_number(name: str) -> list[Any]:
    """A key that sorts numbers in names as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _negative(node: Any) -> bool:
    """Whether a node gives each input back to its own place, times a number below 0."""
    kind = type(node).__name__
    if kind == "Scale":
        scale = np.asarray(node.scale)
        return bool(scale.size and (scale < 0).all())
    if kind not in _WEIGHTS or (hasattr(node, "bias") and np.any(node.bias)):
        return False
    weight = np.asarray(node.weight)
    if kind == "Conv2d":
        if weight.ndim != 4 or weight.shape[2:] != (1, 1):
            return False
        weight = weight[:, :, 0, 0]
    square = weight.ndim == 2 and weight.shape[0] == weight.shape[1]
    return square and bool((np.diag(weight) < 0).all()) and np.count_nonzero(weight) == len(weight)


def _convolution(weight: Array, node: Any) -> Convolution:
    stride, dilation, groups = _pair(node.stride), _pair(node.dilation), int(node.groups)
    if dilation != (1, 1):
        raise ValueError(f"a convolution has the dilation {dilation}; 1 is read")
    kernel = weight.shape[2], weight.shape[3]
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if isinstance(padding, str):
        if padding == "same" and (stride != (1, 1) or any(side % 2 == 0 for side in kernel)):
            raise ValueError(
                'a convolution has the padding "same" with a stride or an even kernel; give numbers'
            )
        padding = [side // 2 if padding == "same" else 0 for side in kernel]
    return Convolution(
        in_channels=weight.shape[1] * groups,
        out_channels=weight.shape[0],
        kernel_size=kernel,
        stride=stride,
        padding=_pair(padding),
        groups=groups,
    )


def _pair(value: Any) -> Pair:
    given = np.atleast_1d(np.asarray(value)).ravel()
    if given.size not in (1, 2) or np.any(given != given.astype(np.int64)):
        raise ValueError(f"found {value} where one or two integers are expected")
    return int(given[0]), int(given[-1])


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(int(side) for side in np.atleast_1d(np.asarray(value)))
    if len(shape) in (2, 4) and shape[0] == 1:
        # Norse's export counts the sample that it was shown.
        shape = shape[1:]
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise InputError(f"the input has the shape {shape}; (features,) or (channels, y, x) is read")
    return shape


def _numbers(value: Any, name: str) -> Array:
    """Values as float32 or float64, finite."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or not array.size:
        raise InputError(f"{name} holds {array.dtype} of shape {array.shape}; numbers are expected")
    array = array.astype(np.float64 if array.dtype == np.float64 else np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinity; write the network again")
    return np.ascontiguousarray(array)


def _one(value: Any, name: str) -> float:
    """The one number that all of the values are."""
    values = np.unique(_numbers(value, name))
    if values.size > 1:
        raise InputError(f"{name} differs from neuron to neuron; one number for all is read")
    return float(values[0])
