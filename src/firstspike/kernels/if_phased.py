"""Causal integrate-and-fire with a ramp synapse, a drive and a gate, stepped, compiled with Numba.

The neuron of `firstspike.neurons.Phased`. Its drive makes every membrane move in every step, so the
forward pass walks through the steps; an input spike still costs one row of weights.

Shape legend: B batch, I inputs, O outputs.
"""

import numpy as np
from numba import njit

from firstspike.kernels.chunks import run_chunks, sum_chunks
from firstspike.kernels.if_step import sort_spikes

_REASSOCIATE = {"reassoc", "contract", "nsz"}


@njit(cache=True, nogil=True, fastmath=_REASSOCIATE)
def _forward(  # type: ignore[no-untyped-def]
    times_BI, weight_IO, threshold_O, gate, close, num_steps, out_BO, slope_BO, begin, end
):
    n_in, n_out = weight_IO.shape
    starts = np.empty(num_steps + 2, np.int32)
    order = np.empty(n_in, np.int32)
    membrane = np.empty(n_out, np.float32)
    slope = np.empty(n_out, np.float32)
    threshold = np.empty(n_out, np.float32)
    for b in range(begin, end):
        sort_spikes(times_BI[b], num_steps, starts, order)
        membrane[:] = 0
        slope[:] = 1
        threshold[:] = threshold_O
        out_BO[b] = num_steps
        left = n_out
        for t in range(close):
            if t > 0:
                membrane += slope
            crossed = 0
            for j in range(n_out):
                crossed += membrane[j] >= threshold[j]
            if crossed > 0:
                for j in range(n_out):
                    if membrane[j] >= threshold[j]:
                        out_BO[b, j] = t
                        slope_BO[b, j] = slope[j]
                        threshold[j] = np.inf
                left -= crossed
                if left == 0:
                    break
            if t == gate:
                slope[:] = 1
            if t < gate:
                for k in range(starts[t], starts[t + 1]):
                    row = weight_IO[order[k]]
                    for j in range(n_out):
                        slope[j] += row[j]
        for j in range(n_out):
            if threshold[j] != np.inf:
                slope_BO[b, j] = slope[j]


@njit(cache=True, nogil=True, fastmath=_REASSOCIATE)
def _weight_gradient(times_BI, seen_BO, scaled_BO, num_steps, grad_IO, begin, end):  # type: ignore[no-untyped-def]
    zero = np.float32(0)
    for b in range(begin, end):
        seen, scaled = seen_BO[b], scaled_BO[b]
        for i in range(times_BI.shape[1]):
            t = times_BI[b, i]
            if t < num_steps:
                row = grad_IO[i]
                for j in range(seen.shape[0]):
                    row[j] += scaled[j] * min(t - seen[j], zero)


@njit(cache=True, nogil=True, fastmath=_REASSOCIATE)
def _input_gradient(times_BI, weight_IO, seen_BO, scaled_BO, grad_BI, begin, end):  # type: ignore[no-untyped-def]
    zero = np.float32(0)
    for b in range(begin, end):
        seen, scaled = seen_BO[b], scaled_BO[b]
        for i in range(times_BI.shape[1]):
            t, row = times_BI[b, i], weight_IO[i]
            total = zero
            for j in range(seen.shape[0]):
                total += row[j] * (scaled[j] if t < seen[j] else zero)
            grad_BI[b, i] = total


def forward(
    times_BI: np.ndarray,
    weight_IO: np.ndarray,
    threshold_O: np.ndarray,
    gate: int,
    close: int,
    num_steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return spike times ``(batch, out_features)``, ``T`` where silent, and the slopes there.

    Args:
        times_BI: whole steps, float32 C-contiguous.
        weight_IO: currents per step, float32 ``(in_features, out_features)``, C-contiguous.
        threshold_O: float32, in steps of drive.
        gate: step at which the input currents end.
        close: first step at which nothing fires any more.
        num_steps: ``T``.
    """
    size = (times_BI.shape[0], weight_IO.shape[1])
    out, slope = np.empty(size, np.float32), np.empty(size, np.float32)
    run_chunks(
        lambda _, begin, end: _forward(
            times_BI, weight_IO, threshold_O, gate, close, num_steps, out, slope, begin, end
        ),
        size[0],
    )
    return out, slope


def weight_gradient(
    times_BI: np.ndarray, seen_BO: np.ndarray, scaled_BO: np.ndarray, num_steps: int
) -> np.ndarray:
    """Return ``dL/dw`` ``(in, out)``: the sum of ``scaled (t_i - seen)`` over inputs before `seen`.

    Args:
        times_BI: input times; silent inputs give nothing.
        seen_BO: step up to which each neuron has heard its inputs: its crossing, or the gate.
        scaled_BO: gradient of the crossings over their slopes.
        num_steps: ``T``.
    """
    return sum_chunks(
        lambda part, begin, end: _weight_gradient(
            times_BI, seen_BO, scaled_BO, num_steps, part, begin, end
        ),
        times_BI.shape[0],
        (times_BI.shape[1], seen_BO.shape[1]),
        np.float32,
    )


def input_gradient(
    times_BI: np.ndarray, weight_IO: np.ndarray, seen_BO: np.ndarray, scaled_BO: np.ndarray
) -> np.ndarray:
    """Return ``dL/dt_i`` ``(batch, in)``: the sum of ``scaled w`` over neurons that heard the input."""
    grad = np.empty(times_BI.shape, np.float32)
    run_chunks(
        lambda _, begin, end: _input_gradient(times_BI, weight_IO, seen_BO, scaled_BO, grad, begin, end),
        times_BI.shape[0],
    )
    return grad
