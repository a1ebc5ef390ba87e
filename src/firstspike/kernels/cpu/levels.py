"""Causal integrate-and-fire, watched at a few steps, compiled with Numba.

The forward pass is that of `firstspike.kernels.cpu.linear`; on its way it writes down the running maximum
of every membrane at the steps called levels, from which a gradient is made. Cost and memory grow with
spikes and levels, not with the number of steps.

Shape legend: B batch, I inputs, O outputs, K levels, T steps.
"""

import numpy as np

from firstspike.kernels import arrays
from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.gradients import add_fast_sigmoid, where_equal
from firstspike.kernels.cpu.linear import all_finite, share_of
from firstspike.kernels.cpu.order import (
    find_spikes,
    input_of,
    key_type,
    sort_spikes,
    sorting_room,
    step_of,
)
from firstspike.kernels.cpu.surrogates import SURROGATES, times_surrogate
from firstspike.kernels.cpu.vectors import (
    CACHED,
    LANES,
    MOST,
    add_row,
    aligned,
    blocks,
    fill,
    first_crossing_row,
    larger_row,
    load,
    pad_columns,
    store,
)

_REASSOCIATE = {"reassoc", "contract", "nsz", "arcp"}
# Sums at the levels of so many samples, and of at most so many bytes, stay in the second-level cache.
_GROUP, _SUMS = 32, 1 << 17
_FAST_SIGMOID = SURROGATES.index("fast_sigmoid")


@compiled
def _forward(
    times_BI,
    weight_IO,
    threshold_BO,
    levels_K,
    num_steps,
    kind,
    size,
    out_BO,
    peak_BKO,
    broken,
    begin,
    end,
):
    n_in, n_out = weight_IO.shape
    width = len(size) * LANES
    room = sorting_room(n_in, kind)
    if not all_finite(weight_IO, *share_of(n_in, times_BI.shape[0], begin, end)):
        broken[0] = True
        return
    nothing, never = fill(np.float32(0), size), fill(np.int32(num_steps), size)
    for b in range(begin, end):
        keys, n = sort_spikes(times_BI[b], num_steps, room)
        if n < 0:
            broken[0] = True
            return
        for first in range(0, n_out, width):
            column = min(first, n_out - width)
            place = b * n_out + column
            membrane, out = nothing, never
            peak = b * levels_K.shape[0] * n_out + column
            p = k = 0
            while True:
                step = step_of(keys[p]) if p < n else num_steps
                while k < levels_K.shape[0] and levels_K[k] < step:
                    highest = larger_row(membrane, peak_BKO, peak - n_out) if k else membrane
                    store(peak_BKO, peak, highest)
                    peak += n_out
                    k += 1
                if p >= n:
                    break
                while p < n and step_of(keys[p]) == step:
                    membrane = add_row(membrane, weight_IO, input_of(keys[p]) * n_out + column)
                    p += 1
                out = first_crossing_row(out, membrane, threshold_BO, place, step)
            store(out_BO, place, out)


@compiled
def _share_forward(address, parts, size, arguments):
    return threads.share(address, parts, size, _forward, arguments)


@compiled(fastmath=_REASSOCIATE)
def _membrane_gradient(grad_BKO, peak_BKO, threshold_BO, scale, out_BKO, begin, end):
    n_level, n_out = grad_BKO.shape[1:]
    zero = np.float32(0)
    distance, later = np.empty(n_out, np.float32), np.empty(n_out, np.float32)
    for b in range(begin, end):
        threshold = threshold_BO[b]
        later[:] = zero
        for k in range(n_level - 1, -1, -1):
            peak, out = peak_BKO[b, k], out_BKO[b, k]
            for j in range(n_out):
                distance[j] = peak[j] - threshold[j]
            times_surrogate(_FAST_SIGMOID, grad_BKO[b, k], distance, scale, out)
            if k == 0:
                for j in range(n_out):
                    out[j] += later[j]
                continue
            before = peak_BKO[b, k - 1]
            for j in range(n_out):
                total = out[j] + later[j]
                held = peak[j] == before[j]
                later[j] = total if held else zero
                out[j] = zero if held else total


@compiled
def _share_membrane_gradient(address, parts, size, arguments):
    return threads.share(address, parts, size, _membrane_gradient, arguments)


