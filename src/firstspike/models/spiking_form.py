"""A trained deep network as layers on spike times: what is measured, and what hardware would run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from firstspike.coding import encode_latency
from firstspike.models.images import image_levels
from firstspike.models.layout import Conv, Full, Pool, Residual, Shape
from firstspike.models.raster.layers import RasterLayer
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.raster.settings import Readout
from firstspike.models.window import ResidualBlock, WindowLayer, WindowNetwork
from firstspike.neurons import Causal, Window
from firstspike.nn import Conv2d, EarliestPool2d, Layer, Linear, Shortcut, Stack
from firstspike.nn.normed import GRID_BITS


@dataclass(frozen=True, eq=False)
class SpikingForm:
    """A network on spike times with its encoder and its decision.

    Attributes:
        encode: from images ``(batch, channels, y, x)`` to the spike times that `stack` takes. Where
            a current flows into the first layer, it computes that layer, in multiplications.
        stack: causal or window layers, all normalisation and pooling folded in.
        readout: how output spikes are decoded; None for the first spike of one neuron per class.
        in_shape: of a sample of spike times.
        multiply_adds: of the ANN of the same layout, per sample.
        current_multiply_adds: the part of them that `encode` does.
    """

    encode: Callable[[Tensor], Tensor]
    stack: Stack
    readout: Readout | None
    in_shape: Shape
    multiply_adds: int
    current_multiply_adds: int


def spiking_form(network: RasterNetwork | WindowNetwork) -> SpikingForm:
    """Return the network as layers that fire at exactly the steps of its evaluation.

    Weights are multiples of ``2^-GRID_BITS``, so sums over spikes are exact in float32 in any order (of
    window networks where ``T`` and clip are powers of two, else up to rounding). Average pooling is linear
    and goes into the weights that follow it: a kernel of ``k`` after a pooling of ``p`` becomes one of
    ``k p`` with a stride of ``p``.

    Raises:
        ValueError: weights so large that float32 sums are not exact.
    """
    with torch.no_grad():
        return _from_raster(network) if isinstance(network, RasterNetwork) else _from_window(network)


def _from_raster(network: RasterNetwork) -> SpikingForm:
    parts, shapes, steps = network.parts, network.shapes, network.num_steps
    layers: list[Layer] = []
    sources = iter(network.layers)
    average, by_current = 1, network.code == "current"
    for depth, (part, shape) in enumerate(zip(parts, shapes, strict=False)):
        if isinstance(part, Pool):
            average = part.size if part.kind == "average" else 1
            if part.kind == "earliest":
                layers.append(EarliestPool2d(part.size, steps))
            continue
        source = cast(RasterLayer, next(sources))
        if depth > 0 or not by_current:
            constant = source.weights.shift == "per_step"
            weight, bias = source.folded()
            layers.append(_layer(part, shape, average, steps, Causal(), weight, bias, constant))
        average = 1
    counts = [part.multiply_adds(shape) for part, shape in zip(parts, shapes, strict=False)]
    return SpikingForm(
        network.first_times,
        Stack(layers),
        network.readout,
        shapes[1] if by_current else shapes[0],
        sum(counts),
        counts[0] if by_current else 0,
    )


def _from_window(network: WindowNetwork) -> SpikingForm:
    hidden = Window(low=0.0, high=network.clip, out_steps=network.num_steps)
    layers: list[Layer] = []
    shortcuts: list[Shortcut] = []
    blocks = iter(network.blocks)
    steps = network.in_steps

    def follow(source: WindowLayer, part: Conv | Full, shape: Shape, steps: int) -> Conv2d | Linear:
        weight, bias = source.folded()
        side = source.average
        # Training rounds to the nearest level, a window neuron down to the next.
        half_level = network.clip / network.num_steps / 2
        return _layer(part, shape, side, steps, hidden, weight / side**2, bias + half_level)

    for part, shape in zip(network.parts, network.shapes, strict=False):
        if isinstance(part, Pool):
            if part.kind == "earliest":
                layers.append(EarliestPool2d(part.size, steps))
            continue
        block = next(blocks)
        if isinstance(part, Residual):
            block = cast(ResidualBlock, block)
            begin = len(layers)
            inner = part.out_shape(shape)
            layers.append(follow(block.first, Conv(part.channels, 3, part.stride), shape, steps))
            layers.append(follow(block.second, Conv(part.channels, 3), inner, network.num_steps))
            shortcuts.append(Shortcut(begin, begin + 1, _past(block, part, shape, steps, hidden)))
        else:
            layers.append(follow(cast(WindowLayer, block), part, shape, steps))
        steps = network.num_steps
    weight, bias = network.output_weights()
    side = network.average
    output = Full(network.num_classes)
    layers.append(
        _layer(output, network.shapes[-1], side, steps, network.output_neuron, weight / side**2, bias)
    )
    return SpikingForm(
        lambda images: encode_latency(
            image_levels(images, network.in_shape), network.in_steps, max_intensity=255
        ),
        Stack(layers, shortcuts),
        None,
        network.in_shape,
        sum(
            part.multiply_adds(shape)
            for part, shape in zip([*network.parts, output], network.shapes, strict=True)
        ),
        0,
    )


def _past(block: ResidualBlock, part: Residual, shape: Shape, steps: int, neuron: Window) -> Conv2d:
    """The connection past a residual block."""
    if block.past is None:
        # The values as they are, map by map: what fires at step 0 brings the membrane to the clip.
        plain = Conv2d(part.channels, part.channels, 1, steps, neuron, groups=part.channels)
        plain.weight.fill_(neuron.high)
        return plain
    weight, bias = block.past.folded()
    side = block.past.average
    piece = Conv(part.channels, 1, part.stride)
    return cast(Conv2d, _layer(piece, shape, side, steps, neuron, weight / side**2, bias))


def _layer(
    part: Conv | Full,
    shape: Shape,
    average: int,
    num_steps: int,
    neuron: Causal | Window,
    weight: Tensor,
    bias: Tensor | None,
    constant: bool = False,
) -> Conv2d | Linear:
    """The layer with these weights, which are spread over the places that were averaged before it."""
    if average > 1:
        maps = weight if isinstance(part, Conv) else weight.unflatten(1, shape)
        maps = maps.repeat_interleave(average, 2).repeat_interleave(average, 3)
        weight = maps if isinstance(part, Conv) else maps.flatten(1)
    if isinstance(neuron, Causal):
        _check_exact(weight, bias, num_steps if constant else 1)
    layer: Conv2d | Linear
    if isinstance(part, Conv):
        layer = Conv2d(
            shape[0],
            part.channels,
            part.kernel * average,
            num_steps,
            neuron,
            stride=part.stride * average,
            padding=part.kernel // 2 * average,
            bias=bias is not None,
            constant=constant and bias is not None,
        )
    else:
        layer = Linear(
            weight.shape[1],
            part.features,
            num_steps,
            neuron,
            bias=bias is not None,
            constant=constant and bias is not None,
        )
    layer.weight.copy_(weight)
    if bias is not None:
        assert layer.bias is not None
        layer.bias.copy_(bias.expand(len(layer.bias)))
    return layer


def _check_exact(weight: Tensor, bias: Tensor | None, steps: int) -> None:
    """Raise ValueError if a sum of these weights may need more than float32's 24 bits."""
    largest = float(weight.flatten(1).abs().sum(1).max())
    largest += 0 if bias is None else steps * float(bias.abs().max())
    limit = 2 ** (24 - GRID_BITS)
    if largest >= limit:
        raise ValueError(
            f"the weights of one neuron sum up to {largest:g}; from {limit} on float32 rounds, and spike "
            "times could differ"
        )
