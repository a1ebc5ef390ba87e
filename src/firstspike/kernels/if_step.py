"""Causal integrate-and-fire with the step synapse, by events, compiled with Numba.

Each input spike is visited once, in time order; it adds one row of weights to the membranes. The walk
stops when every neuron has fired, so the cost is spikes x fan-out and does not depend on the number
of steps.

There are two forms with the same results. The fast one keeps a block of membranes and spike times in
vector registers while it walks. The plain one, for double precision, soft masks, peaks and more than
65,536 inputs, keeps them in memory.

Shape legend: B batch, I inputs, O outputs, T number of steps.
"""

import numpy as np
from numba import njit

from firstspike.kernels import team
from firstspike.kernels.chunks import run_chunks, sum_chunks
from firstspike.kernels.order import (
    MAX_INPUTS,
    SCRATCH,
    InvalidInput,
    find_spikes,
    input_of,
    sort_keys,
    step_of,
)
from firstspike.kernels.vectors import (
    LANES,
    add_row,
    all_below,
    blocks,
    dot_seen,
    fill,
    first_crossing,
    load,
    pad_columns,
    prefetch,
    store,
    store_steps,
    subtract_seen,
)

_REASSOCIATE = {"reassoc", "contract", "nsz"}
# The weights do not fit into the first-level cache: rows are asked for so many spikes before their use.
AHEAD = 2
# The weight gradient keeps blocks of gradients and spike times of so many samples in the first-level
# cache, so its blocks are smaller; the input gradient holds three blocks in registers.
_GROUP = 32
_CACHED = 7


@njit(cache=True, nogil=True)
def walk(keys, n, weight_IO, threshold, silent, column, out_O, place, size):  # type: ignore[no-untyped-def]
    """Write the first crossings of one block of neurons to ``out_O[place:]``.

    Args:
        keys, n: input spikes in the order of time; the array is `AHEAD` longer than they.
        weight_IO: float32; the block begins at `column`.
        threshold, silent: float32.
        size: number of vectors, as a tuple of that length.
    """
    n_out = weight_IO.shape[1]
    membrane = fill(np.float32(0), size)
    out = fill(silent, size)
    if len(size) <= 4:
        # A wrongly guessed branch costs more than the test of a few vectors, so every spike is tested; the
        # threshold is out of reach until the last of its step.
        unreachable = np.float32(np.inf)
        for k in range(n):
            step = step_of(keys[k])
            membrane = add_row(membrane, weight_IO, input_of(keys[k]) * n_out + column)
            limit = threshold if k + 1 == n or step_of(keys[k + 1]) != step else unreachable
            out = first_crossing(out, membrane, limit, np.float32(step))
            if k & 15 == 15 and all_below(out, silent):
                break
        store(out_O, place, out)
        return
    k = 0
    visits = 0
    while k < n:
        step = step_of(keys[k])
        prefetch(weight_IO, input_of(keys[k + AHEAD]) * n_out + column, size)
        membrane = add_row(membrane, weight_IO, input_of(keys[k]) * n_out + column)
        k += 1
        while k < n and step_of(keys[k]) == step:
            prefetch(weight_IO, input_of(keys[k + AHEAD]) * n_out + column, size)
            membrane = add_row(membrane, weight_IO, input_of(keys[k]) * n_out + column)
            k += 1
        out = first_crossing(out, membrane, threshold, np.float32(step))
        visits += 1
        if visits & 15 == 0 and all_below(out, silent):
            break
    store(out_O, place, out)


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _all_finite(weight_IO, first, last):  # type: ignore[no-untyped-def]
    """Return whether the rows ``first ... last - 1`` are finite; 0 times anything else is NaN."""
    total = weight_IO.dtype.type(0)
    for i in range(first, last):
        row = weight_IO[i]
        for j in range(row.shape[0]):
            total += row[j] * weight_IO.dtype.type(0)
    return total == 0


@njit(cache=True, nogil=True)
def _share_of(rows, samples, begin, end):  # type: ignore[no-untyped-def]
    samples = max(samples, 1)
    return rows * begin // samples, rows * end // samples


