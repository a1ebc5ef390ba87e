"""A deep network of once-only neurons, built from a layout and trained over a raster."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from firstspike.codes import encode_latency
from firstspike.decision import Membrane, Votes
from firstspike.models.images import check_maps, levels
from firstspike.models.layout import Conv, Full, Pool, Shape, built, check_ends, layout_shapes, parse_layout
from firstspike.models.raster.layers import RasterLayer, earliest_pool
from firstspike.models.raster.settings import PARTS, RasterNeuron, RasterWeights
from firstspike.spikes import Spikes
from firstspike.support import InputError, check_choice, check_num_steps


class RasterNetwork(torch.nn.Module):
    """Images in, logits out, through layers of cumulative spikes that share one clock of ``T`` steps.

    Args:
        layout: the hidden layers, as `firstspike.models.layout.parse_layout` reads them: convolutions,
            whitening, pooling and full connections.
        in_shape: ``(channels, height, width)`` of the input.
        num_classes: number of classes.
        steps: ``T``.
        neuron, weights: of every layer.
        decoder: output neurons, and how they decide.
        code: "current": the intensities flow as a constant current into the first layer; "latency": each
            pixel spikes once, the brighter the earlier.
        pool_first: take the largest membranes behind a convolution, at each step, before they are
            normalised, where earliest-spike pooling follows, with gains of 1: see
            `firstspike.models.window.WindowNetwork`.

    The field `dtype` is the precision of spikes and membranes: float32, or bfloat16 for training at half
    the memory and time. Weights stay float32. Images are what `firstspike.inputs.as_images`
    takes.

    Raises:
        InputError: a layout of other parts, or one that cannot take images of this size; `pool_first`
            without batch normalisation; whitening with weight normalisation.
        TypeError: a number of steps that is no integer.
        ValueError: an unknown code, a number out of range, or a shape of another length.
    """

    def __init__(
        self,
        layout: str,
        in_shape: Shape,
        num_classes: int,
        steps: int,
        *,
        neuron: RasterNeuron,
        weights: RasterWeights,
        decoder: Votes | Membrane,
        code: str = "current",
        pool_first: bool = False,
    ) -> None:
        super().__init__()
        check_choice("RasterNetwork", "code", code, ("current", "latency"))
        in_shape, num_classes = check_ends("RasterNetwork", in_shape, num_classes)
        steps = check_num_steps(steps, name="RasterNetwork.steps")
        if pool_first and weights.norm != "batch":
            raise InputError(
                f"pool_first is for a batch normalisation, found norm={weights.norm!r}; take "
                'norm="batch", or leave pool_first out'
            )
        self.layout, self.in_shape, self.num_classes = layout, in_shape, num_classes
        self.steps, self.neuron, self.decoder, self.code = steps, neuron, decoder, code
        self.pool_first = pool_first
        self.dtype = torch.float32
        hidden: list[Conv | Pool | Full] = built(parse_layout(layout, PARTS), in_shape)
        if weights.norm == "weight" and isinstance(hidden[0], Conv) and hidden[0].fixed:
            raise InputError(
                f"layout {layout!r}: weight normalisation would change the filters of a whitening; take "
                'norm="batch"'
            )
        self.parts = [*hidden, Full(num_classes * decoder.neurons_per_class)]
        self.shapes = layout_shapes(self.parts, in_shape)
        layers: list[RasterLayer] = []
        input_size = 1
        for part, shape, following in zip(self.parts, self.shapes, [*self.parts[1:], None], strict=False):
            if isinstance(part, Pool):
                continue
            if isinstance(part, Conv):
                size: tuple[int, ...] = (part.channels, shape[0], part.kernel, part.kernel)
            else:
                size = (*part.out_shape(shape), math.prod(shape))
            pooling = following if isinstance(following, Pool) else None
            pool = pooling.size if pooling is not None and pooling.kind == "average" else 1
            earliest = pooling.size if pooling is not None and pooling.kind == "earliest" else 1
            layers.append(
                RasterLayer(
                    size,
                    steps,
                    neuron,
                    weights,
                    stride=part.stride if isinstance(part, Conv) else 1,
                    input_size=input_size,
                    pool=pool,
                    gain=not pool_first,
                    largest=earliest if pool_first else 1,
                    current=code == "current" and not layers,
                )
            )
            layers[-1].weight.requires_grad_(not (isinstance(part, Conv) and part.fixed))
            input_size = pool**2
        self.layers = torch.nn.ModuleList(layers)

    def extra_repr(self) -> str:
        """Return the settings, for printing."""
        sizes = f"{self.layout!r}, {self.in_shape}, {self.num_classes}, steps={self.steps}"
        code = f"code={self.code!r}, pool_first={self.pool_first}"
        return f"{sizes}, {code}, {self.neuron}, {self.decoder}"

    def forward(self, images: Any) -> Tensor:
        """Return logits ``(batch, classes)`` for images ``(batch, channels, height, width)``."""
        *_, (layer, received) = self._walk(images)
        if isinstance(self.decoder, Membrane):
            return self.decoder.mean_membrane(layer.membrane(received)[-1])
        return self.decoder.logits(layer(received))

    @torch.no_grad()
    def trace(self, images: Any) -> list[Spikes]:
        """Return the spikes of every layer, pooled where the largest membranes alone went on."""
        return [_spikes(layer.membrane(received) >= 1) for layer, received in self._walk(images)]

    @torch.no_grad()
    def membranes(self, images: Any) -> list[Tensor]:
        """Return the membranes ``(T, batch, ...)`` of every layer, as `trace` its spikes."""
        return [layer.membrane(received) for layer, received in self._walk(images)]

    @torch.no_grad()
    def first_spikes(self, images: Any) -> Spikes:
        """Return the first spikes: the input's, or where a current flows in, the first layer's."""
        layer, received = next(self._walk(images))
        by_current = self.code == "current"
        return _spikes(layer.membrane(received, pooled=False) >= 1 if by_current else received > 0)

    def _walk(self, images: Any) -> Iterator[tuple[RasterLayer, Tensor]]:
        """Each layer with its input; a layer's spikes are computed when the next one is asked for."""
        values = self._encode(check_maps(images, self.in_shape))
        layers = iter(self.layers)
        layer: RasterLayer | None = None
        pooled = False
        for part in self.parts:
            if layer is not None:
                values, layer = layer(values), None
            if isinstance(part, Pool):
                if part.kind == "earliest" and not pooled:
                    values = earliest_pool(values, part.size)
                continue
            layer = next(layers)  # type: ignore[assignment]
            assert isinstance(layer, RasterLayer)
            pooled = layer.largest > 1
            yield layer, values

    def _encode(self, images: Tensor) -> Tensor:
        """The first layer's input: a current ``(batch, ...)`` or cumulative spikes ``(T, batch, ...)``."""
        if self.code == "current":
            # A power of two keeps the products with the rounded weights exact.
            return (levels(images).to(self.dtype) / 256).to(memory_format=torch.channels_last)
        times = encode_latency(images, self.steps).times
        clock = torch.arange(self.steps, device=images.device)
        values = (times.unsqueeze(0) <= clock.reshape(-1, *([1] * times.dim()))).to(self.dtype)
        maps = values.flatten(0, 1).to(memory_format=torch.channels_last)
        return maps.unflatten(0, values.shape[:2])


def _spikes(above: Tensor) -> Spikes:
    """The spikes of neurons that are at threshold at some steps, bool ``(T, batch, ...)``."""
    # Step by step: argmax along the first axis takes many times as long.
    seen = torch.zeros_like(above[0])
    times = torch.full_like(seen, len(above), dtype=torch.float32)
    for step in above:
        seen |= step
        times -= seen.to(torch.float32)
    return Spikes.trusted(times, len(above))
