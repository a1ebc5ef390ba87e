"""The membrane carried from patch to patch of a map and its surrogate gradient, in one pass over the map.

A place of a patch only ever meets the same place of the other patches, so the recurrence over patches runs
over one row of a patch at a time, in the nearest cache, and nothing is cut out or copied. Arrays have the
axes B (batch), Y (rows of the map) and X C (places of a row, their channels side by side), the last axis
contiguous; half precision comes as its bits, see `firstspike.kernels.cpu.half`.
"""

import math

import numpy as np

from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.half import narrow, widen
from firstspike.kernels.cpu.surrogates import SURROGATES, times_surrogate

PROJECTIONS = ("sine_patch", "sine_layer", "linear", "sigmoid", "tanh", "relu")
CARRIED = ("none", "patch", "layer", "both")

_ONE, _ZERO, _HALF, _TWO = np.float32(1), np.float32(0), np.float32(0.5), np.float32(2)
# pi as the sum of two numbers, the first of which times a small integer is exact.
_PI_COARSE, _PI_FINE = np.float32(3.140625), np.float32(math.pi - 3.140625)
_PI, _PER_PI = np.float32(math.pi), np.float32(1 / math.pi)
_QUARTER = np.float32(math.pi / 2)
# Taylor up to an error of 4e-7 on [-pi/2, pi/2]; what numpy calls there is not vectorised.
_S3, _S5, _S7 = np.float32(-1 / 6), np.float32(1 / 120), np.float32(-1 / 5040)
_S9, _S11 = np.float32(1 / 362880), np.float32(-1 / 39916800)
_C2, _C4, _C6 = np.float32(-1 / 2), np.float32(1 / 24), np.float32(-1 / 720)
_C8, _C10, _C12 = np.float32(1 / 40320), np.float32(-1 / 3628800), np.float32(1 / 479001600)


@compiled(inline="always")
def _sine_cosine(x):
    turns = np.floor(x * _PER_PI + _HALF)
    rest = (x - turns * _PI_COARSE) - turns * _PI_FINE
    # Beyond 1e5 the remainder is lost to rounding; a sine stays one.
    rest = min(max(rest, -_QUARTER), _QUARTER)
    sign = _ONE - _TWO * (turns - _TWO * np.floor(turns * _HALF))
    q = rest * rest
    sine = rest * (_ONE + q * (_S3 + q * (_S5 + q * (_S7 + q * (_S9 + q * _S11)))))
    cosine = _ONE + q * (_C2 + q * (_C4 + q * (_C6 + q * (_C8 + q * (_C10 + q * _C12)))))
    return sign * sine, sign * cosine


@compiled(inline="always")
def _project(kind, angle, left, before, out):
    """Write ``Omega(left, before)`` into `out`."""
    if kind <= 1:
        for c in range(out.shape[0]):
            sine_left, cosine_left = _sine_cosine(angle * left[c])
            sine_before, cosine_before = _sine_cosine(angle * before[c])
            first = sine_left * cosine_before
            out[c] = _TWO * (first if kind == 0 else sine_before * cosine_left)
    elif kind == 2:
        for c in range(out.shape[0]):
            out[c] = left[c] + before[c]
    elif kind == 3:
        for c in range(out.shape[0]):
            out[c] = _ONE / (_ONE + np.exp(-(left[c] + before[c])))
    elif kind == 4:
        for c in range(out.shape[0]):
            out[c] = np.tanh(left[c] + before[c])
    else:
        for c in range(out.shape[0]):
            out[c] = max(left[c] + before[c], _ZERO)


@compiled(inline="always")
def _slopes(kind, angle, left, before, by_left, by_before):
    """Write the derivatives of ``Omega`` by both of its arguments."""
    if kind <= 1:
        for c in range(left.shape[0]):
            sine_left, cosine_left = _sine_cosine(angle * left[c])
            sine_before, cosine_before = _sine_cosine(angle * before[c])
            even, odd = _TWO * angle * cosine_left * cosine_before, _TWO * angle * sine_left * sine_before
            by_left[c] = even if kind == 0 else -odd
            by_before[c] = -odd if kind == 0 else even
        return
    if kind == 2:
        by_left[:] = 1
    elif kind == 3:
        for c in range(left.shape[0]):
            above = _ONE / (_ONE + np.exp(-(left[c] + before[c])))
            by_left[c] = above * (_ONE - above)
    elif kind == 4:
        for c in range(left.shape[0]):
            value = np.tanh(left[c] + before[c])
            by_left[c] = _ONE - value * value
    else:
        for c in range(left.shape[0]):
            by_left[c] = _ONE if left[c] + before[c] > 0 else _ZERO
    by_before[:] = by_left


