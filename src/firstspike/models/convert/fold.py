"""From a graph to layers: activations and pools fire, and what is linear between them becomes weights.

A neuron's membrane is the sum over all activations that reach it, each through a chain of linear
operations. A chain becomes one connection where that is exact and no larger; else a relay, neurons without
an activation of their own, is put into it. Biases are found apart, by running the linear parts on silence,
which is right also where a normalisation is followed by a padding.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.models.convert.graph import (
    Add,
    Arrange,
    Clip,
    Convolve,
    Graph,
    Linear,
    MaxPool,
    Multiply,
    Node,
    Pad,
    Pick,
    Relay,
    Scale,
    Shape,
    refuse,
)
from firstspike.models.convert.make import node, places

# Times more weights than its parts that one connection may have instead of two and a relay.
_GROWTH = 4
# Or so many.
_SMALL = 2**20


@dataclass(frozen=True, eq=False)
class Choose:
    """Places of a source by their index, -1 for none, each with a gain.

    Attributes:
        index, gain: of each channel; with a shape, of each place.
        channels: of the source.
        shape: of the result, if it is not whole channels that are chosen.
    """

    index: Tensor
    gain: Tensor
    channels: int
    shape: Shape | None = None

    @property
    def plain(self) -> bool:
        """Whether all channels stay where they are."""
        return self.shape is None and torch.equal(self.index, torch.arange(self.channels))


Weights = Convolve | Multiply | Choose


@dataclass(frozen=True, eq=False)
class Term:
    """One connection of a layer: from the spikes of `source`, through `op`, whose bias means nothing."""

    source: Node
    op: Convolve | Multiply


@dataclass(frozen=True)
class _Step:
    op: Linear
    node: Node


class _Relayed(Exception):
    """A chain that needs a relay after `node`."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node


def fires(one: Node) -> bool:
    """Return whether neurons stand at a node: the input's, those of an activation, a relay or a pool."""
    return one.op is None or isinstance(one.op, Clip | Relay | MaxPool)


def fold(graph: Graph) -> dict[int, list[Term]]:
    """Return the connections of each activation, relay and of the output, by the node's id.

    The graph is changed: what commutes is put in the order that needs the fewest layers, relays are added.

    Raises:
        InputError: there is no way to connect an operation with spikes.
    """
    _reorder(graph)
    while True:
        try:
            return {
                target: [Term(source, _one(source, chain)) for source, chain in terms]
                for target, terms in _forms(graph).items()
            }
        except _Relayed as found:
            _relay(graph, found.node)


def targets(graph: Graph) -> list[Node]:
    """Return the nodes whose neurons have connections, and the output, in order."""
    found = [one for one in graph.order() if isinstance(one.op, Clip | Relay)]
    return found if graph.output in found else [*found, graph.output]


def _relay(graph: Graph, before: Node) -> None:
    if fires(before):
        raise refuse(
            before.name, "rearranged before an operation on maps", "rearrange before a linear layer"
        )
    relay = node(f"{before.name}, handed on", Relay(), before)
    graph.replace(before, relay)


def _reorder(graph: Graph) -> None:
    """Put activations before what only moves their values, and pools after activations."""
    changed = True
    while changed:
        changed = any(_moved(graph, one) for one in graph.order())
    for one in graph.order():
        if isinstance(one.op, MaxPool) and not fires(one.inputs[0]):
            _relay(graph, one.inputs[0])


def _moved(graph: Graph, one: Node) -> bool:
    if one.op is None or not one.inputs:
        return False
    (before, *others), op = one.inputs, one.op
    if others or before.op is None:
        return False
    if isinstance(op, Clip) and _already(before, op):
        graph.replace(one, before)
        return True
    passes_zero = isinstance(op, MaxPool) or (isinstance(op, Clip) and op.low <= 0 <= op.high)
    if isinstance(op, Clip) and isinstance(before.op, Arrange) and passes_zero:
        graph.replace(one, node(before.name, before.op, node(one.name, op, before.inputs[0])))
        return True
    if _joins(before) and isinstance(op, Scale | Clip | MaxPool) and (passes_zero or isinstance(op, Scale)):
        parts = []
        for part in before.inputs:
            assert isinstance(part.op, Pick)
            parts.append(node(part.name, part.op, node(one.name, _within(op, part), part.inputs[0])))
        graph.replace(one, node(before.name, Add(), *parts))
        return True
    if isinstance(before.op, MaxPool) and not fires(before.inputs[0]):
        rising = isinstance(op, Clip) or (isinstance(op, Scale) and bool((op.gain > 0).all()))
        if rising:
            graph.replace(one, node(before.name, before.op, node(one.name, op, before.inputs[0])))
            return True
    return False


