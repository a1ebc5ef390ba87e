"""Causal integrate-and-fire by events, fully connected, compiled with Numba.

Each input spike is visited once, in time order; it adds one row of weights to the membranes. A walk
keeps a block of membranes and spike times in vector registers and stops when all of them have fired, so the
cost is spikes x fan-out and does not depend on the number of steps.

Shape legend: B batch, I inputs, O outputs, T number of steps.
"""

import numpy as np

from firstspike.kernels import arrays
from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.gradients import dot_seen, store_steps, subtract_seen
from firstspike.kernels.cpu.order import (
    AHEAD,
    find_spikes,
    input_of,
    key_type,
    sort_spikes,
    sorting_room,
    step_of,
)
from firstspike.kernels.cpu.vectors import (
    CACHED,
    LANES,
    add_row,
    aligned,
    all_below,
    blocks,
    fill,
    first_crossing,
    lanes_of,
    load,
    pad_columns,
    prefetch,
    store,
    vectors_of,
)

# The weight gradient keeps blocks of gradients and spike times of so many samples in the first-level cache.
_GROUP = 32


@compiled(inline="always")
def walk(keys, first, last, membrane, out, weight_IO, threshold, silent, column):
    """Return the first crossings of one block of neurons, as a block of steps.

    Inlined, because a call counts the users of its arrays, which two threads would do in turn.

    Args:
        keys: input spikes in the order of time, the block's from `first` to before `last`; the array is
            `AHEAD` longer.
        membrane: the block before the first spike.
        out: `silent` in every lane, or an earlier step.
        weight_IO: float32, float64, or int8 where membranes have 16 bits.
        threshold: in the membranes' precision.
        silent: number of steps, int32, or int16 with integers.
        column: where the block begins in a row.
    """
    # Unsigned indices spare a test for negative ones.
    n_out, one, ahead = weight_IO.shape[1], np.uint64(1), np.uint64(AHEAD)
    k, last = np.uint64(first), np.uint64(last)
    if vectors_of(out) <= 4:
        # A wrongly guessed branch costs more than the test of a few vectors, so every spike is tested; what
        # crosses before the last one of its step does so at no step at all.
        while k < last:
            step = step_of(keys[k])
            membrane = add_row(membrane, weight_IO, input_of(keys[k]) * n_out + column)
            k += one
            now = step if k == last or step_of(keys[k]) != step else np.int64(silent)
            out = first_crossing(out, membrane, threshold, now)
            if k & np.uint64(15) == 0 and all_below(out, silent):
                break
    else:
        visits = 0
        while k < last:
            step = step_of(keys[k])
            # The weights do not fit into the first-level cache: rows are asked for before their use.
            prefetch(weight_IO, input_of(keys[k + ahead]) * n_out + column, out)
            membrane = add_row(membrane, weight_IO, input_of(keys[k]) * n_out + column)
            k += one
            while k < last and step_of(keys[k]) == step:
                prefetch(weight_IO, input_of(keys[k + ahead]) * n_out + column, out)
                membrane = add_row(membrane, weight_IO, input_of(keys[k]) * n_out + column)
                k += one
            out = first_crossing(out, membrane, threshold, step)
            visits += 1
            if visits & 15 == 0 and all_below(out, silent):
                break
    return out


@compiled(fastmath={"reassoc"})
def all_finite(weight_IO, first, last):
    """Return whether the rows ``first ... last - 1`` are finite; 0 times anything else is NaN."""
    total = weight_IO.dtype.type(0)
    for i in range(first, last):
        row = weight_IO[i]
        for j in range(row.shape[0]):
            total += row[j] * weight_IO.dtype.type(0)
    return total == 0


@compiled
def share_of(rows, samples, begin, end):
    """Return which rows, from the first to before the last, fall to a chunk of the samples."""
    samples = max(samples, 1)
    return rows * begin // samples, rows * end // samples


@compiled
def _forward(
    times_BI,
    weight_IO,
    start_O,
    threshold,
    silent,
    kind,
    size,
    width,
    out_BO,
    broken,
    begin,
    end,
):
    n_in, n_out = weight_IO.shape
    room = sorting_room(n_in, kind)
    if not all_finite(weight_IO, *share_of(n_in, times_BI.shape[0], begin, end)):
        broken[0] = True
        return
    for b in range(begin, end):
        keys, n = sort_spikes(times_BI[b], silent, room)
        if n < 0:
            broken[0] = True
            return
        for first in range(0, n_out, width):
            column = min(first, n_out - width)
            start, out = load(start_O, column, size), fill(silent, size)
            if n == 0 or step_of(keys[0]) > 0:
                # Before any spike those fire that start at the threshold.
                out = first_crossing(out, start, threshold, 0)
            out = walk(keys, 0, n, start, out, weight_IO, threshold, silent, column)
            store(out_BO, b * n_out + column, out)


