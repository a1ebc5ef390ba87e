"""Input spikes in the order of time: what an event-driven kernel walks through.

A spike is one key, ``step << 16 | input``, so that a walk reads four bytes per spike and sorted keys are
in the order of time, then of input. For compiled code only.
"""

import numpy as np
from numba import njit

from firstspike.kernels.vectors import LANES, below, lowest_bit


class InvalidInput(ValueError):
    """A kernel found a time that is not a whole step of the window, or a weight that is not finite."""


MAX_INPUTS = 1 << 16
# Up to this many bits of the step are sorted in one pass; clearing more buckets costs more than a pass.
_ONE_PASS_BITS = 9
SCRATCH = 2 * (1 << _ONE_PASS_BITS)

_STEP = np.uint32(16)
_INPUT = np.uint32(0xFFFF)


@njit(cache=True, nogil=True, inline="always")
def key_of(step, index):  # type: ignore[no-untyped-def]
    """Return the key of a spike; both are below 65,536."""
    return (np.uint32(step) << _STEP) | np.uint32(index)


@njit(cache=True, nogil=True, inline="always")
def step_of(key):  # type: ignore[no-untyped-def]
    """Return the step of a key."""
    return key >> _STEP


@njit(cache=True, nogil=True, inline="always")
def input_of(key):  # type: ignore[no-untyped-def]
    """Return the input of a key."""
    return np.int64(key & _INPUT)


@njit(cache=True, nogil=True)
def find_spikes(times_I, first, last, silent, keys):  # type: ignore[no-untyped-def]
    """Write the keys of the inputs ``first ... last - 1`` that spike, by input; return how many.

    -1 if a time is not a whole step in ``0 ... silent``. Silent stretches cost one comparison per
    vector.
    """
    n = 0
    broken = np.int64(0)
    i = first
    while i + LANES <= last:
        spiking = below(times_I, i, silent)
        broken |= spiking >> 32
        spiking &= 0xFFFFFFFF
        while spiking:
            k = i + lowest_bit(spiking)
            spiking &= spiking - 1
            t = times_I[k]
            step = np.int32(t)
            broken |= np.int64(step < 0) | np.int64(np.float32(step) != t)
            keys[n] = key_of(step, k)
            n += 1
        i += LANES
    while i < last:
        t = times_I[i]
        broken |= np.int64(not t <= silent)
        if t < silent:
            step = np.int32(t)
            broken |= np.int64(step < 0) | np.int64(np.float32(step) != t)
            keys[n] = key_of(step, i)
            n += 1
        i += 1
    return -1 if broken else n


@njit(cache=True, nogil=True)
def _pass(keys, n, shift, buckets, counts, out):  # type: ignore[no-untyped-def]
    digit = np.uint32(buckets - 1)
    counts[:buckets] = 0
    for k in range(n):
        counts[(keys[k] >> shift) & digit] += 1
    total = np.int32(0)
    for d in range(buckets):
        count = counts[d]
        counts[d] = total
        total += count
    for k in range(n):
        key = keys[k]
        d = (key >> shift) & digit
        place = counts[d]
        counts[d] = place + 1
        out[place] = key


@njit(cache=True, nogil=True)
def sort_keys(keys, n, num_steps, spare, counts):  # type: ignore[no-untyped-def]
    """Return the array of `keys` and `spare` that holds the `n` keys in the order of time.

    Counting sort, so inputs keep their order within a step. The cost does not grow with the number of
    steps: many steps are sorted in two passes.

    Args:
        keys, spare: uint32, room for all inputs.
        counts: int32 ``(SCRATCH,)``.
    """
    bits = 0
    while (1 << bits) < num_steps:
        bits += 1
    if bits <= _ONE_PASS_BITS:
        _pass(keys, n, _STEP, 1 << bits, counts, spare)
        return spare
    half = (bits + 1) // 2
    _pass(keys, n, _STEP, 1 << half, counts, spare)
    _pass(spare, n, np.uint32(16 + half), 1 << half, counts, keys)
    return keys