@njit(cache=True, nogil=True)
def _forward(times_BI, weight_IO, threshold, num_steps, size, out_BO, broken, begin, end):  # type: ignore[no-untyped-def]
    n_in, n_out = weight_IO.shape
    width = len(size) * LANES
    silent = np.float32(num_steps)
    keys, spare = np.empty(n_in + AHEAD, np.uint32), np.empty(n_in + AHEAD, np.uint32)
    counts = np.empty(SCRATCH, np.int32)
    if not _all_finite(weight_IO, *_share_of(n_in, times_BI.shape[0], begin, end)):
        broken[0] = True
        return
    for b in range(begin, end):
        n = find_spikes(times_BI[b], 0, n_in, silent, keys)
        if n < 0:
            broken[0] = True
            return
        ordered = sort_keys(keys, n, num_steps, spare, counts)
        for first in range(0, n_out, width):
            column = min(first, n_out - width)
            walk(ordered, n, weight_IO, threshold, silent, column, out_BO, b * n_out + column, size)


@njit(cache=True, nogil=True)
def _weight_gradient(times_BI, crossing_BO, delta_BO, num_steps, size, grad_IO, begin, end):  # type: ignore[no-untyped-def]
    """Add the gradient of the rows of the inputs ``begin ... end - 1``, hard mask.

    The samples are taken in groups, their spikes turned into lists per input. A block of a row's
    gradient then stays in registers while the row's spikes are walked through, and the group's
    gradients stay in the cache.
    """
    size_B, n_out = delta_BO.shape
    width = len(size) * LANES
    silent = np.float32(num_steps)
    found = np.empty(end - begin, np.uint32)
    values = np.empty((_GROUP, width), np.float32)
    steps = np.empty((_GROUP, width), np.uint16)
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


@njit(cache=True, nogil=True)
def _input_gradient(  # type: ignore[no-untyped-def]
    times_BI, weight_IO, crossing_BO, delta_BO, num_steps, size, grad_BI, begin, end
):
    n_in, n_out = weight_IO.shape
    width = len(size) * LANES
    silent = np.float32(num_steps)
    keys = np.empty(n_in, np.uint32)
    own = np.empty(width, np.float32)
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


@njit(cache=True, nogil=True)
def _share_forward(address, parts, size, arguments):  # type: ignore[no-untyped-def]
    return team.share(address, parts, size, _forward, arguments)


@njit(cache=True, nogil=True)
def _share_weight_gradient(address, parts, size, arguments):  # type: ignore[no-untyped-def]
    return team.share(address, parts, size, _weight_gradient, arguments)


@njit(cache=True, nogil=True)
def _share_input_gradient(address, parts, size, arguments):  # type: ignore[no-untyped-def]
    return team.share(address, parts, size, _input_gradient, arguments)


@njit(cache=True, nogil=True)
def sort_spikes(times_I, num_steps, starts, order):  # type: ignore[no-untyped-def]
    """Fill `order` with the inputs by time, then index; `starts[t]` is the first one at step t."""
    starts[:] = 0
    for i in range(times_I.shape[0]):
        starts[int(times_I[i]) + 1] += 1
    for t in range(num_steps + 1):
        starts[t + 1] += starts[t]
    for i in range(times_I.shape[0]):
        t = int(times_I[i])
        order[starts[t]] = i
        starts[t] += 1
    for t in range(num_steps + 1, 0, -1):
        starts[t] = starts[t - 1]
    starts[0] = 0


