"""A folded and calibrated graph as a `Stack` of window neurons."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from firstspike.models.convert.calibrate import BATCH, Calibration, Range, by_place
from firstspike.models.convert.fold import Term, fires
from firstspike.models.convert.graph import Convolve, Graph, MaxPool, Multiply, Node, Pad
from firstspike.models.convert.refit import refit
from firstspike.neurons import Window
from firstspike.nn import Connection, EarliestPool2d, Layer, Stack
from firstspike.nn.wiring import Convolution, Dense, TransposedConvolution, Wiring
from firstspike.spikes import Spikes

# Sums of multiples of a unit up to 2^24 of them are exact in float32.
_EXACT_BITS = 24
# The largest weight of a layer keeps so many bits, even where sums may then be rounded.
_KEPT_BITS = 9
# A bias that differs by less from place to place, in levels, is one for the map.
_EVEN = 1e-3
# Shares of images whose decision may lie outside the output's window, tried for its two ends.
_OUTSIDE = (0.0, 0.001, 0.01, 0.03, 0.05, 0.1, 0.2)


class Builder:
    """Builds layer after layer, each corrected by what the quantised layers before it give.

    A layer counts in levels: a spike at step ``t`` of ``T`` has the value ``T - t``, and a membrane of
    ``n`` and a half stands for ``n`` levels, rounded to the nearest.

    Args:
        graph: folded.
        connections: of each target, by the node's id.
        calibration: what was seen of it.
        images: those that it was seen on, ``(count, ...)`` in 0 ... 1.
        steps, output_steps: length of the windows of the input and of all layers, and of the output.
        corrected: move weights and biases so that membranes are near those of the given network.
    """

    def __init__(
        self,
        graph: Graph,
        connections: dict[int, list[Term]],
        calibration: Calibration,
        images: Tensor,
        *,
        steps: int,
        output_steps: int,
        corrected: bool,
    ) -> None:
        self.graph, self.connections, self.calibration = graph, connections, calibration
        self.steps, self.output_steps, self.corrected = steps, output_steps, corrected
        self.neuron = Window(
            low=0.0, high=float(steps), input_high=float(steps), steps=steps, input_rounding="nearest"
        )
        self.layers: list[Layer | EarliestPool2d] = []
        # Whose spikes have which number, as a connection's source counts.
        self.number = {id(graph.input): 0}
        # In batches: one large block of memory after the other would cost more than what is done with them.
        self.spikes = {id(graph.input): list(self.neuron.encode(images, steps).split(BATCH))}
        self.left = Counter(id(term.source) for terms in connections.values() for term in terms)
        self.left.update(id(one.inputs[0]) for one in graph.order() if isinstance(one.op, MaxPool))
        self.silence = self._silent_inputs()

    @torch.no_grad()
    def build(self) -> Stack:
        """Return the network."""
        for one in self.graph.order():
            if isinstance(one.op, MaxPool):
                self._pool(one, one.op)
            elif id(one) in self.connections:
                self._layer(one)
        return Stack(*self.layers, steps=self.steps)

    def _silent_inputs(self) -> dict[int, Tensor]:
        """What every target receives where all neurons before it are silent, by the node's id."""
        values: dict[int, Tensor] = {}
        found: dict[int, Tensor] = {}
        for one in self.graph.order():
            if fires(one):
                if id(one) in self.connections:
                    found[id(one)] = values[id(one.inputs[0])][0]
                known = self.calibration.ranges.get(id(one))
                values[id(one)] = torch.full((1, *one.shape), known.low if known else 0.0)
            else:
                assert one.op is not None
                values[id(one)] = one.op(*(values[id(before)] for before in one.inputs))
        found.setdefault(id(self.graph.output), values[id(self.graph.output)][0])
        return found

    def _taken(self, one: Node) -> list[Spikes]:
        """The spikes of a node, given away when nobody needs them any more."""
        self.left[id(one)] -= 1
        return self.spikes[id(one)] if self.left[id(one)] else self.spikes.pop(id(one))

    def _append(self, one: Node, layer: Layer | EarliestPool2d, spikes: list[Spikes]) -> None:
        self.layers.append(layer)
        self.number[id(one)], self.spikes[id(one)] = len(self.layers), spikes

    def _pool(self, one: Node, op: MaxPool) -> None:
        (before,), (top, bottom, left, right) = one.inputs, op.pads
        spikes, source = self._taken(before), self.number[id(before)]
        padding = (top, left)
        if padding != (bottom, right) or any(2 * p > k for p, k in zip(padding, op.kernel, strict=True)):
            # Neurons that hand the values on stand on a map with the frame, where they are silent.
            frame = Pad(top=top, bottom=bottom, left=left, right=right)
            eye = Convolve(weight=torch.ones(one.shape[0], 1, 1, 1), groups=one.shape[0])
            wiring, weight = _wired(frame.before(eye))
            layer = self._neurons(self.neuron, [(wiring, weight, source)], torch.full((one.shape[0],), 0.5))
            spikes, source, padding = list(map(layer, spikes)), len(self.layers) + 1, (0, 0)
            self.layers.append(layer)
        pool = EarliestPool2d(op.kernel, stride=op.stride, padding=padding, source=source)
        self._append(one, pool, list(map(pool, spikes)))

    def _layer(self, one: Node) -> None:
        terms, decides = self.connections[id(one)], one is self.graph.output
        own, neuron = self.calibration.ranges.get(id(one)), self.neuron
        if decides:
            steps = self.output_steps
            neuron = replace(neuron, high=float(steps), steps=steps, saturation="one_sided")
        if own is None:
            # The output's window is found when its membranes are known, in units of the given network.
            own = Range(0.0, torch.full((one.shape[0],), neuron.high))
        per_unit = neuron.high / own.span.double()
        bias = (self.silence[id(one)] - own.low) * _spread(per_unit, one.shape) + 0.5
        connections = [self._connection(term, per_unit) for term in terms]
        layer = self._neurons(neuron, connections, bias)
        inputs = list(zip(*(self._taken(term.source) for term in terms), strict=True))
        if self.corrected:
            seen = self.calibration.membranes[id(one)]
            refit(layer, inputs, (seen - own.low) * per_unit.float()[:, None] + 0.5)
            wanted = (self.calibration.means[id(one)] - own.low) * per_unit + 0.5
            # A membrane is linear in the times of its inputs.
            found = by_place(layer.membrane(*map(_mean, zip(*inputs, strict=True)))).double().mean((0, 2))
            bias = bias + _spread(wanted - found, one.shape)
        if id(one) not in self.calibration.ranges:
            layer.bias = torch.nn.Parameter(bias.float())
            membrane = torch.cat([layer.membrane(*batch) for batch in inputs]) - 0.5
            low, high = _deciding_window(membrane, self.calibration.output, neuron.high)
            gain = neuron.high / (high - low)
            bias = (bias - 0.5 - low) * gain + 0.5
            for connection in (layer, *layer.shortcuts):
                connection.weight.mul_(gain)
        rows = bias.reshape(len(bias), -1)
        even = bool((rows.amax(1) - rows.amin(1) < _EVEN).all())
        layer.bias = torch.nn.Parameter((rows.mean(1) if even else bias).float())
        _round_to_grid(layer, self.steps)
        self._append(one, layer, [layer(*batch) for batch in inputs])

    def _connection(self, term: Term, per_unit: Tensor) -> tuple[Wiring, Tensor, int]:
        """Wiring and weights from levels to levels, and whose spikes they take."""
        unit, op = self.calibration.ranges[id(term.source)].span.double() / self.steps, term.op
        if isinstance(op, Multiply):
            each = unit.repeat_interleave(math.prod(term.source.shape[1:]))
            op = Multiply(weight=op.weight.double() * each * per_unit[:, None])
        else:
            # By groups, with the channels in first or last.
            ends, starts = (1, 2) if op.transposed else (2, 1)
            groups = op.weight.double().unflatten(0, (op.groups, -1))
            for values, axis in ((unit, ends), (per_unit, starts)):
                shape = [op.groups, 1, 1, 1, 1]
                shape[axis] = -1
                groups = groups * values.reshape(shape)
            op = replace(op, weight=groups.flatten(0, 1))
        return *_wired(op), self.number[id(term.source)]

    def _neurons(
        self, neuron: Window, connections: Sequence[tuple[Wiring, Tensor, int]], bias: Tensor
    ) -> Layer:
        (wiring, _, source), *others = connections
        shortcuts = [Connection(wiring, source=source) for wiring, _, source in others]
        layer = Layer(wiring, neuron, source=source, shortcuts=shortcuts)
        for connection, (_, values, _) in zip((layer, *shortcuts), connections, strict=True):
            connection.weight.copy_(values)
        layer.bias = torch.nn.Parameter(bias.float())
        return layer


