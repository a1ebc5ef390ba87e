"""A whole epoch of S4NN's online learning in one compiled call: one image, one update, in a fixed order.

Everything goes by events. A forward pass adds one weight row per input spike; an update touches the rows
of the inputs that fired before a neuron with an error. The published decay of every weight after every
image is kept as one factor: the weights are ``scale * rows``.

Shape legend: M images in the order of learning, I inputs, N input spikes of all images, L layers,
C classes.
"""

import numpy as np

from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.membranes import add_rows, padded, subtract_row
from firstspike.kernels.cpu.order import (
    find_spikes,
    input_of,
    key_type,
    sort_spikes,
    sorting_room,
    step_of,
)

# Below this the factor is multiplied into the rows, long before they lose precision to it.
_SMALLEST_SCALE = 0.5
# Neurons of a whole row that are updated in the time of one by itself.
_ROW_SPEED = 8


@compiled
def _count_all(times_MI, num_steps, keys, start_M):
    for m in range(times_MI.shape[0]):
        count = find_spikes(times_MI[m], 0, times_MI.shape[1], np.float32(num_steps), keys)
        if count < 0:
            return False
        start_M[m + 1] = start_M[m] + count
    return True


@compiled
def _list_all(times_MI, num_steps, room, start_M, row_N, when_N):
    for m in range(times_MI.shape[0]):
        keys, n = sort_spikes(times_MI[m], num_steps, room)
        row, when = row_N[start_M[m] :], when_N[start_M[m] :]
        for k in range(n):
            row[k], when[k] = input_of(keys[k]), step_of(keys[k])