@compiled
def _share_forward(address, parts, size, arguments):
    return threads.share(address, parts, size, _forward, arguments)


@compiled
def _weight_gradient(times_BI, crossing_BO, delta_BO, num_steps, kind, size, grad_IO, begin, end):
    """Add the gradient of the rows of the inputs ``begin ... end - 1``.

    The samples are taken in groups, their spikes turned into lists per input. A block of a row's
    gradient then stays in registers while the row's spikes are walked through, and the group's
    gradients stay in the cache.
    """
    size_B, n_out = delta_BO.shape
    width = len(size) * LANES
    silent = np.float32(num_steps)
    found = np.empty(max(end - begin, 1), kind)
    values, steps = aligned(_GROUP, width, delta_BO.dtype), aligned(_GROUP, width, np.uint16)
    if n_out == width:
        # One block: a row is read and written as often as a list would be.
        for b in range(size_B):
            store_steps(steps, 0, load(crossing_BO, b * n_out, size))
            store(values, 0, load(delta_BO, b * n_out, size))
            for k in range(find_spikes(times_BI[b], begin, end, silent, found)):
                place = input_of(found[k]) * n_out
                row = load(grad_IO, place, size)
                step = np.uint16(step_of(found[k]))
                store(grad_IO, place, subtract_seen(row, values, steps, 0, step))
        return
    count = np.empty(end - begin, np.uint64)
    when = np.empty((end - begin, _GROUP), np.uint16)
    which = np.empty((end - begin, _GROUP), np.uint16)
    for group in range(0, size_B, _GROUP):
        stop = min(group + _GROUP, size_B)
        count[:] = 0
        for b in range(group, stop):
            for k in range(find_spikes(times_BI[b], begin, end, silent, found)):
                i = np.uint64(input_of(found[k]) - begin)
                when[i, count[i]] = step_of(found[k])
                which[i, count[i]] = (b - group) * width
                count[i] += np.uint64(1)
        for first in range(0, n_out, width):
            column = min(first, n_out - width)
            for b in range(group, stop):
                place = (b - group) * width
                store_steps(steps, place, load(crossing_BO, b * n_out + column, size))
                store(values, place, load(delta_BO, b * n_out + column, size))
                if column < first:
                    # The block before has done these lanes.
                    values[b - group, : first - column] = 0
            for own in range(end - begin):
                if count[own] > 0:
                    place = (begin + own) * n_out + column
                    row = load(grad_IO, place, size)
                    for k in range(count[own]):
                        row = subtract_seen(row, values, steps, np.int64(which[own, k]), when[own, k])
                    store(grad_IO, place, row)


@compiled
def _share_weight_gradient(address, parts, size, arguments):
    return threads.share(address, parts, size, _weight_gradient, arguments)


@compiled
def _input_gradient(times_BI, weight_IO, crossing_BO, delta_BO, num_steps, kind, size, grad_BI, begin, end):
    n_in, n_out = weight_IO.shape
    width = len(size) * LANES
    silent = np.float32(num_steps)
    keys = np.empty(max(n_in, 1), kind)
    own = np.empty(width, delta_BO.dtype)
    for b in range(begin, end):
        n = find_spikes(times_BI[b], 0, n_in, silent, keys)
        grad = grad_BI[b]
        for first in range(0, n_out, width):
            column = min(first, n_out - width)
            for j in range(width):
                own[j] = delta_BO[b, column + j] if column + j >= first else 0
            delta = load(own, 0, size)
            crossing = load(crossing_BO, b * n_out + column, size)
            for k in range(n):
                i = input_of(keys[k])
                step = np.float32(step_of(keys[k]))
                grad[i] += dot_seen(weight_IO, i * n_out + column, delta, crossing, step)


@compiled
def _share_input_gradient(address, parts, size, arguments):
    return threads.share(address, parts, size, _input_gradient, arguments)


