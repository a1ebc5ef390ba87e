"""Between intensities and spikes: latency (time-to-first-spike) coding and rate coding."""

from typing import Literal

import torch
from torch import Tensor

from firstspike.spikes import check_num_steps, check_times

EdgeRule = Literal["silent", "last"]

# Guards the floor against 1/T not being a binary fraction: far above float64's error at 4096 steps
# and far below the 1/255 grid of 8-bit images.
_EPSILON = 1e-9


def encode_latency(
    images: Tensor,
    num_steps: int,
    *,
    max_intensity: float | None = None,
    black: EdgeRule = "silent",
    inverted: bool = False,
    min_intensity: float = 0.0,
) -> Tensor:
    """Return the spike time of every pixel: the brighter, the earlier.

    ``t = floor((I_max - I) / I_max * T)``, Spiking-GAN Eq. 3 (arXiv 2106.15420). The brightest
    pixel fires at step 0; a black one would fire at ``T``, which means silent.

    Args:
        images: intensities ``(batch, ...)`` in ``0 ... max_intensity``.
        num_steps: window length ``T`` in steps.
        max_intensity: ``I_max``; 255 for integer tensors and 1.0 for floating point by default.
        black: "silent" leaves a pixel at ``T``; "last" makes it fire at ``T - 1``.
        inverted: encode ``I_max - I``, so that dark pixels fire first.
        min_intensity: pixels below this intensity (after inversion) count as black. It saves the
            spikes of dim pixels; 0 keeps the published encoder.

    Returns:
        float32 times in steps, the shape of `images`.

    Raises:
        TypeError: `num_steps` is not an int.
        ValueError: an intensity is NaN or out of range, `num_steps` or `max_intensity` is out of range,
            or `black` is unknown.
    """
    check_num_steps(num_steps)
    if black not in ("silent", "last"):
        raise ValueError(f"black must be 'silent' or 'last', found {black!r}")
    limit = _max_intensity(images, max_intensity)
    values = images.to(torch.float64)
    if values.numel():
        if torch.isnan(values).any():
            raise ValueError("images hold NaN")
        if values.min() < 0 or values.max() > limit:
            raise ValueError(
                f"intensities must lie in 0 ... {limit:g}, found "
                f"{values.min():g} ... {values.max():g}; pass max_intensity if the scale differs"
            )
    if inverted:
        values = limit - values
    if min_intensity > 0:
        values = torch.where(values < min_intensity, torch.zeros_like(values), values)
    times = torch.floor((limit - values) / limit * num_steps + _EPSILON)
    if black == "last":
        times = times.clamp(max=num_steps - 1)
    return times.to(torch.float32)


def encode_phase(images: Tensor, phase: tuple[int, int], num_steps: int) -> Tensor:
    """Return the spike time of every pixel in a phase ``(first, last)`` of a clock of `num_steps`.

    White fires at `first`, darker later, and what would fire at `last` or after stays silent.

    Raises:
        ValueError: as `encode_latency`.
    """
    first, last = phase
    local = encode_latency(images, last - first)
    return torch.where(local == last - first, float(num_steps), local + first)


def decode_phase(times: Tensor, phase: tuple[int, int]) -> Tensor:
    """Return the intensities 0 ... 1 of spikes in a phase; one before it is white, one after it black."""
    first, last = phase
    return ((last - times) / (last - first)).clamp(0, 1)


def decode_latency(
    times: Tensor, num_steps: int, *, max_intensity: float = 1.0, inverted: bool = False
) -> Tensor:
    """Return the intensity whose code is `times`: ``I = I_max (1 - t / T)``, inverse of Eq. 3.

    Silent pixels become black. ``encode_latency(decode_latency(t)) == t`` for every whole ``t``.

    Args:
        times: steps ``(batch, ...)`` in ``0 ... num_steps``.
        num_steps: ``T``.
        max_intensity: ``I_max`` of the result.
        inverted: the code was made with ``inverted=True``.

    Returns:
        Intensities in ``0 ... max_intensity``: float64 of the shape of `times`, so that the round
        trip is exact for up to 65,535 steps.

    Raises:
        TypeError: `times` is not a tensor of numbers, or `num_steps` is not an int.
        ValueError: a time is not a whole step in ``0 ... num_steps``, or `num_steps` is out of range.
    """
    check_times(times, check_num_steps(num_steps))
    values = max_intensity * (1.0 - times.to(torch.float64) / num_steps)
    return max_intensity - values if inverted else values


def encode_count(
    images: Tensor,
    *,
    max_count: int = 255,
    max_intensity: float | None = None,
    inverted: bool = False,
) -> Tensor:
    """Return the number of spikes a rate (count) code spends on every pixel.

    The comparison of Spiking-GAN, section 3: a pixel fires in proportion to its intensity, up to
    `max_count` spikes.

    Returns:
        int64 counts, the shape of `images`.

    Raises:
        ValueError: an intensity is NaN or out of range, or `max_intensity` is not above 0.
    """
    limit = _max_intensity(images, max_intensity)
    values = images.to(torch.float64) / limit
    if values.numel() and (torch.isnan(values).any() or values.min() < 0 or values.max() > 1):
        raise ValueError(f"intensities must lie in 0 ... {limit:g}")
    if inverted:
        values = 1.0 - values
    return torch.round(values * max_count).to(torch.int64)


def _max_intensity(images: Tensor, max_intensity: float | None) -> float:
    if max_intensity is None:
        return 1.0 if images.is_floating_point() else 255.0
    if not max_intensity > 0:
        raise ValueError(f"max_intensity must be above 0, found {max_intensity}")
    return float(max_intensity)
