"""Causal integrate-and-fire with the ramp synapse, by events, compiled with Numba.

Between two input spikes every membrane is a straight line ``A t - C`` with the slope ``A = sum w`` and
``C = sum w t_i`` over the inputs so far, so a crossing is found in closed form and the cost is
spikes x fan-out, as for the step synapse.

Shape legend: B batch, I inputs, O outputs.
"""

import numpy as np
from numba import njit

from firstspike.kernels.chunks import run_chunks, sum_chunks
from firstspike.kernels.if_step import sort_spikes


@njit(cache=True, nogil=True)
def _cross(slope, offset, threshold, strict, t, crossing, found_slope):  # type: ignore[no-untyped-def]
    """Record the neurons whose line has reached threshold by step t; return how many are new."""
    new = 0
    for j in range(slope.shape[0]):
        # A line that does not rise can stand at threshold only by rounding.
        if found_slope[j] == 0 and slope[j] > 0:
            membrane = slope[j] * t - offset[j]
            if membrane > threshold or (membrane == threshold and not strict):
                crossing[j] = min((threshold + offset[j]) / slope[j], t)
                found_slope[j] = slope[j]
                new += 1
    return new


@njit(cache=True, nogil=True)
def _forward(  # type: ignore[no-untyped-def]
    times_BI, weight_IO, threshold, strict, num_steps, crossing_BO, slope_BO, begin, end
):
    n_in, n_out = weight_IO.shape
    starts = np.empty(num_steps + 2, np.int32)
    order = np.empty(n_in, np.int32)
    slope = np.empty(n_out, np.float64)
    offset = np.empty(n_out, np.float64)
    for b in range(begin, end):
        sort_spikes(times_BI[b], num_steps, starts, order)
        slope[:] = 0
        offset[:] = 0
        crossing_BO[b] = num_steps
        slope_BO[b] = 0
        silent = n_out
        for t in range(num_steps):
            first, last = starts[t], starts[t + 1]
            if first == last:
                continue
            silent -= _cross(slope, offset, threshold, strict, t, crossing_BO[b], slope_BO[b])
            if silent == 0:
                break
            for k in range(first, last):
                row = weight_IO[order[k]]
                for j in range(n_out):
                    slope[j] += row[j]
                    offset[j] += row[j] * t
        if silent > 0:
            _cross(
                slope,
                offset,
                threshold,
                strict,
                num_steps - 1,
                crossing_BO[b],
                slope_BO[b],
            )


@njit(cache=True, nogil=True)
def _backward(  # type: ignore[no-untyped-def]
    times_BI, weight_IO, crossing_BO, scaled_BO, num_steps, grad_IO, grad_BI, begin, end
):
    n_in, n_out = weight_IO.shape
    for b in range(begin, end):
        for i in range(n_in):
            t = times_BI[b, i]
            if t == num_steps:
                continue
            total = 0.0
            for j in range(n_out):
                if t < crossing_BO[b, j]:
                    grad_IO[i, j] += scaled_BO[b, j] * (t - crossing_BO[b, j])
                    total += scaled_BO[b, j] * weight_IO[i, j]
            grad_BI[b, i] = total


def forward(
    times_BI: np.ndarray, weight_IO: np.ndarray, threshold: float, strict: bool, num_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact crossing in steps, not rounded, and the slope there (0 where silent).

    Both are float64 ``(batch, out_features)``; a neuron that does not cross by step ``T - 1`` has the
    crossing ``T``.
    """
    size = (times_BI.shape[0], weight_IO.shape[1])
    crossing = np.empty(size, np.float64)
    slope = np.empty(size, np.float64)
    run_chunks(
        lambda _, begin, end: _forward(
            times_BI, weight_IO, threshold, strict, num_steps, crossing, slope, begin, end
        ),
        size[0],
    )
    return crossing, slope


def backward(
    times_BI: np.ndarray,
    weight_IO: np.ndarray,
    crossing_BO: np.ndarray,
    scaled_BO: np.ndarray,
    num_steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``dL/dw`` ``(in, out)`` and ``dL/dt_i`` ``(batch, in)``.

    `scaled_BO` is the gradient of the crossings divided by the slopes, 0 where silent.
    """
    grad_times = np.zeros(times_BI.shape, np.float64)
    grad_weight = sum_chunks(
        lambda part, begin, end: _backward(
            times_BI, weight_IO, crossing_BO, scaled_BO, num_steps, part, grad_times, begin, end
        ),
        times_BI.shape[0],
        weight_IO.shape,
        np.float64,
    )
    return grad_weight, grad_times
