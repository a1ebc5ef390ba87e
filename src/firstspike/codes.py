"""Codes between images and spikes: latency, the brighter the earlier, and counts to compare it with."""

from typing import Any, Literal

import torch
from torch import Tensor

from firstspike.inputs import as_images, check_unit_range, to_tensor
from firstspike.spikes import Spikes, check_spikes
from firstspike.support import check_choice, check_integer, check_num_steps, check_number

EdgeRule = Literal["silent", "last"]
Rounding = Literal["up", "nearest"]

# Guards the floor against 1/T not being a binary fraction: far above float64's error at 65,535 steps and
# far below the 1/255 grid of 8-bit images.
_GUARD = 1e-9
# Half a unit in the last place of a float32 in 1/2 ... 1 is 2^-25; an image that was scaled by a
# multiplication with 1/255 may be off by three times that.
_SINGLE_ERROR = 2.0**-23


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


def _shares(images: Any, max_intensity: float | None) -> tuple[Tensor, float]:
    """Intensities over the brightest, float64, and the rounding error that they may carry."""
    if max_intensity is None:
        values = as_images(images)
        scale = 255.0 if values.dtype == torch.uint8 else 1.0
    else:
        scale = check_number("encoder", "max_intensity", max_intensity, low=0, above=True)
        values = images if isinstance(images, Tensor) else to_tensor(images, "images")
        if values.is_complex():
            raise TypeError(f"images must be real numbers, found {values.dtype}")
    error = _SINGLE_ERROR if values.dtype == torch.float32 else 0.0
    shares = values.to(torch.float64) / scale
    return (shares if max_intensity is None else check_unit_range(shares, "images", scale)), error
