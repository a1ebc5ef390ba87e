"""Causal integrate-and-fire by events, a convolution, compiled with Numba.

The input spikes of a sample are visited once, in time order, and handed to every output position that
receives them. Each position then has its own list in the order of time and walks through it as a fully
connected layer does (`firstspike.kernels.cpu.linear.walk`), with the weights of one kernel as rows. The
cost is spikes x true fan-out; padding costs nothing.

Shape legend: B batch, C input channels, O output channels, H W input map, Y X output map, P = Y x X
positions, G groups, R rows of one group: channels x kernel.
"""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np

from firstspike.kernels import arrays
from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.gradients import (
    add_products_seen,
    subtract_seen,
    sum_of,
)
from firstspike.kernels.cpu.linear import walk
from firstspike.kernels.cpu.order import (
    AHEAD,
    find_spikes,
    first_key,
    input_of,
    key_type,
    sort_spikes,
    sorting_room,
    step_of,
)
from firstspike.kernels.cpu.vectors import (
    CACHED,
    LANES,
    aligned,
    blocks,
    fill,
    load,
    pad_columns,
    store,
)
from firstspike.kernels.geometry import Geometry


class _Map(NamedTuple):
    """Who receives from whom, for one group.

    Attributes:
        row_I: first row of each input's channel.
        place_I: where each input lies in its channel's map.
        reached_L: how many output positions receive from each place of the map.
        position_LK, offset_LK: which they are, and the place's offset in their kernel; where there are
            fewer than K, one beyond the last position.
    """

    row_I: np.ndarray
    place_I: np.ndarray
    reached_L: np.ndarray
    position_LK: np.ndarray
    offset_LK: np.ndarray


@functools.lru_cache(maxsize=64)
def _map(geometry: Geometry, height: int, width: int) -> _Map:
    channels = geometry.in_channels // geometry.groups
    out_y, out_x = geometry.output_size(height, width)
    kernel = geometry.kernel_y, geometry.kernel_x
    top = np.arange(out_y) * geometry.stride_y - geometry.padding_y
    left = np.arange(out_x) * geometry.stride_x - geometry.padding_x
    lines = _receivers(height, kernel[0], top)
    columns = _receivers(width, kernel[1], left)
    reached = np.array([len(line) * len(column) for line in lines for column in columns], np.uint32)
    position, offset = np.zeros((2, height * width, max(reached.max(initial=0), 1)), np.uint32)
    position[:] = out_y * out_x
    for place, (line, column) in enumerate(itertools.product(lines, columns)):
        pairs = [(y * out_x + x, j * kernel[1] + i) for j, y in line for i, x in column]
        position[place, : len(pairs)] = [p for p, _ in pairs]
        offset[place, : len(pairs)] = [k for _, k in pairs]
    places = np.arange(height * width, dtype=np.uint32)
    return _Map(
        row_I=np.repeat(np.arange(channels, dtype=np.uint32) * (kernel[0] * kernel[1]), len(places)),
        place_I=np.tile(places, channels),
        reached_L=reached,
        position_LK=position,
        offset_LK=offset,
    )


