"""Batch normalisation in training and the quantised, clipped ReLU after it, as one operation.

Apart, the normalised membranes are written, read twice and kept for the backward pass. Here they are made
again from the sums wherever they are needed: two readings and a writing forward, four and a writing
backward. Half precision comes and goes as its bits, see `firstspike.kernels.cpu.half`, and is computed in
float32.

Sums are arrays ``(places, features)``, features last. Several rows are taken together, so that the inner
loops are long for few features, too; what belongs to a feature is repeated as often.

Shape legend: N places (of all samples), F features, L the length of several rows, P chunks of the work.
"""

from typing import NamedTuple

import numpy as np

from firstspike.kernels import arrays
from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.half import narrowed, widened

# Numbers that are taken together, which stay in the fastest cache with what belongs to them.
_ROW = 1024
_PIVOTS = 32


class Normal(NamedTuple):
    """How sums are normalised: ``u = (x - mean) scale + shift``; float64 ``(F,)``.

    Attributes:
        mean, variance: of the batch; the variance is that of its values, without Bessel's correction.
        deviation: root of the variance and epsilon.
        scale: gain over deviation.
        shift: bias.
    """

    mean: np.ndarray
    variance: np.ndarray
    deviation: np.ndarray
    scale: np.ndarray
    shift: np.ndarray


