"""Spike times that know their window.

A neuron that spikes at most once is described by one number per sample, its spike time, which means
something only with the length ``T`` of its window. `Spikes` holds both. Times are batch first, integer time
steps ``0 ... T-1``, and **``T`` means silent**, everywhere; they are stored as floating point so that
gradients can flow through them.

Times that come from outside are checked here, once. A layer trusts what a layer made.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from firstspike.inputs import FLOATS, to_tensor
from firstspike.support import check_num_steps


@dataclass(frozen=True, eq=False, init=False)
class Spikes:
    """Spike times with the window they are counted in: what passes between layers.

    Attributes:
        times: integer time steps ``(batch, ...)`` in ``0 ... steps``, floating point; ``steps`` means
            silent. Lists, numpy arrays and tensors of integers are taken and become float32.
        steps: length ``T`` of the window, 2 ... 65,535.

    Raises:
        TypeError: `times` are not numbers, or `steps` is not an integer.
        ValueError: a time is NaN, not an integer, negative or above `steps`; or `steps` is out of range.

    >>> spikes = Spikes([[0, 3, 8]], steps=8)
    >>> spikes.silent
    tensor([[False, False,  True]])
    >>> spikes.first()
    tensor([0.])
    """

    times: Tensor
    steps: int

    def __init__(self, times: Any, steps: SupportsIndex) -> None:
        object.__setattr__(self, "steps", check_num_steps(steps))
        object.__setattr__(self, "times", _checked(times, self.steps))

    @classmethod
    def trusted(cls, times: Tensor, steps: int) -> "Spikes":
        """Return spikes whose times are known to be right, such as those a layer made, without a look.

        Args:
            times: floating point ``(batch, ...)``, integer time steps in ``0 ... steps``.
            steps: ``T``, an int in 2 ... 65,535.
        """
        spikes = object.__new__(cls)
        object.__setattr__(spikes, "times", times)
        object.__setattr__(spikes, "steps", steps)
        return spikes

    @classmethod
    def from_raster(cls, raster: Any) -> "Spikes":
        """Return the time of the one spike of each neuron in a raster, silence where there is none.

        Args:
            raster: ``(steps, batch, ...)``, values 0 or 1, at most one 1 along time; a tensor, array or
                list.

        Raises:
            TypeError: no numbers.
            ValueError: a value is neither 0 nor 1, a neuron spikes more than once, or there is no axis for
                time or samples.
        """
        raster = raster if isinstance(raster, Tensor) else to_tensor(raster, "raster")
        if raster.dim() < 2:
            raise ValueError(f"raster must be (steps, batch, ...), found the shape {tuple(raster.shape)}")
        if not ((raster == 0) | (raster == 1)).all():
            raise ValueError("raster must hold only 0 and 1")
        fired = raster.to(torch.float32)
        counts = fired.sum(0)
        if (counts > 1).any():
            raise ValueError(
                f"raster holds a neuron with {int(counts.max())} spikes; at most one is allowed"
            )
        clock = torch.arange(len(raster), dtype=torch.float32, device=raster.device)
        first = torch.tensordot(clock, fired, dims=([0], [0]))
        return cls.trusted(torch.where(counts > 0, first, float(len(raster))), check_num_steps(len(raster)))

    @property
    def shape(self) -> torch.Size:
        """Shape of the times, ``(batch, ...)``."""
        return self.times.shape

    @property
    def device(self) -> torch.device:
        """Where the times lie."""
        return self.times.device

    @property
    def silent(self) -> Tensor:
        """Which neurons do not spike, bool ``(batch, ...)``."""
        return self.times >= self.steps

    @property
    def values(self) -> Tensor:
        """Return ``1 - t / T``, 1 for a spike at step 0 and 0 for silence; the gradient flows."""
        return 1 - self.times / self.steps

    def first(self) -> Tensor:
        """Return the earliest spike time of each sample ``(batch,)``, ``T`` where all are silent."""
        return self.flatten().times.min(1).values

    def raster(self) -> Tensor:
        """Return 1 where and when a neuron spikes, else 0: float32 ``(steps, batch, ...)``, time first."""
        clock = torch.arange(self.steps, device=self.device).reshape(-1, *([1] * self.times.dim()))
        return (self.times.unsqueeze(0) == clock).to(torch.float32)

    def with_times(self, times: Tensor) -> "Spikes":
        """Return other times of the same window, which are trusted."""
        return Spikes.trusted(times, self.steps)

    def flatten(self) -> "Spikes":
        """Return the neurons of each sample in one row, ``(batch, neurons)``."""
        # One neuron a sample has no axis of its own.
        return self.with_times(self.times.flatten(1) if self.times.dim() > 1 else self.times.unsqueeze(1))

    @staticmethod
    def cat(parts: Iterable["Spikes"]) -> "Spikes":
        """Return the samples of several spikes of one window, one after the other.

        Args:
            parts: spikes ``(batch, ...)``, of one window and one shape of a sample.

        Raises:
            TypeError: a part is no `Spikes`, or `parts` are `Spikes` themselves.
            ValueError: no parts, or other windows or shapes.
        """
        if isinstance(parts, Spikes):
            raise TypeError("Spikes.cat takes several spikes, found one; it is one batch already")
        parts = list(parts)
        steps = _shared_steps(parts)
        shapes = sorted({tuple(part.shape[1:]) for part in parts})
        if len(shapes) > 1:
            raise ValueError(
                f"spikes of one shape are put together, found {' and '.join(map(str, shapes))}"
            )
        return Spikes.trusted(torch.cat([part.times for part in parts]), steps)

    def size(self, dim: int | None = None) -> Any:
        """Return the shape of the times, or its part `dim`, as `Tensor.size` does, for data sets."""
        return self.times.size() if dim is None else self.times.size(dim)

    def pin_memory(self) -> "Spikes":
        """Return the same times in memory that a GPU reads at once, as a `DataLoader` asks for."""
        return self.with_times(self.times.pin_memory())

    def detach(self) -> "Spikes":
        """Return the same times without a gradient."""
        return self.with_times(self.times.detach())

    def to(self, *args: Any, **kwargs: Any) -> "Spikes":
        """Return the spikes on another device or as float32 or float64, as `Tensor.to` does.

        Raises:
            TypeError: another type, which could not count the steps or carry a gradient.
        """
        times = self.times.to(*args, **kwargs)
        if times.dtype not in FLOATS:
            raise TypeError(f"spike times are float32 or float64, found {times.dtype}")
        return self.with_times(times)

    def split(self, size: int) -> Iterator["Spikes"]:
        """Yield the samples in parts of `size`."""
        return (self.with_times(part) for part in self.times.split(size))

    def __getitem__(self, index: Any) -> "Spikes":
        return self.with_times(self.times[index])

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        share = float(self.silent.float().mean()) if self.times.numel() else 0.0
        return f"Spikes({tuple(self.shape)}, steps={self.steps}, {share:.0%} silent)"


pytree.register_pytree_node(
    Spikes,
    lambda spikes: ([spikes.times], spikes.steps),
    lambda times, steps: Spikes.trusted(next(iter(times)), steps),
    serialized_type_name="firstspike.Spikes",
)


def _collated(batch: Sequence[Spikes], *, collate_fn_map: Any = None) -> Spikes:
    """Samples, each without a batch axis, as a `DataLoader` makes a batch of them."""
    times = default_collate([spikes.times for spikes in batch])
    return Spikes.trusted(times, _shared_steps(batch))


# As torch documents it for types of one's own.
default_collate_fn_map[Spikes] = _collated


def _shared_steps(parts: Sequence[Spikes]) -> int:
    windows = sorted({check_spikes(part).steps for part in parts})
    if not windows:
        raise ValueError("there are no spikes to put together")
    if len(windows) > 1:
        found = " and ".join(map(str, windows))
        raise ValueError(f"spikes of one window are put together, found {found} steps")
    return windows[0]


def check_spikes(value: Any) -> Spikes:
    """Return `value`; TypeError, with what to do, if it is no `Spikes`."""
    if not isinstance(value, Spikes):
        raise TypeError(
            f"expected Spikes, found {type(value).__name__}; give times as Spikes(times, steps=T), and "
            "encode images by Stack.encode or encode_latency"
        )
    return value


def _checked(times: Any, steps: int) -> Tensor:
    """The times as a floating-point tensor after a look at each."""
    if not isinstance(times, Tensor):
        times = to_tensor(times, "times")
    if times.is_complex() or times.dtype == torch.bool:
        raise TypeError(f"times must be spike times in steps, found {times.dtype}")
    if times.dim() == 0:
        raise ValueError("times must be (batch, ...), found a scalar")
    if times.numel():
        # In double precision every integer type keeps its numbers.
        seen = times.detach().to(torch.float64)
        # NaN is neither.
        right = (seen >= 0) & (seen <= steps) & (seen == seen.floor())
        if not right.all():
            wrong = seen[~right][0].item()
            if math.isnan(wrong):
                raise ValueError(f"times hold NaN; spike times are integers 0 ... {steps}")
            if 0 <= wrong <= steps:
                raise ValueError(f"times must be integer time steps, found {wrong}")
            raise ValueError(
                f"times must lie in 0 ... {steps} ({steps} means silent), found {wrong:g}; "
                "give the steps that they were made with"
            )
    return times if times.dtype in FLOATS else times.to(torch.float32)
