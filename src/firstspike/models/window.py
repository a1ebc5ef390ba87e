"""A deep network of window neurons, built from a layout and trained as a quantised network.

What passes between layers is the value ``v = 1 - t / T`` of a spike at step ``t``, 0 for silence: a
multiple of ``1 / T``. A layer is a convolution, a batch normalisation and the quantised, clipped ReLU that
a window neuron computes; `firstspike.models.spiking_form` is the same network on spike times. `AnnNetwork`
has the same layers without spikes.
"""

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from firstspike.kernels.arrays import to_array, to_tensor
from firstspike.kernels.cpu import quantise as kernel
from firstspike.kernels.untraced import untraced
from firstspike.models.images import check_maps
from firstspike.models.layout import (
    Conv,
    Full,
    Pool,
    Residual,
    Shape,
    Whiten,
    built,
    layout_shapes,
    parse_layout,
)
from firstspike.neurons import Window
from firstspike.neurons.base import once
from firstspike.nn.largest import max_pool
from firstspike.nn.normed import NormedConnection, connect, round_to_grid
from firstspike.spikes import Spikes, encode_latency

PARTS: tuple[type[Conv | Whiten | Residual | Pool | Full], ...] = (Conv, Whiten, Residual, Pool, Full)


@untraced
def quantise(membrane: Tensor, steps: int, high: float) -> Tensor:
    """Return ``floor(clip(u T / high + 1/2, 0, T)) / T``, straight through inside the range.

    Args:
        membrane: ``u``, float32 or bfloat16 of any shape.
        steps: ``T``.
        high: membrane of the highest level.
    """
    values: Tensor = _quantised(membrane.device).apply(membrane, steps, high, False)[0]
    return values


@untraced
def quantise_and_add_up(membrane: Tensor, steps: int, high: float) -> tuple[Tensor, Tensor]:
    """Return the values of `quantise` and their sum, a float32 scalar, for a penalty on spikes.

    The gradient of the sum takes part in the pass of the values' gradient; apart it would be two more.
    """
    values, total = _quantised(membrane.device).apply(membrane, steps, high, True)
    return values, total


def _quantised(device: torch.device) -> type[torch.autograd.Function]:
    return _Compiled if device.type == "cpu" else _Plain


def _total(values: Tensor, wanted: bool) -> Tensor:
    if not wanted:
        return torch.zeros((), device=values.device)
    # By sample in the values' own type: bfloat16 is added up in float32 and rounded once a sample.
    return values.sum(tuple(range(1, values.dim()))).sum(dtype=torch.float32)


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, membrane: Tensor, steps: int, high: float, total: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(membrane)
        ctx.high = high  # type: ignore[attr-defined]
        values = _tensor(kernel.quantise(_array(membrane), steps, high), membrane)
        return values, _total(values, total)

    @staticmethod
    @once
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (membrane,) = ctx.saved_tensors  # type: ignore[attr-defined]
        arrays = _array(membrane), _array(grad_outputs[0].to(membrane.dtype))
        grad = kernel.gradient(*arrays, ctx.high, grad_outputs[1].item())  # type: ignore[attr-defined]
        return _tensor(grad, membrane), None, None, None


def _array(values: Tensor) -> np.ndarray:
    """Values as the kernel takes them: maps channels last, a view where memory is so."""
    return to_array((values.permute(0, 2, 3, 1) if values.dim() == 4 else values).detach().contiguous())


def _tensor(array: np.ndarray, like: Tensor) -> Tensor:
    last = to_tensor(array, like.dtype)
    return last.permute(0, 3, 1, 2) if like.dim() == 4 else last


class _Plain(torch.autograd.Function):
    """The same in torch's operations, for devices without the compiled loops."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, membrane: Tensor, steps: int, high: float, total: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(membrane)
        ctx.high = high  # type: ignore[attr-defined]
        levels = membrane.mul(steps / high).add_(0.5).clamp_(0, steps).floor_()
        values = levels.div_(steps)
        return values, _total(values, total)

    @staticmethod
    @once
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (membrane,) = ctx.saved_tensors  # type: ignore[attr-defined]
        high: float = ctx.high  # type: ignore[attr-defined]
        grad = grad_outputs[0] + grad_outputs[1].to(grad_outputs[0].dtype)
        inside = torch.ops.aten.hardtanh_backward(grad, membrane, 0, high)
        return inside.mul_(1 / high), None, None, None


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

    def forward(self, values: Tensor) -> Tensor:
        """Return normalised membranes; in evaluation by the folded weights."""
        return super().forward(F.avg_pool2d(values, self.average) if self.average > 1 else values)


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
    during training, as for `RasterNetwork`. Images are what `firstspike.spikes.as_images` takes.

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
        self.layout, self.in_shape, self.num_classes = layout, in_shape, num_classes
        self.in_steps, self.clip, self.levels, self.dropout = in_steps, clip, levels, dropout
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

    def activation(self, membrane: Tensor) -> Tensor:
        """Return the values that a hidden layer with these membranes passes on."""
        if self.levels:
            return quantise(membrane, self.levels, self.clip)
        return F.relu(membrane) / self.clip

    @torch.no_grad()
    def membranes(self, images: Any) -> list[Tensor]:
        """Return the membranes of every layer at the end of its inputs, the output's last."""
        return self._walk(images)[1]

    def _walk(self, images: Any, totals: list[Tensor] | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """The values of the input and of every hidden layer; the membranes of every layer.

        A list of `totals` receives the sums of the hidden layers' values.
        """
        spikes = encode_latency(check_maps(images, self.in_shape), self.in_steps)
        received = spikes.values.to(self.dtype, memory_format=torch.channels_last)
        values, membranes = [received], []

        def fired(membrane: Tensor) -> Tensor:
            membranes.append(membrane)
            if totals is None:
                values.append(self.activation(membrane))
            else:
                fired, total = quantise_and_add_up(membrane, self.levels, self.clip)
                values.append(fired)
                totals.append(total)
            return values[-1]

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
                received = fired(block.second(fired(block.first(received))) + past)
            else:
                received = fired(block(received))
        if self.average > 1:
            received = F.avg_pool2d(received, self.average)
        received = F.dropout(received.flatten(1).to(torch.float32), self.dropout, self.training)
        return values, [*membranes, connect(received, *self.output_weights())]

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
            levels=steps,
            dropout=dropout,
            pool_first=pool_first,
        )
        self.steps = steps
        self.output_neuron = Window.output(out_steps)

    def forward(self, images: Any) -> Spikes:
        """Return output spikes ``(batch, classes)`` for images ``(batch, channels, y, x)``."""
        return self.trace(images)[1]

    def trace(self, images: Any) -> tuple[list[Tensor], Spikes]:
        """Return the values of the input and of every hidden layer, and the output's spikes."""
        values, membranes = self._walk(images)
        return values, self.output_neuron.quantise(membranes[-1], self.steps)

    def with_mean(self, images: Any) -> tuple[Spikes, Tensor]:
        """Return the output's spikes and the mean value of all hidden neurons, for a spike penalty."""
        totals: list[Tensor] = []
        values, membranes = self._walk(images, totals)
        mean = torch.stack(totals).sum() / sum(part.numel() for part in values[1:])
        return self.output_neuron.quantise(membranes[-1], self.steps), mean


class AnnNetwork(NormedNetwork):
    """Images in, class logits out, through the layers of a `WindowNetwork` without spikes."""

    def forward(self, images: Any) -> Tensor:
        """Return logits ``(batch, classes)`` for images ``(batch, channels, y, x)``."""
        return self._walk(images)[1][-1]
