"""A deep network of window neurons, built from a layout and trained as a quantised network.

What passes between layers is the value ``v = 1 - t / T`` of a spike at step ``t``, 0 for silence: a
multiple of ``1 / T``. A layer is a convolution, a batch normalisation and the quantised, clipped ReLU that
a window neuron computes; `firstspike.models.spiking_form` is the same network on spike times. `AnnNetwork`
has the same layers without spikes.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.codes import encode_latency
from firstspike.models.images import check_maps
from firstspike.models.layout import (
    Conv,
    Full,
    Pool,
    Residual,
    Shape,
    Whiten,
    built,
    check_ends,
    layout_shapes,
    parse_layout,
)
from firstspike.models.quantised import fire, quantise, quantise_and_add_up
from firstspike.neurons import Window
from firstspike.nn.largest import max_pool
from firstspike.nn.normed import NormedConnection, connect, round_to_grid
from firstspike.spikes import Spikes
from firstspike.support import check_num_steps, check_number

PARTS: tuple[type[Conv | Whiten | Residual | Pool | Full], ...] = (Conv, Whiten, Residual, Pool, Full)


class WindowLayer(NormedConnection):
    """A connection with batch normalisation: values ``(batch, ...)`` in, membranes out.

    Args:
        part: `Conv` or `Full`.
        in_shape: of a sample.
        average: side of the squares of places that are averaged before.
        gain, pool: see `NormedConnection`.
    """

    def __init__(
        self, part: Conv | Full, in_shape: Shape, average: int = 1, *, gain: bool = True, pool: int = 1
    ) -> None:
        if isinstance(part, Conv):
            shape: Shape = (part.channels, in_shape[0], part.kernel, part.kernel)
            super().__init__(shape, stride=part.stride, gain=gain, pool=pool)
            self.weight.requires_grad_(not part.fixed)
        else:
            super().__init__((part.features, math.prod(in_shape)), gain=gain)
        self.average = average

    def _sums(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        averaged = F.avg_pool2d(values, self.average) if self.average > 1 else values
        return super()._sums(averaged, weight, bias)


class ResidualBlock(torch.nn.Module):
    """Two 3 x 3 convolutions, and a connection past them to the second's membrane.

    Attributes:
        first, second: the convolutions.
        past: 1 x 1 convolution; None where input and output have one shape, and values pass as they are.
    """

    def __init__(self, part: Residual, in_shape: Shape, average: int, *, gain: bool = True) -> None:
        super().__init__()
        inner = part.out_shape(in_shape)
        self.first = WindowLayer(Conv(part.channels, 3, part.stride), in_shape, average, gain=gain)
        self.second = WindowLayer(Conv(part.channels, 3), inner, gain=gain)
        plain = part.stride == average == 1 and in_shape[0] == part.channels
        past = Conv(part.channels, 1, part.stride)
        self.past = None if plain else WindowLayer(past, in_shape, average, gain=gain)


class NormedNetwork(torch.nn.Module):
    """Images in, membranes of the output out, through normalised layers given by a layout.

    What a hidden layer passes on is a ReLU in units of `clip`, clipped there and rounded to `levels` as a
    window neuron's is, or as it is. The field `dtype` is the precision of hidden values and membranes
    during training, as for `RasterNetwork`. Images are what `firstspike.inputs.as_images` takes.

    Args:
        layout: the hidden layers, as `firstspike.models.layout.parse_layout` reads them: convolutions,
            whitening, residual blocks, pooling and full connections.
        in_shape: ``(channels, height, width)`` of the input.
        num_classes: number of outputs.
        in_steps: levels of the input's intensities.
        clip: membrane, after batch normalisation, that a value of 1 stands for.
        levels: of hidden values; 0 for plain ReLUs.
        dropout: share of the output layer's inputs cut off during training.
        pool_first: take the largest membranes behind a convolution before they are normalised and
            activated, where earliest-spike pooling follows. Gains are 1 then, so these are the membranes
            whose spikes are earliest; it saves work and changes the statistics of the normalisation.

    Raises:
        InputError: a layout of other parts, or one that cannot take images of this size.
        TypeError: a number of steps or levels that is no integer.
        ValueError: a number out of range, or a shape of another length.
    """

    def __init__(
        self,
        layout: str,
        in_shape: Shape,
        num_classes: int,
        *,
        in_steps: int,
        clip: float,
        levels: int = 0,
        dropout: float = 0.0,
        pool_first: bool = False,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        in_shape, num_classes = check_ends(owner, in_shape, num_classes)
        self.layout, self.in_shape, self.num_classes = layout, in_shape, num_classes
        self.in_steps = check_num_steps(in_steps, name=f"{owner}.in_steps")
        self.clip = check_number(owner, "clip", clip, low=0, above=True)
        self.levels = check_num_steps(levels, name=f"{owner}.levels") if levels else 0
        self.dropout = check_number(owner, "dropout", dropout, low=0, high=1, below=True)
        self.dtype = torch.float32
        self.parts: list[Conv | Residual | Pool | Full] = built(parse_layout(layout, PARTS), in_shape)
        self.shapes = layout_shapes(self.parts, in_shape)
        self.pool_first = pool_first
        self.blocks = torch.nn.ModuleList()
        average = 1
        for part, following, shape in zip(self.parts, [*self.parts[1:], None], self.shapes, strict=False):
            if isinstance(part, Pool):
                average = part.size if part.kind == "average" else 1
                continue
            if isinstance(part, Residual):
                self.blocks.append(ResidualBlock(part, shape, average, gain=not pool_first))
            else:
                pool = 1
                if pool_first and isinstance(following, Pool) and following.kind == "earliest":
                    pool = following.size
                self.blocks.append(WindowLayer(part, shape, average, gain=not pool_first, pool=pool))
            average = 1
        self.average = average
        self.output = torch.nn.Linear(math.prod(self.shapes[-1]), num_classes)
        with torch.no_grad():
            self.output.weight.mul_(0.5)
            # Half-way up its range, from where an output can go both ways.
            self.output.bias.fill_(0.5)

    def extra_repr(self) -> str:
        """Return the settings, for printing."""
        sizes = f"{self.layout!r}, {self.in_shape}, {self.num_classes}"
        windows = f"in_steps={self.in_steps}, levels={self.levels}, clip={self.clip:g}"
        return f"{sizes}, {windows}, dropout={self.dropout:g}, pool_first={self.pool_first}"

    @torch.no_grad()
    def membranes(self, images: Any) -> list[Tensor]:
        """Return the membranes of every layer at the end of its inputs, the output's last."""
        hidden: list[Tensor] = []
        output = self._walk(images, membranes=hidden)[1]
        return [*hidden, output]

    def _walk(
        self, images: Any, *, membranes: list[Tensor] | None = None, totals: list[Tensor] | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """The values of the input and of every hidden layer, and the output's membranes.

        Lists of `membranes` and `totals` receive the hidden layers' membranes and the sums of their values.
        """
        spikes = encode_latency(check_maps(images, self.in_shape), self.in_steps)
        received = spikes.values.to(self.dtype, memory_format=torch.channels_last)
        values = [received]

        def of_membrane(membrane: Tensor) -> Tensor:
            if membranes is not None:
                membranes.append(membrane)
            if not self.levels:
                return record(F.relu(membrane) / self.clip)
            if totals is None:
                return record(quantise(membrane, self.levels, self.clip))
            return record(*quantise_and_add_up(membrane, self.levels, self.clip))

        def of_layer(layer: NormedConnection, received: Tensor) -> Tensor:
            if membranes is not None or not self.levels:
                return of_membrane(layer(received))
            return record(*fire(layer, received, self.levels, self.clip, add_up=totals is not None))

        def record(found: Tensor, total: Tensor | None = None) -> Tensor:
            values.append(found)
            if totals is not None and total is not None:
                totals.append(total)
            return found

        blocks = iter(self.blocks)
        pooled = False
        for part in self.parts:
            if isinstance(part, Pool):
                if part.kind == "earliest" and not pooled:
                    received = max_pool(received, part.size)
                continue
            block = next(blocks)
            pooled = isinstance(block, WindowLayer) and block.pool > 1
            if isinstance(block, ResidualBlock):
                past = received * self.clip if block.past is None else block.past(received)
                received = of_membrane(block.second(of_layer(block.first, received)) + past)
            else:
                received = of_layer(cast(WindowLayer, block), received)
        if self.average > 1:
            received = F.avg_pool2d(received, self.average)
        received = F.dropout(received.flatten(1).to(torch.float32), self.dropout, self.training)
        return values, connect(received, *self.output_weights())

    @property
    def layers(self) -> list[WindowLayer]:
        """The layers of hidden neurons from the input on, without the connections past blocks."""
        found: list[WindowLayer] = []
        for block in self.blocks:
            if isinstance(block, ResidualBlock):
                found += block.first, block.second
            else:
                found.append(cast(WindowLayer, block))
        return found

    def output_weights(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the output layer, on the grid of `round_to_grid`."""
        return round_to_grid(self.output.weight), round_to_grid(self.output.bias)


class WindowNetwork(NormedNetwork):
    """Images in, spikes of the output neurons out, through layers of window neurons.

    A hidden value is ``v = 1 - t / T`` of a spike at step ``t``.

    Args:
        layout, in_shape, num_classes, dropout, pool_first: see `NormedNetwork`.
        in_steps: window of the input, in which each pixel spikes at most once.
        steps: window of every hidden layer.
        out_steps: window of the output.
        clip: membrane, after batch normalisation, at which a hidden neuron fires at step 0.
    """

    def __init__(
        self,
        layout: str,
        in_shape: Shape,
        num_classes: int,
        *,
        in_steps: int,
        steps: int,
        out_steps: int,
        clip: float,
        dropout: float = 0.0,
        pool_first: bool = False,
    ) -> None:
        super().__init__(
            layout,
            in_shape,
            num_classes,
            in_steps=in_steps,
            clip=clip,
            levels=check_num_steps(steps, name="WindowNetwork.steps"),
            dropout=dropout,
            pool_first=pool_first,
        )
        self.output_neuron = Window.output(check_num_steps(out_steps, name="WindowNetwork.out_steps"))

    @property
    def steps(self) -> int:
        """Length in steps of the window of every hidden layer, its number of levels."""
        return self.levels

    def extra_repr(self) -> str:
        """Return the settings, for printing."""
        return f"{super().extra_repr()}, output={self.output_neuron}"

    def forward(self, images: Any) -> Spikes:
        """Return output spikes ``(batch, classes)`` for images ``(batch, channels, y, x)``."""
        return self.trace(images)[1]

    def trace(self, images: Any) -> tuple[list[Tensor], Spikes]:
        """Return the values of the input and of every hidden layer, and the output's spikes."""
        values, membrane = self._walk(images)
        return values, self.output_neuron.quantise(membrane, self.steps)

    def with_mean(self, images: Any) -> tuple[Spikes, Tensor]:
        """Return the output's spikes and the mean value of all hidden neurons, for a spike penalty.

        Args:
            images: ``(batch, channels, y, x)``.

        Returns:
            Spikes ``(batch, classes)``; a float32 scalar in 0 ... 1.
        """
        totals: list[Tensor] = []
        values, membrane = self._walk(images, totals=totals)
        mean = torch.stack(totals).sum() / sum(part.numel() for part in values[1:])
        return self.output_neuron.quantise(membrane, self.steps), mean


class AnnNetwork(NormedNetwork):
    """Images in, class logits out, through the layers of a `WindowNetwork` without spikes."""

    def forward(self, images: Any) -> Tensor:
        """Return logits ``(batch, classes)`` for images ``(batch, channels, y, x)``."""
        return self._walk(images)[1]
