"""The spikes of a network's layers for one sample, placed on one shared clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.spikes import Spikes


@dataclass(frozen=True)
class LayerSpikes:
    """The spike times of one layer, local to its window ``[offset, offset + steps)``."""

    name: str
    times: NDArray[Any]
    steps: int
    offset: int

    @property
    def fired(self) -> NDArray[np.intp]:
        """The indices of the neurons that are not silent, ascending."""
        return np.flatnonzero(self.times < self.steps)

    @property
    def end(self) -> int:
        """The first step of the shared clock after the window."""
        return self.offset + self.steps

    def clock(self) -> NDArray[Any]:
        """Return each neuron's spike time on the shared clock, infinity where silent."""
        return np.where(self.times < self.steps, self.times + self.offset, np.inf)


def place_layers(layers: Mapping[str, Spikes], offsets: Mapping[str, int] | None) -> list[LayerSpikes]:
    """Return the layers in order, each with its window.

    Args:
        layers: spikes ``(neurons,)`` per layer, of one sample.
        offsets: the step at which a layer's window starts; 0 where a name is missing.

    Raises:
        ValueError: no layer, spikes of another shape, a name that no layer has, or a negative offset.
    """
    if not layers:
        raise ValueError("layers must hold at least one layer")
    starts = offsets or {}
    unknown = sorted(set(starts) - set(layers))
    if unknown:
        raise ValueError(f"offsets names no layer: {unknown}; the layers are {list(layers)}")
    placed = []
    for name, spikes in layers.items():
        times = spikes.times.detach().cpu().numpy()
        if times.ndim != 1 or times.size == 0:
            raise ValueError(f"spikes of {name!r} must be (neurons,), found {times.shape}")
        offset = starts.get(name, 0)
        if offset < 0:
            raise ValueError(f"offset of {name!r} must be 0 or more, found {offset}")
        placed.append(LayerSpikes(name, times, spikes.steps, offset))
    return placed
