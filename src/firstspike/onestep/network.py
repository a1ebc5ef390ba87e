"""A network that decides in a single time step: its layers walk over spatial windows instead.

Shapes: ``B`` samples, ``C`` maps, ``Y x X`` places.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.batch_norm import BatchNorm
from firstspike.onestep.carry import carry_windows
from firstspike.onestep.layout import parse_one_step_layout
from firstspike.onestep.settings import WindowCarry
from firstspike.onestep.windows import WindowGrid, merge_windows, split_windows, window_grid
from firstspike.support import InputError


@dataclass
class Passed:
    """What goes from layer to layer: spikes (at the input: intensities) and left-over membranes."""

    spikes: Tensor
    left: Tensor | None


class Connection(torch.nn.Module):
    """A convolution with batch normalisation.

    Args:
        in_channels, out_channels, kernel: of the convolution, whose padding is ``kernel // 2``.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
        torch.nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.weight.data = self.weight.data.contiguous(memory_format=torch.channels_last)
        self.norm = BatchNorm(out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Return normalised currents; in evaluation by weights with the normalisation folded in."""
        padding = self.weight.shape[-1] // 2
        if self.training:
            normalised: Tensor = self.norm(F.conv2d(maps, self.weight.to(maps.dtype), padding=padding))
            return normalised
        gain, shift = self.norm.folded()
        weight = self.weight * gain.reshape(-1, 1, 1, 1)
        return F.conv2d(maps, weight.to(maps.dtype), shift.to(maps.dtype), padding=padding)


class SpikingLayer(torch.nn.Module):
    """A connection and its one-step neurons.

    Args:
        connection: gives the neurons' currents.
        neuron: what they carry.
        grid: their windows.
        shortcut: the layer's input is added to the currents.
    """

    def __init__(
        self, connection: torch.nn.Module, neuron: WindowCarry, grid: WindowGrid, *, shortcut: bool = False
    ) -> None:
        super().__init__()
        self.connection, self.neuron, self.grid, self.shortcut = connection, neuron, grid, shortcut

    def forward(self, inputs: Passed) -> Passed:
        """Return the layer's spikes and left-over membranes."""
        current = self.connection(inputs.spikes)
        if self.shortcut:
            current = current + inputs.spikes
        fits = inputs.left is not None and inputs.left.shape == current.shape
        return Passed(*carry_windows(current, inputs.left if fits else None, self.neuron, self.grid))

    def extra_repr(self) -> str:
        """Return the neuron and the windows, for printing."""
        return f"{self.neuron}, windows {self.grid.sides} at {self.grid.corners}, shortcut={self.shortcut}"


class Perceptron(torch.nn.Module):
    """Two fully connected layers over the maps of each place, with a shortcut past both.

    The membranes of the layer before reach the second layer, past the first with the spikes.

    Args:
        channels, hidden: maps of the input and between the layers.
        neuron: of both layers.
        grid: of both layers' windows.
    """

    def __init__(self, channels: int, hidden: int, neuron: WindowCarry, grid: WindowGrid) -> None:
        super().__init__()
        self.first = SpikingLayer(Connection(channels, hidden, 1), neuron, grid)
        self.second = Connection(hidden, channels, 1)
        self.neuron, self.grid = neuron, grid

    def forward(self, inputs: Passed) -> Passed:
        """Return the block's spikes and left-over membranes."""
        current = self.second(self.first(Passed(inputs.spikes, None)).spikes) + inputs.spikes
        return Passed(*carry_windows(current, inputs.left, self.neuron, self.grid))


class WindowLSTM(torch.nn.Module):
    """A convolutional LSTM whose sequence is the windows of a map, in order.

    Input, forget, cell and output gates, in this order, hear a ``kernel x kernel`` patch of the input and
    the hidden state that the previous window left at the same place of the window. With ``kernel=1`` it is
    torch's LSTM over the windows, at every place of a window. Windows that overlap are averaged.

    Args:
        in_channels, out_channels: maps of the input and of the hidden state.
        grid: the windows.
        kernel: of the input's convolution, odd.
    """

    def __init__(self, in_channels: int, out_channels: int, grid: WindowGrid, kernel: int = 3) -> None:
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
        dtype = maps.dtype
        heard = F.conv2d(
            maps, self.weight.to(dtype), self.bias.to(dtype), padding=self.weight.shape[-1] // 2
        )
        back = self.recurrent_weight.to(dtype)[:, :, None, None]
        states: list[Tensor] = []
        cell: Tensor | None = None
        for gates in split_windows(heard, self.grid):
            if states:
                gates = gates + F.conv2d(states[-1], back)
            enter, forget, change, leave = gates.chunk(4, 1)
            fresh = torch.sigmoid(enter) * torch.tanh(change)
            cell = fresh if cell is None else torch.sigmoid(forget) * cell + fresh
            states.append(torch.sigmoid(leave) * torch.tanh(cell))
        return merge_windows(torch.stack(states), self.grid)


class NormalisedLSTM(torch.nn.Module):
    """A `WindowLSTM` whose hidden states are normalised, so that they reach the threshold."""

    def __init__(self, in_channels: int, out_channels: int, grid: WindowGrid) -> None:
        super().__init__()
        self.lstm = WindowLSTM(in_channels, out_channels, grid)
        self.norm = BatchNorm(out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Return currents for the neurons, ``(B, out_channels, Y, X)``."""
        hidden = self.lstm(maps)
        if self.training:
            normalised: Tensor = self.norm(hidden)
            return normalised
        gain, shift = (values.reshape(1, -1, 1, 1) for values in self.norm.folded())
        return (hidden * gain + shift).to(hidden.dtype)


class PatchMerging(torch.nn.Module):
    """Four neighbouring places become one: their maps side by side, then a `Connection` over them.

    A last row or column without a neighbour is merged with zeros.

    Args:
        in_channels, out_channels: maps before and after.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.connection = Connection(4 * in_channels, out_channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return currents ``(B, out_channels, ceil(Y / 2), ceil(X / 2))``."""
        currents: Tensor = self.connection(merged_patches(maps))
        return currents


def merged_patches(maps: Tensor) -> Tensor:
    """Return maps ``(B, 4 C, ceil(Y / 2), ceil(X / 2))``, the maps of each 2 x 2 patch side by side."""
    height, width = maps.shape[2:]
    if height % 2 or width % 2:
        maps = F.pad(maps, (0, width % 2, 0, height % 2))
    return F.pixel_unshuffle(maps, 2)


class OneStepNetwork(torch.nn.Module):
    """Images in, class logits out, in one time step; every neuron spikes at most once per window.

    Convolutions and LSTMs walk over windows as `neuron` says; fully connected layers and patch merging
    have one window, the whole map. The head hears the last spikes, averaged over parts of the
    map; its outputs are membranes, which decide without a spike.

    Args:
        layout: the hidden layers, as `firstspike.onestep.layout.parse_one_step_layout` reads them.
        in_shape: ``(channels, height, width)`` of an image.
        num_classes: number of outputs.
        neuron: of every layer.
        head_size: the head hears the mean spikes of so many parts of the map along each axis.
        dropout: share of the head's inputs cut off during training.

    The field `dtype` is the precision of currents and membranes during training.

    Raises:
        InputError: a layout that cannot take images of this size.
    """

    def __init__(
        self,
        layout: str,
        in_shape: tuple[int, int, int],
        num_classes: int,
        neuron: WindowCarry,
        *,
        head_size: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(in_shape) != 3 or min(in_shape) < 1 or num_classes < 1:
            raise ValueError(
                f"expected in_shape (channels, height, width) and 1 class or more, found {in_shape} and "
                f"{num_classes}"
            )
        self.layout, self.in_shape, self.num_classes = layout, in_shape, num_classes
        self.neuron, self.head_size, self.dropout = neuron, head_size, dropout
        self.dtype = torch.float32
        self.blocks = torch.nn.ModuleList()
        parts = parse_one_step_layout(layout)
        walks = sum(part.kind in ("conv", "lstm") for part in parts)
        channels, *sides = in_shape
        shape, walked = (sides[0], sides[1]), 0
        for part in parts:
            if part.kind in ("conv", "lstm"):
                walked += 1
                dilated = neuron.windows == "dilated" or (
                    neuron.windows == "alternating" and walked % 2 == 0 and walked < walks
                )
                grid = window_grid(shape, neuron.grid, dilated=dilated)
                connection = (
                    Connection(channels, part.channels, 3)
                    if part.kind == "conv"
                    else NormalisedLSTM(channels, part.channels, grid)
                )
                self.blocks.append(SpikingLayer(connection, neuron, grid))
            elif part.kind == "merge":
                if max(shape) < 2:
                    raise InputError(
                        f"layout {layout!r}: nothing to merge in a map of {shape[0]} x {shape[1]}"
                    )
                shape = (-(-shape[0] // 2), -(-shape[1] // 2))
                whole = window_grid(shape, 1, dilated=False)
                self.blocks.append(SpikingLayer(PatchMerging(channels, part.channels), neuron, whole))
            else:
                whole = window_grid(shape, 1, dilated=False)
                self.blocks.append(
                    Perceptron(channels, part.channels, neuron, whole)
                    if part.kind == "mlp"
                    else SpikingLayer(Connection(channels, channels, 1), neuron, whole, shortcut=True)
                )
            channels = channels if part.kind == "mlp" else part.channels
        if head_size < 1:
            raise ValueError(f"head_size must be 1 or more, found {head_size}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), found {dropout}")
        if head_size > min(shape):
            raise InputError(
                f"layout {layout!r}: a head of {head_size} x {head_size} parts is larger than the last "
                f"map, {shape[0]} x {shape[1]}"
            )
        self.head = torch.nn.Linear(channels * head_size**2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, classes)`` for images uint8 ``(B, channels, height, width)``.

        Raises:
            ValueError: images of another type or shape, or none.
        """
        return self.read_out(self.walk(images)[-1])

    def read_out(self, spikes: Tensor) -> Tensor:
        """Return logits for the last layer's spikes."""
        rates = F.adaptive_avg_pool2d(spikes.to(torch.float32), self.head_size).flatten(1)
        logits: Tensor = self.head(F.dropout(rates, self.dropout, self.training))
        return logits

    def walk(self, images: Tensor) -> list[Tensor]:
        """Return the intensities in [-1, 1] and every block's spikes, ``(B, C, Y, X)`` each."""
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != tuple(self.in_shape):
            hint = (
                "; give grey images an axis for their channel, images[:, None]" if images.dim() == 3 else ""
            )
            raise ValueError(
                f"expected uint8 images (batch, {', '.join(map(str, self.in_shape))}), found "
                f"{images.dtype} {tuple(images.shape)}{hint}"
            )
        if not len(images):
            raise ValueError("there are no images")
        dtype = self.dtype if self.training else torch.float32
        values = (images.to(dtype) / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        passed = Passed(values, None)
        seen = [values]
        for block in self.blocks:
            passed = block(passed)
            seen.append(passed.spikes)
        return seen


def spiking_layers(network: OneStepNetwork) -> list[torch.nn.Module]:
    """Return the layers of neurons in their order, a perceptron's two as its first layer and itself."""
    layers: list[torch.nn.Module] = []
    for block in network.blocks:
        layers += [block.first, block] if isinstance(block, Perceptron) else [block]
    return layers