@njit(cache=True, nogil=True)
def _plain_forward(times_BI, weight_IO, threshold, num_steps, peak_BO, out_BO, broken, begin, end):  # type: ignore[no-untyped-def]
    n_in, n_out = weight_IO.shape
    starts = np.empty(num_steps + 2, np.int32)
    order = np.empty(n_in, np.int32)
    membrane = np.empty(n_out, weight_IO.dtype)
    want_peak = peak_BO.shape[0] > 0
    if not _all_finite(weight_IO, *_share_of(n_in, times_BI.shape[0], begin, end)):
        broken[0] = True
        return
    for b in range(begin, end):
        for i in range(n_in):
            if not 0 <= times_BI[b, i] <= num_steps or times_BI[b, i] != np.floor(times_BI[b, i]):
                broken[0] = True
                return
        sort_spikes(times_BI[b], num_steps, starts, order)
        membrane[:] = 0
        out = out_BO[b]
        out[:] = num_steps
        silent = n_out
        for t in range(num_steps):
            first, last = starts[t], starts[t + 1]
            if first == last:
                continue
            for k in range(first, last):
                row = weight_IO[order[k]]
                for j in range(n_out):
                    membrane[j] += row[j]
            for j in range(n_out):
                if membrane[j] >= threshold and out[j] == num_steps:
                    out[j] = t
                    silent -= 1
            if want_peak:
                peak = peak_BO[b]
                for j in range(n_out):
                    peak[j] = max(peak[j], membrane[j])
            elif silent == 0:
                break


@njit(cache=True, nogil=True)
def _mask_gradient(delta, crossing, t, power, masked):  # type: ignore[no-untyped-def]
    """Fill `masked` with the gradient that an input at step t sees; return whether any is left."""
    alive = False
    for j in range(delta.shape[0]):
        late = t - crossing[j]
        if late <= 0:
            masked[j] = delta[j]
            alive = True
        else:
            masked[j] = delta[j] * power[int(late)]
    return alive or power[1] > 0


@njit(cache=True, nogil=True)
def _plain_weight_gradient(times_BI, crossing_BO, delta_BO, num_steps, power, grad_IO, begin, end):  # type: ignore[no-untyped-def]
    n_in, n_out = grad_IO.shape
    starts = np.empty(num_steps + 2, np.int32)
    order = np.empty(n_in, np.int32)
    masked = np.empty(n_out, delta_BO.dtype)
    for b in range(begin, end):
        sort_spikes(times_BI[b], num_steps, starts, order)
        for t in range(num_steps):
            first, last = starts[t], starts[t + 1]
            if first == last:
                continue
            if not _mask_gradient(delta_BO[b], crossing_BO[b], t, power, masked):
                break
            for k in range(first, last):
                row = grad_IO[order[k]]
                for j in range(n_out):
                    row[j] -= masked[j]


@njit(cache=True, nogil=True, fastmath=_REASSOCIATE)
def _plain_input_gradient(  # type: ignore[no-untyped-def]
    times_BI, weight_IO, crossing_BO, delta_BO, num_steps, power, grad_BI, begin, end
):
    n_in, n_out = weight_IO.shape
    starts = np.empty(num_steps + 2, np.int32)
    order = np.empty(n_in, np.int32)
    masked = np.empty(n_out, delta_BO.dtype)
    last_step = num_steps if power[1] > 0 else num_steps - 1
    for b in range(begin, end):
        sort_spikes(times_BI[b], num_steps, starts, order)
        for t in range(last_step + 1):
            first, last = starts[t], starts[t + 1]
            if first == last:
                continue
            if not _mask_gradient(delta_BO[b], crossing_BO[b], t, power, masked):
                break
            for k in range(first, last):
                row = weight_IO[order[k]]
                total = delta_BO.dtype.type(0)
                for j in range(n_out):
                    total += row[j] * masked[j]
                grad_BI[b, order[k]] = total