@compiled(inline="always")
def _membranes(current, before, left, numbers, kinds, values, other, omega, out):
    """Write ``alpha Omega + I`` of one row of a patch into `out`; clear `left` if it is not carried."""
    kind, carried, _, _ = kinds
    angle, alpha, _, _, _ = numbers
    if carried & 1 == 0:
        left[:] = 0
    if carried & 2:
        widen(before, other)
    if carried:
        _project(kind, angle, left, other, omega)
    widen(current, values)
    for c in range(out.shape[0]):
        out[c] = values[c] + alpha * omega[c]


@compiled
def _fire(current, before, corners, sides, share, numbers, kinds, spikes, leftover, begin, end):
    _, height, width = current.shape
    rows, length = sides
    _, _, threshold, region, _ = numbers
    _, _, _, fractional = kinds
    values, other = np.empty(length, np.float32), np.zeros(length, np.float32)
    left, omega = np.empty(length, np.float32), np.zeros(length, np.float32)
    membrane = np.empty(length, np.float32)
    fired, kept = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    out = np.empty(width, np.float32)
    for b in range(begin, end):
        fired[:] = 0
        kept[:] = 0
        for row in range(rows):
            left[:] = 0
            for p in range(corners.shape[0]):
                y, x = corners[p, 0] + row, corners[p, 1]
                _membranes(
                    current[b, y, x : x + length],
                    before[b, y, x : x + length],
                    left,
                    numbers,
                    kinds,
                    values,
                    other,
                    omega,
                    membrane,
                )
                fired_here, kept_here = fired[y, x : x + length], kept[y, x : x + length]
                for c in range(length):
                    spike = _ONE if membrane[c] >= threshold else _ZERO
                    left[c] = membrane[c] - threshold * spike
                    fired_here[c] += spike
                    kept_here[c] += left[c]
        for y in range(height):
            fired_here, kept_here, share_here = fired[y], kept[y], share[y]
            if fractional:
                for c in range(width):
                    out[c] = fired_here[c] * share_here[c]
            else:
                for c in range(width):
                    out[c] = _ONE if fired_here[c] * share_here[c] > region else _ZERO
            narrow(out, spikes[b, y])
            for c in range(width):
                out[c] = kept_here[c] * share_here[c]
            narrow(out, leftover[b, y])


@compiled
def _share_fire(address, parts, size, arguments):
    return threads.share(address, parts, size, _fire, arguments)


@compiled
def _gradient(
    current,
    before,
    grad_spikes,
    grad_leftover,
    corners,
    sides,
    share,
    numbers,
    kinds,
    grad_current,
    grad_before,
    begin,
    end,
):
    _, height, width = current.shape
    rows, length = sides
    angle, alpha, threshold, _, per_width = numbers
    kind, carried, surrogate, _ = kinds
    values, other = np.empty(length, np.float32), np.zeros(length, np.float32)
    count = corners.shape[0]
    lefts = np.empty((count + 1, length), np.float32)
    membranes = np.empty((count, length), np.float32)
    omega, passed = np.zeros(length, np.float32), np.empty(length, np.float32)
    slopes, heights = np.empty(length, np.float32), np.full(length, per_width, np.float32)
    by_left, by_before = np.empty(length, np.float32), np.empty(length, np.float32)
    to_current, to_before = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    for b in range(begin, end):
        to_current[:] = 0
        to_before[:] = 0
        for row in range(rows):
            lefts[0] = 0
            for p in range(count):
                y, x = corners[p, 0] + row, corners[p, 1]
                following, membrane = lefts[p + 1], membranes[p]
                _membranes(
                    current[b, y, x : x + length],
                    before[b, y, x : x + length],
                    lefts[p],
                    numbers,
                    kinds,
                    values,
                    other,
                    omega,
                    membrane,
                )
                for c in range(length):
                    spike = _ONE if membrane[c] >= threshold else _ZERO
                    following[c] = membrane[c] - threshold * spike
            passed[:] = 0
            for p in range(count - 1, -1, -1):
                y, x = corners[p, 0] + row, corners[p, 1]
                share_here, membrane = share[y, x : x + length], membranes[p]
                to_here = to_current[y, x : x + length]
                widen(grad_leftover[b, y, x : x + length], values)
                for c in range(length):
                    passed[c] += values[c] * share_here[c]
                widen(grad_spikes[b, y, x : x + length], values)
                for c in range(length):
                    slopes[c] = membrane[c] - threshold
                times_surrogate(surrogate, heights, slopes, per_width, slopes)
                for c in range(length):
                    # The left-over membrane falls by the threshold with a spike.
                    by_spike = values[c] * share_here[c] - threshold * passed[c]
                    passed[c] += by_spike * slopes[c]
                    to_here[c] += passed[c]
                if carried:
                    if carried & 2:
                        widen(before[b, y, x : x + length], other)
                    _slopes(kind, angle, lefts[p], other, by_left, by_before)
                    back = to_before[y, x : x + length]
                    for c in range(length):
                        to_omega = alpha * passed[c]
                        back[c] += to_omega * by_before[c]
                        passed[c] = to_omega * by_left[c]
                if carried & 1 == 0:
                    passed[:] = 0
        _write(to_current, grad_current[b])
        if carried & 2:
            _write(to_before, grad_before[b])


