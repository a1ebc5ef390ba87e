"""The blocks of a one-step network, and what each of them computes.

Shapes: ``B`` samples, ``C`` maps in, ``O`` maps out, ``Y x X`` places. Operations are sums over a batch.
"""

import math
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.models.patches.carry import carry_patches
from firstspike.models.patches.grid import PatchGrid, merge_patches, split_patches
from firstspike.models.patches.operations import Operations, carry_operations, merge_operations
from firstspike.models.patches.settings import PatchCarry
from firstspike.nn.normed import BatchNorm, NormedConnection, connect


@dataclass
class Passed:
    """What goes from layer to layer.

    Attributes:
        spikes: ``(B, C, Y, X)``; at the input intensities.
        left: left-over membranes, of the same shape; None at the input.
        numbers: the spikes are numbers rather than 0 or 1.
        past: what a shortcut adds to the layer's currents.
    """

    spikes: Tensor
    left: Tensor | None
    numbers: bool = False
    past: Tensor | None = None


class Currents(Protocol):
    """What gives a layer's neurons their currents: a connection or an LSTM, a `torch.nn.Module`."""

    def operations(self, maps: Tensor, *, numbers: bool) -> Operations:
        """Return the operations for maps ``(B, C, Y, X)``, numbers or spikes."""
        ...


