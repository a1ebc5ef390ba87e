"""A trained deep network as layers on spike times: what is measured, and what hardware would run."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from firstspike.codes import encode_latency
from firstspike.decision import Decoder, FirstSpike
from firstspike.models.images import check_maps
from firstspike.models.layout import Conv, Full, Pool, Residual, Shape
from firstspike.models.raster.layers import RasterLayer
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.window import ResidualBlock, WindowLayer, WindowNetwork
from firstspike.neurons import Causal, Window
from firstspike.nn import Connection, EarliestPool2d, Layer, Stack
from firstspike.nn.normed import GRID_BITS
from firstspike.nn.wiring import Convolution, Dense, Wiring
from firstspike.spikes import Spikes

C = TypeVar("C", bound=Connection)


@dataclass(frozen=True, eq=False)
class SpikingForm:
    """A network on spike times with its encoder and its decision.

    Attributes:
        encode: from images ``(batch, channels, y, x)`` to the spikes that `stack` takes. Where
            a current flows into the first layer, it computes that layer, in multiplications.
        stack: causal or window layers, all normalisation and pooling folded in.
        decoder: how the output decides.
        in_shape: of a sample of spike times.
        multiply_adds: of the ANN of the same layout, per sample.
        current_multiply_adds: the part of them that `encode` does.
    """

    encode: Callable[[Any], Spikes]
    stack: Stack
    decoder: Decoder
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
        TypeError: a network of another kind.
        ValueError: weights so large that float32 sums are not exact.
    """
    # What torch.compile returned holds the network.
    network = getattr(network, "_orig_mod", network)
    if not isinstance(network, RasterNetwork | WindowNetwork):
        raise TypeError(
            f"spiking_form takes a RasterNetwork or a WindowNetwork, found {type(network).__name__}"
        )
    with torch.no_grad():
        return _from_raster(network) if isinstance(network, RasterNetwork) else _from_window(network)


def _from_raster(network: RasterNetwork) -> SpikingForm:
    parts, shapes, steps = network.parts, network.shapes, network.steps
    layers: list[Layer | EarliestPool2d] = []
    sources = iter(network.layers)
    average, by_current = 1, network.code == "current"
    for depth, (part, shape) in enumerate(zip(parts, shapes, strict=False)):
        if isinstance(part, Pool):
            average = part.size if part.kind == "average" else 1
            if part.kind == "earliest":
                layers.append(EarliestPool2d(part.size))
            continue
        source = cast(RasterLayer, next(sources))
        if depth > 0 or not by_current:
            ramps = source.weights.shift == "per_step"
            weight, bias = source.folded()
            _check_exact(weight, bias, average, steps if ramps else 1)
            neuron = Causal(bias="current" if ramps else "start")
            layer = Layer(_wiring(part, shape, average), neuron, bias=bias is not None)
            layers.append(_filled(layer, _spread(part, shape, average, weight), bias))
        average = 1
    counts = [part.multiply_adds(shape) for part, shape in zip(parts, shapes, strict=False)]
    return SpikingForm(
        network.first_spikes,
        Stack(*layers, steps=steps),
        network.decoder,
        shapes[1] if by_current else shapes[0],
        sum(counts),
        counts[0] if by_current else 0,
    )


def _from_window(network: WindowNetwork) -> SpikingForm:
    hidden = Window(low=0.0, high=network.clip, steps=network.steps)
    layers: list[Layer | EarliestPool2d] = []
    blocks = iter(network.blocks)

    def follow(
        source: WindowLayer, part: Conv | Full, shape: Shape, shortcuts: Sequence[Connection] = ()
    ) -> Layer:
        (weight, bias), side = source.folded(), source.average
        # Training rounds to the nearest level, a window neuron down to the next.
        half_level = network.clip / network.steps / 2
        layer = Layer(_wiring(part, shape, side), hidden, shortcuts=shortcuts)
        return _filled(layer, _spread(part, shape, side, weight / side**2), bias + half_level)

    for part, shape in zip(network.parts, network.shapes, strict=False):
        if isinstance(part, Pool):
            if part.kind == "earliest":
                layers.append(EarliestPool2d(part.size))
            continue
        block = next(blocks)
        if isinstance(part, Residual):
            block = cast(ResidualBlock, block)
            past = _past(block, part, shape, network.clip, source=len(layers))
            layers.append(follow(block.first, Conv(part.channels, 3, part.stride), shape))
            layers.append(follow(block.second, Conv(part.channels, 3), part.out_shape(shape), [past]))
        else:
            layers.append(follow(cast(WindowLayer, block), part, shape))
    weight, bias = network.output_weights()
    output, side = Full(network.num_classes), network.average
    last = Layer(_wiring(output, network.shapes[-1], side), network.output_neuron)
    weight = _spread(output, network.shapes[-1], side, weight / side**2)
    layers.append(_filled(last, weight, bias))
    return SpikingForm(
        lambda images: encode_latency(check_maps(images, network.in_shape), network.in_steps),
        Stack(*layers, steps=network.in_steps),
        FirstSpike(),
        network.in_shape,
        sum(
            part.multiply_adds(shape)
            for part, shape in zip([*network.parts, output], network.shapes, strict=True)
        ),
        0,
    )


def _past(block: ResidualBlock, part: Residual, shape: Shape, clip: float, source: int) -> Connection:
    """The connection past a residual block."""
    if block.past is None:
        # The values as they are, map by map: what fires at step 0 brings the membrane to the clip.
        plain = Connection.conv2d(part.channels, part.channels, 1, groups=part.channels, source=source)
        plain.weight.fill_(clip)
        return plain
    (weight, bias), side = block.past.folded(), block.past.average
    piece = Conv(part.channels, 1, part.stride)
    connection = Connection(_wiring(piece, shape, side), bias=True, source=source)
    return _filled(connection, _spread(piece, shape, side, weight / side**2), bias)


def _wiring(part: Conv | Full, shape: Shape, average: int) -> Wiring:
    """The wiring of a part behind an average pooling, which goes into its weights."""
    if isinstance(part, Full):
        area = average**2 if average > 1 else 1
        return Dense(in_features=math.prod(shape) * area, out_features=part.features)
    return Convolution(
        in_channels=shape[0],
        out_channels=part.channels,
        kernel_size=part.kernel * average,
        stride=part.stride * average,
        padding=part.padding * average,
    )


def _spread(part: Conv | Full, shape: Shape, average: int, weight: Tensor) -> Tensor:
    """The weights behind an average pooling, given to all places that it averages."""
    if average == 1:
        return weight
    maps = weight if isinstance(part, Conv) else weight.unflatten(1, shape)
    maps = maps.repeat_interleave(average, 2).repeat_interleave(average, 3)
    return maps if isinstance(part, Conv) else maps.flatten(1)


def _filled(connection: C, weight: Tensor, bias: Tensor | None) -> C:
    """The connection with these weights."""
    connection.weight.copy_(weight)
    if bias is not None and connection.bias is not None:
        connection.bias.copy_(bias.expand(len(connection.bias)))
    return connection


def _check_exact(weight: Tensor, bias: Tensor | None, average: int, steps: int) -> None:
    """Raise ValueError if a sum of these weights may need more than float32's 24 bits."""
    # Each weight stands for the places that are averaged before it.
    largest = float(weight.flatten(1).abs().sum(1).max()) * average**2
    largest += 0 if bias is None else steps * float(bias.abs().max())
    limit = 2 ** (24 - GRID_BITS)
    if largest >= limit:
        raise ValueError(
            f"the weights of one neuron sum up to {largest:g}; from {limit} on float32 rounds, and spike "
            "times could differ"
        )