def _already(one: Node, clip: Clip) -> bool:
    """Whether all values of a node lie in the range of an activation."""
    while isinstance(one.op, MaxPool):
        one = one.inputs[0]
    return isinstance(one.op, Clip) and clip.low <= one.op.low and one.op.high <= clip.high


def _joins(one: Node) -> bool:
    """Whether a node is a concatenation: a sum in which every channel comes from one input."""
    if not (isinstance(one.op, Add) and all(isinstance(part.op, Pick) for part in one.inputs)):
        return False
    indices = [part.op.index for part in one.inputs if isinstance(part.op, Pick)]
    kept = [index[index >= 0] for index in indices]
    once = all(len(index.unique()) == len(index) for index in kept)
    return once and bool((torch.stack([index >= 0 for index in indices]).sum(0) == 1).all())


def _within(op: Scale | Clip | MaxPool, part: Node) -> Scale | Clip | MaxPool:
    """The operation as the channels that `part` picks meet it."""
    if not isinstance(op, Scale):
        return op
    assert isinstance(part.op, Pick)
    kept = part.op.index >= 0
    gain, shift = torch.ones(part.inputs[0].shape[0]), torch.zeros(part.inputs[0].shape[0])
    gain[part.op.index[kept]], shift[part.op.index[kept]] = op.gain[kept], op.shift[kept]
    return Scale(gain=gain, shift=shift)


def _forms(graph: Graph) -> dict[int, list[tuple[Node, list[_Step]]]]:
    """Which spikes reach each node, through which linear operations; a target's is that of its input."""
    reach: dict[int, list[tuple[Node, list[_Step]]]] = {}
    found: dict[int, list[tuple[Node, list[_Step]]]] = {}
    for one in graph.order():
        if isinstance(one.op, Add):
            reach[id(one)] = [term for part in one.inputs for term in reach[id(part)]]
        elif fires(one):
            if isinstance(one.op, Clip | Relay):
                found[id(one)] = reach[id(one.inputs[0])]
            reach[id(one)] = [(one, [])]
        else:
            assert one.op is not None
            assert not isinstance(one.op, Clip | Relay | MaxPool)
            reach[id(one)] = [
                (source, [*chain, _Step(one.op, one)]) for source, chain in reach[id(one.inputs[0])]
            ]
    found.setdefault(id(graph.output), reach[id(graph.output)])
    return found


def _one(source: Node, chain: list[_Step]) -> Convolve | Multiply:
    """One operation for a chain of them.

    Raises:
        _Relayed: there is none, or it would be too large.
    """
    channels = source.shape[0]
    held: Weights = Choose(torch.arange(channels), torch.ones(channels), channels)
    start = 0
    for k, step in enumerate(chain):
        if isinstance(step.op, Multiply):
            held, start = _matrix(source, chain[: k + 1]), k + 1
    for k in range(start, len(chain)):
        op, before = chain[k].op, chain[k - 1].node if k else source
        after = chain[k + 1].op if k + 1 < len(chain) else None
        if isinstance(op, Pad):
            if isinstance(after, Convolve) and not after.transposed:
                # With the next one it is one convolution.
                chain[k + 1] = replace(chain[k + 1], op=op.before(after))
                continue
            eye = torch.ones(before.shape[0], 1, 1, 1)
            op = op.before(Convolve(weight=eye, groups=before.shape[0]))
        assert not isinstance(op, Pad | Multiply)
        found = _after(held, op, before.shape)
        if found is None:
            raise _Relayed(before)
        held = found
    return _connected(source, held, chain)


