"""Causal convolution with the step synapse, by events, compiled with Numba.

The input spikes of a sample are visited once, in time order, and handed to every output position that
hears them. Each position then has its own list in the order of time and walks through it as a fully
connected layer does (`firstspike.kernels.if_step.walk`), with the weights of one kernel as rows. The cost
is spikes x true fan-out; padding costs nothing.

As for the fully connected layer, the fast form keeps membranes in vector registers, and a plain form with
the same results serves double precision, soft masks and peaks.

Shape legend: B batch, C input channels, O output channels, H W input map, Y X output map, P = Y x X
positions, G groups, R rows of one group: channels x kernel.
"""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
from numba import njit

from firstspike.kernels import team
from firstspike.kernels.if_step import AHEAD, powers, walk
from firstspike.kernels.order import MAX_INPUTS, InvalidInput, input_of, key_of, step_of
from firstspike.kernels.vectors import (
    LANES,
    below,
    blocks,
    dot_seen,
    load,
    lowest_bit,
    pad_columns,
    store,
    store_steps,
    subtract_seen,
)

_REASSOCIATE = {"reassoc", "contract", "nsz"}
_CACHED = 7


class Geometry(NamedTuple):
    """The sizes of a convolution, in neurons."""

    in_channels: int
    out_channels: int
    kernel_y: int
    kernel_x: int
    stride_y: int
    stride_x: int
    padding_y: int
    padding_x: int
    groups: int

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the output map; below 1 where the kernel does not fit."""
        return (
            (height + 2 * self.padding_y - self.kernel_y) // self.stride_y + 1,
            (width + 2 * self.padding_x - self.kernel_x) // self.stride_x + 1,
        )

    @property
    def rows(self) -> int:
        """Weights that one output neuron has."""
        return self.in_channels // self.groups * self.kernel_y * self.kernel_x


class _Map(NamedTuple):
    """Who hears whom, for one group.

    Attributes:
        row_I: first row of each input's channel.
        place_I: where each input lies in its channel's map.
        heard_L: how many output positions hear each place of the map.
        position_LK, offset_LK: which they are, and the place's offset in their kernel.
        reach_R: where a row's input lies from the first input of the patch.
        corner_P: the first input of each output position's patch; may lie in the padding.
    """

    row_I: np.ndarray
    place_I: np.ndarray
    heard_L: np.ndarray
    position_LK: np.ndarray
    offset_LK: np.ndarray
    reach_R: np.ndarray
    corner_P: np.ndarray


@functools.lru_cache(maxsize=64)
def _map(geometry: Geometry, height: int, width: int) -> _Map:
    channels = geometry.in_channels // geometry.groups
    out_y, out_x = geometry.output_size(height, width)
    kernel = geometry.kernel_y, geometry.kernel_x
    c, ky, kx = np.indices((channels, *kernel)).reshape(3, -1)
    top = np.arange(out_y) * geometry.stride_y - geometry.padding_y
    left = np.arange(out_x) * geometry.stride_x - geometry.padding_x
    lines = _hearers(height, kernel[0], top)
    columns = _hearers(width, kernel[1], left)
    heard = np.array([len(line) * len(column) for line in lines for column in columns], np.uint32)
    position, offset = np.zeros((2, height * width, max(heard.max(initial=0), 1)), np.uint32)
    for place, (line, column) in enumerate(itertools.product(lines, columns)):
        pairs = [(y * out_x + x, j * kernel[1] + i) for j, y in line for i, x in column]
        position[place, : len(pairs)] = [p for p, _ in pairs]
        offset[place, : len(pairs)] = [k for _, k in pairs]
    places = np.arange(height * width, dtype=np.uint32)
    return _Map(
        row_I=np.repeat(np.arange(channels, dtype=np.uint32) * (kernel[0] * kernel[1]), len(places)),
        place_I=np.tile(places, channels),
        heard_L=heard,
        position_LK=position,
        offset_LK=offset,
        reach_R=(c * height + ky) * width + kx,
        corner_P=(top[:, None] * width + left[None, :]).reshape(-1),
    )


def _hearers(size: int, kernel: int, starts: np.ndarray) -> list[list[tuple[int, int]]]:
    """Return for each line of the input the offsets in the kernel and the output lines that hear it."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(size)]
    for out, start in enumerate(starts.tolist()):
        for k in range(kernel):
            if 0 <= start + k < size:
                found[start + k].append((k, out))
    return found


