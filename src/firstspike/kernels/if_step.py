"""Causal integrate-and-fire with the step synapse, by events, compiled with Numba.

Each input spike is visited once, in time order; it adds one row of weights to the membranes. The walk
stops when every neuron has fired, so the cost is spikes x fan-out and does not depend on the number
of steps.

Shape legend: B batch, I inputs, O outputs, T number of steps.
"""

import numpy as np
from numba import njit

from firstspike.kernels.chunks import run_chunks, sum_chunks

_REASSOCIATE = {"reassoc", "contract", "nsz"}


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
def _forward(times_BI, weight_IO, threshold, num_steps, peak_BO, out_BO, begin, end):  # type: ignore[no-untyped-def]
    n_in, n_out = weight_IO.shape
    starts = np.empty(num_steps + 2, np.int32)
    order = np.empty(n_in, np.int32)
    membrane = np.empty(n_out, weight_IO.dtype)
    want_peak = peak_BO.shape[0] > 0
    for b in range(begin, end):
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
def _weight_gradient(times_BI, crossing_BO, delta_BO, num_steps, power, grad_IO, begin, end):  # type: ignore[no-untyped-def]
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
def _input_gradient(  # type: ignore[no-untyped-def]
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
        times_BI: whole steps ``(batch, in_features)``, C-contiguous.
        weight_IO: ``(in_features, out_features)``, C-contiguous, so that an input's row is one run.
        threshold: in the weights' precision.
        num_steps: ``T``.
        want_peak: also return the highest membrane, taken without reset; forbids the early stop.

    Returns:
        crossings ``(batch, out_features)`` and peaks of that shape (empty if not wanted).
    """
    size = (times_BI.shape[0], weight_IO.shape[1])
    out = np.empty(size, np.float32)
    peak = np.zeros(size if want_peak else (0, 0), weight_IO.dtype)
    limit = weight_IO.dtype.type(threshold)
    run_chunks(
        lambda _, begin, end: _forward(times_BI, weight_IO, limit, num_steps, peak, out, begin, end),
        size[0],
    )
    return out, peak


def weight_gradient(
    times_BI: np.ndarray,
    crossing_BO: np.ndarray,
    delta_BO: np.ndarray,
    num_steps: int,
    decay: float,
) -> np.ndarray:
    """Return ``dL/dw`` ``(in_features, out_features)``: minus the sum of masked gradients, Eq. 14."""
    power = _powers(decay, num_steps, delta_BO.dtype)
    return sum_chunks(
        lambda part, begin, end: _weight_gradient(
            times_BI, crossing_BO, delta_BO, num_steps, power, part, begin, end
        ),
        times_BI.shape[0],
        (times_BI.shape[1], delta_BO.shape[1]),
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
    power = _powers(decay, num_steps, delta_BO.dtype)
    run_chunks(
        lambda _, begin, end: _input_gradient(
            times_BI, weight_IO, crossing_BO, delta_BO, num_steps, power, grad, begin, end
        ),
        times_BI.shape[0],
    )
    return grad


def _powers(decay: float, num_steps: int, dtype: np.dtype) -> np.ndarray:
    return (float(decay) ** np.arange(num_steps + 1)).astype(dtype)