def _matrix(source: Node, chain: list[_Step]) -> Multiply:
    """The matrix of a chain that ends in one: its rows, taken back through what comes before."""
    *before, last = chain
    assert isinstance(last.op, Multiply)
    rows, size = len(last.op.weight), math.prod(source.shape)
    own = last.op.weight.numel() + sum(_size(step.op) for step in before)
    if rows * size > max(_GROWTH * own, _SMALL):
        raise _Relayed(before[-1].node)
    zeros = torch.zeros(rows, *source.shape, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        values: Tensor = zeros
        for step in before:
            values = _linear_part(step.op)(values)
        (found,) = torch.autograd.grad(values, zeros, last.op.weight.to(torch.float64))
    return Multiply(weight=found.flatten(1).float())


def _size(op: Linear) -> int:
    """Number of weights of an operation."""
    return op.weight.numel() if isinstance(op, Convolve | Multiply) else 0


def _linear_part(op: Linear) -> Linear:
    """The operation without its bias, in double precision."""
    if isinstance(op, Convolve | Multiply):
        return replace(op, weight=op.weight.to(torch.float64), bias=None)
    if isinstance(op, Scale):
        return Scale(gain=op.gain.to(torch.float64), shift=torch.zeros_like(op.shift, dtype=torch.float64))
    return op


def _after(held: Weights, op: Convolve | Scale | Pick | Arrange, shape: Shape) -> Weights | None:
    """`held` and then `op`, which takes `shape`, as one; None if that is not exact or too large."""
    if isinstance(op, Convolve):
        if isinstance(held, Choose):
            return None if held.shape else _chosen_inputs(op, held)
        return _convolved(held, op) if isinstance(held, Convolve) else None
    if isinstance(op, Arrange):
        if not isinstance(held, Choose):
            return None
        index, gain = _spread(held, shape)
        gone = op.index < 0
        taken = op.index.clamp(min=0)
        index, gain = torch.where(gone, -1, index[taken]), torch.where(gone, 0, gain[taken])
        return Choose(index, gain, held.channels, op.shape)
    if isinstance(op, Scale):
        return _chosen(held, Choose(torch.arange(shape[0]), op.gain, shape[0]), shape)
    return _chosen(held, Choose(op.index, (op.index >= 0).float(), shape[0]), shape)


def _spread(choice: Choose, shape: Shape) -> tuple[Tensor, Tensor]:
    """Index and gain of every place, for a result of `shape`."""
    if choice.shape:
        return choice.index, choice.gain
    area = math.prod(shape[1:])
    return places(Pick(index=choice.index), shape), choice.gain.repeat_interleave(area)


def _chosen(held: Weights, choice: Choose, shape: Shape) -> Weights:
    """`held` and then channels of its result."""
    if isinstance(held, Choose) and held.shape:
        rows = _spread(choice, shape)
        taken = rows[0].clamp(min=0)
        index = torch.where(rows[0] >= 0, held.index[taken], -1)
        whole_shape = (len(choice.index), *held.shape[1:])
        return Choose(index, held.gain[taken] * rows[1], held.channels, whole_shape)
    taken = choice.index.clamp(min=0)
    if isinstance(held, Choose):
        index = torch.where(choice.index >= 0, held.index[taken], -1)
        return Choose(index, held.gain[taken] * choice.gain, held.channels)
    if isinstance(held, Multiply):
        return Multiply(weight=held.weight[taken] * choice.gain[:, None])
    gain = choice.gain.reshape(-1, 1, 1)
    if choice.plain and not held.transposed:
        return replace(held, weight=held.weight * gain[:, None])
    if choice.plain:
        groups = held.weight.unflatten(0, (held.groups, -1)) * gain.unflatten(0, (held.groups, 1, -1))
        return replace(held, weight=groups.flatten(0, 1))
    held = _ungrouped(held)
    if held.transposed:
        return replace(held, weight=held.weight[:, taken] * gain)
    return replace(held, weight=held.weight[taken] * gain[:, None])


def _chosen_inputs(op: Convolve, choice: Choose) -> Convolve:
    """Channels of the source and then a convolution."""
    if choice.plain:
        if op.transposed:
            return replace(op, weight=op.weight * choice.gain.reshape(-1, 1, 1, 1))
        gain = choice.gain.reshape(op.groups, 1, -1).expand(-1, len(op.weight) // op.groups, -1)
        return replace(op, weight=op.weight * gain.flatten(0, 1)[..., None, None])
    op, axis = _ungrouped(op), 0 if op.transposed else 1
    gain = choice.gain.reshape(-1, *([1] * (3 - axis)))
    kept = choice.index >= 0
    shape = list(op.weight.shape)
    shape[axis] = choice.channels
    weight = torch.zeros(shape)
    weight.index_add_(axis, choice.index[kept], (op.weight * gain).index_select(axis, kept.nonzero()[:, 0]))
    return replace(op, weight=weight)


def _ungrouped(op: Convolve) -> Convolve:
    """The same convolution in one group, zeros between the groups."""
    if op.groups == 1:
        return op
    blocks = op.weight.chunk(op.groups)
    whole_weight = torch.zeros(
        len(op.weight), op.weight.shape[1] * op.groups, *op.weight.shape[2:], dtype=op.weight.dtype
    )
    for k, block in enumerate(blocks):
        rows = slice(k * len(block), (k + 1) * len(block))
        columns = slice(k * block.shape[1], (k + 1) * block.shape[1])
        whole_weight[rows, columns] = block
    return replace(op, weight=whole_weight, groups=1)


def _convolved(first: Convolve, second: Convolve) -> Convolve | None:
    """Two convolutions as one where the second's padding sees nothing that the first would have given."""
    if first.transposed or second.transposed:
        return None
    pointwise = first.weight.shape[2:] == (1, 1) and first.padding == (0, 0)
    if second.padding != (0, 0) and not pointwise:
        return None
    channels = len(first.weight)
    sides = [
        (k2 - 1) * s + k1
        for k1, k2, s in zip(first.weight.shape[2:], second.weight.shape[2:], first.stride, strict=True)
    ]
    each = first.groups == second.groups == channels == len(second.weight)
    inputs = 1 if each else first.weight.shape[1] * first.groups
    own = first.weight.numel() + second.weight.numel()
    if len(second.weight) * inputs * math.prod(sides) > max(_GROWTH * own, _SMALL // 16):
        return None
    if each:
        weight = F.conv_transpose2d(
            second.weight.transpose(0, 1), first.weight, stride=first.stride, groups=channels
        ).transpose(0, 1)
    else:
        weight = F.conv_transpose2d(
            _ungrouped(second).weight, _ungrouped(first).weight, stride=first.stride
        )
    pairs = zip(first.stride, second.stride, first.padding, second.padding, strict=True)
    (stride_y, pad_y), (stride_x, pad_x) = ((s1 * s2, p1 + p2 * s1) for s1, s2, p1, p2 in pairs)
    return Convolve(
        weight=weight,
        stride=(stride_y, stride_x),
        padding=(pad_y, pad_x),
        groups=channels if each else 1,
    )


def _connected(source: Node, held: Weights, chain: list[_Step]) -> Convolve | Multiply:
    """What has weights of its own in any case."""
    if not isinstance(held, Choose):
        return held
    if len(source.shape) == 3 and not held.shape:
        if held.plain:
            return Convolve(weight=held.gain.reshape(-1, 1, 1, 1), groups=len(held.gain))
        eye = Convolve(weight=torch.eye(len(held.index))[:, :, None, None])
        return _chosen_inputs(eye, held)
    shape = held.shape or (len(held.index),)
    if len(shape) != 1:
        raise refuse(chain[-1].node.name, "neurons on rearranged places", "rearrange after a linear layer")
    size, rows = math.prod(source.shape), len(held.index)
    if size * rows > _SMALL * 16:
        raise refuse(chain[-1].node.name, "neurons on so many rearranged places", "flatten smaller maps")
    weight, kept = torch.zeros(rows, size), held.index >= 0
    weight[kept.nonzero()[:, 0], held.index[kept]] = held.gain[kept]
    return Multiply(weight=weight)
