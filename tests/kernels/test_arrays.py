"""Arrays for the kernels: where their memory begins."""

import numpy as np
import pytest

from firstspike.kernels.arrays import LINE, empty, zeros


@pytest.mark.parametrize("create", [empty, zeros])
@pytest.mark.parametrize("shape", [(3, 5), (1,), (0, 4), (7, 11, 13)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_arrays_begin_at_a_cache_line_and_are_otherwise_numpys(create, shape, dtype):
    for _ in range(5):
        array = create(shape, dtype)
        assert array.size == 0 or array.ctypes.data % LINE == 0
        assert array.shape == shape
        assert array.dtype == dtype
        assert array.flags.c_contiguous
        assert array.flags.writeable


def test_zeros_are_zero():
    for _ in range(5):
        zeros((64, 64), np.float32)[:] = 1
        assert not zeros((64, 64), np.float32).any()