@compiled(inline="always")
def _write(values, out):
    for y in range(values.shape[0]):
        narrow(values[y], out[y])


@compiled
def _share_gradient(address, parts, size, arguments):
    return threads.share(address, parts, size, _gradient, arguments)


class Walk:
    """One layer's patches and neuron, as the loops take them.

    Args:
        corners: int64 ``(P, 2)``, first row of every patch and where it starts along a row, ``x C``.
        sides: rows of a patch and its length along a row, ``M_x C``.
        share: float32 ``(Y, X C)``, 1 over the number of patches that cover each place.
        projection: of `PROJECTIONS`: ``Omega(G, G')`` of what the patch before and the layer before left.
        carried: of `CARRIED`: which of both reach the membrane.
        surrogate: of `firstspike.kernels.cpu.surrogates.SURROGATES`, width: of it.
        angle: ``a`` of the sines.
        alpha: share of the projection in the membrane.
        threshold: at which a place of a patch spikes, and by which its membrane then falls.
        region_threshold: a place of the map spikes where the mean over its patches is above it.
        fractional: keep that mean instead.
    """

    def __init__(
        self,
        corners: np.ndarray,
        sides: tuple[int, int],
        share: np.ndarray,
        *,
        projection: str,
        carried: str,
        surrogate: str,
        angle: float,
        alpha: float,
        threshold: float,
        region_threshold: float,
        width: float,
        fractional: bool,
    ) -> None:
        self._place = corners, sides, share
        self._numbers = tuple(np.float32(n) for n in (angle, alpha, threshold, region_threshold, 1 / width))
        self._carried = CARRIED.index(carried)
        self._kinds = (
            PROJECTIONS.index(projection),
            self._carried,
            SURROGATES.index(surrogate),
            fractional,
        )

    def fire(self, current: np.ndarray, before: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return spikes and left-over membranes, ``(B, Y, X C)`` like `current`.

        Args:
            current: ``I``, float32, or uint16 for the bits of bfloat16.
            before: the previous layer's left-over membranes; None if there are none.
        """
        spikes, leftover = np.empty_like(current), np.empty_like(current)
        arguments = (
            current,
            current if before is None else before,
            *self._place,
            self._numbers,
            self._kinds_with(before),
            spikes,
            leftover,
        )
        threads.run(_share_fire, _fire, len(current), *arguments)
        return spikes, leftover

    def gradient(
        self,
        current: np.ndarray,
        before: np.ndarray | None,
        grad_spikes: np.ndarray,
        grad_leftover: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the gradients of `current` and `before`, given those of both results of `fire`."""
        grad_current = np.empty_like(current)
        receives = before is not None and self._carried & 2
        grad_before = np.empty_like(current) if receives else np.zeros_like(current[:0])
        arguments = (
            current,
            current if before is None else before,
            grad_spikes,
            grad_leftover,
            *self._place,
            self._numbers,
            self._kinds_with(before),
            grad_current,
            grad_before,
        )
        threads.run(_share_gradient, _gradient, len(current), *arguments)
        if before is None:
            return grad_current, None
        return grad_current, grad_before if receives else np.zeros_like(current)

    def _kinds_with(self, before: np.ndarray | None) -> tuple[int, int, int, bool]:
        """Without a previous layer of the same shape only the patches' part is carried."""
        kind, carried, surrogate, fractional = self._kinds
        return kind, carried if before is not None else carried & 1, surrogate, fractional
