"""Causal integrate-and-fire with the ramp synapse, by events, compiled with Numba.

Between two input spikes every membrane is a straight line ``A t - C`` with the slope ``A = sum w`` and
``C = sum w t_i`` over the inputs so far, so a crossing is found in closed form and the cost is
spikes x fan-out, as for the step synapse.

Shape legend: B batch, I inputs, O outputs, N chunks of the batch.
"""

import numpy as np

from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.order import input_of, key_type, sort_spikes, sorting_room, step_of


@compiled
def _cross(slope, offset, threshold, strict, t, crossing, found_slope):
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


@compiled
def _forward(times_BI, weight_IO, threshold, strict, num_steps, kind, crossing_BO, slope_BO, begin, end):
    n_in, n_out = weight_IO.shape
    room = sorting_room(n_in, kind)
    slope = np.empty(n_out, np.float64)
    offset = np.empty(n_out, np.float64)
    for b in range(begin, end):
        keys, n = sort_spikes(times_BI[b], num_steps, room)
        slope[:] = 0
        offset[:] = 0
        crossing_BO[b] = num_steps
        slope_BO[b] = 0
        silent = n_out
        k = 0
        while k < n:
            t = step_of(keys[k])
            silent -= _cross(slope, offset, threshold, strict, t, crossing_BO[b], slope_BO[b])
            if silent == 0:
                break
            while k < n and step_of(keys[k]) == t:
                row = weight_IO[input_of(keys[k])]
                for j in range(n_out):
                    slope[j] += row[j]
                    offset[j] += row[j] * t
                k += 1
        if silent > 0:
            _cross(slope, offset, threshold, strict, num_steps - 1, crossing_BO[b], slope_BO[b])


@compiled
def _share_forward(address, parts, size, arguments):
    return threads.share(address, parts, size, _forward, arguments)


# Without branches, and free to add in any order, the inner loop is computed in vectors.
@compiled(fastmath={"reassoc", "contract", "nsz"})
def _backward(
    times_BI, weight_IO, crossing_BO, scaled_BO, num_steps, for_times, grad_NIO, grad_BI, begin, end
):
    parts, n_in, n_out = grad_NIO.shape
    grad_IO = grad_NIO[threads.part_of(begin, parts, times_BI.shape[0])]
    zero = scaled_BO.dtype.type(0)
    for b in range(begin, end):
        crossing, scaled = crossing_BO[b], scaled_BO[b]
        for i in range(n_in):
            if times_BI[b, i] == num_steps:
                continue
            t = scaled_BO.dtype.type(times_BI[b, i])
            row, grad = weight_IO[i], grad_IO[i]
            if not for_times:
                for j in range(n_out):
                    lead = t - crossing[j]
                    grad[j] += (scaled[j] if lead < zero else zero) * lead
                continue
            total = zero
            for j in range(n_out):
                lead = t - crossing[j]
                delta = scaled[j] if lead < zero else zero
                grad[j] += delta * lead
                total += delta * row[j]
            grad_BI[b, i] = total


@compiled
def _share_backward(address, parts, size, arguments):
    return threads.share(address, parts, size, _backward, arguments)


def forward(
    times_BI: np.ndarray, rows_IO: np.ndarray, threshold: float, strict: bool, num_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact crossing in steps, not rounded, and the slope there (0 where silent).

    Both are float64 ``(batch, out_features)``; a neuron that does not cross by step ``T - 1`` has the
    crossing ``T``.
    """
    shape = (len(times_BI), rows_IO.shape[1])
    crossing, slope = np.empty(shape, np.float64), np.empty(shape, np.float64)
    arguments = times_BI, rows_IO, threshold, strict, num_steps, key_type(len(rows_IO)), crossing, slope
    threads.run(_share_forward, _forward, len(times_BI), *arguments)
    return crossing, slope


def backward(
    times_BI: np.ndarray,
    rows_IO: np.ndarray,
    crossing_BO: np.ndarray,
    scaled_BO: np.ndarray,
    num_steps: int,
    *,
    for_times: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``dL/dw`` ``(in, out)`` and, if asked `for_times`, ``dL/dt_i`` ``(batch, in)``, else zeros.

    Both are computed in the precision of the weights. `scaled_BO` is the gradient of the crossings divided
    by the slopes.
    """
    kind = rows_IO.dtype
    crossing, scaled = crossing_BO.astype(kind), scaled_BO.astype(kind)
    grad_times = np.zeros(times_BI.shape, kind)
    grad_rows = np.zeros((threads.parts(len(times_BI)), *rows_IO.shape), kind)
    arguments = times_BI, rows_IO, crossing, scaled, num_steps, for_times, grad_rows, grad_times
    threads.run(_share_backward, _backward, len(times_BI), *arguments)
    return threads.sum_parts(grad_rows), grad_times
