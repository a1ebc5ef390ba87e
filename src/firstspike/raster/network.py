"""A deep network of once-only neurons, built from a layout and trained over a raster."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from firstspike.coding import encode_latency
from firstspike.layout import Conv, Full, Pool, Residual, Shape, layout_shapes, parse_layout
from firstspike.raster.fire import crossed, flags_to_times
from firstspike.raster.layers import RasterLayer, earliest_pool
from firstspike.raster.readout import by_membrane, votes
from firstspike.raster.settings import RasterNeuron, RasterWeights, Readout
from firstspike.support import InputError


class RasterNetwork(torch.nn.Module):
    """Images in, logits out, through layers of flags that share one clock of ``T`` steps.

    Args:
        layout: the hidden layers, as `firstspike.layout.parse_layout` reads them.
        in_shape: ``(channels, height, width)`` of the input.
        num_classes: number of classes.
        num_steps: ``T``.
        neuron, weights: of every layer.
        readout: output neurons and their decoder.
        code: "current": the intensities flow as a constant current into the first layer; "latency": each
            pixel spikes once, the brighter the earlier.

    The field `dtype` is the precision of flags and membranes: float32, or bfloat16 for training at half the
    memory and time. Weights stay float32.

    Raises:
        InputError: a layout with residual blocks, or one that cannot take images of this size.
        ValueError: an unknown code.
    """

    def __init__(
        self,
        layout: str,
        in_shape: Shape,
        num_classes: int,
        num_steps: int,
        *,
        neuron: RasterNeuron,
        weights: RasterWeights,
        readout: Readout,
        code: str = "current",
    ) -> None:
        super().__init__()
        if code not in ("current", "latency"):
            raise ValueError(f"code must be 'current' or 'latency', found {code!r}")
        hidden: list[Conv | Pool | Full] = []
        for part in parse_layout(layout):
            if isinstance(part, Residual):
                raise InputError(
                    f"layout {layout!r}: residual blocks are for window networks; the sum of two layers of "
                    "spikes is no single spike"
                )
            hidden.append(part)
        self.layout, self.in_shape, self.num_classes = layout, in_shape, num_classes
        self.num_steps, self.neuron, self.readout, self.code = num_steps, neuron, readout, code
        self.dtype = torch.float32
        self.parts = [*hidden, Full(num_classes * readout.neurons_per_class)]
        self.shapes = layout_shapes(self.parts, in_shape)
        layers: list[RasterLayer] = []
        input_size = 1
        for part, shape, following in zip(self.parts, self.shapes, [*self.parts[1:], None], strict=False):
            if isinstance(part, Pool):
                continue
            if isinstance(part, Conv):
                size: tuple[int, ...] = (part.channels, shape[0], part.kernel, part.kernel)
            else:
                size = (part.features, math.prod(shape))
            pool = following.size if isinstance(following, Pool) and following.kind == "average" else 1
            layers.append(
                RasterLayer(
                    size,
                    num_steps,
                    neuron,
                    weights,
                    stride=part.stride if isinstance(part, Conv) else 1,
                    input_size=input_size,
                    pool=pool,
                    current=code == "current" and not layers,
                )
            )
            input_size = pool**2
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``(batch, classes)`` for images uint8 ``(batch, channels, height, width)``."""
        *_, (layer, heard) = self._walk(inputs)
        if self.readout.decoder == "membrane":
            return by_membrane(layer.membrane(heard)[-1], self.readout)
        return self.readout.scale * votes(layer(heard), self.readout)

    @torch.no_grad()
    def membranes(self, inputs: Tensor) -> list[Tensor]:
        """Return the membranes ``(T, batch, ...)`` of every layer."""
        return [layer.membrane(heard) for layer, heard in self._walk(inputs)]

    def times(self, inputs: Tensor) -> list[Tensor]:
        """Return the spike times of every layer, float32 ``(batch, ...)``, ``T`` silent."""
        return [flags_to_times(crossed(membrane)) for membrane in self.membranes(inputs)]

    def heard_times(self, inputs: Tensor) -> Tensor:
        """Return the first spike times there are, float32 ``(batch, ...)``.

        Those of the input, or where a current flows into the first layer, that layer's.
        """
        with torch.no_grad():
            heard = self.encode(inputs)
            if self.code == "current":
                layer = self.layers[0]
                assert isinstance(layer, RasterLayer)
                heard = crossed(layer.membrane(heard))
            return flags_to_times(heard)

    def _walk(self, inputs: Tensor) -> Iterator[tuple[RasterLayer, Tensor]]:
        """Each layer with what it hears; a layer fires when the next one is asked for."""
        values = self.encode(inputs)
        layers = iter(self.layers)
        layer: RasterLayer | None = None
        for part in self.parts:
            if layer is not None:
                values, layer = layer(values), None
            if isinstance(part, Pool):
                values = earliest_pool(values, part.size) if part.kind == "earliest" else values
                continue
            layer = next(layers)  # type: ignore[assignment]
            assert isinstance(layer, RasterLayer)
            yield layer, values

    def encode(self, inputs: Tensor) -> Tensor:
        """Return what the first layer hears: a current ``(batch, ...)`` or flags ``(T, batch, ...)``."""
        if self.code == "current":
            # A power of two keeps the products with the rounded weights exact.
            values = inputs.to(self.dtype) / 256
        else:
            times = encode_latency(inputs, self.num_steps)
            steps = torch.arange(self.num_steps, device=inputs.device)
            values = (times.unsqueeze(0) <= steps.reshape(-1, *([1] * times.dim()))).to(self.dtype)
        maps = values.flatten(0, -4).contiguous(memory_format=torch.channels_last)
        return maps.reshape(values.shape) if values.dim() == 4 else maps.unflatten(0, values.shape[:2])
