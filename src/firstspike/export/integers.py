"""A network in integers, exactly: what C and the page compute, and the reference that both must equal.

Shape legend: O neurons of a layer that differ in their weights: features, or maps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from firstspike.export.rounding import by_output
from firstspike.inputs import as_images
from firstspike.kernels.dispatch import kernels_for
from firstspike.neurons import Causal, Synapses
from firstspike.nn import Stack
from firstspike.nn.geometry import Shape
from firstspike.nn.wiring import Dense, Wiring
from firstspike.spikes import Spikes

# The largest membrane of 16 bits, less one for a level that is never reached.
_NARROW = 2**15 - 2
# Sums below are whole in float32, however they are added.
_EXACT = 2**24


@dataclass(frozen=True, eq=False)
class IntegerConnection:
    """Weights in integers.

    Attributes:
        wiring: which input reaches which neuron.
        source: whose spikes it takes, as `Stack.sources` counts.
        steps: of the window that they lie in.
        weight: int8, as the wiring shapes it.
        step: what a weight of 1 stands for, float64 ``(O,)``.
        shift: int64 ``(O,)``; what it adds to the membrane counts ``2 ** shift`` times.
    """

    wiring: Wiring
    source: int
    steps: int
    weight: Tensor
    step: Tensor
    shift: Tensor

    def drive(self, spikes: Spikes, *, held: bool) -> Tensor:
        """Return what spikes add to the membranes until the window's end, float64 and whole.

        Args:
            spikes: of the source.
            held: each adds its weight at every step from its own on, instead of once.
        """
        exact = torch.float32 if self._added * (self.steps if held else 1) < _EXACT else torch.float64
        values = spikes.steps - spikes.times.to(exact) if held else (~spikes.silent).to(exact)
        summed = self.wiring.apply(values, self.weight.to(exact), None, 0.0).double()
        return summed * 2.0 ** per_map(self.shift, summed.dim() - 1)

    @cached_property
    def _added(self) -> int:
        """The largest sum of the magnitudes of a neuron's weights."""
        return int(by_output(self.wiring, self.weight).long().abs().sum(1).max())

    def largest(self, *, held: bool) -> Tensor:
        """Return the largest sum that spikes can reach on the way, without the shift, int64 ``(O,)``."""
        rows = by_output(self.wiring, self.weight).long()
        largest = torch.maximum(rows.clamp(min=0).sum(1), -rows.clamp(max=0).sum(1))
        return largest * (self.steps if held else 1)


@dataclass(frozen=True, eq=False)
class IntegerWindow:
    """A layer of window neurons.

    An input spike adds its weight to a current, and the current adds to the membrane at every step of its
    source's window. In the neuron's own window of `steps` the membrane starts at `offset` plus what it
    received, and grows by `drive` a step; the neuron fires at the first step at which it is not below 0.

    Attributes:
        connections: at least one.
        offset: int64 ``(O,)``, or ``(O, y, x)`` where the places of a map differ.
        drive: int64 ``(O,)``.
        steps: of its own window.
        range: ``(low, unit)``: membrane that means silent, and what a level adds, for `Stack.read`.
    """

    connections: tuple[IntegerConnection, ...]
    offset: Tensor
    drive: Tensor
    steps: int
    range: tuple[float, float]

    def fire(self, inputs: Sequence[Spikes]) -> Spikes:
        """Return spikes."""
        return self.read(inputs)[0]

    def read(self, inputs: Sequence[Spikes]) -> tuple[Spikes, Tensor]:
        """Return spikes, and membranes in the units of the network that was given."""
        total = sum(
            connection.drive(spikes, held=True)
            for connection, spikes in zip(self.connections, inputs, strict=True)
        )
        assert isinstance(total, Tensor)
        dims = total.dim() - 1
        drive = per_map(self.drive, dims)
        offset = self.offset if self.offset.dim() > 1 else per_map(self.offset, dims)
        reached = total.long() + offset + self.steps * drive
        level = torch.div(reached, drive, rounding_mode="floor").clamp(0, self.steps)
        low, unit = self.range
        return (
            Spikes.trusted((self.steps - level).float(), self.steps),
            (low + reached.double() / drive * unit).float(),
        )


