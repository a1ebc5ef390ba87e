"""Causal integrate-and-fire with a ramp synapse, a drive and a gate, stepped, compiled with Numba.

Its drive makes every membrane move in every step, so the
forward pass walks through the steps; an input spike still costs one row of weights.

Shape legend: B batch, I inputs, O outputs, N chunks of the batch.
"""

import numpy as np

from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.order import input_of, key_type, sort_spikes, sorting_room, step_of

_REASSOCIATE = {"reassoc", "contract", "nsz"}


@compiled(fastmath=_REASSOCIATE)
def _forward(times_BI, weight_IO, threshold_O, gate, close, num_steps, kind, out_BO, slope_BO, begin, end):
    n_in, n_out = weight_IO.shape
    room = sorting_room(n_in, kind)
    membrane = np.empty(n_out, np.float32)
    slope = np.empty(n_out, np.float32)
    threshold = np.empty(n_out, np.float32)
    for b in range(begin, end):
        keys, n = sort_spikes(times_BI[b], num_steps, room)
        membrane[:] = 0
        slope[:] = 1
        threshold[:] = threshold_O
        out_BO[b] = num_steps
        left = n_out
        k = 0
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
                while k < n and step_of(keys[k]) == t:
                    row = weight_IO[input_of(keys[k])]
                    for j in range(n_out):
                        slope[j] += row[j]
                    k += 1
        for j in range(n_out):
            if threshold[j] != np.inf:
                slope_BO[b, j] = slope[j]


@compiled
def _share_forward(address, parts, size, arguments):
    return threads.share(address, parts, size, _forward, arguments)


@compiled(fastmath=_REASSOCIATE)
def _weight_gradient(times_BI, seen_BO, scaled_BO, num_steps, grad_NIO, begin, end):
    grad_IO = grad_NIO[threads.part_of(begin, grad_NIO.shape[0], times_BI.shape[0])]
    zero = np.float32(0)
    for b in range(begin, end):
        seen, scaled = seen_BO[b], scaled_BO[b]
        for i in range(times_BI.shape[1]):
            t = times_BI[b, i]
            if t < num_steps:
                row = grad_IO[i]
                for j in range(seen.shape[0]):
                    row[j] += scaled[j] * min(t - seen[j], zero)


@compiled
def _share_weight_gradient(address, parts, size, arguments):
    return threads.share(address, parts, size, _weight_gradient, arguments)


@compiled(fastmath=_REASSOCIATE)
def _input_gradient(times_BI, weight_IO, seen_BO, scaled_BO, grad_BI, begin, end):
    zero = np.float32(0)
    for b in range(begin, end):
        seen, scaled = seen_BO[b], scaled_BO[b]
        for i in range(times_BI.shape[1]):
            t, row = times_BI[b, i], weight_IO[i]
            total = zero
            for j in range(seen.shape[0]):
                total += row[j] * (scaled[j] if t < seen[j] else zero)
            grad_BI[b, i] = total


@compiled
def _share_input_gradient(address, parts, size, arguments):
    return threads.share(address, parts, size, _input_gradient, arguments)


def forward(
    times_BI: np.ndarray,
    rows_IO: np.ndarray,
    threshold_O: np.ndarray,
    gate: int,
    close: int,
    num_steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return spike times ``(batch, out_features)``, ``T`` where silent, and the slopes there.

    Args:
        times_BI: integer steps, float32 C-contiguous.
        rows_IO: currents per step, float32 ``(in_features, out_features)``, C-contiguous.
        threshold_O: float32, in steps of drive.
        gate: step at which the input currents end.
        close: first step at which nothing fires any more.
        num_steps: ``T``.
    """
    shape = (len(times_BI), rows_IO.shape[1])
    out, slope = np.empty(shape, np.float32), np.empty(shape, np.float32)
    kind = key_type(len(rows_IO))
    arguments = times_BI, rows_IO, threshold_O, gate, close, num_steps, kind, out, slope
    threads.run(_share_forward, _forward, len(times_BI), *arguments)
    return out, slope


def weight_gradient(
    times_BI: np.ndarray, seen_BO: np.ndarray, scaled_BO: np.ndarray, num_steps: int
) -> np.ndarray:
    """Return ``dL/dw`` ``(in, out)``: the sum of ``scaled (t_i - seen)`` over inputs before `seen`.

    Args:
        times_BI: input times; silent inputs give nothing.
        seen_BO: step up to which each neuron has received its inputs: its crossing, or the gate.
        scaled_BO: gradient of the crossings over their slopes.
        num_steps: ``T``.
    """
    batch, n_in = times_BI.shape
    grad = np.zeros((threads.parts(batch), n_in, seen_BO.shape[1]), np.float32)
    arguments = times_BI, seen_BO, scaled_BO, num_steps, grad
    threads.run(_share_weight_gradient, _weight_gradient, batch, *arguments)
    return threads.sum_parts(grad)


def input_gradient(
    times_BI: np.ndarray, rows_IO: np.ndarray, seen_BO: np.ndarray, scaled_BO: np.ndarray
) -> np.ndarray:
    """Return ``dL/dt_i`` ``(batch, in)``: the sum of ``scaled w`` over neurons that received the input."""
    grad = np.empty(times_BI.shape, np.float32)
    arguments = times_BI, rows_IO, seen_BO, scaled_BO, grad
    threads.run(_share_input_gradient, _input_gradient, len(times_BI), *arguments)
    return grad