def _receivers(size: int, kernel: int, starts: np.ndarray) -> list[list[tuple[int, int]]]:
    """Return for each input line the offsets in the kernel and the output lines that receive from it."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(size)]
    for out, start in enumerate(starts.tolist()):
        for k in range(kernel):
            if 0 <= start + k < size:
                found[start + k].append((k, out))
    return found


@compiled
def _fill_lists(keys, n, where, taps, length, lists, end_P):
    """Hand the spikes to the output positions that receive them; keys of step and row.

    Lists lie `length` apart; ends count through all of them, which spares a product per entry. Unsigned
    indices spare the test for a negative one. Every spike is handed on as often, to a list that nobody
    reads where it reaches fewer positions, so that the loop is known when it is compiled.
    """
    nobody = np.uint64(end_P.shape[0] - 1)
    for p in range(end_P.shape[0]):
        end_P[p] = p * length
    for k in range(n):
        i = np.uint64(input_of(keys[k]))
        key = first_key(step_of(keys[k]), lists[0]) | np.uint64(where.row_I[i])
        place = where.place_I[i]
        for e in range(len(taps)):
            p = where.position_LK[place, e]
            end = end_P[p]
            lists[end] = key + where.offset_LK[place, e]
            end_P[p] = end + np.uint64(1)
        end_P[nobody] = nobody * np.uint64(length)


@compiled
def _forward(
    times_BGI,
    weight_GRO,
    threshold,
    num_steps,
    where,
    kind,
    list_kind,
    size,
    taps,
    out_BGPO,
    broken,
    begin,
    end,
):
    groups, rows, n_out = weight_GRO.shape
    positions = out_BGPO.shape[2]
    width = len(size) * LANES
    room = sorting_room(times_BGI.shape[2], kind)
    length = rows + AHEAD
    lists, ends = np.empty((positions + 1) * length, list_kind), np.empty(positions + 1, np.uint64)
    silent = np.int32(num_steps)
    nothing, never = fill(weight_GRO.dtype.type(0), size), fill(silent, size)
    for b in range(begin, end):
        for g in range(groups):
            keys, n = sort_spikes(times_BGI[b, g], num_steps, room)
            if n < 0:
                broken[0] = True
                return
            _fill_lists(keys, n, where, taps, length, lists, ends)
            # Taken out of the loop: a view counts its users, which two threads would do in turn.
            weight, out = weight_GRO[g], out_BGPO[b, g]
            for first in range(0, n_out, width):
                column = min(first, n_out - width)
                for p in range(positions):
                    last = np.int64(ends[p])
                    times = walk(lists, p * length, last, nothing, never, weight, threshold, silent, column)
                    store(out, p * n_out + column, times)


@compiled
def _share_forward(address, parts, size, arguments):
    return threads.share(address, parts, size, _forward, arguments)


@compiled
def _pack(crossing_PO, delta_PO, first, column, size, crossing_PJ, delta_PJ):
    """Copy the columns of a block, so that they lie close together."""
    n_out, width = delta_PO.shape[1], delta_PJ.shape[1]
    for p in range(delta_PO.shape[0]):
        store(crossing_PJ, p * width, load(crossing_PO, p * n_out + column, size))
        store(delta_PJ, p * width, load(delta_PO, p * n_out + column, size))
        # The block before has done these columns.
        delta_PJ[p, : first - column] = 0


@compiled
def _weight_gradient(
    times_BGI, crossing_BGPO, delta_BGPO, num_steps, where, kind, size, grad_NGRO, begin, end
):
    parts, groups, _, n_out = grad_NGRO.shape
    width = len(size) * LANES
    silent = np.float32(num_steps)
    found = np.empty(times_BGI.shape[2], kind)
    own_delta = aligned(delta_BGPO.shape[2], width, delta_BGPO.dtype)
    own_crossing = aligned(delta_BGPO.shape[2], width, crossing_BGPO.dtype)
    grad_GRO = grad_NGRO[threads.part_of(begin, parts, times_BGI.shape[0])]
    for b in range(begin, end):
        for g in range(groups):
            n = find_spikes(times_BGI[b, g], 0, found.shape[0], silent, found)
            grad = grad_GRO[g]
            crossing = own_crossing if n_out > width else crossing_BGPO[b, g]
            delta = own_delta if n_out > width else delta_BGPO[b, g]
            for first in range(0, n_out, width):
                column = min(first, n_out - width)
                if n_out > width:
                    _pack(crossing_BGPO[b, g], delta_BGPO[b, g], first, column, size, crossing, delta)
                for k in range(n):
                    i, step = np.uint64(input_of(found[k])), np.float32(step_of(found[k]))
                    place = where.place_I[i]
                    for e in range(where.reached_L[place]):
                        p = np.int64(where.position_LK[place, e]) * width
                        r = np.int64(where.row_I[i] + where.offset_LK[place, e]) * n_out + column
                        store(grad, r, subtract_seen(load(grad, r, size), delta, crossing, p, step))


@compiled
def _share_weight_gradient(address, parts, size, arguments):
    return threads.share(address, parts, size, _weight_gradient, arguments)


@compiled
def _input_gradient(
    times_BGI, weight_GRO, crossing_BGPO, delta_BGPO, num_steps, where, kind, size, grad_BGI, begin, end
):
    groups, _, n_out = weight_GRO.shape
    width = len(size) * LANES
    silent = np.float32(num_steps)
    found = np.empty(times_BGI.shape[2], kind)
    own_delta = aligned(delta_BGPO.shape[2], width, delta_BGPO.dtype)
    own_crossing = aligned(delta_BGPO.shape[2], width, crossing_BGPO.dtype)
    nothing = fill(delta_BGPO.dtype.type(0), size)
    for b in range(begin, end):
        for g in range(groups):
            n = find_spikes(times_BGI[b, g], 0, found.shape[0], silent, found)
            weight, grad = weight_GRO[g], grad_BGI[b, g]
            crossing = own_crossing if n_out > width else crossing_BGPO[b, g]
            delta = own_delta if n_out > width else delta_BGPO[b, g]
            for first in range(0, n_out, width):
                column = min(first, n_out - width)
                if n_out > width:
                    _pack(crossing_BGPO[b, g], delta_BGPO[b, g], first, column, size, crossing, delta)
                for k in range(n):
                    i, step = np.uint64(input_of(found[k])), np.float32(step_of(found[k]))
                    place = where.place_I[i]
                    total = nothing
                    for e in range(where.reached_L[place]):
                        p = np.int64(where.position_LK[place, e]) * width
                        r = np.int64(where.row_I[i] + where.offset_LK[place, e]) * n_out + column
                        total = add_products_seen(total, weight, r, delta, crossing, p, step)
                    grad[i] += sum_of(total)


@compiled
def _share_input_gradient(address, parts, size, arguments):
    return threads.share(address, parts, size, _input_gradient, arguments)


def forward(
    times_BCHW: np.ndarray, rows_GRO: np.ndarray, geometry: Geometry, threshold: float, num_steps: int
) -> np.ndarray:
    """Return the first crossing ``V >= threshold`` of every output neuron, ``T`` where there is none.

    Args:
        times_BCHW: integer steps, float32, C-contiguous. Padding is silent.
        rows_GRO: weights ``(groups, in_channels / groups x kernel, out_channels / groups)``, float32 or
            float64, C-contiguous.
        geometry: sizes.
        threshold: in the weights' precision.
        num_steps: ``T``.

    Returns:
        float32 ``(batch, out_channels, y, x)``, in memory with the channels last.

    Raises:
        ValueError: a time is not an integer step in ``0 ... T``, or a weight is not finite.
    """
    if not np.isfinite(rows_GRO).all():
        raise ValueError("weights must be finite")
    batch, _, height, width = times_BCHW.shape
    out_y, out_x = geometry.output_size(height, width)
    times_BGI = _by_group(times_BCHW, geometry)
    limit = rows_GRO.dtype.type(threshold)
    broken = np.zeros(1, np.bool_)
    rows = pad_columns(rows_GRO)
    out = arrays.empty((batch, geometry.groups, out_y * out_x, rows.shape[2]), np.float32)
    where, *kinds = _layout(times_BCHW, geometry)
    taps = (0,) * where.position_LK.shape[1]
    arguments = where, *kinds, blocks(rows), taps, out, broken
    threads.run(_share_forward, _forward, batch, times_BGI, rows, limit, num_steps, *arguments)
    if broken[0]:
        raise ValueError(f"times must be integer steps 0 ... {num_steps}")
    return _channels_first(out[..., : rows_GRO.shape[2]], out_y, out_x)


def weight_gradient(
    times_BCHW: np.ndarray,
    crossing_BOYX: np.ndarray,
    delta_BOYX: np.ndarray,
    geometry: Geometry,
    num_steps: int,
) -> np.ndarray:
    """Return ``dL/dw`` in the layout of `forward`'s weights, Spiking-GAN Eq. 14.

    `crossing_BOYX` and `delta_BOYX` may lie in memory in any order; channels last saves a copy.
    """
    crossing, delta = _positions(crossing_BOYX, geometry), _positions(delta_BOYX, geometry)
    own, batch = delta.shape[3], len(times_BCHW)
    delta, crossing = pad_columns(delta), pad_columns(crossing)
    grad = arrays.zeros((threads.parts(batch), geometry.groups, geometry.rows, delta.shape[3]), delta.dtype)
    where, kind, _ = _layout(times_BCHW, geometry)
    arguments = where, kind, blocks(delta, CACHED), grad
    threads.run(
        _share_weight_gradient,
        _weight_gradient,
        batch,
        _by_group(times_BCHW, geometry),
        crossing,
        delta,
        num_steps,
        *arguments,
    )
    return np.ascontiguousarray(threads.sum_parts(grad)[..., :own])


def input_gradient(
    times_BCHW: np.ndarray,
    rows_GRO: np.ndarray,
    crossing_BOYX: np.ndarray,
    delta_BOYX: np.ndarray,
    geometry: Geometry,
    num_steps: int,
) -> np.ndarray:
    """Return ``dL/dt_i`` ``(batch, in_channels, height, width)``, Eq. 15; arguments as there."""
    rows, crossing, delta = (
        pad_columns(array)
        for array in (rows_GRO, _positions(crossing_BOYX, geometry), _positions(delta_BOYX, geometry))
    )
    times_BGI = _by_group(times_BCHW, geometry)
    grad = arrays.zeros(times_BGI.shape, delta.dtype)
    where, kind, _ = _layout(times_BCHW, geometry)
    arguments = where, kind, blocks(rows, CACHED), grad
    threads.run(
        _share_input_gradient,
        _input_gradient,
        len(times_BGI),
        times_BGI,
        rows,
        crossing,
        delta,
        num_steps,
        *arguments,
    )
    return grad.reshape(times_BCHW.shape)


def _layout(times_BCHW: np.ndarray, geometry: Geometry) -> tuple[_Map, np.dtype, np.dtype]:
    """Return the map, and the types of the keys of a group's inputs and of an output's rows."""
    height, width = times_BCHW.shape[2:]
    inputs = geometry.in_channels // geometry.groups * height * width
    return _map(geometry, height, width), key_type(inputs), key_type(geometry.rows)


def _positions(values_BOYX: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return images ``(B, G, P, O / G)``."""
    batch, channels, *size = values_BOYX.shape
    shape = batch, geometry.groups, channels // geometry.groups, math.prod(size)
    return np.ascontiguousarray(values_BOYX.reshape(shape).transpose(0, 1, 3, 2))


def _by_group(times_BCHW: np.ndarray, geometry: Geometry) -> np.ndarray:
    batch, channels, height, width = times_BCHW.shape
    return times_BCHW.reshape(batch, geometry.groups, channels // geometry.groups * height * width)


def _channels_first(values_BGPO: np.ndarray, height: int, width: int) -> np.ndarray:
    batch, groups, _, own = values_BGPO.shape
    maps = values_BGPO.reshape(batch, groups, height, width, own).transpose(0, 1, 4, 2, 3)
    return maps.reshape(batch, groups * own, height, width)