def forward(times_BI: np.ndarray, rows_IO: np.ndarray, threshold: float, num_steps: int) -> np.ndarray:
    """Return the first crossing ``V >= threshold`` of every neuron, ``T`` where there is none.

    Args:
        times_BI: integer steps ``(batch, in_features)``, float32, C-contiguous.
        rows_IO: weights ``(in_features, out_features)``, float32 or float64, C-contiguous, so that an
            input's row is one run.
        threshold: in the weights' precision.
        num_steps: ``T``.

    Returns:
        float32 ``(batch, out_features)``.

    Raises:
        ValueError: a time is not an integer step in ``0 ... T``, or a weight is NaN or infinite.
    """
    rows, number = pad_columns(rows_IO), rows_IO.dtype.type
    start, out = np.zeros(rows.shape[1], number), arrays.empty((len(times_BI), rows.shape[1]), np.float32)
    if not _crossings(times_BI, rows, start, number(threshold), np.int32(num_steps), out):
        raise ValueError(f"times must be integer steps 0 ... {num_steps}, weights finite")
    return np.ascontiguousarray(out[:, : rows_IO.shape[1]])


def forward_integers(
    times_BI: np.ndarray, rows_IO: np.ndarray, level_O: np.ndarray, num_steps: int
) -> np.ndarray:
    """Return the first step at which every neuron's sum is at its level, ``T`` where there is none.

    Args:
        times_BI: integer steps ``(batch, in_features)``, float32, C-contiguous.
        rows_IO: weights int8 ``(in_features, out_features)``, C-contiguous.
        level_O: int16 ``(out_features,)``; no sum minus its level may leave 16 bits on the way.
        num_steps: ``T``, at most 32,767.

    Returns:
        float32 ``(batch, out_features)``.

    Raises:
        ValueError: a time is not an integer step in ``0 ... T``.
    """
    rows = pad_columns(rows_IO)
    # What pads them never fires.
    start, out = (
        np.full(rows.shape[1], -1, np.int16),
        arrays.empty((len(times_BI), rows.shape[1]), np.float32),
    )
    start[: len(level_O)] = -level_O
    if not _crossings(times_BI, rows, start, np.int16(0), np.int16(num_steps), out):
        raise ValueError(f"times must be integer steps 0 ... {num_steps}")
    return np.ascontiguousarray(out[:, : rows_IO.shape[1]])


def _crossings(
    times_BI: np.ndarray,
    rows_IO: np.ndarray,
    start_O: np.ndarray,
    threshold: np.generic,
    silent: np.generic,
    out_BO: np.ndarray,
) -> bool:
    """Write the first crossings; return whether all times are steps and all weights finite."""
    broken = np.zeros(1, np.bool_)
    size, kind = blocks(rows_IO), key_type(len(rows_IO))
    width = len(size) * lanes_of(rows_IO)
    arguments = times_BI, rows_IO, start_O, threshold, silent, kind, size, width, out_BO, broken
    threads.run(_share_forward, _forward, len(times_BI), *arguments)
    return not broken[0]


def weight_gradient(
    times_BI: np.ndarray, crossing_BO: np.ndarray, delta_BO: np.ndarray, num_steps: int
) -> np.ndarray:
    """Return ``dL/dw`` ``(in_features, out_features)``: minus the sum of masked gradients.

    Spiking-GAN Eq. 14. An input reaches the neurons that cross at or after its spike; a silent one none.
    The sum does not depend on the number of threads.
    """
    n_in, n_out = times_BI.shape[1], delta_BO.shape[1]
    delta, crossing = pad_columns(delta_BO), pad_columns(crossing_BO)
    grad = arrays.zeros((n_in, delta.shape[1]), delta.dtype)
    arguments = times_BI, crossing, delta, num_steps, key_type(n_in), blocks(delta, CACHED), grad
    threads.run(_share_weight_gradient, _weight_gradient, n_in, *arguments)
    return grad[:, :n_out]


def input_gradient(
    times_BI: np.ndarray,
    rows_IO: np.ndarray,
    crossing_BO: np.ndarray,
    delta_BO: np.ndarray,
    num_steps: int,
) -> np.ndarray:
    """Return ``dL/dt_i`` ``(batch, in_features)``: masked gradients through the weights, Eq. 15."""
    grad = np.zeros(times_BI.shape, delta_BO.dtype)
    rows, delta, crossing = (pad_columns(array) for array in (rows_IO, delta_BO, crossing_BO))
    size = blocks(rows, CACHED)
    arguments = times_BI, rows, crossing, delta, num_steps, key_type(len(rows)), size, grad
    threads.run(_share_input_gradient, _input_gradient, len(times_BI), *arguments)
    return grad