class Connection(NormedConnection):
    """A convolution with batch normalisation; one of kernel 1 connects the maps of each place fully.

    Args:
        in_channels, out_channels, kernel: of the convolution, whose padding is ``(kernel - 1) // 2``.
        pool: side of the squares of places of which the largest current alone reaches a neuron.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, pool: int = 1) -> None:
        super().__init__((out_channels, in_channels, kernel, kernel), on_grid=False, pool=pool)

    def operations(self, maps: Tensor, *, numbers: bool) -> Operations:
        """Return the operations for maps ``(B, C, Y, X)``, numbers or spikes."""
        targets, _, kernel, _ = self.weight.shape
        rows, columns = (side - 1 + kernel % 2 for side in maps.shape[2:])
        shifts = (rows // self.pool) * (columns // self.pool)
        # To find the largest of each square takes a comparison less than it has places.
        compared = shifts * (self.pool**2 - 1)
        additions = float(len(maps) * targets * (shifts + compared))
        return _received(maps, targets, kernel, numbers) + Operations(neuron_additions=additions)


class GatheringConnection(Connection):
    """Four neighbouring places become one: their maps side by side, then a `Connection` over them.

    A last row or column without a neighbour is merged with zeros.

    Args:
        in_channels, out_channels: maps before and after.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(4 * in_channels, out_channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return currents ``(B, O, ceil(Y / 2), ceil(X / 2))``."""
        return super().forward(gathered(maps))

    def operations(self, maps: Tensor, *, numbers: bool) -> Operations:
        """Return the operations for maps ``(B, C, Y, X)``, numbers or spikes."""
        return super().operations(gathered(maps), numbers=numbers)


def gathered(maps: Tensor) -> Tensor:
    """Return maps ``(B, 4 C, ceil(Y / 2), ceil(X / 2))``, the maps of each 2 x 2 places side by side."""
    height, width = maps.shape[2:]
    if height % 2 or width % 2:
        maps = F.pad(maps, (0, width % 2, 0, height % 2))
    return F.pixel_unshuffle(maps, 2)


class PatchLSTM(torch.nn.Module):
    """A convolutional LSTM whose sequence is the patches of a map, in order.

    Input, forget, cell and output gates, in this order, receive a ``kernel x kernel`` region of the input
    and the hidden state that the previous patch left at the same place of the patch. With ``kernel=1`` it
    is torch's LSTM over the patches, at every place of a patch. Patches that overlap are averaged.

    Args:
        in_channels, out_channels: maps of the input and of the hidden state.
        grid: the patches.
        kernel: of the input's convolution, odd.
    """

    def __init__(self, in_channels: int, out_channels: int, grid: PatchGrid, kernel: int = 3) -> None:
        super().__init__()
        self.grid = grid
        self.weight = torch.nn.Parameter(torch.empty(4 * out_channels, in_channels, kernel, kernel))
        self.recurrent_weight = torch.nn.Parameter(torch.empty(4 * out_channels, out_channels))
        bound = 1 / math.sqrt(out_channels)
        torch.nn.init.kaiming_uniform_(self.weight, nonlinearity="linear")
        torch.nn.init.uniform_(self.recurrent_weight, -bound, bound)
        self.bias = torch.nn.Parameter(torch.empty(4 * out_channels).uniform_(-bound, bound))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the hidden state at every place, ``(B, O, Y, X)``, for maps ``(B, C, Y, X)``."""
        driven = connect(maps, self.weight, self.bias)
        back = self.recurrent_weight.to(maps.dtype)[:, :, None, None]
        states: list[Tensor] = []
        cell: Tensor | None = None
        for gates in split_patches(driven, self.grid):
            if states:
                gates = gates + F.conv2d(states[-1], back)
            enter, forget, change, leave = gates.chunk(4, 1)
            fresh = torch.sigmoid(enter) * torch.tanh(change)
            cell = fresh if cell is None else torch.sigmoid(forget) * cell + fresh
            states.append(torch.sigmoid(leave) * torch.tanh(cell))
        return merge_patches(torch.stack(states), self.grid)


class NormedLSTM(torch.nn.Module):
    """A `PatchLSTM` whose hidden states are normalised, so that they reach the threshold.

    Args:
        in_channels, out_channels, grid, kernel: as for `PatchLSTM`.
    """

    def __init__(self, in_channels: int, out_channels: int, grid: PatchGrid, kernel: int) -> None:
        super().__init__()
        self.lstm = PatchLSTM(in_channels, out_channels, grid, kernel)
        self.norm = BatchNorm(out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Return currents for the neurons, ``(B, O, Y, X)``."""
        currents: Tensor = self.norm(self.lstm(maps))
        return currents

    def operations(self, maps: Tensor, *, numbers: bool) -> Operations:
        """Return the operations for maps ``(B, C, Y, X)``, numbers or spikes."""
        grid = self.lstm.grid
        gates, channels = self.lstm.recurrent_weight.shape
        places, visits = math.prod(grid.shape), grid.visits
        recurrent = float((visits - math.prod(grid.sides)) * gates * channels)
        per_sample = merge_operations(grid).times(channels) + Operations(
            multiply_adds=recurrent,
            neuron_additions=places * gates,
            neuron_multiplies=2 * visits * channels,
            # Of the cells, and of the normalisation.
            neuron_multiply_adds=(visits + places) * channels,
            neuron_functions=5 * visits * channels,
            dense_multiply_adds=recurrent,
        )
        return _received(maps, gates, self.lstm.weight.shape[-1], numbers) + per_sample.times(len(maps))


class SpikingLayer(torch.nn.Module):
    """Currents and the one-step neurons that they drive.

    Args:
        connection: gives the neurons' currents, see `Currents`.
        neuron: what the neurons carry.
        grid: their patches.
        shortcut: the layer's input is added to the currents.
    """

    def __init__(
        self, connection: torch.nn.Module, neuron: PatchCarry, grid: PatchGrid, *, shortcut: bool = False
    ) -> None:
        super().__init__()
        self.connection, self.neuron, self.grid, self.shortcut = connection, neuron, grid, shortcut

    def forward(self, inputs: Passed) -> Passed:
        """Return the layer's spikes and left-over membranes."""
        current = self.connection(inputs.spikes)
        past = self._past(inputs)
        if past is not None:
            current = current + past
        fits = inputs.left is not None and inputs.left.shape == current.shape
        spikes, left = carry_patches(current, inputs.left if fits else None, self.neuron, self.grid)
        return Passed(spikes, left, numbers=self.neuron.fractional and self.grid.overlaps)

    def each_layer(self, inputs: Passed) -> list[tuple["SpikingLayer", Passed, Passed]]:
        """Return every layer of the block with its input and its output: this one."""
        return [(self, inputs, self(inputs))]

    def operations(self, inputs: Passed, out: Passed) -> Operations:
        """Return the operations that made `out` of `inputs`."""
        neuron, grid = self.neuron, self.grid
        connection = cast(Currents, self.connection)
        total = connection.operations(inputs.spikes, numbers=inputs.numbers)
        past = self._past(inputs)
        if past is not None:
            total += Operations(additions=float((past != 0).sum()))
        maps = out.spikes.shape[0] * out.spikes.shape[1]
        before = inputs.left is not None and inputs.left.shape == out.spikes.shape
        carried = carry_operations(neuron, before=before, patches=len(grid.corners) > 1)
        total += carried.times(maps * grid.visits)
        merging = merge_operations(grid)
        # Whether a place spikes follows from the sum; a fraction needs the mean.
        spikes = merging if neuron.fractional else Operations(neuron_additions=merging.neuron_additions)
        total += spikes.times(maps)
        if neuron.carried == "both" or (neuron.carried == "layer" and neuron.projection != "sine_patch"):
            total += merging.times(maps)
        return total

    def _past(self, inputs: Passed) -> Tensor | None:
        return inputs.spikes if self.shortcut else inputs.past

    def extra_repr(self) -> str:
        """Return the neuron and the patches, for printing."""
        return f"{self.neuron}, patches {self.grid.sides} at {self.grid.corners}, shortcut={self.shortcut}"


class Perceptron(torch.nn.Module):
    """Two fully connected layers over the maps of each place, with a shortcut past both.

    The membranes of the layer before reach the second layer, past the first with the spikes.

    Args:
        channels, hidden: maps of the input and between the layers.
        neuron: of both layers.
        grid: of both layers' patches.
    """

    def __init__(self, channels: int, hidden: int, neuron: PatchCarry, grid: PatchGrid) -> None:
        super().__init__()
        self.first = SpikingLayer(Connection(channels, hidden, 1), neuron, grid)
        self.second = SpikingLayer(Connection(hidden, channels, 1), neuron, grid)

    def forward(self, inputs: Passed) -> Passed:
        """Return the block's spikes and left-over membranes."""
        return self.each_layer(inputs)[-1][2]

    def each_layer(self, inputs: Passed) -> list[tuple[SpikingLayer, Passed, Passed]]:
        """Return both layers, each with its input and its output."""
        begin = Passed(inputs.spikes, None, inputs.numbers)
        inner = self.first(begin)
        received = Passed(inner.spikes, inputs.left, inner.numbers, past=inputs.spikes)
        return [(self.first, begin, inner), (self.second, received, self.second(received))]


class Head(torch.nn.Linear):
    """The outputs: membranes over the mean spikes of so many parts of the map along each axis.

    Args:
        channels: maps of the last layer.
        num_classes: number of outputs.
        size: parts along each axis; they overlap where `size` does not divide the map.
        dropout: share of the inputs cut off during training.
    """

    def __init__(self, channels: int, num_classes: int, *, size: int, dropout: float) -> None:
        super().__init__(channels * size**2, num_classes)
        self.size, self.dropout = size, dropout

    def forward(self, spikes: Tensor) -> Tensor:
        """Return logits ``(B, classes)`` for spikes ``(B, C, Y, X)``."""
        return super().forward(F.dropout(self._means(spikes), self.dropout, self.training))

    def _means(self, spikes: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(spikes.to(torch.float32), self.size).flatten(1)

    def operations(self, inputs: Passed) -> Operations:
        """Return the operations for the last layer's output."""
        spikes = inputs.spikes
        active = (spikes != 0).sum((0, 1)).to(torch.float64)
        rows, columns = (_parts(length, self.size, active) for length in active.shape)
        events = float((self._means(spikes) != 0).sum()) * self.out_features
        dense = Operations(dense_multiply_adds=float(len(spikes) * self.weight.numel()))
        if tuple(active.shape) == (self.size, self.size):
            # A part is one place, and its mean the spike itself.
            return dense + (
                Operations(multiply_adds=events) if inputs.numbers else Operations(additions=events)
            )
        summed = float((active * rows[:, None] * columns).sum())
        return dense + Operations(additions=summed, multiply_adds=events)


def _received(maps: Tensor, targets: int, kernel: int, numbers: bool) -> Operations:
    """What the inputs of a convolution cause at its outputs, and what they cause in the ANN's."""
    sides = (side - 1 + kernel % 2 for side in maps.shape[2:])
    reach = F.conv_transpose2d(
        torch.ones(1, 1, *sides, device=maps.device),
        torch.ones(1, 1, kernel, kernel, device=maps.device),
        padding=(kernel - 1) // 2,
    )[0, 0]
    dense = float(len(maps) * int(reach.sum()) * maps.shape[1] * targets)
    events = float(((maps != 0).sum((0, 1)) * reach).sum(dtype=torch.float64)) * targets
    if numbers:
        return Operations(multiply_adds=events, dense_multiply_adds=dense)
    return Operations(additions=events, dense_multiply_adds=dense)


def _parts(length: int, count: int, like: Tensor) -> Tensor:
    """In how many of the head's `count` parts each of `length` places lies; the parts may overlap."""
    inside = torch.zeros(length, dtype=like.dtype, device=like.device)
    for k in range(count):
        inside[k * length // count : -(-(k + 1) * length // count)] += 1
    return inside