@njit(cache=True, nogil=True)
def _order_spikes(times_I, num_steps, starts, found, order):  # type: ignore[no-untyped-def]
    """Write the inputs that spike to `order`, by time, then index; return how many, -1 if one is wrong."""
    silent = np.float32(num_steps)
    n_in = times_I.shape[0]
    n = 0
    broken = np.int64(0)
    i = 0
    starts[:] = 0
    while i < n_in:
        if i + LANES <= n_in:
            spiking = below(times_I, i, silent)
            broken |= spiking >> 32
            spiking &= 0xFFFFFFFF
        else:
            spiking = 0
            for k in range(i, n_in):
                spiking |= np.int64(times_I[k] < silent) << (k - i)
                broken |= np.int64(not times_I[k] <= silent)
        while spiking:
            k = i + lowest_bit(spiking)
            spiking &= spiking - 1
            t = times_I[k]
            if not 0 <= t < silent or t != np.floor(t):
                return -1
            starts[np.int64(t) + 1] += 1
            found[n] = k
            n += 1
        i += LANES
    if broken:
        return -1
    for t in range(num_steps):
        starts[t + 1] += starts[t]
    for k in range(n):
        t = np.int64(times_I[found[k]])
        order[starts[t]] = found[k]
        starts[t] += 1
    return n


@njit(cache=True, nogil=True)
def _fill_lists(times_I, order, n, where, lists_PR, count_P):  # type: ignore[no-untyped-def]
    """Hand the spikes to the output positions that hear them; keys of step and row.

    Unsigned indices spare the test for a negative one, which is a third of this loop's time.
    """
    count_P[:] = 0
    for k in range(n):
        i = order[k]
        key = key_of(np.uint32(times_I[i]), where.row_I[i])
        place = where.place_I[i]
        for e in range(where.heard_L[place]):
            p = where.position_LK[place, e]
            lists_PR[p, count_P[p]] = key + where.offset_LK[place, e]
            count_P[p] += np.uint32(1)


@njit(cache=True, nogil=True)
def _scratch(times_BGI, num_steps, where, rows):  # type: ignore[no-untyped-def]
    n_in, positions = times_BGI.shape[2], where.corner_P.shape[0]
    return (
        np.empty(num_steps + 1, np.int32),
        np.empty(n_in, np.uint32),
        np.empty(n_in, np.uint32),
        np.empty((positions, rows + AHEAD), np.uint32),
        np.empty(positions, np.uint32),
    )


@njit(cache=True, nogil=True)
def _forward(times_BGI, weight_GRO, threshold, num_steps, where, size, out_BGPO, broken, begin, end):  # type: ignore[no-untyped-def]
    groups, rows, n_out = weight_GRO.shape
    width = len(size) * LANES
    starts, found, order, lists, count = _scratch(times_BGI, num_steps, where, rows)
    silent = np.float32(num_steps)
    for b in range(begin, end):
        for g in range(groups):
            n = _order_spikes(times_BGI[b, g], num_steps, starts, found, order)
            if n < 0:
                broken[0] = True
                return
            _fill_lists(times_BGI[b, g], order, n, where, lists, count)
            # Taken out of the loop: a view counts its users, which two threads would do in turn.
            weight, out = weight_GRO[g], out_BGPO[b, g]
            for first in range(0, n_out, width):
                column = min(first, n_out - width)
                for p in range(count.shape[0]):
                    place = p * n_out + column
                    walk(lists[p], count[p], weight, threshold, silent, column, out, place, size)


@njit(cache=True, nogil=True)
def _share_forward(address, parts, size, arguments):  # type: ignore[no-untyped-def]
    return team.share(address, parts, size, _forward, arguments)


