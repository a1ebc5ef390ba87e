"""A network that decides in a single time step: its layers walk over patches of the map instead.

Shapes: ``B`` samples, ``C`` maps, ``Y x X`` places.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from firstspike.models.images import check_maps, levels
from firstspike.models.layout import (
    Bottleneck,
    Conv,
    Dense,
    Gather,
    Pool,
    Recurrent,
    Shape,
    built,
    check_ends,
    layout_shapes,
)
from firstspike.models.patches.blocks import (
    Connection,
    GatheringConnection,
    Head,
    NormedLSTM,
    Passed,
    Perceptron,
    SpikingLayer,
)
from firstspike.models.patches.grid import PatchGrid, patch_grid
from firstspike.models.patches.settings import PatchCarry, PatchPart, one_step_parts
from firstspike.support import InputError, check_integer, check_number


class OneStepNetwork(torch.nn.Module):
    """Images in, class logits out, in one time step; every neuron spikes at most once per patch.

    Convolutions and LSTMs walk over patches as `neuron` says; dense layers and patch merging have one
    patch, the whole map. The head receives the last spikes, averaged over parts of the map; its outputs are
    membranes, which decide without a spike.

    Args:
        layout: the hidden layers, as `firstspike.models.layout.parse_layout` reads them: convolutions and
            LSTMs, of which one comes first or whitening, dense layers at each place, patch merging, and
            earliest-spike pooling behind a convolution, of whose currents it takes the largest.
        in_shape: ``(channels, height, width)`` of an image.
        num_classes: number of outputs.
        neuron: of every layer.
        head_size: the head receives the mean spikes of so many parts of the map along each axis.
        dropout: share of the head's inputs cut off during training.

    The field `dtype` is the precision of currents and membranes during training. Images are what
    `firstspike.inputs.as_images` takes.

    Raises:
        InputError: a layout of other parts, or one that cannot take images of this size.
    """

    def __init__(
        self,
        layout: str,
        in_shape: Shape,
        num_classes: int,
        neuron: PatchCarry,
        *,
        head_size: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        in_shape, num_classes = check_ends("OneStepNetwork", in_shape, num_classes)
        head_size = check_integer("OneStepNetwork", "head_size", head_size, low=1)
        dropout = check_number("OneStepNetwork", "dropout", dropout, low=0, high=1, below=True)
        self.layout, self.in_shape, self.num_classes = layout, in_shape, num_classes
        self.neuron, self.head_size, self.dropout = neuron, head_size, dropout
        self.dtype = torch.float32
        self.parts: list[PatchPart] = built(one_step_parts(layout), in_shape)
        self.shapes = layout_shapes(self.parts, in_shape)
        walking = sum(isinstance(part, Conv | Recurrent) for part in self.parts)
        self.blocks = torch.nn.ModuleList()
        walked = 0
        following = [*self.parts[1:], None]
        for depth, part in enumerate(self.parts):
            if isinstance(part, Pool):
                continue
            pooling = following[depth]
            pool = pooling.size if isinstance(pooling, Pool) else 1
            channels, *_ = self.shapes[depth]
            _, *sides = self.shapes[depth + (pool > 1) + 1]
            map_shape = (sides[0], sides[1])
            grid = patch_grid(map_shape, 1, dilated=False)
            if isinstance(part, Conv | Recurrent):
                walked += 1
                dilated = neuron.patches == "dilated" or (
                    neuron.patches == "alternating" and walked % 2 == 0 and walked < walking
                )
                grid = patch_grid(map_shape, neuron.grid, dilated=dilated)
            self.blocks.append(_block(part, channels, neuron, grid, pool))
        channels, *sides = self.shapes[-1]
        if head_size > min(sides):
            raise InputError(
                f"layout {layout!r}: a head of {head_size} x {head_size} parts is larger than the last "
                f"map, {sides[0]} x {sides[1]}"
            )
        self.head = Head(channels, num_classes, size=head_size, dropout=dropout)

    def extra_repr(self) -> str:
        """Return the settings, for printing."""
        head = f"head_size={self.head_size}, dropout={self.dropout:g}"
        return f"{self.layout!r}, {self.in_shape}, {self.num_classes}, {self.neuron}, {head}"

    def forward(self, images: Any) -> Tensor:
        """Return logits ``(B, classes)`` for images ``(B, channels, height, width)``."""
        logits: Tensor = self.head(self.trace(images)[-1])
        return logits

    def trace(self, images: Any) -> list[Tensor]:
        """Return the intensities in [-1, 1] and every block's spikes, ``(B, C, Y, X)`` each."""
        passed = self._encode(images)
        seen = [passed.spikes]
        for block in self.blocks:
            passed = block(passed)
            seen.append(passed.spikes)
        return seen

    def each_layer(self, images: Any) -> Iterator[tuple[SpikingLayer, Passed, Passed]]:
        """Yield every layer of neurons with its input and its output; a perceptron has two."""
        passed = self._encode(images)
        for block in self.blocks:
            assert isinstance(block, SpikingLayer | Perceptron)
            layers = block.each_layer(passed)
            yield from layers
            passed = layers[-1][2]

    def _encode(self, images: Any) -> Passed:
        images = check_maps(images, self.in_shape)
        dtype = self.dtype if self.training else torch.float32
        values = (levels(images).to(dtype) / 127.5 - 1).to(memory_format=torch.channels_last)
        return Passed(values, None, numbers=True)


def _block(
    part: PatchPart, channels: int, neuron: PatchCarry, grid: PatchGrid, pool: int
) -> torch.nn.Module:
    """The block of a part that receives so many maps."""
    if isinstance(part, Bottleneck):
        return Perceptron(channels, part.hidden, neuron, grid)
    if isinstance(part, Dense):
        return SpikingLayer(Connection(channels, channels, 1), neuron, grid, shortcut=True)
    if isinstance(part, Gather):
        return SpikingLayer(GatheringConnection(channels, part.channels), neuron, grid)
    if isinstance(part, Recurrent):
        return SpikingLayer(NormedLSTM(channels, part.channels, grid, part.kernel), neuron, grid)
    assert isinstance(part, Conv)
    connection = Connection(channels, part.channels, part.kernel, pool)
    connection.weight.requires_grad_(not part.fixed)
    return SpikingLayer(connection, neuron, grid)
