"""Cumulative spikes of once-only neurons, their average pooling and surrogate gradients, in one pass.

A neuron's cumulative spikes are 0 before its spike and 1 from it on.
The same in tensor operations walks over every membrane a dozen times, which takes longer than the
convolution before. Arrays have the axes T (steps), B (batch), Y, X (map) and C (channels), last axis
contiguous; half precision comes and goes as its bits, see `firstspike.kernels.cpu.half`.
"""

import numpy as np

from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.half import narrow, widen
from firstspike.kernels.cpu.surrogates import SURROGATES, times_surrogate

GRADIENTS = ("every_step", "firing_step", "bptt")


@compiled
def _fire(membrane, size, last, out, begin, end):
    steps, _, _, _, channels = membrane.shape
    height, width = out.shape[2], out.shape[3]
    values, sums = np.empty(channels, np.float32), np.empty((steps, channels), np.float32)
    fired = np.empty(channels, np.float32)
    for item in range(begin, end):
        b, y, x = item // (height * width), item // width % height, item % width
        sums[:] = 0
        for patch in range(size * size):
            row, column = y * size + patch // size, x * size + patch % size
            fired[:] = 0
            for t in range(steps):
                widen(membrane[t, b, row, column], values)
                total = sums[t]
                for c in range(channels):
                    above = np.float32(1) if values[c] >= 1 else np.float32(0)
                    fired[c] = max(fired[c], above)
                    total[c] += fired[c]
        if last:
            sums[steps - 1] = size * size
        for t in range(steps):
            narrow(sums[t], out[t, b, y, x])


@compiled
def _share_fire(address, parts, size, arguments):
    return threads.share(address, parts, size, _fire, arguments)


@compiled
def _gradient(membrane, grad, size, last, mode, surrogate, scale, out, begin, end):
    steps, _, _, _, channels = membrane.shape
    height, width = grad.shape[2], grad.shape[3]
    values, given = np.empty(channels, np.float32), np.empty(channels, np.float32)
    totals, passed = np.empty(channels, np.float32), np.empty(channels, np.float32)
    first = np.empty(channels, np.int32)
    for item in range(begin, end):
        b, y, x = item // (height * width), item // width % height, item % width
        for patch in range(size * size):
            row, column = y * size + patch // size, x * size + patch % size
            if mode > 0:
                first[:] = steps
                for t in range(steps - 1, -1, -1):
                    widen(membrane[t, b, row, column], values)
                    for c in range(channels):
                        first[c] = t if values[c] >= 1 else first[c]
                totals[:] = 0
            for t in range(steps - 1, -1, -1):
                widen(grad[t, b, y, x], given)
                if last and t == steps - 1:
                    given[:] = 0
                widen(membrane[t, b, row, column], values)
                if mode == 0:
                    passed[:] = given
                else:
                    for c in range(channels):
                        total = totals[c] + given[c]
                        open_ = t == first[c] if mode == 1 else t <= first[c]
                        passed[c] = total if open_ else np.float32(0)
                        # Through F[t] = F[t-1] + Theta(H[t]) (1 - F[t-1]) to the step before.
                        stopped = mode == 2 and values[c] >= 1
                        totals[c] = np.float32(0) if stopped else total
                for c in range(channels):
                    values[c] -= np.float32(1)
                    passed[c] *= scale
                times_surrogate(surrogate, passed, values, scale, values)
                narrow(values, out[t, b, row, column])


@compiled
def _share_gradient(address, parts, size, arguments):
    return threads.share(address, parts, size, _gradient, arguments)


def fire(membrane: np.ndarray, size: int, last: bool) -> np.ndarray:
    """Return how many neurons of each ``size x size`` patch have reached 1 by each step.

    Args:
        membrane: ``(T, B, Y, X, C)``, float32, or uint16 for the bits of bfloat16; both sides of the map
            multiples of `size`.
        size: of the patches; 1 gives the cumulative spikes themselves.
        last: every neuron has fired at the last step.
    """
    steps, batch, height, width, channels = membrane.shape
    out = np.empty((steps, batch, height // size, width // size, channels), membrane.dtype)
    arguments = membrane, size, last, out
    threads.run(_share_fire, _fire, batch * out.shape[2] * out.shape[3], *arguments)
    return out


def gradient(
    membrane: np.ndarray,
    grad: np.ndarray,
    size: int,
    last: bool,
    mode: str,
    surrogate: str,
    width: float,
) -> np.ndarray:
    """Return the surrogate gradient of the membrane; arguments as for `fire`.

    Args:
        grad: of the counts, of their shape, in the membrane's type.
        mode: one of `GRADIENTS`, where the derivative is applied: of the cumulative spike at each step by
            the membrane then, at the step of the spike only, or through the whole recursion.
        surrogate: one of `firstspike.kernels.cpu.surrogates.SURROGATES`, width: of it.
    """
    out = np.empty_like(membrane)
    arguments = (
        membrane,
        grad,
        size,
        last,
        GRADIENTS.index(mode),
        SURROGATES.index(surrogate),
        np.float32(1 / width),
        out,
    )
    threads.run(_share_gradient, _gradient, grad.shape[1] * grad.shape[2] * grad.shape[3], *arguments)
    return out
