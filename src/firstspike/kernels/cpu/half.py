"""Rows of bfloat16 in compiled loops, which come and go as their bits (uint16): numpy has no such type."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from firstspike.kernels.cpu.compiling import compiled


@intrinsic
def widened(typingctx: Any, number: Any) -> Any:
    """Return a number of an array as float32, one of uint16 from its bits."""
    if number == types.float32:
        return number(number), lambda context, builder, signature, arguments: arguments[0]

    def codegen(context, builder, signature, arguments):
        word = ir.IntType(32)
        high = builder.shl(builder.zext(arguments[0], word), ir.Constant(word, 16))
        return builder.bitcast(high, ir.FloatType())

    return types.float32(types.uint16), codegen


@intrinsic
def narrowed(typingctx: Any, value: Any, like: Any) -> Any:
    """Return a float32 as a number like `like`, rounded to bfloat16, ties to even, if that is uint16."""
    if like == types.float32:
        return like(value, like), lambda context, builder, signature, arguments: arguments[0]

    def codegen(context, builder, signature, arguments):
        word = ir.IntType(32)
        bits = builder.bitcast(arguments[0], word)
        sixteen = ir.Constant(word, 16)
        even = builder.and_(builder.lshr(bits, sixteen), ir.Constant(word, 1))
        rounded = builder.add(builder.add(bits, ir.Constant(word, 0x7FFF)), even)
        return builder.trunc(builder.lshr(rounded, sixteen), ir.IntType(16))

    return types.uint16(types.float32, types.uint16), codegen


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
