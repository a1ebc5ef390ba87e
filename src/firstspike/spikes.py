"""Spike times that know their window, and the codes between them and images.

A neuron that spikes at most once is described by one number per sample, its spike time, which means
something only with the length ``T`` of its window. `Spikes` holds both. Times are batch first, integer time
steps ``0 ... T-1``, and **``T`` means silent**, everywhere; they are stored as floating point so that
gradients can flow through them.

What comes from outside is checked here, once: spike times by `Spikes`, images by `as_images`, labels by
`check_labels`. A layer trusts what a layer made.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from firstspike.support import check_choice, check_integer, check_num_steps, check_number

_TYPES = (torch.float32, torch.float64)

EdgeRule = Literal["silent", "last"]
Rounding = Literal["up", "nearest"]

# Guards the floor against 1/T not being a binary fraction: far above float64's error at 65,535 steps and
# far below the 1/255 grid of 8-bit images.
_GUARD = 1e-9
# Half a unit in the last place of a float32 in 1/2 ... 1 is 2^-25; an image that was scaled by a
# multiplication with 1/255 may be off by three times that.
_SINGLE_ERROR = 2.0**-23
# How far an image in 0 ... 1 may overshoot by rounding.
_OVERSHOOT = 1e-6


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
        raster = raster if isinstance(raster, Tensor) else _tensor(raster, "raster")
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
        if times.dtype not in _TYPES:
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
        times = _tensor(times, "times")
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
    return times if times.dtype in _TYPES else times.to(torch.float32)


def _tensor(values: Any, name: str) -> Tensor:
    try:
        if isinstance(values, np.ndarray):
            # torch takes no other byte order and no negative strides, and warns of read-only memory.
            values = np.require(values, values.dtype.newbyteorder("="), ["C", "W"])
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be a tensor or array of numbers: {error}") from error


def as_tensor(values: Any, name: str) -> Any:
    """Return numpy arrays, lists and tuples of numbers as tensors, anything else as it is.

    Raises:
        TypeError: they hold something else; the message says what `name` is.
    """
    return _tensor(values, name) if isinstance(values, np.ndarray | list | tuple) else values


def as_images(images: Any) -> Tensor:
    """Return images as uint8 0 ... 255, or float32 or float64 in 0 ... 1: the one door for images.

    Args:
        images: any shape. uint8 passes as it is; bool becomes 0 and 255; floating point must lie in
            0 ... 1, rounding error aside, which is cut off. Lists and numpy arrays are taken too.

    Raises:
        TypeError: another type of number; int64 images, for instance, do not say what white is.
        ValueError: an intensity is NaN or outside 0 ... 1.
    """
    if not isinstance(images, Tensor):
        images = _tensor(images, "images")
    if images.dtype == torch.uint8:
        return images
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    if images.dtype not in _TYPES:
        raise TypeError(
            "images must be uint8, bool, or float32 or float64 in 0 ... 1, found "
            f"{images.dtype}; convert them, or give encode_latency a max_intensity"
        )
    return _in_unit_range(images, "images", 1.0)


def _in_unit_range(values: Tensor, name: str, scale: float) -> Tensor:
    if not values.numel():
        return values
    low, high = (float(bound) for bound in torch.aminmax(values.detach()))
    if math.isnan(low) or math.isnan(high):
        raise ValueError(f"{name} hold NaN")
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ValueError(
            f"{name} must lie in 0 ... {scale:g}, found {low * scale!r} ... {high * scale!r}; scale them, "
            "or give encode_latency their max_intensity"
        )
    return values if low >= 0 and high <= 1 else values.clamp(0, 1)


def check_labels(labels: Any, count: int, classes: int) -> Tensor:
    """Return labels as int64 ``(count,)`` after checking that each names a class.

    Args:
        labels: integers ``(count,)``; a tensor, list or numpy array.
        count: number of samples.
        classes: number of classes. On a CUDA device values are left to the operation that reads them, which
            checks them without a synchronisation.

    Raises:
        TypeError: labels are not integers.
        ValueError: another shape, or a label outside ``0 ... classes - 1``.
    """
    if not isinstance(labels, Tensor):
        labels = _tensor(labels, "labels")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be integers, found {labels.dtype}")
    if labels.shape != (count,):
        raise ValueError(
            f"labels must have the shape ({count},), one per sample, found {tuple(labels.shape)}"
        )
    labels = labels.to(torch.int64)
    if count and labels.device.type == "cpu":
        low, high = (int(bound) for bound in torch.aminmax(labels))
        if low < 0 or high >= classes:
            raise ValueError(f"labels must lie in 0 ... {classes - 1}, found {low} ... {high}")
    return labels


def encode_latency(
    images: Any,
    steps: int,
    *,
    max_intensity: float | None = None,
    black: EdgeRule = "silent",
    inverted: bool = False,
    min_intensity: float = 0.0,
    rounding: Rounding = "up",
) -> Spikes:
    """Return one spike per pixel: the brighter, the earlier.

    ``t = floor((I_max - I) / I_max * T)``, Spiking-GAN Eq. 3 (arXiv 2106.15420). The brightest pixel fires
    at step 0; a black one would fire at ``T``, which means silent. An image gives the same spikes whether
    it comes as uint8 or as floats ``u / 255``; as float32 that were multiplied by ``1 / 255`` instead up to
    26,434 steps.

    Args:
        images: ``(batch, ...)``: uint8, bool, or floats in 0 ... 1 (see `as_images`); with `max_intensity`
            numbers of any real type in ``0 ... max_intensity``.
        steps: window length ``T`` in steps.
        max_intensity: ``I_max`` of a sensor with another scale.
        black: "silent" leaves a pixel at ``T``; "last" makes it fire at ``T - 1``.
        inverted: encode ``I_max - I``, so that dark pixels fire first.
        min_intensity: pixels below this share of ``I_max`` (after inversion) count as black. It saves the
            spikes of dim pixels; 0 keeps the published encoder.
        rounding: of the value ``1 - t / T`` that a spike stands for: "up" is published; "nearest" is
            half as far from the intensity.

    Returns:
        float32 times of the shape of `images`.

    Raises:
        TypeError: `images` of another type, or `steps` is not an integer.
        ValueError: there is no axis for samples; an intensity is NaN or out of range; `steps`,
            `max_intensity` or `min_intensity` is out of range; or `black` or `rounding` is unknown.

    >>> encode_latency([[1.0, 0.5, 0.0]], 16).times
    tensor([[ 0.,  8., 16.]])
    """
    steps = check_num_steps(steps)
    check_choice("encode_latency", "black", black, ("silent", "last"))
    check_choice("encode_latency", "rounding", rounding, ("up", "nearest"))
    min_intensity = check_number("encode_latency", "min_intensity", min_intensity, low=0, high=1)
    shares, error = _shares(images, max_intensity)
    if not shares.dim():
        raise ValueError("images must be (batch, ...), found a scalar; add a batch axis")
    if inverted:
        shares = 1 - shares
    if min_intensity > 0:
        shares = torch.where(shares < min_intensity - max(error, _GUARD), 0.0, shares)
    # No more than half of what lies between two levels of 8 bits.
    guard = min(_GUARD + steps * error, 0.5 / 255)
    half = 0.5 if rounding == "nearest" else 0.0
    times = torch.floor((1 - shares) * steps + (half + guard))
    return Spikes.trusted(times.clamp_(max=steps - (black == "last")).to(torch.float32), steps)


def _shares(images: Any, max_intensity: float | None) -> tuple[Tensor, float]:
    """Intensities over the brightest, float64, and the rounding error that they may carry."""
    if max_intensity is None:
        values = as_images(images)
        scale = 255.0 if values.dtype == torch.uint8 else 1.0
    else:
        scale = check_number("encoder", "max_intensity", max_intensity, low=0, above=True)
        values = images if isinstance(images, Tensor) else _tensor(images, "images")
        if values.is_complex():
            raise TypeError(f"images must be real numbers, found {values.dtype}")
    error = _SINGLE_ERROR if values.dtype == torch.float32 else 0.0
    shares = values.to(torch.float64) / scale
    return (shares if max_intensity is None else _in_unit_range(shares, "images", scale)), error


def decode_latency(spikes: Spikes, *, max_intensity: float = 1.0, inverted: bool = False) -> Tensor:
    """Return the intensity whose code the spikes are: ``I = I_max (1 - t / T)``, inverse of Eq. 3.

    Silent pixels become black. Encoding the result gives the same times.

    Args:
        spikes: times ``(batch, ...)``.
        max_intensity: ``I_max`` of the result.
        inverted: the code was made with ``inverted=True``.

    Returns:
        Intensities in ``0 ... max_intensity``: float64 of the shape of the times, so that the round
        trip is exact for up to 65,535 steps.

    Raises:
        TypeError: not `Spikes`.
        ValueError: `max_intensity` is not above 0 and finite.
    """
    max_intensity = check_number("decode_latency", "max_intensity", max_intensity, low=0, above=True)
    check_spikes(spikes)
    values = max_intensity * (1.0 - spikes.times.to(torch.float64) / spikes.steps)
    return max_intensity - values if inverted else values


def encode_count(
    images: Any, *, max_count: int = 255, max_intensity: float | None = None, inverted: bool = False
) -> Tensor:
    """Return the number of spikes a rate (count) code spends on every pixel.

    The comparison of Spiking-GAN, section 3: a pixel fires in proportion to its intensity, up to
    `max_count` spikes.

    Returns:
        int64 counts, the shape of `images`.

    Raises:
        TypeError, ValueError: as for `encode_latency`.
    """
    shares, _ = _shares(images, max_intensity)
    max_count = check_integer("encode_count", "max_count", max_count, low=1)
    return torch.round((1 - shares if inverted else shares) * max_count).to(torch.int64)
