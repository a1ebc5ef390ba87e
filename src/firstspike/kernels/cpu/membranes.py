"""Membranes in memory, for single images, where few rows are added at a time.

A row's last vector may reach into what follows the row there: arrays of weights end with `LANES` spare
elements, and membranes and steps are as long as `padded` says. For compiled code only.
"""

import numpy as np

from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.vectors import LANES, add_row, load, lowest_bit, reached, store, take_row

# A block of one vector.
_ONE = (0,)


@compiled
def padded(size):
    """Return `size` rounded up to full vectors."""
    return (size + LANES - 1) // LANES * LANES


@compiled
def add_rows(flat, start, row, first, last, membrane, n_out, limit, found, count):
    """Add the rows of the spikes of one step, then append to `found` who crossed; return the new count.

    Membranes of those who crossed are set to minus infinity, so that they never cross again.

    Args:
        flat: weights; the row of input ``i`` is the `n_out` elements from ``start + i n_out`` on.
        start: where this layer's weights begin.
        row: inputs in the order of time.
        first, last: the step's spikes, ``row[first:last]``, one or more.
        membrane: ``(padded(n_out),)``.
        n_out: how many neurons there are.
        limit: a neuron crosses at or above it, looked at after the last row.
        found, count: who crossed before, and how many; who crosses now is appended in ascending order.
    """
    k = first
    # Four rows per pass: the membranes are loaded and stored once for all of them.
    while k + 4 < last:
        one, two = start + np.int64(row[k]) * n_out, start + np.int64(row[k + 1]) * n_out
        three, four = start + np.int64(row[k + 2]) * n_out, start + np.int64(row[k + 3]) * n_out
        for j in range(0, n_out, LANES):
            held = add_row(add_row(load(membrane, j, _ONE), flat, one + j), flat, two + j)
            store(membrane, j, add_row(add_row(held, flat, three + j), flat, four + j))
        k += 4
    while k + 1 < last:
        one = start + np.int64(row[k]) * n_out
        for j in range(0, n_out, LANES):
            store(membrane, j, add_row(load(membrane, j, _ONE), flat, one + j))
        k += 1
    one = start + np.int64(row[k]) * n_out
    for j in range(0, n_out, LANES):
        held = add_row(load(membrane, j, _ONE), flat, one + j)
        store(membrane, j, held)
        bits = reached(held, limit)
        if j + LANES > n_out:
            bits &= (1 << (n_out - j)) - 1
        while bits:
            neuron = j + lowest_bit(bits)
            bits &= bits - 1
            membrane[neuron] = -np.inf
            found[count] = neuron
            count += 1
    return count


@compiled
def subtract_row(flat, start, n_out, step):
    """``row -= step`` of the row of `n_out` elements from `start` on; `step` ends with zeros (`padded`)."""
    for j in range(0, n_out, LANES):
        store(flat, start + j, take_row(load(flat, start + j, _ONE), step, j))


@compiled
def run_length(size):
    """Return the room for a run of `size` membranes that `add_run` adds to, in elements."""
    return padded(size) if size >= LANES // 2 else size


@compiled
def add_run(flat, start, membrane, at, size, limit):
    """Add `size` weights from `start` on to the membranes from `at` on; return whether one is at `limit`.

    The membranes have the room that `run_length` says.
    """
    reach = np.int64(0)
    if size < LANES // 2:
        for j in range(size):
            value = membrane[at + j] + flat[start + j]
            membrane[at + j] = value
            reach |= np.int64(value >= limit)
        return reach != 0
    for j in range(0, size, LANES):
        held = add_row(load(membrane, at + j, _ONE), flat, start + j)
        store(membrane, at + j, held)
        bits = reached(held, limit)
        reach |= bits if j + LANES <= size else bits & ((1 << (size - j)) - 1)
    return reach != 0
