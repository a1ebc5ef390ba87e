"""The quantised, clipped ReLU of a deep network of window neurons and its gradient, each in one pass.

The same in tensor operations walks over every membrane five times, which takes as long as a convolution.
Half precision comes and goes as its bits, see `firstspike.kernels.cpu.half`, and is computed in float32.
"""

import numpy as np

from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.half import narrowed, widened


@compiled
def _forward(membrane_N, unit, steps, share, out_N, begin, end):
    zero, rounding = np.float32(0), np.float32(0.5)
    membrane, out = membrane_N[begin:end], out_N[begin:end]
    for k in range(membrane.shape[0]):
        level = widened(membrane[k]) * unit + rounding
        # Not min and max, which make a number of NaN.
        level = zero if level < zero else level
        level = steps if level > steps else level
        out[k] = narrowed(np.floor(level) * share, membrane[k])


@compiled
def _share_forward(address, parts, size, arguments):
    return threads.share(address, parts, size, _forward, arguments)


@compiled
def _backward(membrane_N, grad_N, added, high, share, out_N, begin, end):
    zero = np.float32(0)
    membrane, grad, out = membrane_N[begin:end], grad_N[begin:end], out_N[begin:end]
    for k in range(membrane.shape[0]):
        place = widened(membrane[k])
        inside = (place > zero) & (place < high)
        given = (widened(grad[k]) + added) * share
        out[k] = narrowed(given if inside else zero, membrane[k])


@compiled
def _share_backward(address, parts, size, arguments):
    return threads.share(address, parts, size, _backward, arguments)


def quantise(membrane: np.ndarray, steps: int, high: float) -> np.ndarray:
    """Return ``floor(clip(u T / high + 1/2, 0, T)) / T``, of the membrane's shape and precision.

    A membrane of NaN gives NaN, so that it reaches the loss.

    Args:
        membrane: C-contiguous, float32, or uint16 for the bits of bfloat16.
        steps: ``T``.
        high: membrane of the highest level.
    """
    out = np.empty_like(membrane)
    arguments = (
        membrane.reshape(-1),
        np.float32(steps / high),
        np.float32(steps),
        np.float32(1 / steps),
        out.reshape(-1),
    )
    threads.run(_share_forward, _forward, membrane.size, *arguments)
    return out


def gradient(membrane: np.ndarray, grad: np.ndarray, high: float, added: float = 0.0) -> np.ndarray:
    """Return the gradient of the membrane, straight through the levels inside the range and 0 outside.

    Args:
        membrane, high: as for `quantise`.
        grad: of the values, of the membrane's shape and precision, C-contiguous.
        added: what is added to each of them.
    """
    out = np.empty_like(membrane)
    arguments = (
        membrane.reshape(-1),
        grad.reshape(-1),
        np.float32(added),
        np.float32(high),
        np.float32(1 / high),
        out.reshape(-1),
    )
    threads.run(_share_backward, _backward, membrane.size, *arguments)
    return out
