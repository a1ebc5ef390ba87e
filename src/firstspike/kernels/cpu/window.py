"""Input values of window neurons, their firing and its gradient, each in one pass, compiled with Numba.

The same in tensor operations reads and writes every value and membrane several times, and takes as long as
the matrix product between them.
"""

import numpy as np

from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled

GRADIENTS = ("open", "closed", "one_sided")


@compiled
def _values(times_N, high, share, out_N, begin, end):
    times, out = times_N[begin:end], out_N[begin:end]
    for k in range(times.shape[0]):
        out[k] = high - times[k] * share


@compiled
def _share_values(address, parts, size, arguments):
    return threads.share(address, parts, size, _values, arguments)


@compiled
def _fire(membrane_N, low, unit, steps, out_N, begin, end):
    zero = membrane_N.dtype.type(0)
    # Slices, whose indices cannot be negative: only so is the loop compiled to vectors.
    membrane, out = membrane_N[begin:end], out_N[begin:end]
    for k in range(membrane.shape[0]):
        scaled = (membrane[k] - low) * unit
        # Not min and max, which make a number of NaN.
        scaled = zero if scaled < zero else scaled
        scaled = steps if scaled > steps else scaled
        out[k] = steps - np.floor(scaled)


@compiled
def _share_fire(address, parts, size, arguments):
    return threads.share(address, parts, size, _fire, arguments)


@compiled
def _gradient(membrane_N, grad_N, low, unit, steps, which, out_N, begin, end):
    zero = membrane_N.dtype.type(0)
    membrane, grads, out = membrane_N[begin:end], grad_N[begin:end], out_N[begin:end]
    if which == 0:
        for k in range(membrane.shape[0]):
            out[k] = -grads[k] * unit
    elif which == 1:
        for k in range(membrane.shape[0]):
            scaled = (membrane[k] - low) * unit
            out[k] = zero if (scaled < zero) | (scaled > steps) else -grads[k] * unit
    else:
        # Descent moves the membrane along +grad: below the range only grad > 0 leads back.
        for k in range(membrane.shape[0]):
            scaled = (membrane[k] - low) * unit
            grad = grads[k]
            outwards = ((scaled < zero) & (grad < zero)) | ((scaled > steps) & (grad > zero))
            out[k] = zero if outwards else -grad * unit


@compiled
def _share_gradient(address, parts, size, arguments):
    return threads.share(address, parts, size, _gradient, arguments)


def values(times: np.ndarray, high: float, share: float) -> np.ndarray:
    """Return ``high - t share``, the values of inputs with these spike times, in their shape and precision.

    Args:
        times: C-contiguous.
        high: value of a spike at step 0.
        share: what a step later is less.
    """
    kind = times.dtype.type
    out = np.empty_like(times)
    arguments = times.reshape(-1), kind(high), kind(share), out.reshape(-1)
    threads.run(_share_values, _values, times.size, *arguments)
    return out


def fire(membrane: np.ndarray, low: float, unit: float, steps: int) -> np.ndarray:
    """Return ``steps - floor(clip((u - low) unit, 0, steps))``, of the membrane's shape and precision.

    A membrane of NaN gives the time NaN, so that it reaches the loss.

    Args:
        membrane: C-contiguous.
        low: membrane that means silent.
        unit: steps per unit of membrane.
        steps: length of the neuron's window.
    """
    kind = membrane.dtype.type
    out = np.empty_like(membrane)
    arguments = membrane.reshape(-1), kind(low), kind(unit), kind(steps), out.reshape(-1)
    threads.run(_share_fire, _fire, membrane.size, *arguments)
    return out


def gradient(
    membrane: np.ndarray, grad: np.ndarray, low: float, unit: float, steps: int, saturation: str
) -> np.ndarray:
    """Return the gradient of the membrane, straight through the floor; arguments as for `fire`.

    Args:
        grad: of the spike times, C-contiguous, of the membrane's shape and precision.
        saturation: one of `GRADIENTS`: what a neuron outside its range passes on. "closed": nothing,
            "one_sided": only what pulls it back, "open": everything.
    """
    kind = membrane.dtype.type
    out = np.empty_like(membrane)
    which = GRADIENTS.index(saturation)
    arguments = (
        membrane.reshape(-1),
        grad.reshape(-1),
        kind(low),
        kind(unit),
        kind(steps),
        which,
        out.reshape(-1),
    )
    threads.run(_share_gradient, _gradient, membrane.size, *arguments)
    return out
