"""A trained network as a small graph of operations: what both readers make and the conversion takes.

Shapes are those of one sample, without the batch. An operation is a value that computes on tensors; all are
linear but `Clip` and `MaxPool`.

Shape legend: B batch, C channels, O channels out.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.nn.geometry import Pair
from firstspike.support import InputError

Shape = tuple[int, ...]
# Top, bottom, left, right.
Pads = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class Convolve:
    """A convolution, or a transposed one, with a symmetric padding of zeros; average pooling too.

    It computes in the precision of its weights and gives that of its input.
    """

    weight: Tensor
    bias: Tensor | None = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1
    transposed: bool = False

    def __call__(self, values: Tensor) -> Tensor:
        function, given = F.conv_transpose2d if self.transposed else F.conv2d, values.to(self.weight.dtype)
        found = function(given, self.weight, stride=self.stride, padding=self.padding, groups=self.groups)
        found = found.to(values.dtype)
        return found if self.bias is None else found.add_(self.bias[:, None, None])


@dataclass(frozen=True, eq=False, kw_only=True)
class Multiply:
    """A product with a matrix ``(O, features)``."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        return F.linear(values, self.weight, self.bias)


@dataclass(frozen=True, eq=False, kw_only=True)
class Scale:
    """A gain and a shift for each channel ``(C,)``: batch normalisation, or a constant."""

    gain: Tensor
    shift: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        shape = (-1, *([1] * (values.dim() - 2)))
        return torch.addcmul(self.shift.reshape(shape), values, self.gain.reshape(shape))


@dataclass(frozen=True, eq=False, kw_only=True)
class Pick:
    """Channels by their index ``(O,)``, zeros for -1: part of a concatenation, a slice, a shuffle."""

    index: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        return _picked(values, self.index)


@dataclass(frozen=True, eq=False, kw_only=True)
class Arrange:
    """All places by their index, zeros for -1, in a new shape: flattening, transposing, padding."""

    index: Tensor
    shape: Shape

    def __call__(self, values: Tensor) -> Tensor:
        return _picked(values.flatten(1), self.index).unflatten(1, self.shape)


@dataclass(frozen=True, kw_only=True)
class Pad:
    """Zeros around maps, or with negative numbers their borders cut off."""

    top: int
    bottom: int
    left: int
    right: int

    def __call__(self, values: Tensor) -> Tensor:
        return F.pad(values, (self.left, self.right, self.top, self.bottom))

    def before(self, convolve: Convolve) -> Convolve:
        """Return one convolution, not transposed, that does both: zeros in its kernel shift it."""
        y, x = convolve.padding
        top, bottom, left, right = self.top + y, self.bottom + y, self.left + x, self.right + x
        padding = max(top, bottom, 0), max(left, right, 0)
        frame = padding[1] - left, padding[1] - right, padding[0] - top, padding[0] - bottom
        return replace(convolve, weight=F.pad(convolve.weight, frame), padding=padding)


@dataclass(frozen=True, kw_only=True)
class Add:
    """A sum of inputs of one shape."""

    def __call__(self, *values: Tensor) -> Tensor:
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The activation ``clamp(x, low, high)``; ReLU is 0 ... inf."""

    low: float
    high: float

    def __call__(self, values: Tensor) -> Tensor:
        return values.clamp(self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class Relay:
    """Neurons without an activation of their own, which hand a value on."""

    def __call__(self, values: Tensor) -> Tensor:
        return values


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """The largest value of each patch.

    Attributes:
        kernel, stride: in places, ``(y, x)``.
        pads: places without a value beyond the borders: top, bottom, left, right.
    """

    kernel: Pair
    stride: Pair
    pads: Pads = (0, 0, 0, 0)

    def __call__(self, values: Tensor) -> Tensor:
        top, bottom, left, right = self.pads
        framed = F.pad(values, (left, right, top, bottom), value=-math.inf) if any(self.pads) else values
        return F.max_pool2d(framed, self.kernel, self.stride)


Linear = Convolve | Multiply | Scale | Pick | Arrange | Pad
Op = Linear | Add | Clip | Relay | MaxPool


@dataclass
class Node:
    """One operation of a graph.

    Attributes:
        name: the layer's in the given network, for messages.
        op: what it does; None for the input.
        inputs: nodes that it takes.
        shape: of its output.
    """

    name: str
    op: Op | None
    inputs: list["Node"]
    shape: Shape


@dataclass
class Graph:
    """A network from its input to its output.

    Attributes:
        input, output: nodes.
        name: of the network, for messages.
        last: what came after the output and changes no decision: "softmax" or "log_softmax".
    """

    input: Node
    output: Node
    name: str
    last: str = ""

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Tensor:
        """Return what the network makes of inputs ``(B, ...)``."""
        values = {id(self.input): inputs}
        for one in self.order():
            if one.op is not None:
                values[id(one)] = one.op(*(values[id(before)] for before in one.inputs))
        return values[id(self.output)]

    def order(self) -> list[Node]:
        """Return the nodes that the output needs, each after those that it takes."""
        found: dict[int, Node] = {}
        # Depth first without recursion: networks are deep.
        waiting: list[tuple[Node, Iterator[Node]]] = [(self.output, iter(self.output.inputs))]
        entered = {id(self.output)}
        while waiting:
            node, rest = waiting[-1]
            following = next((n for n in rest if id(n) not in entered), None)
            if following is None:
                found[id(node)] = node
                waiting.pop()
            else:
                entered.add(id(following))
                waiting.append((following, iter(following.inputs)))
        return list(found.values())

    def users(self) -> dict[int, list[Node]]:
        """Return who takes each node, by the node's id."""
        users: dict[int, list[Node]] = {id(node): [] for node in self.order()}
        for node in self.order():
            for one in node.inputs:
                users[id(one)].append(node)
        return users

    def replace(self, old: Node, new: Node) -> None:
        """Let `new` stand where `old` stood; `new` itself may go on taking `old`."""
        for node in self.order():
            if node is not new:
                node.inputs = [new if one is old else one for one in node.inputs]
        if self.output is old:
            self.output = new


@dataclass(frozen=True)
class Softmax:
    """The last operation of some classifiers, which changes no decision."""

    node: Node
    kind: str


def ended(start: Node, output: Any, name: str) -> Graph:
    """Return the graph of the network `name` that ends in `output`, what a reader found there.

    Raises:
        InputError: a constant.
    """
    if isinstance(output, Softmax):
        return Graph(start, output.node, name, output.kind)
    if not isinstance(output, Node):
        raise InputError(f"the output of {name} does not depend on its input")
    return Graph(start, output, name)


def refuse(name: str, what: str, instead: str) -> InputError:
    """Return the error for a layer that has no meaning with single spikes."""
    return InputError(f"{name} is {what}, which cannot be converted; {instead}")


def joined(sizes: Sequence[int]) -> list[Pick]:
    """Return what puts inputs with so many channels one after the other, when their results are added."""
    picks, start, total = [], 0, sum(sizes)
    for size in sizes:
        index = torch.full((total,), -1)
        index[start : start + size] = torch.arange(size)
        picks.append(Pick(index=index))
        start += size
    return picks


def _picked(values: Tensor, index: Tensor) -> Tensor:
    """Entries along the first axis after the batch, zeros for -1."""
    index = index.to(values.device)
    found = values[:, index.clamp(min=0)]
    if bool((index < 0).any()):
        keep = (index >= 0).reshape(-1, *([1] * (values.dim() - 2)))
        found = torch.where(keep, found, torch.zeros((), dtype=values.dtype, device=values.device))
    return found
