"""Causal integrate-and-fire, watched at a few steps, compiled with Numba.

The forward pass is that of `firstspike.kernels.cpu.linear`; on its way it writes down the running maximum
of every membrane at the steps called levels, from which a gradient is made. Cost and memory grow with
spikes and levels, not with the number of steps.

Shape legend: B batch, I inputs, O outputs, K levels, N chunks of the batch.
"""

import numpy as np

from firstspike.kernels import arrays
from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.order import input_of, key_type, sort_spikes, sorting_room, step_of
from firstspike.kernels.cpu.surrogates import SURROGATES, times_surrogate
from firstspike.kernels.cpu.vectors import (
    LANES,
    add_row,
    blocks,
    fill,
    first_crossing_row,
    larger_row,
    pad_columns,
    store,
)

_REASSOCIATE = {"reassoc", "contract", "nsz", "arcp"}
_FAST_SIGMOID = SURROGATES.index("fast_sigmoid")


@compiled
def _forward(
    times_BI, weight_IO, threshold_BO, levels_K, num_steps, kind, size, out_BO, peak_BKO, begin, end
):
    n_in, n_out = weight_IO.shape
    width = len(size) * LANES
    room = sorting_room(n_in, kind)
    nothing, never = fill(np.float32(0), size), fill(np.int32(num_steps), size)
    for b in range(begin, end):
        keys, n = sort_spikes(times_BI[b], num_steps, room)
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
def _membrane_gradient(grad_BKO, peak_BKO, threshold_BO, scale, begin, end):
    n_level, n_out = grad_BKO.shape[1:]
    zero = np.float32(0)
    distance, later = np.empty(n_out, np.float32), np.empty(n_out, np.float32)
    for b in range(begin, end):
        threshold = threshold_BO[b]
        later[:] = zero
        for k in range(n_level - 1, -1, -1):
            grad, peak = grad_BKO[b, k], peak_BKO[b, k]
            for j in range(n_out):
                distance[j] = peak[j] - threshold[j]
            times_surrogate(_FAST_SIGMOID, grad, distance, scale, grad)
            if k == 0:
                for j in range(n_out):
                    grad[j] += later[j]
                continue
            before = peak_BKO[b, k - 1]
            for j in range(n_out):
                total = grad[j] + later[j]
                held = peak[j] == before[j]
                later[j] = total if held else zero
                grad[j] = zero if held else total


@compiled
def _share_membrane_gradient(address, parts, size, arguments):
    return threads.share(address, parts, size, _membrane_gradient, arguments)


@compiled(fastmath=_REASSOCIATE)
def _weight_gradient(times_BI, grad_BKO, levels_K, num_steps, kind, grad_NIO, begin, end):
    parts, n_in, n_out = grad_NIO.shape
    grad_IO = grad_NIO[threads.part_of(begin, parts, times_BI.shape[0])]
    room = sorting_room(n_in, kind)
    later = np.empty(n_out, np.float32)
    for b in range(begin, end):
        if not grad_BKO[b].any():
            continue
        keys, n = sort_spikes(times_BI[b], num_steps, room)
        later[:] = 0
        k = levels_K.shape[0] - 1
        for p in range(n - 1, -1, -1):
            while k >= 0 and levels_K[k] >= step_of(keys[p]):
                grad = grad_BKO[b, k]
                for j in range(n_out):
                    later[j] += grad[j]
                k -= 1
            row = grad_IO[input_of(keys[p])]
            for j in range(n_out):
                row[j] += later[j]


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
    """
    batch, n_in = times_BI.shape
    n_out = rows_IO.shape[1]
    rows, threshold = pad_columns(rows_IO), pad_columns(threshold_BO)
    out = arrays.empty(threshold.shape, np.float32)
    peak = arrays.empty((batch, len(levels_K), rows.shape[1]), np.float32)
    arguments = times_BI, rows, threshold, levels_K, num_steps, key_type(n_in), blocks(rows), out, peak
    threads.run(_share_forward, _forward, batch, *arguments)
    return np.ascontiguousarray(out[:, :n_out]), np.ascontiguousarray(peak[:, :, :n_out])


def membrane_gradient(
    grad_BKO: np.ndarray, peak_BKO: np.ndarray, threshold_BO: np.ndarray, width: float
) -> None:
    """Turn the gradient of the cumulative spikes at the levels into that of the membranes, in place.

    Each is multiplied by ``1 / (1 + |M - theta| / width)^2`` and handed to the level at which the
    running maximum was reached.
    """
    arguments = grad_BKO, peak_BKO, threshold_BO, np.float32(0.5 / width)
    threads.run(_share_membrane_gradient, _membrane_gradient, len(grad_BKO), *arguments)


def weight_gradient(
    times_BI: np.ndarray, grad_BKO: np.ndarray, levels_K: np.ndarray, num_steps: int
) -> np.ndarray:
    """Return ``dL/dw`` ``(in_features, out_features)``.

    Every input spike collects the membrane gradients of all levels at or after it.
    """
    batch, n_in = times_BI.shape
    grad = arrays.zeros((threads.parts(batch), n_in, grad_BKO.shape[2]), np.float32)
    arguments = times_BI, grad_BKO, levels_K, num_steps, key_type(n_in), grad
    threads.run(_share_weight_gradient, _weight_gradient, batch, *arguments)
    return threads.sum_parts(grad)
