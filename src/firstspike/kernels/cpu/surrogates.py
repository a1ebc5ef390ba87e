"""What stands in for the derivative of a threshold, as a function of the membrane's distance from it.

Each is ``g(u)`` with ``u = x / w`` of the distance ``x`` and the width ``w``, of height 1 and area ``w``;
times ``1 / w`` its area is 1.

- "rectangular": ``1`` for ``|u| < 1/2``,
- "triangular": ``max(0, 1 - |u|)``,
- "arctan": ``1 / (1 + (pi u)^2)``,
- "sigmoid": ``4 s(4 u) (1 - s(4 u))`` with the logistic function ``s``,
- "fast_sigmoid": ``1 / (1 + 2 |u|)^2``.
"""

import math

import numpy as np

from firstspike.kernels.cpu.compiling import compiled

SURROGATES = ("rectangular", "triangular", "arctan", "sigmoid", "fast_sigmoid")

_ZERO, _HALF, _ONE, _TWO, _FOUR = (np.float32(value) for value in (0, 0.5, 1, 2, 4))
_PI = np.float32(math.pi)


@compiled(inline="always")
def times_surrogate(kind, given, distance, scale, out):
    """Write `given` times ``g`` at each `distance` to `out`, all float32 rows of one length.

    One loop per kind, and not one that asks for the kind: only so are they compiled to vectors.

    Args:
        kind: index in `SURROGATES`.
        given, distance: `out` may be either.
        scale: ``1 / w``, float32.
    """
    if kind == 0:
        for c in range(out.shape[0]):
            out[c] = given[c] if abs(distance[c]) * scale < _HALF else _ZERO
    elif kind == 1:
        for c in range(out.shape[0]):
            out[c] = given[c] * max(_ONE - abs(distance[c]) * scale, _ZERO)
    elif kind == 2:
        angle = _PI * scale
        for c in range(out.shape[0]):
            slope = angle * distance[c]
            out[c] = given[c] / (_ONE + slope * slope)
    elif kind == 3:
        steep = _FOUR * scale
        for c in range(out.shape[0]):
            above = _ONE / (_ONE + np.exp(-steep * distance[c]))
            out[c] = _FOUR * given[c] * above * (_ONE - above)
    else:
        steep = _TWO * scale
        for c in range(out.shape[0]):
            far = _ONE + abs(distance[c]) * steep
            out[c] = given[c] / (far * far)