def _wired(op: Convolve | Multiply) -> tuple[Wiring, Tensor]:
    """The wiring of an operation, and its weights."""
    weight = op.weight.float()
    if isinstance(op, Multiply):
        return Dense(in_features=weight.shape[1], out_features=weight.shape[0]), weight
    one, other = len(weight), weight.shape[1] * op.groups
    wiring = (TransposedConvolution if op.transposed else Convolution)(
        in_channels=one if op.transposed else other,
        out_channels=other if op.transposed else one,
        kernel_size=(weight.shape[2], weight.shape[3]),
        stride=op.stride,
        padding=op.padding,
        groups=op.groups,
    )
    return wiring, weight


def _spread(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """One number a channel at each of its places."""
    return values.reshape(-1, *([1] * (len(shape) - 1))).expand(shape)


def _mean(batches: Sequence[Spikes]) -> Spikes:
    """The mean times of all images, as one."""
    total = torch.stack([spikes.times.sum(0) for spikes in batches]).sum(0)
    return batches[0].with_times(total.unsqueeze(0) / sum(map(len, batches)))


def _round_to_grid(layer: Layer, steps: int) -> None:
    """Round weights and bias so that sums over levels are exact in float32, in any order."""
    connections = (layer, *layer.shortcuts)
    largest = max(float(one.weight.abs().max()) for one in connections)
    assert layer.bias is not None
    sums = layer.bias.abs().reshape(len(layer.bias), -1).amax(1)
    for one in connections:
        sums = sums + steps * _sums(one)
    bits = math.floor(_EXACT_BITS - math.log2(float(sums.max())))
    bits = max(bits, _KEPT_BITS - math.floor(math.log2(largest or 1.0)))
    for values in (layer.bias, *(one.weight for one in connections)):
        values.copy_(torch.round(values * 2.0**bits) / 2.0**bits)


def _sums(connection: Connection) -> Tensor:
    """Sum of the absolute weights of each neuron, or of a map's neurons away from the border."""
    weight, wiring = connection.weight.abs(), connection.wiring
    if isinstance(wiring, TransposedConvolution):
        return weight.unflatten(0, (wiring.groups, -1)).sum((1, 3, 4)).flatten()
    return weight.flatten(1).sum(1)


def _deciding_window(outputs: Tensor, given: Tensor, steps: float) -> tuple[float, float]:
    """The window for the first spike: in which most images are decided as the given network does.

    Args:
        outputs: of the quantised network, ``(images, ...)``.
        given: those of the network itself.
        steps: levels of the window.
    """
    ends = float(outputs.min()), float(outputs.max())
    if not ends[0] < ends[1]:
        return ends[0], ends[0] + 1.0
    if outputs.dim() != 2 or outputs.shape[1] < 2:
        return ends
    labels, winners = given.argmax(1), outputs.amax(1)
    shares = torch.tensor(_OUTSIDE)
    lows = [ends[0], *torch.quantile(winners, shares).tolist()]
    highs = torch.quantile(winners, 1 - shares).tolist()
    best, chosen = -1.0, ends
    for low, high in product(lows, highs):
        if low < high:
            levels = torch.floor((outputs - low) * (steps / (high - low)) + 0.5).clamp(0, steps)
            first, second = levels.topk(2, 1).values.unbind(1)
            right = float(((first > second) & (levels.argmax(1) == labels)).float().mean())
            if right > best:
                best, chosen = right, (low, high)
    return chosen
