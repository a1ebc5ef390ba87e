"""Causal integrate-and-fire with the step synapse, watched at a few steps, compiled with Numba.

The forward pass is that of `firstspike.kernels.if_step`; on its way it writes down the running maximum
of every membrane at the steps called levels, from which `firstspike.rules.RunningMaxRule` makes a
gradient. Cost and memory grow with spikes and levels, not with the number of steps.

Shape legend: B batch, I inputs, O outputs, K levels.
"""

import numpy as np
from numba import njit

from firstspike.kernels.chunks import run_chunks, sum_chunks
from firstspike.kernels.if_step import sort_spikes

_REASSOCIATE = {"reassoc", "contract", "nsz", "arcp"}


@njit(cache=True, nogil=True)
def _forward(  # type: ignore[no-untyped-def]
    times_BI, weight_IO, threshold_BO, levels_K, num_steps, out_BO, peak_BKO, begin, end
):
    n_in, n_out = weight_IO.shape
    starts = np.empty(num_steps + 2, np.int32)
    order = np.empty(n_in, np.int32)
    membrane = np.empty(n_out, np.float32)
    peak = np.empty(n_out, np.float32)
    silent = np.float32(num_steps)
    for b in range(begin, end):
        sort_spikes(times_BI[b], num_steps, starts, order)
        membrane[:] = 0
        peak[:] = -np.inf
        out, threshold = out_BO[b], threshold_BO[b]
        out[:] = silent
        k = 0
        for t in range(num_steps):
            if starts[t] < starts[t + 1]:
                for p in range(starts[t], starts[t + 1]):
                    row = weight_IO[order[p]]
                    for j in range(n_out):
                        membrane[j] += row[j]
                now = np.float32(t)
                for j in range(n_out):
                    out[j] = min(out[j], now if membrane[j] >= threshold[j] else silent)
            if k < levels_K.shape[0] and levels_K[k] == t:
                for j in range(n_out):
                    peak[j] = max(peak[j], membrane[j])
                    peak_BKO[b, k, j] = peak[j]
                k += 1


@njit(cache=True, nogil=True, fastmath=_REASSOCIATE)
def _membrane_gradient(grad_BKO, peak_BKO, threshold_BO, inverse_width, begin, end):  # type: ignore[no-untyped-def]
    n_level, n_out = grad_BKO.shape[1:]
    one, zero = np.float32(1), np.float32(0)
    for b in range(begin, end):
        if not grad_BKO[b].any():
            continue
        for k in range(n_level):
            grad, peak, threshold = grad_BKO[b, k], peak_BKO[b, k], threshold_BO[b]
            for j in range(n_out):
                far = one + abs(peak[j] - threshold[j]) * inverse_width
                grad[j] /= far * far
        for k in range(n_level - 1, 0, -1):
            grad, before = grad_BKO[b, k], grad_BKO[b, k - 1]
            peak, peak_before = peak_BKO[b, k], peak_BKO[b, k - 1]
            for j in range(n_out):
                held = peak[j] == peak_before[j]
                before[j] += grad[j] if held else zero
                grad[j] = zero if held else grad[j]


@njit(cache=True, nogil=True, fastmath=_REASSOCIATE)
def _weight_gradient(times_BI, grad_BKO, levels_K, num_steps, grad_IO, begin, end):  # type: ignore[no-untyped-def]
    n_in, n_out = grad_IO.shape
    starts = np.empty(num_steps + 2, np.int32)
    order = np.empty(n_in, np.int32)
    later = np.empty(n_out, np.float32)
    for b in range(begin, end):
        if not grad_BKO[b].any():
            continue
        sort_spikes(times_BI[b], num_steps, starts, order)
        later[:] = 0
        k = levels_K.shape[0] - 1
        for t in range(num_steps - 1, -1, -1):
            if k >= 0 and levels_K[k] == t:
                grad = grad_BKO[b, k]
                for j in range(n_out):
                    later[j] += grad[j]
                k -= 1
            for p in range(starts[t], starts[t + 1]):
                row = grad_IO[order[p]]
                for j in range(n_out):
                    row[j] += later[j]


def forward(
    times_BI: np.ndarray,
    weight_IO: np.ndarray,
    threshold_BO: np.ndarray,
    levels_K: np.ndarray,
    num_steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first crossings ``(batch, out)`` and the running maxima ``(batch, levels, out)``.

    Args:
        times_BI: whole steps, float32 C-contiguous.
        weight_IO: float32 ``(in_features, out_features)``, C-contiguous.
        threshold_BO: float32, one threshold per sample and neuron.
        levels_K: ascending steps below `num_steps`.
        num_steps: ``T``; a neuron that never crosses has the time ``T``.
    """
    size = (times_BI.shape[0], weight_IO.shape[1])
    out = np.empty(size, np.float32)
    peak = np.empty((size[0], len(levels_K), size[1]), np.float32)
    run_chunks(
        lambda _, begin, end: _forward(
            times_BI, weight_IO, threshold_BO, levels_K, num_steps, out, peak, begin, end
        ),
        size[0],
    )
    return out, peak


def membrane_gradient(
    grad_BKO: np.ndarray, peak_BKO: np.ndarray, threshold_BO: np.ndarray, width: float
) -> None:
    """Turn the gradient of the fired flags into that of the membranes, in place.

    Each is multiplied by ``1 / (1 + |M - theta| / width)^2`` and handed to the level at which the
    running maximum was reached.
    """
    inverse = np.float32(1 / width)
    run_chunks(
        lambda _, begin, end: _membrane_gradient(grad_BKO, peak_BKO, threshold_BO, inverse, begin, end),
        grad_BKO.shape[0],
    )


def weight_gradient(
    times_BI: np.ndarray, grad_BKO: np.ndarray, levels_K: np.ndarray, num_steps: int
) -> np.ndarray:
    """Return ``dL/dw`` ``(in_features, out_features)``.

    Every input spike collects the membrane gradients of all levels at or after it.
    """
    return sum_chunks(
        lambda part, begin, end: _weight_gradient(
            times_BI, grad_BKO, levels_K, num_steps, part, begin, end
        ),
        times_BI.shape[0],
        (times_BI.shape[1], grad_BKO.shape[2]),
        np.float32,
    )