@compiled
def _moments(sums, length, pivot_L, moments_P2L, begin, end):
    """Add up distances to the pivot and their squares, of the blocks ``begin ... end - 1``."""
    part = threads.part_of(begin, moments_P2L.shape[0], -(-sums.shape[0] // length))
    first_L, second_L = moments_P2L[part, 0], moments_P2L[part, 1]
    for block in range(begin, end):
        row = sums[block * length : (block + 1) * length]
        for k in range(row.shape[0]):
            away = widened(row[k]) - pivot_L[k]
            first_L[k] += away
            second_L[k] += away * away


@compiled
def _share_moments(address, parts, size, arguments):
    return threads.share(address, parts, size, _moments, arguments)


@compiled
def _fire(sums, length, mean_L, unit_L, from_L, steps, share, out, levels_PL, begin, end):
    levels_L = levels_PL[threads.part_of(begin, levels_PL.shape[0], -(-sums.shape[0] // length))]
    zero = np.float32(0)
    for block in range(begin, end):
        start, stop = block * length, (block + 1) * length
        row, fired = sums[start:stop], out[start:stop]
        for k in range(row.shape[0]):
            level = (widened(row[k]) - mean_L[k]) * unit_L[k] + from_L[k]
            # Not min and max, which make a number of NaN.
            level = zero if level < zero else level
            level = np.floor(steps if level > steps else level)
            levels_L[k] += level
            fired[k] = narrowed(level * share, row[k])


@compiled
def _share_fire(address, parts, size, arguments):
    return threads.share(address, parts, size, _fire, arguments)


@compiled(inline="always")
def _passed(grad, added, away, unit, start):
    """Return the gradient of one value if its membrane is inside the range, else 0."""
    place = away * unit + start
    inside = (place > np.float32(0)) & (place < np.float32(1))
    return widened(grad) + added if inside else np.float32(0)


@compiled
def _gradient_sums(sums, grads, length, added, mean_L, unit_L, from_L, moments_P2L, begin, end):
    """Add up gradients and gradients times distances to the mean."""
    part = threads.part_of(begin, moments_P2L.shape[0], -(-sums.shape[0] // length))
    first_L, second_L = moments_P2L[part, 0], moments_P2L[part, 1]
    for block in range(begin, end):
        start, stop = block * length, (block + 1) * length
        row, grad = sums[start:stop], grads[start:stop]
        for k in range(row.shape[0]):
            away = widened(row[k]) - mean_L[k]
            given = _passed(grad[k], added, away, unit_L[k], from_L[k])
            first_L[k] += given
            second_L[k] += given * away


@compiled
def _share_gradient_sums(address, parts, size, arguments):
    return threads.share(address, parts, size, _gradient_sums, arguments)


@compiled
def _gradient(
    sums, grads, length, added, mean_L, unit_L, from_L, by_grad_L, by_away_L, by_all_L, out, begin, end
):
    for block in range(begin, end):
        start, stop = block * length, (block + 1) * length
        row, grad = sums[start:stop], grads[start:stop]
        found = out[start:stop]
        for k in range(row.shape[0]):
            away = widened(row[k]) - mean_L[k]
            given = _passed(grad[k], added, away, unit_L[k], from_L[k])
            total = given * by_grad_L[k] + away * by_away_L[k] + by_all_L[k]
            found[k] = narrowed(total, row[k])


@compiled
def _share_gradient(address, parts, size, arguments):
    return threads.share(address, parts, size, _gradient, arguments)


def normal(sums: np.ndarray, gain: np.ndarray, bias: np.ndarray, epsilon: float) -> Normal:
    """Return how this batch is normalised.

    Args:
        sums: ``(N, F)``, C-contiguous, float32, or uint16 for the bits of bfloat16; two places or more.
        gain, bias: ``(F,)``.
        epsilon: added to the variance.
    """
    count, features = sums.shape
    length, blocks = _blocks(sums)
    # The mean of some places all over the batch: squares of distances to it lose little.
    some = sums[:: max(1, count // _PIVOTS)]
    some = (some.astype(np.uint32) << 16).view(np.float32) if some.dtype == np.uint16 else some
    pivot = some.mean(0, dtype=np.float64).astype(np.float32)
    moments = arrays.zeros((threads.parts(blocks), 2, length), np.float32)
    arguments = sums.reshape(-1), length, np.tile(pivot, length // features), moments
    threads.run(_share_moments, _moments, blocks, *arguments)
    first, second = _by_feature(moments, features) / count
    variance = np.maximum(second - first * first, 0)
    deviation = np.sqrt(variance + epsilon)
    return Normal(pivot + first, variance, deviation, gain / deviation, bias.astype(np.float64))


def fire(sums: np.ndarray, how: Normal, steps: int, high: float) -> tuple[np.ndarray, float]:
    """Return the values of `firstspike.kernels.cpu.quantise` of normalised sums, and the sum of all values.

    Args:
        sums: as for `normal`.
        how: of these sums.
        steps: ``T``.
        high: membrane of the highest level.
    """
    length, blocks = _blocks(sums)
    unit = steps / high
    mean, factor, start = (
        _repeated(one, length, sums) for one in (how.mean, how.scale * unit, how.shift * unit + 0.5)
    )
    out = arrays.empty(sums.shape, sums.dtype)
    # Levels are whole, and so are their sums in float32 up to 2^24, of a row's place in every block.
    levels = arrays.zeros((threads.parts(blocks), length), np.float32)
    arguments = (
        sums.reshape(-1),
        length,
        mean,
        factor,
        start,
        np.float32(steps),
        np.float32(1 / steps),
        out.reshape(-1),
        levels,
    )
    threads.run(_share_fire, _fire, blocks, *arguments)
    return out, float(levels.sum(dtype=np.float64)) / steps


def gradient(
    sums: np.ndarray, grads: np.ndarray, how: Normal, high: float, added: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of the sums, the gains ``(F,)`` and the biases ``(F,)``.

    Straight through the levels inside the range and 0 outside; through mean and variance of the batch.

    Args:
        sums, how, high: as for `fire`.
        grads: of the values, like `sums`.
        added: what is added to each of them.
    """
    count, features = sums.shape
    length, blocks = _blocks(sums)
    mean, factor, start = (
        _repeated(one, length, sums) for one in (how.mean, how.scale / high, how.shift / high)
    )
    flat = sums.reshape(-1), grads.reshape(-1), length, np.float32(added), mean, factor, start
    moments = arrays.zeros((threads.parts(blocks), 2, length), np.float32)
    threads.run(_share_gradient_sums, _gradient_sums, blocks, *flat, moments)
    by_bias, by_distance = _by_feature(moments, features) / high
    by_gain = by_distance / how.deviation
    slope = -how.scale * by_gain / how.deviation / count
    weights = (
        _repeated(one, length, sums) for one in (how.scale / high, slope, -how.scale * by_bias / count)
    )
    out = arrays.empty(sums.shape, sums.dtype)
    threads.run(_share_gradient, _gradient, blocks, *flat, *weights, out.reshape(-1))
    return out, by_gain, by_bias


def _blocks(sums: np.ndarray) -> tuple[int, int]:
    """Return the length of several rows, and how many blocks of it there are."""
    features = sums.shape[1]
    length = features * max(1, _ROW // features)
    return length, -(-sums.size // length)


def _repeated(values_F: np.ndarray, length: int, sums: np.ndarray) -> np.ndarray:
    """Return what belongs to the features for each number of a block, float32 ``(L,)``."""
    return np.tile(values_F.astype(np.float32), length // sums.shape[1])


def _by_feature(moments_P2L: np.ndarray, features: int) -> np.ndarray:
    """Return the sums over chunks and rows, float64 ``(2, F)``."""
    return moments_P2L.sum(0, dtype=np.float64).reshape(2, -1, features).sum(1)
