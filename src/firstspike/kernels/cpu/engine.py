"""One image at a time through all layers at once, in the order of time, up to the first output spike.

Each layer has a list of the spikes that reach it, in the order of time. A step takes from every list
what arrives then, adds the weights, and writes those who cross to the next layer's list. The walk jumps
from step to step that has a spike, so its cost does not depend on the number of steps.

Weights lie as one row per input: linear ``(in, out)``, convolution ``(groups, in / groups * ky * kx,
out / groups)``. Membranes of a convolution lie position by position, so that a row is one run.

Shape legend: M images, I inputs, C outputs, L layers.
"""

import numpy as np

from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.membranes import add_rows, add_run, padded, run_length
from firstspike.kernels.cpu.order import input_of, key_type, sort_spikes, sorting_room, step_of

# Columns of the table of layers; the last ones are a convolution's.
(
    IN_FEATURES,
    OUT_FEATURES,
    WEIGHTS,
    DELAY,
    GROUPS,
    IN_CHANNELS,
    IN_HEIGHT,
    IN_WIDTH,
    OUT_CHANNELS,
    OUT_HEIGHT,
    OUT_WIDTH,
    KERNEL_Y,
    KERNEL_X,
    STRIDE_Y,
    STRIDE_X,
    PADDING_Y,
    PADDING_X,
    COLUMNS,
) = range(18)

# Columns of the result; spikes of the input and of each layer follow.
LABEL, STEP, TIED, SILENT, OPERATIONS, SPIKES = range(6)