def forward(
    times_BI: np.ndarray, weight_IO: np.ndarray, threshold: float, num_steps: int, want_peak: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first crossing ``V >= threshold`` of every neuron, ``T`` where there is none.

    Args:
        times_BI: whole steps ``(batch, in_features)``, float32, C-contiguous.
        weight_IO: ``(in_features, out_features)``, C-contiguous, so that an input's row is one run.
        threshold: in the weights' precision.
        num_steps: ``T``.
        want_peak: also return the highest membrane, taken without reset; forbids the early stop.

    Returns:
        crossings ``(batch, out_features)`` and peaks of that shape (empty if not wanted).

    Raises:
        InvalidInput: a time is not a whole step in ``0 ... T``, or a weight is NaN or infinite.
    """
    batch, n_out = len(times_BI), weight_IO.shape[1]
    limit = weight_IO.dtype.type(threshold)
    broken = np.zeros(1, np.bool_)
    if _is_fast(times_BI, weight_IO.dtype) and not want_peak:
        rows = pad_columns(weight_IO)
        out = np.empty((batch, rows.shape[1]), np.float32)
        size = blocks(rows.shape[1])
        team.run(
            _share_forward,
            _forward,
            batch,
            times_BI,
            rows,
            limit,
            num_steps,
            size,
            out,
            broken,
        )
        peak = np.empty((0, 0), weight_IO.dtype)
    else:
        out = np.empty((batch, n_out), np.float32)
        peak = np.zeros((batch, n_out) if want_peak else (0, 0), weight_IO.dtype)
        run_chunks(
            lambda _, begin, end: _plain_forward(
                times_BI, weight_IO, limit, num_steps, peak, out, broken, begin, end
            ),
            batch,
        )
    if broken[0]:
        raise InvalidInput(f"times must be whole steps 0 ... {num_steps}, weights finite")
    return np.ascontiguousarray(out[:, :n_out]), peak


def weight_gradient(
    times_BI: np.ndarray,
    crossing_BO: np.ndarray,
    delta_BO: np.ndarray,
    num_steps: int,
    decay: float,
) -> np.ndarray:
    """Return ``dL/dw`` ``(in_features, out_features)``: minus the sum of masked gradients, Eq. 14.

    Under the hard mask (a `decay` of 0) in single precision the sum does not depend on the number of
    threads.
    """
    n_in, n_out = times_BI.shape[1], delta_BO.shape[1]
    if decay == 0 and _is_fast(times_BI, delta_BO.dtype):
        delta, crossing = pad_columns(delta_BO), pad_columns(crossing_BO)
        grad = np.zeros((n_in, delta.shape[1]), np.float32)
        size = blocks(delta.shape[1], _CACHED)
        team.run(
            _share_weight_gradient,
            _weight_gradient,
            n_in,
            times_BI,
            crossing,
            delta,
            num_steps,
            size,
            grad,
        )
        return grad[:, :n_out]
    power = powers(decay, num_steps, delta_BO.dtype)
    return sum_chunks(
        lambda part, begin, end: _plain_weight_gradient(
            times_BI, crossing_BO, delta_BO, num_steps, power, part, begin, end
        ),
        len(times_BI),
        (n_in, n_out),
        delta_BO.dtype,
    )


def input_gradient(
    times_BI: np.ndarray,
    weight_IO: np.ndarray,
    crossing_BO: np.ndarray,
    delta_BO: np.ndarray,
    num_steps: int,
    decay: float,
) -> np.ndarray:
    """Return ``dL/dt_i`` ``(batch, in_features)``: masked gradients through the weights, Eq. 15."""
    grad = np.zeros(times_BI.shape, delta_BO.dtype)
    if decay == 0 and _is_fast(times_BI, delta_BO.dtype):
        rows, delta, crossing = (pad_columns(array) for array in (weight_IO, delta_BO, crossing_BO))
        size = blocks(rows.shape[1], _CACHED)
        team.run(
            _share_input_gradient,
            _input_gradient,
            len(times_BI),
            times_BI,
            rows,
            crossing,
            delta,
            num_steps,
            size,
            grad,
        )
        return grad
    power = powers(decay, num_steps, delta_BO.dtype)
    run_chunks(
        lambda _, begin, end: _plain_input_gradient(
            times_BI, weight_IO, crossing_BO, delta_BO, num_steps, power, grad, begin, end
        ),
        len(times_BI),
    )
    return grad


def _is_fast(times_BI: np.ndarray, precision: np.dtype) -> bool:
    return precision == np.float32 and times_BI.shape[1] <= MAX_INPUTS


def powers(decay: float, num_steps: int, dtype: np.dtype) -> np.ndarray:
    """Return the mask at every lateness in steps ``0 ... T``."""
    return (float(decay) ** np.arange(num_steps + 1)).astype(dtype)
