"""A deep network of window neurons, built from a layout and trained as a quantised network.

What passes between layers is the value ``v = 1 - t / T`` of a spike at step ``t``, 0 for silence: a whole
number of ``1 / T``. A layer is a convolution, a batch normalisation and the quantised, clipped ReLU that a
window neuron computes; `firstspike.models.spiking_form` is the same network on spike times.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from firstspike.batch_norm import BatchNorm
from firstspike.coding import encode_latency
from firstspike.functional import window_fire
from firstspike.layout import Conv, Full, Pool, Residual, Shape, layout_shapes, parse_layout
from firstspike.neurons import Window
from firstspike.raster.layers import round_to_grid
from firstspike.rules import StraightThroughRule


class _Quantise(torch.autograd.Function):
    """``floor(clip(u T / high + 1/2, 0, T)) / T``, straight through inside the range."""

    @staticmethod
    def forward(ctx: FunctionCtx, membrane: Tensor, num_steps: int, high: float) -> Tensor:
        ctx.save_for_backward(membrane)
        ctx.high = high  # type: ignore[attr-defined]
        levels = membrane.mul(num_steps / high).add_(0.5).clamp_(0, num_steps).floor_()
        return levels.div_(num_steps)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (membrane,) = ctx.saved_tensors  # type: ignore[attr-defined]
        high: float = ctx.high  # type: ignore[attr-defined]
        inside = (membrane > 0) & (membrane < high)
        return grad_outputs[0] * inside.to(membrane.dtype).div_(high), None, None


class WindowLayer(torch.nn.Module):
    """A connection with batch normalisation: values ``(batch, ...)`` in, membranes out.

    Args:
        part: `Conv` or `Full`.
        in_shape: of a sample.
        average: side of the patches that are averaged before.
    """

    def __init__(self, part: Conv | Full, in_shape: Shape, average: int = 1) -> None:
        super().__init__()
        self.average = average
        if isinstance(part, Conv):
            size: tuple[int, ...] = (part.channels, in_shape[0], part.kernel, part.kernel)
            self.stride = part.stride
        else:
            size, self.stride = (part.features, math.prod(in_shape)), 1
        self.weight = torch.nn.Parameter(torch.empty(size))
        torch.nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        if self.weight.dim() == 4:
            self.weight.data = self.weight.data.contiguous(memory_format=torch.channels_last)
        self.norm = BatchNorm(size[0])

    def forward(self, values: Tensor) -> Tensor:
        """Return normalised membranes; in evaluation by the folded weights."""
        if self.average > 1:
            values = F.avg_pool2d(values, self.average)
        if not self.training:
            return self._connect(values, *self.effective())
        normalised: Tensor = self.norm(self._connect(values, self.weight))
        return normalised

    def effective(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias with the normalisation folded in, on the grid of `round_to_grid`."""
        gain, shift = self.norm.folded()
        weight = self.weight * gain.reshape(-1, *([1] * (self.weight.dim() - 1)))
        return round_to_grid(weight), round_to_grid(shift)

    def _connect(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        weight, bias = weight.to(values.dtype), None if bias is None else bias.to(values.dtype)
        if weight.dim() == 2:
            return F.linear(values.flatten(1), weight, bias)
        return F.conv2d(values, weight, bias, stride=self.stride, padding=weight.shape[-1] // 2)


class ResidualBlock(torch.nn.Module):
    """Two 3 x 3 convolutions, and a connection past them to the second's membrane.

    Attributes:
        first, second: the convolutions.
        past: 1 x 1 convolution; None where input and output have one shape, and values pass as they are.
    """

    def __init__(self, part: Residual, in_shape: Shape, average: int) -> None:
        super().__init__()
        inner = (part.channels, *(-(-side // part.stride) for side in in_shape[1:]))
        self.first = WindowLayer(Conv(part.channels, 3, part.stride), in_shape, average)
        self.second = WindowLayer(Conv(part.channels, 3), inner)
        plain = part.stride == average == 1 and in_shape[0] == part.channels
        self.past = None if plain else WindowLayer(Conv(part.channels, 1, part.stride), in_shape, average)


class WindowNetwork(torch.nn.Module):
    """Images in, spike times of the output neurons out, through layers of window neurons.

    Args:
        layout: the hidden layers, as `firstspike.layout.parse_layout` reads them.
        in_shape: ``(channels, height, width)`` of the input.
        num_classes: number of output neurons.
        in_steps: window of the input, in which each pixel spikes at most once.
        num_steps: window of every hidden layer.
        out_steps: window of the output.
        clip: membrane, after batch normalisation, at which a hidden neuron fires at step 0.
        dropout: share of the output layer's inputs cut off during training.

    The field `dtype` is the precision of hidden values and membranes during training, as for
    `RasterNetwork`.

    Raises:
        InputError: a layout that cannot take images of this size.
    """

    def __init__(
        self,
        layout: str,
        in_shape: Shape,
        num_classes: int,
        *,
        in_steps: int,
        num_steps: int,
        out_steps: int,
        clip: float,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layout, self.in_shape, self.num_classes = layout, in_shape, num_classes
        self.in_steps, self.num_steps, self.clip, self.dropout = in_steps, num_steps, clip, dropout
        self.dtype = torch.float32
        self.parts = parse_layout(layout)
        self.shapes = layout_shapes(self.parts, in_shape)
        self.blocks = torch.nn.ModuleList()
        average = 1
        for part, shape in zip(self.parts, self.shapes, strict=False):
            if isinstance(part, Pool):
                average = part.size if part.kind == "average" else 1
                continue
            self.blocks.append(
                ResidualBlock(part, shape, average)
                if isinstance(part, Residual)
                else WindowLayer(part, shape, average)
            )
            average = 1
        self.average = average
        self.output = torch.nn.Linear(math.prod(self.shapes[-1]), num_classes)
        self.output_neuron = Window(
            low=0.0, high=1.0, out_steps=out_steps, rule=StraightThroughRule(saturation="one_sided")
        )
        with torch.no_grad():
            self.output.weight.mul_(0.5)
            # Half-way up its range, from where an output can go both ways.
            self.output.bias.fill_(0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return output spike times ``(batch, classes)`` for images uint8 ``(batch, channels, y, x)``."""
        return self.fire(self.walk(inputs)[-1])

    def fire(self, membrane: Tensor) -> Tensor:
        """Return output spike times for the output's membrane."""
        return window_fire(membrane, self.output_neuron.out_steps_for(self.num_steps), self.output_neuron)

    def walk(self, inputs: Tensor) -> list[Tensor]:
        """Return the values of the input and of every hidden layer, then the output's membrane."""
        times = encode_latency(inputs, self.in_steps)
        values = (1 - times / self.in_steps).to(self.dtype).contiguous(memory_format=torch.channels_last)
        hidden = list(self._hidden(values))
        last = hidden[-1][2] if hidden else values
        if self.average > 1:
            last = F.avg_pool2d(last, self.average)
        last = F.dropout(last.flatten(1).to(torch.float32), self.dropout, self.training)
        return [values, *(fired for _, fired, _ in hidden), F.linear(last, *self.output_weights())]

    @torch.no_grad()
    def membranes(self, inputs: Tensor) -> list[Tensor]:
        """Return the membranes of every layer at the end of its inputs, the output's last."""
        values, *_, output = self.walk(inputs)
        return [*(membrane for membrane, _, _ in self._hidden(values)), output]

    def _hidden(self, values: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Each hidden layer's membrane, its values, and what comes of these by pooling."""
        blocks = iter(self.blocks)
        for part, following in zip(self.parts, [*self.parts[1:], None], strict=True):
            if isinstance(part, Pool):
                continue
            block = next(blocks)
            if isinstance(block, ResidualBlock):
                past = values * self.clip if block.past is None else block.past(values)
                membrane = block.first(values)
                values = self._quantise(membrane)
                yield membrane, values, values
                membrane = block.second(values) + past
            else:
                membrane = block(values)
            fired = values = self._quantise(membrane)
            if isinstance(following, Pool) and following.kind == "earliest":
                values = F.max_pool2d(values, following.size)
            yield membrane, fired, values

    def output_weights(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the output layer, on the grid of `round_to_grid`."""
        return round_to_grid(self.output.weight), round_to_grid(self.output.bias)

    def _quantise(self, membrane: Tensor) -> Tensor:
        quantised: Tensor = _Quantise.apply(membrane, self.num_steps, self.clip)
        return quantised