@compiled
def _membrane_size(layer):
    """Return the room for a layer's membranes: of a convolution, runs of one position and group each."""
    groups = layer[GROUPS]
    if groups == 0:
        return padded(layer[OUT_FEATURES])
    return layer[OUT_HEIGHT] * layer[OUT_WIDTH] * groups * run_length(layer[OUT_CHANNELS] // groups)


@compiled
def membrane_offsets(table):
    """Return where each layer's membranes begin among all, and their number last, int64 ``(L + 1,)``."""
    held = np.zeros(table.shape[0] + 1, np.int64)
    for d in range(table.shape[0]):
        held[d + 1] = held[d] + _membrane_size(table[d])
    return held


@compiled
def _add_patches(layer, flat, spikes, membrane, limit, mark, stamp, high):
    """Add the spikes of one step to a convolution's membranes.

    Returns:
        how many runs `high` lists, each once, that were at `limit` on the way; and the additions made.
    """
    groups, out_height, out_width = layer[GROUPS], layer[OUT_HEIGHT], layer[OUT_WIDTH]
    fan_in, fan_out = layer[IN_CHANNELS] // groups, layer[OUT_CHANNELS] // groups
    length, in_width = run_length(fan_out), layer[IN_WIDTH]
    area = layer[IN_HEIGHT] * in_width
    kernel_y, kernel_x, stride_y, stride_x = (
        layer[KERNEL_Y],
        layer[KERNEL_X],
        layer[STRIDE_Y],
        layer[STRIDE_X],
    )
    count, additions = 0, 0
    for k in range(spikes.shape[0]):
        channel, place = spikes[k] // area, spikes[k] % area
        y, x = place // in_width + layer[PADDING_Y], place % in_width + layer[PADDING_X]
        first_row = layer[WEIGHTS] + channel * kernel_y * kernel_x * fan_out
        for dy in range(y % stride_y, kernel_y, stride_y):
            out_y = (y - dy) // stride_y
            if out_y < 0 or out_y >= out_height:
                continue
            for dx in range(x % stride_x, kernel_x, stride_x):
                out_x = (x - dx) // stride_x
                if out_x < 0 or out_x >= out_width:
                    continue
                run = (out_y * out_width + out_x) * groups + channel // fan_in
                row = first_row + (dy * kernel_x + dx) * fan_out
                additions += fan_out
                if add_run(flat, row, membrane, run * length, fan_out, limit) and mark[run] != stamp:
                    mark[run] = stamp
                    high[count] = run
                    count += 1
    return count, additions


@compiled
def _take_runs(layer, membrane, limit, high, runs, found, count):
    """Append who crossed in the first `runs` of `high` to `found`, by index; return the new count."""
    groups, area = layer[GROUPS], layer[OUT_HEIGHT] * layer[OUT_WIDTH]
    fan_out = layer[OUT_CHANNELS] // groups
    length, before = run_length(fan_out), count
    for k in range(runs):
        place, group, at = high[k] // groups, high[k] % groups, high[k] * length
        for o in range(fan_out):
            if membrane[at + o] >= limit:
                membrane[at + o] = -np.inf
                found[count] = (group * fan_out + o) * area + place
                count += 1
    if count - before > 1:
        found[before:count].sort()
    return count


@compiled
def _take_ready(layer, membrane, limit, candidates, found, before, count):
    """Append those of `candidates` that are still at `limit` after the first step; return the new count.

    They started there, so that no input spike may have touched them.
    """
    area = layer[OUT_HEIGHT] * layer[OUT_WIDTH]
    length = run_length(layer[OUT_CHANNELS])
    for k in range(candidates.shape[0]):
        at = np.int64(candidates[k])
        if layer[GROUPS] > 0:
            at = at % area * length + at // area
        if membrane[at] >= limit:
            membrane[at] = -np.inf
            found[count] = candidates[k]
            count += 1
    if candidates.shape[0] > 0:
        found[before:count].sort()
    return count


@compiled
def _decide(
    times_MI, kind, flat, limits, table, start, ready, ready_from, num_steps, early_exit, out_MC, result
):
    depth = table.shape[0]
    n_in = table[0, IN_FEATURES]
    # Where each layer's membranes and the list of the spikes that it gives begin.
    held, listed = membrane_offsets(table), np.zeros(depth + 2, np.int64)
    listed[1] = n_in
    for d in range(depth):
        listed[d + 2] = listed[d + 1] + table[d, OUT_FEATURES]
    membranes = np.empty(held[depth], flat.dtype)
    neuron, when = np.empty(listed[depth + 1], np.int32), np.empty(listed[depth + 1], np.int32)
    room = sorting_room(n_in, kind)
    count, read = np.empty(depth + 1, np.int64), np.empty(depth + 1, np.int64)
    widest = 0
    for d in range(depth):
        if table[d, GROUPS] > 0:
            widest = max(widest, table[d, OUT_FEATURES])
    mark, high = np.zeros((depth, widest), np.int64), np.empty(widest, np.int32)
    stamp, starts = 0, ready.shape[0] > 0
    for m in range(times_MI.shape[0]):
        keys, n = sort_spikes(times_MI[m], num_steps, room)
        if n < 0:
            return m
        membranes[:] = start
        count[:] = 0
        read[:] = 0
        decision, operations, opened = num_steps, 0, stamp
        for k in range(n):
            neuron[k], when[k] = input_of(keys[k]), step_of(keys[k])
        count[0] = n
        while True:
            now = num_steps
            for d in range(depth):
                if read[d] < count[d]:
                    now = min(now, np.int64(when[listed[d] + read[d]]))
            if stamp == opened and starts:
                now = 0
            if now == num_steps or (early_exit and now > decision):
                break
            stamp += 1
            for d in range(depth):
                first = listed[d] + read[d]
                last, end = first, listed[d] + count[d]
                while last < end and when[last] == now:
                    last += 1
                layer = table[d]
                if first == last and (now > 0 or ready_from[d] == ready_from[d + 1]):
                    continue
                read[d] += last - first
                n_out = layer[OUT_FEATURES]
                membrane = membranes[held[d] : held[d + 1]]
                given = neuron[listed[d + 1] : listed[d + 2]]
                before = count[d + 1]
                after = before
                if first == last:
                    pass
                elif layer[GROUPS] == 0:
                    operations += (last - first) * n_out
                    after = add_rows(
                        flat, layer[WEIGHTS], neuron, first, last, membrane, n_out, limits[d], given, before
                    )
                else:
                    runs, additions = _add_patches(
                        layer, flat, neuron[first:last], membrane, limits[d], mark[d], stamp, high
                    )
                    operations += additions
                    after = _take_runs(layer, membrane, limits[d], high, runs, given, before)
                if now == 0:
                    candidates = ready[ready_from[d] : ready_from[d + 1]]
                    after = _take_ready(layer, membrane, limits[d], candidates, given, before, after)
                leaves = now + layer[DELAY]
                if after == before or leaves >= num_steps:
                    continue
                when[listed[d + 1] + before : listed[d + 1] + after] = leaves
                count[d + 1] = after
                if d == depth - 1:
                    decision = min(decision, leaves)
        out_MC[m, :] = num_steps
        winners, spikes = 0, 0
        result[m, LABEL] = -1
        for k in range(listed[depth], listed[depth] + count[depth]):
            if when[k] > decision and early_exit:
                break
            spikes += 1
            out_MC[m, neuron[k]] = when[k]
            if when[k] == decision:
                winners += 1
                result[m, LABEL] = neuron[k]
        if winners > 1:
            result[m, LABEL] = -1
        result[m, STEP] = decision
        result[m, TIED] = winners > 1
        result[m, SILENT] = winners == 0
        result[m, OPERATIONS] = operations
        for d in range(depth):
            result[m, SPIKES + d] = read[d]
        result[m, SPIKES + depth] = spikes
    return -1


def decide(
    times_MI: np.ndarray,
    flat: np.ndarray,
    limits: np.ndarray,
    table: np.ndarray,
    start: np.ndarray,
    ready: np.ndarray,
    ready_from: np.ndarray,
    num_steps: int,
    early_exit: bool,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return output times ``(M, C)``, results ``(M, SPIKES + L + 1)`` and the first image refused, or -1.

    Scratch is the call's own, so calls from several threads do not meet.

    Args:
        times_MI: float32, C-contiguous. An image with a time that is no integer step in ``0 ... T`` ends
            the call.
        flat: weights of all layers, and `LANES` spare elements.
        limits: of each layer, in the weights' precision; a neuron fires at or above it.
        table: int64 ``(L, COLUMNS)``; a linear layer has 0 groups.
        start: of all membranes, where `membrane_offsets` says, in the weights' precision.
        ready: int32, the neurons that start at their limit or above, layer by layer.
        ready_from: int64 ``(L + 1,)``, where each layer's begin.
        num_steps: ``T``.
        early_exit: stop after the step of the first output spike. Output spikes after it are not given.
    """
    out = np.empty((len(times_MI), table[-1, OUT_FEATURES]), np.float32)
    result = np.empty((len(times_MI), SPIKES + len(table) + 1), np.int64)
    kind = key_type(times_MI.shape[1])
    refused = _decide(
        times_MI, kind, flat, limits, table, start, ready, ready_from, num_steps, early_exit, out, result
    )
    return out, result, refused
