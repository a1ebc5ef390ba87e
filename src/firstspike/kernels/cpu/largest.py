"""The largest of each square of places and its gradient, each in one pass over maps channels last.

Torch's own keeps an int64 for the place of each largest one, and fills the gradient with zeros first. Half
precision comes and goes as its bits, see `firstspike.kernels.cpu.half`.

Axes: ``N`` samples, ``Y``, ``X`` places, ``C`` channels.
"""

import numpy as np

from firstspike.kernels.cpu import threads
from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.half import widened


@compiled
def _forward(maps_NYXC, size, out_NYXC, place_NYXC, begin, end):
    # Without a view: it counts its users.
    _, height, width, channels = out_NYXC.shape
    for n in range(begin, end):
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    out_NYXC[n, y, x, c] = maps_NYXC[n, y * size, x * size, c]
                    place_NYXC[n, y, x, c] = 0
                for k in range(1, size * size):
                    row, column = y * size + k // size, x * size + k % size
                    for c in range(channels):
                        found = maps_NYXC[n, row, column, c]
                        value = widened(found)
                        # A NaN goes on, as in torch's.
                        above = (value > widened(out_NYXC[n, y, x, c])) | (value != value)
                        out_NYXC[n, y, x, c] = found if above else out_NYXC[n, y, x, c]
                        place_NYXC[n, y, x, c] = np.uint8(k) if above else place_NYXC[n, y, x, c]


@compiled
def _share_forward(address, parts, size, arguments):
    return threads.share(address, parts, size, _forward, arguments)


@compiled
def _backward(place_NYXC, grad_NYXC, size, zero, out_NYXC, begin, end):
    rows, columns = grad_NYXC.shape[1] * size, grad_NYXC.shape[2] * size
    _, height, width, channels = out_NYXC.shape
    for n in range(begin, end):
        for y in range(height):
            for x in range(width):
                if y >= rows or x >= columns:
                    for c in range(channels):
                        out_NYXC[n, y, x, c] = zero
                    continue
                here, row, column = np.uint8(y % size * size + x % size), y // size, x // size
                for c in range(channels):
                    from_here = place_NYXC[n, row, column, c] == here
                    out_NYXC[n, y, x, c] = grad_NYXC[n, row, column, c] if from_here else zero


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
    threads.run(_share_forward, _forward, count, maps, size, out, place)
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
