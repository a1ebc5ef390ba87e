"""Input spikes in the order of time: what every event-driven kernel walks through.

A spike is one key, its step in the upper half and its input in the lower one, so that a walk reads one
number per spike and sorted keys are in the order of time, then of input. Keys have 32 bits, or 64 where
there are more than 65,536 inputs (`key_type`). Steps are below 65,536. For compiled code, `key_type` apart.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.vectors import LANES, below, lowest_bit

# Up to this many bits of the step are sorted in one pass; clearing more buckets costs more than a pass.
_ONE_PASS_BITS = 9
# Spare places after the keys, for walks that look so many spikes ahead.
AHEAD = 2


def key_type(inputs: int) -> np.dtype:
    """Return the type of the keys of spikes of so many inputs."""
    return np.dtype(np.uint32 if inputs <= 1 << 16 else np.uint64)


@intrinsic
def _half(typingctx: Any, key: Any) -> Any:
    """Return half the number of bits of a key."""

    def codegen(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(64), key.bitwidth // 2)

    return types.uint64(key), codegen


@compiled(inline="always")
def step_of(key):
    """Return the step of a key."""
    return np.int64(key >> _half(key))


@compiled(inline="always")
def input_of(key):
    """Return the input of a key."""
    return np.int64(key & ((np.uint64(1) << _half(key)) - np.uint64(1)))


@compiled(inline="always")
def first_key(step, like):
    """Return the key of a step and input 0, as an uint64; inputs are added to it."""
    return np.uint64(step) << _half(like)


@compiled
def find_spikes(times_I, first, last, silent, keys):
    """Write the keys of the inputs ``first ... last - 1`` that spike, by input; return how many.

    -1 if a time is not an integer step in ``0 ... silent``. Silent stretches cost one comparison per
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
            keys[n] = first_key(step, keys[0]) | np.uint64(k)
            n += 1
        i += LANES
    while i < last:
        t = times_I[i]
        broken |= np.int64(not t <= silent)
        if t < silent:
            step = np.int32(t)
            broken |= np.int64(step < 0) | np.int64(np.float32(step) != t)
            keys[n] = first_key(step, keys[0]) | np.uint64(i)
            n += 1
        i += 1
    return -1 if broken else n


@compiled
def _pass(keys, n, shift, buckets, counts, out):
    digit = np.uint64(buckets - 1)
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


@compiled
def sorting_room(inputs, kind):
    """Return the arrays that `sort_spikes` needs for so many inputs with keys of type `kind`."""
    return (
        np.empty(inputs + AHEAD, kind),
        np.empty(inputs + AHEAD, kind),
        np.empty(2 << _ONE_PASS_BITS, np.int32),
    )


@compiled
def sort_spikes(times_I, num_steps, room):
    """Return the keys of the inputs that spike, in the order of time, then of input; and how many.

    The number is -1 if a time is not an integer step in ``0 ... num_steps``. Counting sort, whose cost is
    the spikes' and does not grow with the number of steps: many steps are sorted in two passes. The array
    is one of those of `room`, and `AHEAD` longer than the inputs.
    """
    keys, spare, counts = room
    n = find_spikes(times_I, 0, times_I.shape[0], np.float32(num_steps), keys)
    bits = 0
    while (1 << bits) < num_steps:
        bits += 1
    half = _half(keys[0])
    if bits <= _ONE_PASS_BITS:
        _pass(keys, n, half, 1 << bits, counts, spare)
        return spare, n
    low = (bits + 1) // 2
    _pass(keys, n, half, 1 << low, counts, spare)
    _pass(spare, n, half + np.uint64(low), 1 << low, counts, keys)
    return keys, n
