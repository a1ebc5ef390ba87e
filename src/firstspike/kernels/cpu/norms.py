"""Scaling each sample's gradient to unit norm, compiled with Numba.

One pass to measure and one to scale; the same in a handful of tensor operations takes longer than the
gradient that it prepares.

Shape legend: B batch, N neurons.
"""

import numpy as np

from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled

# Below this many numbers one thread is done before a second has started.
_SMALL = 1 << 15


@compiled(fastmath={"reassoc", "contract", "nsz"})
def _scale(delta_BN, order, share, out_BN, begin, end):
    for b in range(begin, end):
        delta = delta_BN[b]
        # In double precision the square of a small gradient is not lost.
        total = np.float64(0)
        if order == 1:
            for j in range(delta.shape[0]):
                total += abs(delta[j])
        else:
            for j in range(delta.shape[0]):
                total += np.float64(delta[j]) * np.float64(delta[j])
            total = np.sqrt(total)
        factor = share / total if total > 0 else 0.0
        for j in range(delta.shape[0]):
            out_BN[b, j] = delta[j] * factor


@compiled
def _share_scale(address, parts, size, arguments):
    return threads.share(address, parts, size, _scale, arguments)


def unit_rows(delta_BN: np.ndarray, order: int, share: float) -> np.ndarray:
    """Return each row times ``share / norm``; a row of zeros stays so.

    Args:
        delta_BN: C-contiguous.
        order: of the norm, 1 or 2.
        share: length that a row gets.
    """
    out = np.empty_like(delta_BN)
    if delta_BN.size < _SMALL:
        _scale(delta_BN, order, share, out, 0, len(delta_BN))
    else:
        threads.run(_share_scale, _scale, len(delta_BN), delta_BN, order, share, out)
    return out