def list_images(times_MI: np.ndarray, num_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the spikes of all images, image after image: input, step, and where each image starts.

    Args:
        times_MI: float32 ``(images, in_features)``, C-contiguous.
        num_steps: ``T``, at most 65,535.

    Returns:
        inputs uint16 (uint32 if there are more than 65,536) ``(N,)`` and steps uint16 ``(N,)``, in the
        order of time, then of input, and starts int64 ``(images + 1,)``.

    Raises:
        ValueError: a time is NaN, not an integer or outside ``0 ... T``.
    """
    n_in = times_MI.shape[1]
    start = np.zeros(len(times_MI) + 1, np.int64)
    room = sorting_room(n_in, key_type(n_in))
    if not _count_all(times_MI, num_steps, room[0], start):
        raise ValueError(f"times must be integer steps 0 ... {num_steps}")
    row = np.empty(start[-1], np.uint16 if n_in <= 1 << 16 else np.uint32)
    when = np.empty(start[-1], np.uint16)
    _list_all(times_MI, num_steps, room, start, row, when)
    return row, when, start


@compiled
def _fire(flat, weights, row, when, limit, num_steps, membrane, times, out_row, out_when):
    """Fill `times` of one layer and its spikes by time; return how many.

    A neuron fires one step after its crossing, so a crossing at the last step is silence.
    """
    membrane[:] = 0
    times[:] = num_steps
    n_out, n_spikes, count = times.shape[0], row.shape[0], 0
    first = 0
    while first < n_spikes and count < n_out:
        now = np.int64(when[first]) + 1
        if now >= num_steps:
            break
        last = first + 1
        while last < n_spikes and when[last] == when[first]:
            last += 1
        before = count
        count = add_rows(flat, weights, row, first, last, membrane, n_out, limit, out_row, count)
        for k in range(before, count):
            times[out_row[k]] = now
            out_when[k] = now
        first = last
    return count


@compiled
def _output_delta(times, label, num_steps, gamma, aggressive, delta):
    """Fill `delta` with ``(target - t) / T``."""
    first = times.min()
    for j in range(times.shape[0]):
        target = float(times[j])
        if aggressive or first == num_steps:
            target = float(num_steps)
        elif times[j] - first < gamma:
            target = min(first + gamma, float(num_steps))
        if j == label:
            target = float(first)
            if first == num_steps:
                target = 0.0 if aggressive else num_steps - gamma
        delta[j] = (target - times[j]) / num_steps


@compiled
def _normalise(delta, l1):
    """Divide `delta` by its norm; return False, and leave it, if that is 0."""
    total = 0.0
    for j in range(delta.shape[0]):
        total += abs(delta[j]) if l1 else delta[j] * delta[j]
    if total == 0:
        return False
    norm = total if l1 else np.sqrt(total)
    for j in range(delta.shape[0]):
        delta[j] /= norm
    return True


@compiled
def _descend(flat, weights, row, when, delta, factor, times, out_row, num_steps, step, left):
    """``rows_ij -= factor delta_j [t_i < t_j]``.

    `left` lists the neurons whose gradient the inputs of the present step still reach: those that never
    fired, then the others from the last to fire to the first. It shrinks as time goes on.
    """
    n_out, count = times.shape[0], 0
    step[n_out:] = 0
    for j in range(n_out):
        step[j] = factor * delta[j]
        if step[j] != 0 and times[j] == num_steps:
            left[count] = j
            count += 1
    for k in range(out_row.shape[0] - 1, -1, -1):
        if step[out_row[k]] != 0:
            left[count] = out_row[k]
            count += 1
    for k in range(row.shape[0]):
        while count > 0 and times[left[count - 1]] <= when[k]:
            count -= 1
            step[left[count]] = 0
        if count == 0:
            return
        target = weights + np.int64(row[k]) * n_out
        if count * _ROW_SPEED < n_out:
            for q in range(count):
                flat[target + left[q]] -= step[left[q]]
        else:
            subtract_row(flat, target, n_out, step)


@compiled
def _hand_back(flat, weights, scale, row, when, delta, times, left, delta_in):
    """``delta_in_i = sum_j delta_j [t_i < t_j] w_ji`` of the inputs that fired; the others get 0."""
    delta_in[:] = 0
    count = 0
    for j in range(delta.shape[0]):
        if delta[j] != 0:
            left[count] = j
            count += 1
    for k in range(row.shape[0]):
        if k == 0 or when[k] != when[k - 1]:
            still = 0
            for q in range(count):
                j = left[q]
                left[still] = j
                still += when[k] < times[j]
            count = still
            if count == 0:
                return
        source = weights + np.int64(row[k]) * delta.shape[0]
        total = 0.0
        for q in range(count):
            total += delta[left[q]] * flat[source + left[q]]
        delta_in[row[k]] = scale * total


@compiled
def _learn(
    image_row, image_when, start, order, labels, flat, sizes, thresholds, numbers, kinds, out_MC, fired
):
    num_steps, gamma, rate, keep = np.int64(numbers[0]), numbers[1], numbers[2], numbers[3]
    aggressive, l1 = kinds[0], kinds[1]
    depth, widest = sizes.shape[0] - 1, padded(sizes.max())
    membrane, step = np.empty(widest, flat.dtype), np.empty(widest, flat.dtype)
    left = np.empty(widest, np.int32)
    # Of the input and of each layer: the spikes by time, and how many; each neuron's time and error.
    row, when = np.empty((depth + 1, widest), np.int32), np.empty((depth + 1, widest), np.int32)
    spikes = np.empty(depth + 1, np.int64)
    times, delta = np.empty((depth + 1, widest), np.int32), np.empty((depth + 1, widest), np.float64)
    weights = np.zeros(depth + 1, np.int64)
    for d in range(depth):
        weights[d + 1] = weights[d] + sizes[d] * sizes[d + 1]
    scale = 1.0
    for m in range(order.shape[0]):
        begin, end = start[order[m]], start[order[m] + 1]
        spikes[0] = end - begin
        for k in range(spikes[0]):
            row[0, k], when[0, k] = image_row[begin + k], image_when[begin + k]
        for d in range(depth):
            n_in, n_out = spikes[d], sizes[d + 1]
            # V > theta, which is at or above the next number.
            limit = np.nextafter(flat.dtype.type(thresholds[d] / scale), flat.dtype.type(np.inf))
            spikes[d + 1] = _fire(
                flat, weights[d], row[d, :n_in], when[d, :n_in], limit, num_steps,
                membrane[: padded(n_out)], times[d + 1, :n_out], row[d + 1], when[d + 1],
            )  # fmt: skip
        for d in range(1, depth):
            for k in range(spikes[d]):
                fired[d - 1, row[d, k]] += 1
        for j in range(sizes[depth]):
            out_MC[m, j] = times[depth, j]

        last = sizes[depth]
        _output_delta(
            times[depth, :last], labels[order[m]], num_steps, gamma, aggressive, delta[depth, :last]
        )
        for d in range(depth - 1, -1, -1):
            n_in, n_out = spikes[d], sizes[d + 1]
            error, own_times = delta[d + 1, :n_out], times[d + 1, :n_out]
            if not _normalise(error, l1):
                break
            _descend(
                flat, weights[d], row[d, :n_in], when[d, :n_in], error, rate / scale, own_times,
                row[d + 1, : spikes[d + 1]], num_steps, step[: padded(n_out)], left,
            )  # fmt: skip
            if d > 0:
                # With the weights after their update and their decay.
                _hand_back(
                    flat, weights[d], scale * keep, row[d, :n_in], when[d, :n_in], error, own_times, left,
                    delta[d, : sizes[d]],
                )  # fmt: skip
        scale *= keep
        if scale < _SMALLEST_SCALE:
            for k in range(flat.shape[0]):
                flat[k] *= scale
            scale = 1.0
    if scale != 1:
        for k in range(flat.shape[0]):
            flat[k] *= scale


def learn(
    spikes: tuple[np.ndarray, np.ndarray, np.ndarray],
    order_M: np.ndarray,
    labels: np.ndarray,
    flat: np.ndarray,
    sizes: tuple[int, ...],
    thresholds: tuple[float, ...],
    *,
    num_steps: int,
    gamma: float,
    rate: float,
    keep: float,
    aggressive: bool,
    l1: bool,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the output times ``(M, classes)`` and each hidden layer's spikes per neuron over all images.

    Args:
        spikes: input, step uint16 and start of each image, as `list_images` returns.
        order_M: int64, which image comes when.
        labels: int64, of all images.
        flat: changed in place; every layer's weights ``(in, out)``, one layer after the other, and `LANES`
            spare elements.
        sizes: of the input and of each layer.
        thresholds: of each layer.
        num_steps: ``T``.
        gamma: margin of the relative targets in steps.
        rate: learning rate.
        keep: what a weight is multiplied by after each image.
        aggressive: targets of Aggressive TTFS instead of S4NN's relative ones.
        l1: divide errors by their L1 norm instead of L2.
    """
    hidden = sizes[1:-1]
    out = np.empty((len(order_M), sizes[-1]), np.float32)
    fired = np.zeros((len(hidden), max(hidden, default=0)), np.int64)
    numbers = np.array([num_steps, gamma, rate, keep], np.float64)
    _learn(
        *spikes, order_M, labels, flat, np.array(sizes, np.int64), np.array(thresholds, np.float64),
        numbers, np.array([aggressive, l1]), out, fired,
    )  # fmt: skip
    return out, [counts[:size] for counts, size in zip(fired, hidden, strict=True)]