@njit(cache=True, nogil=True)
def _weight_gradient(  # type: ignore[no-untyped-def]
    times_BGI, crossing_BGPO, delta_BGPO, num_steps, where, size, grad_NGRO, begin, end
):
    parts, groups, rows, n_out = grad_NGRO.shape
    width = len(size) * LANES
    starts, found, order, lists, count = _scratch(times_BGI, num_steps, where, rows)
    values, steps = np.empty((1, width), np.float32), np.empty((1, width), np.uint16)
    # Parts are equal, so a part's first sample tells which it is.
    grad_GRO = grad_NGRO[-(-begin * parts // max(times_BGI.shape[0], 1))]
    for b in range(begin, end):
        for g in range(groups):
            n = _order_spikes(times_BGI[b, g], num_steps, starts, found, order)
            _fill_lists(times_BGI[b, g], order, n, where, lists, count)
            crossing, delta, grad = crossing_BGPO[b, g], delta_BGPO[b, g], grad_GRO[g]
            for first in range(0, n_out, width):
                column = min(first, n_out - width)
                for p in range(count.shape[0]):
                    store_steps(steps, 0, load(crossing, p * n_out + column, size))
                    store(values, 0, load(delta, p * n_out + column, size))
                    if column < first:
                        values[0, : first - column] = 0
                    for k in range(count[p]):
                        key = lists[p, k]
                        place = input_of(key) * n_out + column
                        row = load(grad, place, size)
                        row = subtract_seen(row, values, steps, 0, np.uint16(step_of(key)))
                        store(grad, place, row)


@njit(cache=True, nogil=True)
def _share_weight_gradient(address, parts, size, arguments):  # type: ignore[no-untyped-def]
    return team.share(address, parts, size, _weight_gradient, arguments)


@njit(cache=True, nogil=True)
def _input_gradient(  # type: ignore[no-untyped-def]
    times_BGI, weight_GRO, crossing_BGPO, delta_BGPO, num_steps, where, size, grad_BGI, begin, end
):
    groups, rows, n_out = weight_GRO.shape
    width = len(size) * LANES
    starts, found, order, lists, count = _scratch(times_BGI, num_steps, where, rows)
    own = np.empty(width, np.float32)
    for b in range(begin, end):
        for g in range(groups):
            n = _order_spikes(times_BGI[b, g], num_steps, starts, found, order)
            _fill_lists(times_BGI[b, g], order, n, where, lists, count)
            weight, grad = weight_GRO[g], grad_BGI[b, g]
            crossings, deltas = crossing_BGPO[b, g], delta_BGPO[b, g]
            for first in range(0, n_out, width):
                column = min(first, n_out - width)
                for p in range(count.shape[0]):
                    store(own, 0, load(deltas, p * n_out + column, size))
                    if column < first:
                        own[: first - column] = 0
                    delta = load(own, 0, size)
                    crossing = load(crossings, p * n_out + column, size)
                    corner = where.corner_P[p]
                    for k in range(count[p]):
                        key = lists[p, k]
                        row = input_of(key)
                        step = np.float32(step_of(key))
                        grad[corner + where.reach_R[row]] += dot_seen(
                            weight, row * n_out + column, delta, crossing, step
                        )


@njit(cache=True, nogil=True)
def _share_input_gradient(address, parts, size, arguments):  # type: ignore[no-untyped-def]
    return team.share(address, parts, size, _input_gradient, arguments)


@njit(cache=True, nogil=True)
def _plain_forward(  # type: ignore[no-untyped-def]
    times_BGI, weight_GRO, threshold, num_steps, where, out_BGPO, peak_BGPO, broken, begin, end
):
    groups, rows, n_out = weight_GRO.shape
    starts, found, order, lists, count = _scratch(times_BGI, num_steps, where, rows)
    membrane = np.empty(n_out, weight_GRO.dtype)
    for b in range(begin, end):
        for g in range(groups):
            n = _order_spikes(times_BGI[b, g], num_steps, starts, found, order)
            if n < 0:
                broken[0] = True
                return
            _fill_lists(times_BGI[b, g], order, n, where, lists, count)
            for p in range(count.shape[0]):
                membrane[:] = 0
                out, peak = out_BGPO[b, g, p], peak_BGPO[b, g, p]
                out[:] = num_steps
                for k in range(count[p]):
                    row = weight_GRO[g, input_of(lists[p, k])]
                    for j in range(n_out):
                        membrane[j] += row[j]
                    step = step_of(lists[p, k])
                    if k + 1 == count[p] or step_of(lists[p, k + 1]) != step:
                        for j in range(n_out):
                            peak[j] = max(peak[j], membrane[j])
                            if membrane[j] >= threshold and out[j] == num_steps:
                                out[j] = step


@njit(cache=True, nogil=True)
def _plain_gradients(  # type: ignore[no-untyped-def]
    times_BGI,
    weight_GRO,
    crossing_BGPO,
    delta_BGPO,
    num_steps,
    where,
    power,
    grad_NGRO,
    grad_BGI,
    begin,
    end,
):
    """Add both gradients; a silent input counts as one at step T for its own, unless the mask is hard."""
    parts, groups, rows, n_out = grad_NGRO.shape
    grad_GRO = grad_NGRO[-(-begin * parts // max(times_BGI.shape[0], 1))]
    _, _, order, lists, count = _scratch(times_BGI, num_steps, where, rows)
    soft = power[1] > 0
    for b in range(begin, end):
        for g in range(groups):
            times, grad = times_BGI[b, g], grad_BGI[b, g]
            n = times.shape[0]
            for i in range(n):
                order[i] = i
            _fill_lists(times, order, n, where, lists, count)
            for p in range(count.shape[0]):
                crossing, delta = crossing_BGPO[b, g, p], delta_BGPO[b, g, p]
                for k in range(count[p]):
                    t = np.int64(times[where.corner_P[p] + where.reach_R[input_of(lists[p, k])]])
                    row = input_of(lists[p, k])
                    if t == num_steps and not soft:
                        continue
                    total = delta.dtype.type(0)
                    for j in range(n_out):
                        late = max(t - np.int64(crossing[j]), 0)
                        seen = delta[j] * power[late]
                        total += weight_GRO[g, row, j] * seen
                        if t < num_steps:
                            grad_GRO[g, row, j] -= seen
                    grad[where.corner_P[p] + where.reach_R[row]] += total


@njit(cache=True, nogil=True)
def _share_plain_forward(address, parts, size, arguments):  # type: ignore[no-untyped-def]
    return team.share(address, parts, size, _plain_forward, arguments)


@njit(cache=True, nogil=True)
def _share_plain_gradients(address, parts, size, arguments):  # type: ignore[no-untyped-def]
    return team.share(address, parts, size, _plain_gradients, arguments)


def forward(
    times_BCHW: np.ndarray,
    weight_GRO: np.ndarray,
    geometry: Geometry,
    threshold: float,
    num_steps: int,
    want_peak: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first crossing ``V >= threshold`` of every output neuron, ``T`` where there is none.

    Args:
        times_BCHW: whole steps, float32, C-contiguous. Padding is silent.
        weight_GRO: ``(groups, in_channels / groups x kernel, out_channels / groups)``, C-contiguous.
        geometry: sizes.
        threshold: in the weights' precision.
        num_steps: ``T``.
        want_peak: also return the highest membrane, taken without reset; at least 0.

    Returns:
        crossings ``(batch, out_channels, y, x)``, in memory with the channels last, and peaks of that
        shape (empty if not wanted).

    Raises:
        InvalidInput: a time is not a whole step in ``0 ... T``, or a weight is not finite.
        ValueError: an output neuron has more than 65,536 inputs.
    """
    if geometry.rows > MAX_INPUTS:
        raise ValueError(
            f"an output neuron may have {MAX_INPUTS} inputs, found {geometry.rows}: channels x kernel"
        )
    if not np.isfinite(weight_GRO).all():
        raise InvalidInput("weights must be finite")
    batch, _, height, width = times_BCHW.shape
    out_y, out_x = geometry.output_size(height, width)
    where = _map(geometry, height, width)
    times_BGI = _by_group(times_BCHW, geometry)
    limit = weight_GRO.dtype.type(threshold)
    broken = np.zeros(1, np.bool_)
    own = geometry.out_channels // geometry.groups
    peak = np.empty((0, 0, 0, 0), weight_GRO.dtype)
    if weight_GRO.dtype == np.float32 and not want_peak:
        rows = pad_columns(weight_GRO)
        size = blocks(rows.shape[2])
        out = np.empty((batch, geometry.groups, out_y * out_x, rows.shape[2]), np.float32)
        team.run(
            _share_forward, _forward, batch, times_BGI, rows, limit, num_steps, where, size, out, broken
        )
    else:
        out = np.empty((batch, geometry.groups, out_y * out_x, own), np.float32)
        highest = np.zeros(out.shape, weight_GRO.dtype)
        plain = times_BGI, weight_GRO, limit, num_steps, where, out, highest, broken
        team.run(_share_plain_forward, _plain_forward, batch, *plain)
        if want_peak:
            peak = _channels_first(highest, out_y, out_x)
    if broken[0]:
        raise InvalidInput(f"times must be whole steps 0 ... {num_steps}")
    return _channels_first(out[..., :own], out_y, out_x), peak


def weight_gradient(
    times_BCHW: np.ndarray,
    crossing_BOYX: np.ndarray,
    delta_BOYX: np.ndarray,
    geometry: Geometry,
    num_steps: int,
    decay: float,
) -> np.ndarray:
    """Return ``dL/dw`` in the layout of `forward`'s weights; a mask decays by `decay` per step of lateness.

    `crossing_BOYX` and `delta_BOYX` may lie in memory in any order; channels last saves a copy.
    """
    times_BGI, where, crossing, delta = _positions(times_BCHW, crossing_BOYX, delta_BOYX, geometry)
    if decay > 0 or delta.dtype != np.float32:
        weight = np.zeros((geometry.groups, geometry.rows, delta.shape[3]), delta.dtype)
        return _plain(times_BGI, weight, where, crossing, delta, num_steps, decay)[0]
    own = delta.shape[3]
    delta, crossing = pad_columns(delta), pad_columns(crossing)
    size = blocks(delta.shape[3], _CACHED)
    grad = np.zeros(
        (team.parts(len(times_BGI)), geometry.groups, geometry.rows, delta.shape[3]), np.float32
    )
    arguments = times_BGI, crossing, delta, num_steps, where, size, grad
    team.run(_share_weight_gradient, _weight_gradient, len(times_BGI), *arguments)
    return np.ascontiguousarray(grad.sum(0)[..., :own])


def input_gradient(
    times_BCHW: np.ndarray,
    weight_GRO: np.ndarray,
    crossing_BOYX: np.ndarray,
    delta_BOYX: np.ndarray,
    geometry: Geometry,
    num_steps: int,
    decay: float,
) -> np.ndarray:
    """Return ``dL/dt_i`` ``(batch, in_channels, height, width)``; arguments as for `weight_gradient`."""
    times_BGI, where, crossing, delta = _positions(times_BCHW, crossing_BOYX, delta_BOYX, geometry)
    if decay > 0 or delta.dtype != np.float32:
        grad = _plain(times_BGI, weight_GRO, where, crossing, delta, num_steps, decay)[1]
        return grad.reshape(times_BCHW.shape)
    rows, delta, crossing = (pad_columns(array) for array in (weight_GRO, delta, crossing))
    size = blocks(rows.shape[2], _CACHED)
    grad = np.zeros(times_BGI.shape, np.float32)
    arguments = times_BGI, rows, crossing, delta, num_steps, where, size, grad
    team.run(_share_input_gradient, _input_gradient, len(times_BGI), *arguments)
    return grad.reshape(times_BCHW.shape)


def _plain(
    times_BGI: np.ndarray,
    weight_GRO: np.ndarray,
    where: _Map,
    crossing: np.ndarray,
    delta: np.ndarray,
    num_steps: int,
    decay: float,
) -> tuple[np.ndarray, np.ndarray]:
    batch = len(times_BGI)
    power = powers(decay, num_steps, delta.dtype)
    grad_weight = np.zeros((team.parts(batch), *weight_GRO.shape), delta.dtype)
    grad_times = np.zeros(times_BGI.shape, delta.dtype)
    arguments = times_BGI, weight_GRO, crossing, delta, num_steps, where, power, grad_weight, grad_times
    team.run(_share_plain_gradients, _plain_gradients, batch, *arguments)
    return grad_weight.sum(0), grad_times


def _positions(
    times_BCHW: np.ndarray, crossing_BOYX: np.ndarray, delta_BOYX: np.ndarray, geometry: Geometry
) -> tuple[np.ndarray, _Map, np.ndarray, np.ndarray]:
    batch, _, *out_size = crossing_BOYX.shape
    shape = batch, geometry.groups, geometry.out_channels // geometry.groups, math.prod(out_size)
    crossing, delta = (
        np.ascontiguousarray(array.reshape(shape).transpose(0, 1, 3, 2))
        for array in (crossing_BOYX, delta_BOYX)
    )
    return _by_group(times_BCHW, geometry), _map(geometry, *times_BCHW.shape[2:]), crossing, delta


def _by_group(times_BCHW: np.ndarray, geometry: Geometry) -> np.ndarray:
    batch, channels, height, width = times_BCHW.shape
    return times_BCHW.reshape(batch, geometry.groups, channels // geometry.groups * height * width)


def _channels_first(values_BGPO: np.ndarray, height: int, width: int) -> np.ndarray:
    batch, groups, _, own = values_BGPO.shape
    maps = values_BGPO.reshape(batch, groups, height, width, own).transpose(0, 1, 4, 2, 3)
    return maps.reshape(batch, groups * own, height, width)
