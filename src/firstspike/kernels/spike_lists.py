"""The spikes of single images as lists in the order of time, then of input.

Shape legend: M images, I inputs, N spikes.
"""

import numpy as np
from numba import njit

_BLOCK = 16
_DIGIT = 256


@njit(cache=True, nogil=True)
def count_spikes(times_I, num_steps):  # type: ignore[no-untyped-def]
    """Return how many inputs spike; -1 if a time is not a whole step in ``0 ... num_steps``."""
    silent = np.float32(num_steps)
    spikes, broken = np.int32(0), np.int32(0)
    for i in range(times_I.shape[0]):
        t = times_I[i]
        spikes += np.int32(t < silent)
        # NaN is in no order, so it fails the first two.
        broken |= np.int32(not t >= 0) | np.int32(not t <= silent) | np.int32(np.floor(t) != t)
    return -1 if broken else spikes


@njit(cache=True, nogil=True)
def _by_digit(shift, n, row, when, place, out_row, out_when):  # type: ignore[no-untyped-def]
    """One stable pass of a radix sort, by eight bits of the step."""
    place[:] = 0
    for k in range(n):
        place[((when[k] >> shift) & (_DIGIT - 1)) + 1] += 1
    for digit in range(_DIGIT):
        place[digit + 1] += place[digit]
    for k in range(n):
        digit = (when[k] >> shift) & (_DIGIT - 1)
        out_row[place[digit]] = row[k]
        out_when[place[digit]] = when[k]
        place[digit] += 1


@njit(cache=True, nogil=True)
def list_spikes(times_I, num_steps, spare_row, spare_when, place, row, when):  # type: ignore[no-untyped-def]
    """Fill `row` and `when` with the inputs that spike and their steps; return how many.

    The cost is the inputs' and the spikes', not the steps'. Times must be whole steps.

    Args:
        times_I: float32.
        num_steps: ``T``, at most 65,536.
        spare_row, spare_when: room for the inputs, int32.
        place: int32 ``(257,)``.
        row, when: room for the spikes.
    """
    n_in = times_I.shape[0]
    silent = np.float32(num_steps)
    two_passes = num_steps > _DIGIT
    first_row, first_when = spare_row, spare_when
    n = 0
    for begin in range(0, n_in, _BLOCK):
        end = min(begin + _BLOCK, n_in)
        spiking = np.int32(0)
        for i in range(begin, end):
            spiking |= np.int32(times_I[i] < silent)
        if spiking:
            for i in range(begin, end):
                if times_I[i] < silent:
                    first_row[n] = i
                    first_when[n] = np.int32(times_I[i])
                    n += 1
    _by_digit(0, n, first_row, first_when, place, row, when)
    if two_passes:
        first_row[:n] = row[:n]
        first_when[:n] = when[:n]
        _by_digit(8, n, first_row, first_when, place, row, when)
    return n


@njit(cache=True, nogil=True)
def _count_all(times_MI, num_steps, start_M):  # type: ignore[no-untyped-def]
    for m in range(times_MI.shape[0]):
        count = count_spikes(times_MI[m], num_steps)
        if count < 0:
            return False
        start_M[m + 1] = start_M[m] + count
    return True


@njit(cache=True, nogil=True)
def _list_all(times_MI, num_steps, start_M, row_N, when_N):  # type: ignore[no-untyped-def]
    n_in = times_MI.shape[1]
    spare_row, spare_when = np.empty(n_in, np.int32), np.empty(n_in, np.int32)
    place = np.empty(_DIGIT + 1, np.int32)
    for m in range(times_MI.shape[0]):
        own = slice(start_M[m], start_M[m + 1])
        list_spikes(times_MI[m], num_steps, spare_row, spare_when, place, row_N[own], when_N[own])


def list_images(times_MI: np.ndarray, num_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the spikes of all images, image after image: input, step, and where each image starts.

    Args:
        times_MI: float32 ``(images, in_features)``, C-contiguous.
        num_steps: ``T``, at most 65,535.

    Returns:
        inputs uint16 (uint32 if there are more than 65,536) ``(N,)``, steps uint16 ``(N,)`` and starts
        int64 ``(images + 1,)``.

    Raises:
        ValueError: a time is NaN, not whole or outside ``0 ... T``.
    """
    start = np.zeros(len(times_MI) + 1, np.int64)
    if not _count_all(times_MI, num_steps, start):
        raise ValueError(f"times must be whole steps 0 ... {num_steps}")
    row = np.empty(start[-1], np.uint16 if times_MI.shape[1] <= 1 << 16 else np.uint32)
    when = np.empty(start[-1], np.uint16)
    _list_all(times_MI, num_steps, start, row, when)
    return row, when, start
