"""Rows of bfloat16 in compiled loops, which come and go as their bits (uint16): numpy has no such type."""

import numpy as np

from firstspike.kernels.cpu.compiling import compiled


@compiled(inline="always")
def widen(row, bits, values, half):
    """Write `row` as float32 into `values`, whose memory `bits` is; `row` holds bits if `half`."""
    if half:
        for c in range(values.shape[0]):
            bits[c] = np.uint32(row[c]) << np.uint32(16)
    else:
        for c in range(values.shape[0]):
            values[c] = row[c]


@compiled(inline="always")
def narrow(bits, values, row, half):
    """Write `values` to `row`, rounded to the nearest bfloat16, ties to even, if `half`."""
    if half:
        for c in range(values.shape[0]):
            even = (bits[c] >> np.uint32(16)) & np.uint32(1)
            row[c] = (bits[c] + np.uint32(0x7FFF) + even) >> np.uint32(16)
    else:
        for c in range(values.shape[0]):
            row[c] = values[c]
