"""Arrays for the compiled kernels: tensors as arrays and back, and arrays that begin at a cache line.

bfloat16, which numpy has not, comes as its bits. A vector of 64 bytes that straddles two cache lines costs
two loads, so results and gradients begin at one.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

# Bytes of a cache line, and of the widest vector.
LINE = 64


def to_array(values: Tensor) -> np.ndarray:
    """Return a contiguous tensor on the CPU as an array on the same memory; bfloat16 as uint16."""
    return (values.view(torch.uint16) if values.dtype == torch.bfloat16 else values).numpy()


def to_tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Return an array on the same memory as a tensor; the bits of bfloat16 if `dtype` is that."""
    values = torch.from_numpy(array)
    return values.view(torch.bfloat16) if dtype == torch.bfloat16 else values


def empty(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """Return an array like numpy's, whose memory begins at a cache line."""
    return _at_a_line(np.empty, shape, np.dtype(dtype))


def zeros(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """Return an array like numpy's, whose memory begins at a cache line."""
    return _at_a_line(np.zeros, shape, np.dtype(dtype))


def _at_a_line(create: Callable[..., np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = math.prod(shape) * dtype.itemsize
    room = create(size + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + size].view(dtype).reshape(shape)