@dataclass(frozen=True, eq=False)
class IntegerCausal:
    """A layer of causal neurons.

    An input spike adds its weight to the membrane once. The neuron fires at the first step at which the
    membrane, counted ``2 ** fraction`` times, is at `level` or above; at every step, the first included,
    `level` falls by `current` before.

    Attributes:
        connections: at least one; their shifts are `fraction`.
        level: int64 ``(O,)``.
        current: int64 ``(O,)``.
        fraction: 0 unless a constant current flows.
        delay: steps from there to the output spike.
        unit: what a membrane of 1 stands for, float64 ``(O,)``, for `Stack.read`.
    """

    connections: tuple[IntegerConnection, ...]
    level: Tensor
    current: Tensor
    fraction: int
    delay: int
    unit: Tensor

    def read(self, inputs: Sequence[Spikes]) -> tuple[Spikes, Tensor]:
        """Return spikes, and membranes in the units of the network that was given."""
        summed = sum(
            connection.drive(spikes, held=False)
            for connection, spikes in zip(self.connections, inputs, strict=True)
        )
        assert isinstance(summed, Tensor)
        unit = per_map(self.unit, summed.dim() - 1)
        return self.fire(inputs), (summed / 2.0**self.fraction * unit).float()

    def fire(self, inputs: Sequence[Spikes]) -> Spikes:
        """Return spikes, by the kernel of 16-bit membranes where they fit."""
        steps, times = inputs[0].steps, inputs[0].times
        if self._rows is not None and times.device.type == "cpu":
            if len(inputs) > 1:
                times = torch.cat([spikes.times for spikes in inputs], 1)
            crossing = kernels_for(times.device).linear.forward_integers(
                times.float().contiguous(), self._rows, self.level.to(torch.int16), steps
            )
            if self.delay:
                crossing = (crossing + self.delay).clamp_(max=steps)
            return Spikes.trusted(crossing, steps)
        synapses = [
            Synapses(one.wiring, one.weight.double() * 2.0**self.fraction) for one in self.connections
        ]
        synapses[0] = replace(synapses[0], bias=self._bias())
        neuron = Causal(
            threshold=float(self._threshold()),
            delay=self.delay,
            bias="current" if self.current.any() else "start",
        )
        spikes, _ = neuron.read_all(list(zip(synapses, inputs, strict=True)))
        return spikes

    @cached_property
    def _rows(self) -> Tensor | None:
        """All weights input by input, int8; None where there is no kernel for them."""
        dense = all(isinstance(one.wiring, Dense) for one in self.connections)
        fits = self.bound() <= _NARROW and self.connections[0].steps <= _NARROW
        if not dense or self.current.any() or self.fraction or not fits:
            return None
        return torch.cat([one.weight for one in self.connections], 1).T.contiguous()

    def _threshold(self) -> int:
        return max(1, int(self.level.max()))

    def _bias(self) -> Tensor | None:
        """What makes one threshold of all levels, or the current."""
        added = self.current if self.current.any() else self._threshold() - self.level
        return added.double() if added.any() else None

    def bound(self) -> int:
        """Return the largest number that an accumulator may have to hold."""
        sums = torch.stack([one.largest(held=False) << one.shift for one in self.connections]).sum(0)
        return int((sums + self.level.abs() + self.current.abs() * self.connections[0].steps).max())


IntegerLayer = IntegerWindow | IntegerCausal


class IntegerNetwork(Stack):
    """A network in integers: weights of few bits, sums and thresholds that every processor gets alike.

    It is used as the `Stack` that it was made from, and its spikes are those of the exported C and page.
    `layers` hold the weights that the integers stand for, for reports.

    Attributes:
        integers: the layers in integers.
        in_shape: of a sample's input.
        codes: int64 ``(256,)``, spike time of each intensity.
        bits: of a weight.

    Made by `integer`.
    """

    def __init__(
        self, stack: Stack, integers: Sequence[IntegerLayer], in_shape: Shape, codes: Tensor, bits: int
    ) -> None:
        super().__init__(*stack, steps=stack.steps)
        self.integers, self.in_shape, self.codes, self.bits = tuple(integers), in_shape, codes, bits

    def encode(self, images: Any) -> Spikes:
        """Return images as the spikes that the network takes, see `Stack.encode`; floats are made bytes."""
        images = as_images(images)
        spikes = super().encode(images)
        if images.dtype != torch.uint8:
            images = (images.double() * 255).round()
        return spikes.with_times(self.codes[images.long()].to(spikes.times.dtype).reshape(spikes.shape))

    @torch.no_grad()
    def trace(self, spikes: Spikes) -> list[Spikes]:
        """Return the spikes of the input and of every layer, each local to its window."""
        return self._through(spikes, len(self.integers))

    @torch.no_grad()
    def read(self, spikes: Spikes) -> tuple[list[Spikes], Tensor]:
        """Return what `trace` returns and the last layer's membrane."""
        last = len(self.integers) - 1
        traced = self._through(spikes, last)
        out, membrane = self.integers[last].read(self._received(last, traced))
        return [*traced, out], membrane

    def _through(self, spikes: Spikes, count: int) -> list[Spikes]:
        """The spikes of the input and of the first `count` layers."""
        traced = [self._entering(spikes)]
        for depth in range(count):
            traced.append(self.integers[depth].fire(self._received(depth, traced)))
        return traced

    def _received(self, depth: int, traced: list[Spikes]) -> list[Spikes]:
        """What a layer takes, flat where it is fully connected."""
        # Looks at the shapes.
        inputs = self._inputs(depth, traced)
        return [
            given.flatten() if isinstance(one.wiring, Dense) and given.times.dim() > 2 else given
            for one, given in zip(self.integers[depth].connections, inputs, strict=True)
        ]


def per_map(values: Tensor, dims: int) -> Tensor:
    """Values ``(O,)`` as they meet what a layer gives, of so many dimensions without the batch's."""
    return values.reshape(-1, *[1] * (dims - 1))
