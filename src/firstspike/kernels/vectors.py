"""Blocks of neurons held in vector registers, for Numba kernels.

A compiler keeps an array in memory: adding a row of weights to an array of membranes costs a load, an
add and a store per vector. A block is a value, `n` vectors of LLVM's own vector type, so a loop
that carries it keeps it in registers, and the same addition is one instruction with its load. Each lane
is added to in the order of the loop, so sums are the same to the bit as those of a plain loop.

A kernel takes the number of vectors as a tuple of that length (`blocks`), so that Numba compiles one
form per size. All functions here are for compiled code only.
"""

from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

_WIDE = llvm.get_host_cpu_features().get("avx512f", False)
LANES = 16 if _WIDE else 8
# A walk holds two blocks at once: in 32 vector registers, or in 16.
_MOST = 13 if _WIDE else 6

_VECTOR = ir.VectorType(ir.FloatType(), LANES)


def blocks(columns: int, most: int = _MOST) -> tuple[int, ...]:
    """Return a tuple as long as the best number of vectors per block for a row of that many columns.

    Blocks never pass the end of a row: the last one is moved back and overlaps the one before.

    Args:
        columns: `LANES` or more.
        most: vectors per block.
    """
    fitting = range(1, min(most, columns // LANES) + 1)
    # Two vectors' time stands for what a walk costs besides its additions.
    return (0,) * min(fitting, key=lambda n: -(-columns // (n * LANES)) * (n + 2))


def pad_columns(rows: np.ndarray) -> np.ndarray:
    """Return the last axis filled up with zeros to at least `LANES` columns; the same if it has them."""
    columns = rows.shape[-1]
    if columns >= LANES:
        return rows
    padded = np.zeros((*rows.shape[:-1], LANES), rows.dtype)
    padded[..., :columns] = rows
    return padded


class _Block(types.Type):
    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"Block({count})")


@register_model(_Block)
class _BlockModel(models.PrimitiveModel):
    def __init__(self, manager: Any, block: _Block) -> None:
        super().__init__(manager, block, ir.ArrayType(_VECTOR, block.count))


def _spread(builder: Any, scalar: Any, kind: Any = _VECTOR) -> Any:
    nothing = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(nothing, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, nothing, zeros)


def _pack(builder: Any, vectors: list[Any]) -> Any:
    block = ir.Constant(ir.ArrayType(_VECTOR, len(vectors)), ir.Undefined)
    for k, vector in enumerate(vectors):
        block = builder.insert_value(block, vector, k)
    return block


def _unpack(builder: Any, block: Any) -> list[Any]:
    return [builder.extract_value(block, k) for k in range(block.type.count)]


def _pointers(context: Any, builder: Any, array: Any, kind: types.Array, offset: Any, count: int) -> list:
    data = context.make_array(kind)(context, builder, array).data
    first = builder.gep(data, [offset])
    step = [ir.Constant(ir.IntType(64), k * LANES) for k in range(count)]
    return [builder.bitcast(builder.gep(first, [k]), _VECTOR.as_pointer()) for k in step]


def _load(builder: Any, pointers: list[Any]) -> list[Any]:
    return [builder.load(pointer, align=4) for pointer in pointers]


@intrinsic
def fill(typingctx: Any, value: Any, size: Any) -> Any:
    """Return a block of the size of the tuple `size` whose lanes all hold the float32 `value`."""
    block = _Block(len(size))

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return _pack(builder, [_spread(builder, arguments[0])] * block.count)

    return block(types.float32, size), codegen


@intrinsic
def load(typingctx: Any, array: Any, offset: Any, size: Any) -> Any:
    """Return the block at `offset` of a float32 C-contiguous array, counted in elements."""
    block = _Block(len(size))

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointers = _pointers(context, builder, arguments[0], array, arguments[1], block.count)
        return _pack(builder, _load(builder, pointers))

    return block(array, types.int64, size), codegen


@intrinsic
def store(typingctx: Any, array: Any, offset: Any, block: Any) -> Any:
    """Write a block to `offset` of a float32 C-contiguous array, counted in elements."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointers = _pointers(context, builder, arguments[0], array, arguments[1], block.count)
        for vector, pointer in zip(_unpack(builder, arguments[2]), pointers, strict=True):
            builder.store(vector, pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, block), codegen


@intrinsic
def add_row(typingctx: Any, block: Any, array: Any, offset: Any) -> Any:
    """Return the block plus the one at `offset` of a float32 C-contiguous array."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointers = _pointers(context, builder, arguments[1], array, arguments[2], block.count)
        pairs = zip(_unpack(builder, arguments[0]), _load(builder, pointers), strict=True)
        return _pack(builder, [builder.fadd(value, row) for value, row in pairs])

    return block(block, array, types.int64), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, offset: Any, size: Any) -> Any:
    """Have the block at `offset` brought to the first-level cache; an offset outside does no harm."""
    count = len(size)

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        fetch = builder.module.declare_intrinsic(
            "llvm.prefetch", (byte,), ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        )
        read, keep, data = (ir.Constant(flag, value) for value in (0, 3, 1))
        for pointer in _pointers(context, builder, arguments[0], array, arguments[1], count):
            builder.call(fetch, [builder.bitcast(pointer, byte), read, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.int64, size), codegen


@intrinsic
def first_crossing(typingctx: Any, out: Any, membrane: Any, threshold: Any, now: Any) -> Any:
    """Return `out` with ``min(out, now)`` where ``membrane >= threshold``."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        limit, step = _spread(builder, arguments[2]), _spread(builder, arguments[3])
        crossed = []
        for time, value in zip(_unpack(builder, arguments[0]), _unpack(builder, arguments[1]), strict=True):
            earlier = builder.select(builder.fcmp_ordered("<", step, time), step, time)
            crossed.append(builder.select(builder.fcmp_ordered(">=", value, limit), earlier, time))
        return _pack(builder, crossed)

    return out(out, membrane, types.float32, types.float32), codegen


@intrinsic
def all_below(typingctx: Any, block: Any, value: Any) -> Any:
    """Return whether every lane is below the float32 `value`."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        limit = _spread(builder, arguments[1])
        highest, *others = _unpack(builder, arguments[0])
        for vector in others:
            highest = builder.select(builder.fcmp_ordered(">", vector, highest), vector, highest)
        bits = builder.bitcast(builder.fcmp_unordered(">=", highest, limit), ir.IntType(LANES))
        return builder.icmp_unsigned("==", bits, ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(block, types.float32), codegen


@intrinsic
def store_steps(typingctx: Any, array: Any, offset: Any, block: Any) -> Any:
    """Write a block of whole steps below 65,536 to `offset` of a uint16 C-contiguous array."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        steps = ir.VectorType(ir.IntType(16), LANES)
        wide = ir.VectorType(ir.IntType(32), LANES)
        places = _step_pointers(context, builder, arguments[0], array, arguments[1], block.count)
        for vector, place in zip(_unpack(builder, arguments[2]), places, strict=True):
            whole = builder.trunc(builder.fptosi(vector, wide), steps)
            builder.store(whole, place, align=2)
        return context.get_dummy_value()

    return types.void(array, types.int64, block), codegen


def _step_pointers(
    context: Any, builder: Any, array: Any, kind: types.Array, offset: Any, count: int
) -> list:
    steps = ir.VectorType(ir.IntType(16), LANES)
    first = builder.gep(context.make_array(kind)(context, builder, array).data, [offset])
    lanes = [ir.Constant(ir.IntType(64), k * LANES) for k in range(count)]
    return [builder.bitcast(builder.gep(first, [k]), steps.as_pointer()) for k in lanes]


@intrinsic
def subtract_seen(typingctx: Any, block: Any, values: Any, times: Any, offset: Any, step: Any) -> Any:
    """Return the block minus the lanes of `values` at `offset` where the uint16 `times` are ``>= step``."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        count = block.count
        now = _spread(builder, arguments[4], ir.VectorType(ir.IntType(16), LANES))
        value = _load(builder, _pointers(context, builder, arguments[1], values, arguments[3], count))
        places = _step_pointers(context, builder, arguments[2], times, arguments[3], count)
        result = []
        for k, held in enumerate(_unpack(builder, arguments[0])):
            seen = builder.icmp_unsigned(">=", builder.load(places[k], align=2), now)
            result.append(builder.select(seen, builder.fsub(held, value[k]), held))
        return _pack(builder, result)

    return block(block, values, times, types.int64, types.uint16), codegen


@intrinsic
def dot_seen(typingctx: Any, rows: Any, offset: Any, values: Any, times: Any, step: Any) -> Any:
    """Return the row at `offset` times `values`, summed over the lanes at which `times` are ``>= step``."""
    block = values

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointers = _pointers(context, builder, arguments[0], rows, arguments[1], block.count)
        now = _spread(builder, arguments[4])
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        total = None
        for row, value, time in zip(
            _load(builder, pointers),
            _unpack(builder, arguments[2]),
            _unpack(builder, arguments[3]),
            strict=True,
        ):
            seen = builder.select(builder.fcmp_ordered(">=", time, now), value, zero)
            product = builder.fmul(row, seen)
            total = product if total is None else builder.fadd(total, product)
        width = LANES
        while width > 1:
            # Halves onto each other: the same order on every machine of this width.
            width //= 2
            upper = ir.Constant(
                ir.VectorType(ir.IntType(32), LANES), [(k + width) % LANES for k in range(LANES)]
            )
            total = builder.fadd(total, builder.shuffle_vector(total, total, upper))
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return types.float32(rows, types.int64, block, block, types.float32), codegen


@intrinsic
def below(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """Return a bit per lane at `offset` that is below `value`; bit 32 if one is neither that nor equal."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointers = _pointers(context, builder, arguments[0], array, arguments[1], 1)
        (vector,) = _load(builder, pointers)
        limit = _spread(builder, arguments[2])
        long = ir.IntType(64)
        less, broken = (
            builder.zext(builder.bitcast(flags, ir.IntType(LANES)), long)
            for flags in (
                builder.fcmp_ordered("<", vector, limit),
                builder.fcmp_unordered(">", vector, limit),
            )
        )
        return builder.or_(less, builder.shl(broken, ir.Constant(long, 32)))

    return types.int64(array, types.int64, types.float32), codegen


@intrinsic
def lowest_bit(typingctx: Any, bits: Any) -> Any:
    """Return the place of the lowest set bit of an int64 that is not 0."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen
