"""Layers one after the other, with the clock they share."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from firstspike.neurons import Phased, Window
from firstspike.nn.linear import Linear


class Stack(torch.nn.Module):
    """A feed-forward network of single-spike layers.

    Args:
        layers: each takes the times that the one before gives.

    Raises:
        ValueError: no layers, or sizes or windows of neighbours that do not fit.
    """

    def __init__(self, layers: Sequence[Linear]) -> None:
        super().__init__()
        if not layers:
            raise ValueError("a Stack needs at least one layer")
        for depth, (one, two) in enumerate(pairwise(layers)):
            if one.out_features != two.in_features:
                raise ValueError(
                    f"layer {depth} gives {one.out_features} features, layer {depth + 1} takes "
                    f"{two.in_features}"
                )
            if one.out_steps != two.num_steps:
                raise ValueError(
                    f"layer {depth} fires in a window of {one.out_steps} steps, layer {depth + 1} "
                    f"reads one of {two.num_steps}"
                )
            if (
                isinstance(one.neuron, Phased)
                and isinstance(two.neuron, Phased)
                and one.neuron.target != two.neuron.source
            ):
                raise ValueError(
                    f"layer {depth} speaks in the phase {one.neuron.target}, layer {depth + 1} listens in "
                    f"{two.neuron.source}"
                )
        self.layers = torch.nn.ModuleList(layers)

    def __iter__(self) -> Iterator[Linear]:
        """Walk through the layers from the input on."""
        return (cast(Linear, layer) for layer in self.layers)

    @property
    def num_steps(self) -> int:
        """Length of the input window in steps."""
        return next(iter(self)).num_steps

    @property
    def out_steps(self) -> int:
        """Length in steps of the window of the last layer."""
        return list(self)[-1].out_steps

    @property
    def offsets(self) -> list[int]:
        """First step of each window on the clock of the input: the input's, then each layer's.

        Causal layers share one window, so their offset is their input's. A window layer starts when
        its input window has ended.
        """
        starts = [0]
        for layer in self:
            waits = layer.num_steps if isinstance(layer.neuron, Window) else 0
            starts.append(starts[-1] + waits)
        return starts

    @property
    def last_step(self) -> int:
        """Steps from the first input step to the end of the last layer's window or phase."""
        last = list(self)[-1]
        if isinstance(last.neuron, Phased):
            return last.neuron.target[1]
        return self.offsets[-1] + last.out_steps

    def forward(self, times: Tensor) -> Tensor:
        """Return the last layer's spike times, local to its window."""
        for layer in self:
            times = layer(times)
        return times

    def trace(self, times: Tensor) -> list[Tensor]:
        """Return the spike times of the input and of every layer, each local to its window."""
        traced = [times]
        for layer in self:
            traced.append(layer(traced[-1]))
        return traced

    def read(self, times: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return what `trace` returns and the last layer's membrane."""
        traced = [times]
        *first, output = self
        for layer in first:
            traced.append(layer(traced[-1]))
        last, membrane = output.read(traced[-1])
        return [*traced, last], membrane
