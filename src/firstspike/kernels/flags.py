"""Flags of once-only neurons, average pooling of flags, and their surrogate gradients, in one pass.

The same in tensor operations walks over every membrane a dozen times, which takes longer than the
convolution before. Arrays have the axes T (steps), B (batch), Y, X (map) and C (channels), last axis
contiguous; half precision comes and goes as its bits, see `firstspike.kernels.half`.
"""

import math

import numpy as np
from numba import njit

from firstspike.kernels import team
from firstspike.kernels.half import narrow, widen

GRADIENTS = ("every_step", "firing_step", "bptt")
SURROGATES = ("arctan", "sigmoid", "triangular")


@njit(cache=True, nogil=True)
def _fire(membrane, size, last, half, out, begin, end):  # type: ignore[no-untyped-def]
    steps, _, _, _, channels = membrane.shape
    height, width = out.shape[2], out.shape[3]
    bits, sum_bits = np.empty(channels, np.uint32), np.empty((steps, channels), np.uint32)
    values, sums = bits.view(np.float32), sum_bits.view(np.float32)
    fired = np.empty(channels, np.float32)
    for item in range(begin, end):
        b, y, x = item // (height * width), item // width % height, item % width
        sums[:] = 0
        for patch in range(size * size):
            row, column = y * size + patch // size, x * size + patch % size
            fired[:] = 0
            for t in range(steps):
                widen(membrane[t, b, row, column], bits, values, half)
                total = sums[t]
                for c in range(channels):
                    flag = np.float32(1) if values[c] >= 1 else np.float32(0)
                    fired[c] = max(fired[c], flag)
                    total[c] += fired[c]
        if last:
            sums[steps - 1] = size * size
        for t in range(steps):
            narrow(sum_bits[t], sums[t], out[t, b, y, x], half)


@njit(cache=True, nogil=True)
def _share_fire(address, parts, size, arguments):  # type: ignore[no-untyped-def]
    return team.share(address, parts, size, _fire, arguments)


@njit(cache=True, nogil=True, inline="always")
def _times_derivative(values, totals, surrogate, scale):  # type: ignore[no-untyped-def]
    """Turn membranes into `totals` times the surrogate derivative, in place."""
    one, half_pi = np.float32(1), np.float32(math.pi / 2)
    if surrogate == 0:
        for c in range(values.shape[0]):
            slope = half_pi * scale * (values[c] - one)
            values[c] = totals[c] * (scale * np.float32(0.5)) / (one + slope * slope)
    elif surrogate == 1:
        for c in range(values.shape[0]):
            above = one / (one + np.exp(-scale * (values[c] - one)))
            values[c] = totals[c] * scale * above * (one - above)
    else:
        for c in range(values.shape[0]):
            height = one - scale * abs(values[c] - one)
            values[c] = totals[c] * scale * max(height, np.float32(0))


@njit(cache=True, nogil=True)
def _gradient(  # type: ignore[no-untyped-def]
    membrane, grad, size, last, half, mode, surrogate, scale, out, begin, end
):
    steps, _, _, _, channels = membrane.shape
    height, width = grad.shape[2], grad.shape[3]
    bits, grad_bits = np.empty(channels, np.uint32), np.empty(channels, np.uint32)
    values, given = bits.view(np.float32), grad_bits.view(np.float32)
    totals, passed = np.empty(channels, np.float32), np.empty(channels, np.float32)
    first = np.empty(channels, np.int32)
    for item in range(begin, end):
        b, y, x = item // (height * width), item // width % height, item % width
        for patch in range(size * size):
            row, column = y * size + patch // size, x * size + patch % size
            if mode > 0:
                first[:] = steps
                for t in range(steps - 1, -1, -1):
                    widen(membrane[t, b, row, column], bits, values, half)
                    for c in range(channels):
                        first[c] = t if values[c] >= 1 else first[c]
                totals[:] = 0
            for t in range(steps - 1, -1, -1):
                widen(grad[t, b, y, x], grad_bits, given, half)
                if last and t == steps - 1:
                    given[:] = 0
                widen(membrane[t, b, row, column], bits, values, half)
                if mode == 0:
                    _times_derivative(values, given, surrogate, scale)
                else:
                    for c in range(channels):
                        total = totals[c] + given[c]
                        open_ = t == first[c] if mode == 1 else t <= first[c]
                        passed[c] = total if open_ else np.float32(0)
                        # Through F[t] = F[t-1] + Theta(H[t]) (1 - F[t-1]) to the flag before.
                        stopped = mode == 2 and values[c] >= 1
                        totals[c] = np.float32(0) if stopped else total
                    _times_derivative(values, passed, surrogate, scale)
                narrow(bits, values, out[t, b, row, column], half)


@njit(cache=True, nogil=True)
def _share_gradient(address, parts, size, arguments):  # type: ignore[no-untyped-def]
    return team.share(address, parts, size, _gradient, arguments)


def fire(membrane: np.ndarray, size: int, last: bool) -> np.ndarray:
    """Return how many neurons of each ``size x size`` patch have reached 1 by each step.

    Args:
        membrane: ``(T, B, Y, X, C)``, float32, or uint16 for the bits of bfloat16; both sides of the map
            multiples of `size`.
        size: of the patches; 1 gives the flags themselves.
        last: every neuron has fired at the last step.
    """
    steps, batch, height, width, channels = membrane.shape
    out = np.empty((steps, batch, height // size, width // size, channels), membrane.dtype)
    arguments = membrane, size, last, membrane.dtype == np.uint16, out
    team.run(_share_fire, _fire, batch * out.shape[2] * out.shape[3], *arguments)
    return out


def gradient(
    membrane: np.ndarray,
    grad: np.ndarray,
    size: int,
    last: bool,
    mode: str,
    surrogate: str,
    scale: float,
) -> np.ndarray:
    """Return the surrogate gradient of the membrane; arguments as for `fire`.

    Args:
        grad: of the counts, of their shape, in the membrane's type.
        mode: one of `GRADIENTS`, surrogate: one of `SURROGATES`, scale: its inverse width, as
            `firstspike.raster.settings.RasterNeuron` describes them.
    """
    out = np.empty_like(membrane)
    arguments = (
        membrane,
        grad,
        size,
        last,
        membrane.dtype == np.uint16,
        GRADIENTS.index(mode),
        SURROGATES.index(surrogate),
        np.float32(scale),
        out,
    )
    team.run(_share_gradient, _gradient, grad.shape[1] * grad.shape[2] * grad.shape[3], *arguments)
    return out
