"""The spikes of a network's layers for one sample, placed on one shared clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from firstspike.plot._arrays import ArrayLike, to_numpy
from firstspike.spikes import check_num_steps, check_times


@dataclass(frozen=True)
class LayerSpikes:
    """The spike times of one layer, local to its window ``[offset, offset + num_steps)``."""

    name: str
    times: NDArray[Any]
    num_steps: int
    offset: int

    @property
    def fired(self) -> NDArray[np.intp]:
        """The indices of the neurons that are not silent, ascending."""
        return np.flatnonzero(self.times < self.num_steps)

    @property
    def end(self) -> int:
        """The first step of the shared clock after the window."""
        return self.offset + self.num_steps

    def clock(self) -> NDArray[Any]:
        """Return each neuron's spike time on the shared clock, infinity where silent."""
        return np.where(self.times < self.num_steps, self.times + self.offset, np.inf)


def place_layers(
    layers: Mapping[str, ArrayLike],
    num_steps: int | Mapping[str, int],
    offsets: Mapping[str, int] | None,
) -> list[LayerSpikes]:
    """Return the layers in order, each with its window.

    Args:
        layers: spike times ``(neurons,)`` per layer, ``num_steps`` means silent.
        num_steps: ``T``, one for all layers or one per name.
        offsets: the step at which a layer's window starts; 0 where a name is missing.

    Raises:
        ValueError: no layer, a time that is none, a name that no layer has, or a negative offset.
    """
    if not layers:
        raise ValueError("layers must hold at least one layer")
    lengths = num_steps if isinstance(num_steps, Mapping) else dict.fromkeys(layers, num_steps)
    starts = offsets or {}
    for what, given in (("num_steps", lengths), ("offsets", starts)):
        unknown = sorted(set(given) - set(layers))
        if unknown:
            raise ValueError(f"{what} names no layer: {unknown}; the layers are {list(layers)}")
    missing = [name for name in layers if name not in lengths]
    if missing:
        raise ValueError(f"num_steps is missing for {missing}")
    placed = []
    for name, times in layers.items():
        array = to_numpy(times)
        if array.ndim != 1 or array.size == 0:
            raise ValueError(f"times of {name!r} must be (neurons,), found {array.shape}")
        length = check_num_steps(lengths[name])
        check_times(torch.as_tensor(array), length, name=f"times of {name!r}")
        offset = starts.get(name, 0)
        if offset < 0:
            raise ValueError(f"offset of {name!r} must be 0 or more, found {offset}")
        placed.append(LayerSpikes(name, array, length, offset))
    return placed
