"""bfloat16 in compiled loops: it comes and goes as its bits (uint16), since numpy has no such type."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from firstspike.kernels.cpu.compiling import compiled


@intrinsic
def widened(typingctx: Any, number: Any) -> Any:
    """Return a number of an array as float32, one of uint16 from its bits."""
    if number == types.float32:
        return number(number), lambda context, builder, signature, arguments: arguments[0]
    if number != types.uint16:
        raise TypingError(f"expected float32 or the bits of bfloat16, found {number}")

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
    if like != types.uint16:
        raise TypingError(f"expected float32 or the bits of bfloat16, found {like}")

    def codegen(context, builder, signature, arguments):
        word = ir.IntType(32)
        bits = builder.bitcast(arguments[0], word)
        sixteen = ir.Constant(word, 16)
        even = builder.and_(builder.lshr(bits, sixteen), ir.Constant(word, 1))
        rounded = builder.add(builder.add(bits, ir.Constant(word, 0x7FFF)), even)
        return builder.trunc(builder.lshr(rounded, sixteen), ir.IntType(16))

    return types.uint16(types.float32, types.uint16), codegen


@compiled(inline="always")
def widen(row, values):
    """Write `row`, float32 or bits, as float32 into `values`."""
    for c in range(values.shape[0]):
        values[c] = widened(row[c])


@compiled(inline="always")
def narrow(values, row):
    """Write `values` to `row`, rounded to bfloat16 if that holds bits."""
    for c in range(values.shape[0]):
        row[c] = narrowed(values[c], row[c])
