"""The largest of each square of places and its gradient, each in one pass over maps channels last.

Torch's own keeps an int64 for the place of each largest one, and fills the gradient with zeros first. Half
precision comes and goes as its bits, see `firstspike.kernels.cpu.half`.

Axes: ``N`` samples, ``Y``, ``X`` places, ``C`` channels.
"""

import numpy as np

from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.half import narrow, widen


@compiled
def _forward(maps_NYXC, size, half, out_NYXC, place_NYXC, begin, end):
    channels = maps_NYXC.shape[3]
    best_bits, row_bits = np.empty(channels, np.uint32), np.empty(channels, np.uint32)
    best, row = best_bits.view(np.float32), row_bits.view(np.float32)
    for n in range(begin, end):
        for y in range(out_NYXC.shape[1]):
            for x in range(out_NYXC.shape[2]):
                place = place_NYXC[n, y, x]
                widen(maps_NYXC[n, y * size, x * size], best_bits, best, half)
                place[:] = 0
                for k in range(1, size * size):
                    widen(maps_NYXC[n, y * size + k // size, x * size + k % size], row_bits, row, half)
                    for c in range(channels):
                        # A NaN goes on, as in torch's.
                        above = (row[c] > best[c]) | (row[c] != row[c])
                        best[c] = row[c] if above else best[c]
                        place[c] = np.uint8(k) if above else place[c]
                narrow(best_bits, best, out_NYXC[n, y, x], half)


@compiled
def _share_forward(address, parts, size, arguments):
    return threads.share(address, parts, size, _forward, arguments)


@compiled
def _backward(place_NYXC, grad_NYXC, size, zero, out_NYXC, begin, end):
    rows, columns = grad_NYXC.shape[1] * size, grad_NYXC.shape[2] * size
    for n in range(begin, end):
        for y in range(out_NYXC.shape[1]):
            for x in range(out_NYXC.shape[2]):
                out = out_NYXC[n, y, x]
                if y >= rows or x >= columns:
                    out[:] = zero
                    continue
                here = np.uint8(y % size * size + x % size)
                place, grad = place_NYXC[n, y // size, x // size], grad_NYXC[n, y // size, x // size]
                for c in range(out.shape[0]):
                    out[c] = grad[c] if place[c] == here else zero


@compiled
def _share_backward(address, parts, size, arguments):
    return threads.share(address, parts, size, _backward, arguments)


def largest(maps: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest of each ``size x size`` places, and its place among them in reading order.

    Of equals the first counts. Rows and columns left over have no part.

    Args:
        maps: ``(N, Y, X, C)``, C-contiguous, float32, or uint16 for the bits of bfloat16.
        size: side of the squares, at most 16.

    Returns:
        ``(N, Y // size, X // size, C)`` of the same type, and uint8 of that shape.
    """
    count, height, width, channels = maps.shape
    out = np.empty((count, height // size, width // size, channels), maps.dtype)
    place = np.empty(out.shape, np.uint8)
    threads.run(_share_forward, _forward, count, maps, size, maps.dtype == np.uint16, out, place)
    return out, place


def gradient(place: np.ndarray, grad: np.ndarray, size: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the gradient of the maps, ``(N, Y, X, C)`` as `shape` says.

    Args:
        place: as `largest` returns it.
        grad: of the largest ones, C-contiguous.
        size: side of the squares.
        shape: of the maps.
    """
    out = np.empty(shape, grad.dtype)
    threads.run(_share_backward, _backward, shape[0], place, grad, size, grad.dtype.type(0), out)
    return out
