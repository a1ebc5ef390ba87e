"""Checking spike times in one pass, compiled with Numba."""

import numpy as np

from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled


@compiled
def _count_broken(times_N, num_steps, broken, begin, end):
    silent = np.float32(num_steps)
    found = np.int32(0)
    # A slice, and a sum instead of an early end: only so is the loop compiled to vectors.
    times = times_N[begin:end]
    for k in range(times.shape[0]):
        t = times[k]
        # Written so that NaN counts.
        integer = (t >= np.float32(0)) & (t <= silent) & (np.floor(t) == t)
        found += np.int32(not integer)
    if found > 0:
        broken[0] = True


@compiled
def _share_count(address, parts, size, arguments):
    return threads.share(address, parts, size, _count_broken, arguments)


def are_steps(times: np.ndarray, num_steps: int) -> bool:
    """Return whether all times are integer steps in ``0 ... num_steps``.

    Args:
        times: float32, C-contiguous, any shape.
        num_steps: ``T``.
    """
    broken = np.zeros(1, np.bool_)
    threads.run(_share_count, _count_broken, times.size, times.reshape(-1), num_steps, broken)
    return not broken[0]