@compiled
def _weight_gradient(
    times_BI,
    grad_BKO,
    peak_BKO,
    threshold_BO,
    steep,
    level_T,
    kind,
    size,
    together,
    grad_IO,
    begin,
    end,
):
    """Add the gradient of the columns of the blocks ``begin ... end - 1`` of neurons.

    The samples are taken in groups, their spikes turned into lists per input. A block of a row's gradient
    then stays in registers while it collects the sums at the levels of its input's spikes.
    """
    n_in, n_out = grad_IO.shape
    n_level, width = grad_BKO.shape[1], len(size) * LANES
    silent = np.float32(level_T.shape[0])
    found = np.empty(n_in, kind)
    count, where = np.empty(n_in, np.uint64), np.empty((n_in, together), np.uint32)
    sums, nothing = aligned(together * n_level, width, np.float32), fill(np.float32(0), size)
    # The last block is moved back over the one before, so both are one thread's.
    whole = max(n_out // width, 1)
    last = end + 1 if end == whole and whole * width < n_out else end
    for group in range(0, times_BI.shape[0], together):
        stop = min(group + together, times_BI.shape[0])
        count[:] = 0
        for b in range(group, stop):
            for k in range(find_spikes(times_BI[b], 0, n_in, silent, found)):
                level = level_T[step_of(found[k])]
                if level < n_level:
                    i = np.uint64(input_of(found[k]))
                    where[i, count[i]] = ((b - group) * n_level + level) * width
                    count[i] += np.uint64(1)
        for block in range(begin, last):
            column = min(block * width, n_out - width)
            for b in range(group, stop):
                total, later = nothing, nothing
                for k in range(n_level - 1, -1, -1):
                    place, row = (b * n_level + k) * n_out + column, (b - group) * n_level + k
                    total = add_fast_sigmoid(
                        total, grad_BKO, peak_BKO, place, threshold_BO, b * n_out + column, steep
                    )
                    # What is handed on to the level at which the maximum was reached is in the sums of that
                    # level and the earlier ones, not in those of later ones.
                    later = where_equal(peak_BKO, place, place - n_out, later, total) if k else total
                    store(sums, row * width, later)
            # The block before has done these columns.
            sums[:, : block * width - column] = 0
            for own in range(n_in):
                if count[own] > 0:
                    weights = load(grad_IO, own * n_out + column, size)
                    for spike in range(count[own]):
                        weights = add_row(weights, sums, np.int64(where[own, spike]))
                    store(grad_IO, own * n_out + column, weights)


@compiled
def _share_weight_gradient(address, parts, size, arguments):
    return threads.share(address, parts, size, _weight_gradient, arguments)


def forward(
    times_BI: np.ndarray,
    rows_IO: np.ndarray,
    threshold_BO: np.ndarray,
    levels_K: np.ndarray,
    num_steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first crossings ``(batch, out)`` and the running maxima ``(batch, levels, out)``.

    Args:
        times_BI: integer steps, float32 C-contiguous.
        rows_IO: weights, float32 ``(in_features, out_features)``, C-contiguous.
        threshold_BO: float32, one threshold per sample and neuron.
        levels_K: ascending steps below `num_steps`.
        num_steps: ``T``; a neuron that never crosses has the time ``T``.

    Raises:
        ValueError: a time is not an integer step in ``0 ... T``, or a weight is NaN or infinite.
    """
    batch, n_in = times_BI.shape
    n_out = rows_IO.shape[1]
    rows, threshold = pad_columns(rows_IO), pad_columns(threshold_BO)
    out = arrays.empty(threshold.shape, np.float32)
    peak = arrays.empty((batch, len(levels_K), rows.shape[1]), np.float32)
    broken, kind = np.zeros(1, np.bool_), key_type(n_in)
    arguments = times_BI, rows, threshold, levels_K, num_steps, kind, blocks(rows), out, peak, broken
    threads.run(_share_forward, _forward, batch, *arguments)
    if broken[0]:
        raise ValueError(f"times must be integer steps 0 ... {num_steps}, weights finite")
    return np.ascontiguousarray(out[:, :n_out]), np.ascontiguousarray(peak[:, :, :n_out])


def membrane_gradient(
    grad_BKO: np.ndarray, peak_BKO: np.ndarray, threshold_BO: np.ndarray, width: float
) -> np.ndarray:
    """Return the gradient of the membranes at the levels, from that of the cumulative spikes.

    Each is multiplied by ``1 / (1 + |M - theta| / width)^2`` and handed to the level at which the
    running maximum was reached.

    Args:
        grad_BKO: of the cumulative spikes ``(batch, levels, out)``, float32, C-contiguous.
        peak_BKO, threshold_BO: of `forward`.
        width: of the surrogate.
    """
    out = arrays.empty(grad_BKO.shape, np.float32)
    arguments = grad_BKO, peak_BKO, threshold_BO, np.float32(0.5 / width), out
    threads.run(_share_membrane_gradient, _membrane_gradient, len(grad_BKO), *arguments)
    return out


def weight_gradient(
    times_BI: np.ndarray,
    grad_BKO: np.ndarray,
    peak_BKO: np.ndarray,
    threshold_BO: np.ndarray,
    width: float,
    levels_K: np.ndarray,
    num_steps: int,
) -> np.ndarray:
    """Return ``dL/dw`` ``(in_features, out_features)``.

    Every input spike collects the membrane gradients of all levels at or after it. The sum does not depend
    on the number of threads.

    Args:
        times_BI, levels_K, num_steps: as for `forward`.
        grad_BKO, peak_BKO, threshold_BO, width: as for `membrane_gradient`.
    """
    n_in, n_out = times_BI.shape[1], grad_BKO.shape[2]
    # The kernel counts places in memory.
    grad, peak, threshold = (
        np.ascontiguousarray(pad_columns(array)) for array in (grad_BKO, peak_BKO, threshold_BO)
    )
    n_level, columns = grad.shape[1:]
    out, kind = arrays.zeros((n_in, columns), np.float32), key_type(n_in)
    # A block or more for each thread.
    size = blocks(out, max(1, min(MOST, CACHED, columns // LANES // threads.parts(columns))))
    together = max(1, min(_GROUP, _SUMS // (4 * n_level * len(size) * LANES)))
    # The level at which a spike of each step is seen first, `n_level` if at none.
    gaps = np.diff(levels_K, prepend=-1, append=num_steps - 1)
    level_T = np.repeat(np.arange(n_level + 1, dtype=np.uint32), gaps)
    arguments = times_BI, grad, peak, threshold, np.float32(1 / width), level_T, kind, size, together, out
    whole = max(1, columns // (len(size) * LANES))
    threads.run(_share_weight_gradient, _weight_gradient, whole, *arguments)
    return out[:, :n_out]
