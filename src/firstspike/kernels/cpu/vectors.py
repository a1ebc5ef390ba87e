"""Vectors of neurons for Numba kernels: blocks of them in registers.

A compiler keeps an array in memory: adding a row of weights to an array of membranes costs a load, an
add and a store per vector. A block is a value, `n` vectors of LLVM's own vector type, so a loop
that carries it keeps it in registers, and the same addition is one instruction with its load. Each lane
is added to in the order of the loop, so sums are the same to the bit as those of a plain loop.

A kernel takes the number of vectors as a tuple of that length (`blocks`), so that Numba compiles one
form per size. Vectors hold `LANES` numbers of either precision; one of doubles takes two registers. One of
16-bit integers, to which rows of 8 bits may be added, holds twice as many.

Functions that take a `builder` are parts of intrinsics; all others but `blocks`, `lanes_of` and
`pad_columns` are for compiled code only.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic, models, register_model

from firstspike.kernels.arrays import LINE
from firstspike.kernels.cpu.compiling import compiled

# The features that Numba compiles for, which are not the machine's where its variables name others.
_ASKED = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
FEATURES = frozenset(_ASKED.split(","))
_WIDE = "+avx512f" in FEATURES
LANES = 16 if _WIDE else 8
# A walk holds two blocks at once: in 32 vector registers, or in 16.
MOST = 13 if _WIDE else 6
# Backward kernels hold three, or keep blocks of several samples in the first-level cache.
CACHED = 7


def blocks(rows: np.ndarray, most: int = MOST) -> tuple[int, ...]:
    """Return a tuple as long as the best number of vectors per block for the last axis of `rows`.

    Blocks never pass the end of a row: the last one is moved back and overlaps the one before.

    Args:
        rows: `lanes_of` columns or more.
        most: registers per block.
    """
    columns, lanes = rows.shape[-1], lanes_of(rows)
    fitting = range(1, min(most // 2 if rows.dtype == np.float64 else most, columns // lanes) + 1)
    # Two vectors' time stands for what a walk costs besides its additions.
    return (0,) * min(fitting, key=lambda n: -(-columns // (n * lanes)) * (n + 2))


def lanes_of(rows: np.ndarray) -> int:
    """Return how many of the columns of weights a vector holds."""
    return LANES if rows.dtype.kind == "f" else 2 * LANES


def pad_columns(rows: np.ndarray) -> np.ndarray:
    """Return the last axis filled up with zeros to `lanes_of` columns or more; the same if it has them."""
    columns, lanes = rows.shape[-1], lanes_of(rows)
    if columns >= lanes:
        return rows
    padded = np.zeros((*rows.shape[:-1], lanes), rows.dtype)
    padded[..., :columns] = rows
    return padded


@compiled
def aligned(rows, columns, kind):
    """Return an empty array of so many rows and columns that begins at a cache line."""
    room = np.empty(rows * columns + LINE, kind)
    start = np.int64(-room.ctypes.data % LINE) // room.itemsize
    return room[start : start + rows * columns].reshape(rows, columns)


_ELEMENTS = {
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
    types.uint16: ir.IntType(16),
    types.int16: ir.IntType(16),
    types.int32: ir.IntType(32),
    types.int8: ir.IntType(8),
}


def _lanes(kind: types.Type) -> int:
    return 2 * LANES if kind in (types.int16, types.int8) else LANES


def vector_type(kind: types.Type) -> ir.VectorType:
    """The vector of a kind of number."""
    return ir.VectorType(_ELEMENTS[kind], _lanes(kind))


class _Block(types.Type):
    def __init__(self, count: int, kind: types.Type) -> None:
        self.count, self.kind = count, kind
        super().__init__(f"Block({count}, {kind})")


@register_model(_Block)
class _BlockModel(models.PrimitiveModel):
    def __init__(self, manager: Any, block: _Block) -> None:
        super().__init__(manager, block, ir.ArrayType(vector_type(block.kind), block.count))


def spread(builder: Any, scalar: Any, lanes: int = LANES) -> Any:
    """A vector whose lanes all hold the scalar, for intrinsics."""
    nothing = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    one = builder.insert_element(nothing, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(one, nothing, zeros)


def compare(builder: Any, how: str, one: Any, two: Any) -> Any:
    """A flag per lane, of ordered floats or signed integers."""
    integers = isinstance(one.type.element, ir.IntType)
    return (builder.icmp_signed if integers else builder.fcmp_ordered)(how, one, two)


def pack(builder: Any, vectors: list[Any]) -> Any:
    """A block of these vectors."""
    block = ir.Constant(ir.ArrayType(vectors[0].type, len(vectors)), ir.Undefined)
    for k, vector in enumerate(vectors):
        block = builder.insert_value(block, vector, k)
    return block


def unpack(builder: Any, block: Any) -> list[Any]:
    """The vectors of a block."""
    return [builder.extract_value(block, k) for k in range(block.type.count)]


def pointers_of(
    context: Any,
    builder: Any,
    array: Any,
    kind: types.Array,
    offset: Any,
    count: int,
    held: types.Type | None = None,
) -> list:
    """Where the vectors of a block lie; `held` says how many lanes they have, else the array's type."""
    data = context.make_array(kind)(context, builder, array).data
    first = builder.gep(data, [offset])
    step = [ir.Constant(ir.IntType(64), k * _lanes(held or kind.dtype)) for k in range(count)]
    return [builder.bitcast(builder.gep(first, [k]), vector_type(kind.dtype).as_pointer()) for k in step]


def loaded(context: Any, builder: Any, array: Any, kind: types.Array, offset: Any, count: int) -> list[Any]:
    """So many vectors of an array from an offset on."""
    # Rows begin anywhere, so no more than an element's alignment is promised.
    pointers = pointers_of(context, builder, array, kind, offset, count)
    return [builder.load(pointer, align=1) for pointer in pointers]


def _bits(builder: Any, flags: Any) -> Any:
    """A bit per lane, as an int64."""
    return builder.zext(builder.bitcast(flags, ir.IntType(flags.type.count)), ir.IntType(64))


@intrinsic
def fill(typingctx: Any, value: Any, size: Any) -> Any:
    """Return a block of the size of the tuple `size` whose lanes all hold `value`."""
    block = _Block(len(size), value)

    def codegen(context, builder, signature, arguments):
        return pack(builder, [spread(builder, arguments[0], _lanes(value))] * block.count)

    return block(value, size), codegen


@intrinsic
def load(typingctx: Any, array: Any, offset: Any, size: Any) -> Any:
    """Return the block at `offset` of a C-contiguous array, counted in elements."""
    block = _Block(len(size), array.dtype)

    def codegen(context, builder, signature, arguments):
        return pack(builder, loaded(context, builder, arguments[0], array, arguments[1], block.count))

    return block(array, types.int64, size), codegen


@intrinsic
def store(typingctx: Any, array: Any, offset: Any, block: Any) -> Any:
    """Write a block to `offset` of a C-contiguous array, counted in elements; integers as floats."""

    def codegen(context, builder, signature, arguments):
        pointers = pointers_of(context, builder, arguments[0], array, arguments[1], block.count, block.kind)
        for vector, pointer in zip(unpack(builder, arguments[2]), pointers, strict=True):
            if isinstance(block.kind, types.Integer) and isinstance(array.dtype, types.Float):
                floats = ir.VectorType(_ELEMENTS[array.dtype], vector.type.count)
                vector, pointer = (
                    builder.sitofp(vector, floats),
                    builder.bitcast(pointer, floats.as_pointer()),
                )
            builder.store(vector, pointer, align=2)
        return context.get_dummy_value()

    return types.void(array, types.int64, block), codegen


def _combine(floats: str, integers: str) -> Any:
    def typed(typingctx: Any, block: Any, array: Any, offset: Any) -> Any:
        name = floats if isinstance(block.kind, types.Float) else integers

        def codegen(context, builder, signature, arguments):
            rows = loaded(context, builder, arguments[1], array, arguments[2], block.count)
            if block.kind != array.dtype:
                rows = [builder.sext(row, vector_type(block.kind)) for row in rows]
            pairs = zip(unpack(builder, arguments[0]), rows, strict=True)
            return pack(builder, [getattr(builder, name)(value, row) for value, row in pairs])

        return block(block, array, types.int64), codegen

    return typed


@intrinsic
def add_row(typingctx: Any, block: Any, array: Any, offset: Any) -> Any:
    """Return the block plus the one at `offset` of a C-contiguous array, of 8 bits for one of 16."""
    return _combine("fadd", "add")(typingctx, block, array, offset)


@intrinsic
def take_row(typingctx: Any, block: Any, array: Any, offset: Any) -> Any:
    """Return the block minus the one at `offset` of a C-contiguous array."""
    return _combine("fsub", "sub")(typingctx, block, array, offset)


@intrinsic
def vectors_of(typingctx: Any, block: Any) -> Any:
    """Return the number of vectors of a block, which is known when it is compiled."""

    def codegen(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(64), block.count)

    return types.int64(block), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, offset: Any, block: Any) -> Any:
    """Have as much as `block` holds brought from `offset` to the first-level cache.

    An offset outside does no harm.
    """
    size = block.count * _lanes(block.kind) * array.dtype.bitwidth // 8

    def codegen(context, builder, signature, arguments):
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        fetch = builder.module.declare_intrinsic(
            "llvm.prefetch", (byte,), ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        )
        read, keep, data = (ir.Constant(flag, value) for value in (0, 3, 1))
        row = builder.gep(context.make_array(array)(context, builder, arguments[0]).data, [arguments[1]])
        for k in range(0, size, LINE):
            line = builder.gep(builder.bitcast(row, byte), [ir.Constant(ir.IntType(64), k)])
            builder.call(fetch, [line, read, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.int64, block), codegen


def _first_crossing(builder: Any, times: list, values: list, limits: list, now: Any, kind: Any) -> Any:
    """A block of ``min(time, now)`` where ``value >= limit``, vector by vector, else of the times."""
    step = spread(builder, now, _lanes(kind))
    crossed = []
    for time, value, limit in zip(times, values, limits, strict=True):
        above = compare(builder, ">=", value, limit)
        if _WIDE:
            # Masks have registers of their own.
            crossed.append(builder.select(above, call(builder, "smin", step, time), time))
        else:
            # A mask is a vector of ones or zeros; ones make a step later than all.
            waiting = builder.sext(builder.not_(above), step.type)
            crossed.append(call(builder, "umin", time, builder.or_(step, waiting)))
    return pack(builder, crossed)


def call(builder: Any, name: str, *arguments: Any, **options: Any) -> Any:
    """What LLVM's intrinsic of this name makes of vectors of one type."""
    kind = arguments[0].type
    function = builder.module.declare_intrinsic(
        f"llvm.{name}.v{kind.count}{kind.element.intrinsic_name}",
        (),
        ir.FunctionType(kind, [kind] * len(arguments)),
    )
    return builder.call(function, arguments, **options)


@intrinsic
def first_crossing(typingctx: Any, out: Any, membrane: Any, threshold: Any, now: Any) -> Any:
    """Return `out` with ``min(out, now)`` where ``membrane >= threshold``; both hold integers."""

    def codegen(context, builder, signature, arguments):
        times, values = (unpack(builder, block) for block in arguments[:2])
        limits = [spread(builder, arguments[2], _lanes(out.kind))] * out.count
        return _first_crossing(builder, times, values, limits, arguments[3], out.kind)

    return out(out, membrane, membrane.kind, out.kind), codegen


@intrinsic
def first_crossing_row(
    typingctx: Any, out: Any, membrane: Any, thresholds: Any, offset: Any, now: Any
) -> Any:
    """Return `out` with ``min(out, now)`` where the membrane is at the threshold at `offset` or above."""

    def codegen(context, builder, signature, arguments):
        times, values = (unpack(builder, block) for block in arguments[:2])
        limits = loaded(context, builder, arguments[2], thresholds, arguments[3], out.count)
        return _first_crossing(builder, times, values, limits, arguments[4], out.kind)

    return out(out, membrane, thresholds, types.int64, out.kind), codegen


@intrinsic
def larger_row(typingctx: Any, block: Any, array: Any, offset: Any) -> Any:
    """Return the larger of each lane of the block and the one at `offset` of a C-contiguous array."""

    def codegen(context, builder, signature, arguments):
        rows = loaded(context, builder, arguments[1], array, arguments[2], block.count)
        pairs = zip(unpack(builder, arguments[0]), rows, strict=True)
        larger = [builder.select(compare(builder, ">", row, own), row, own) for own, row in pairs]
        return pack(builder, larger)

    return block(block, array, types.int64), codegen


@intrinsic
def all_below(typingctx: Any, block: Any, value: Any) -> Any:
    """Return whether every lane is below `value`."""

    def codegen(context, builder, signature, arguments):
        limit = spread(builder, arguments[1], _lanes(block.kind))
        highest, *others = unpack(builder, arguments[0])
        for vector in others:
            highest = builder.select(compare(builder, ">", vector, highest), vector, highest)
        bits = _bits(builder, compare(builder, ">=", highest, limit))
        return builder.icmp_unsigned("==", bits, ir.Constant(ir.IntType(64), 0))

    return types.boolean(block, block.kind), codegen


@intrinsic
def reached(typingctx: Any, block: Any, limit: Any) -> Any:
    """Return a bit per lane of a block of one vector, set where it is at or above `limit`."""

    def codegen(context, builder, signature, arguments):
        (vector,) = unpack(builder, arguments[0])
        return _bits(builder, builder.fcmp_ordered(">=", vector, spread(builder, arguments[1])))

    return types.int64(block, block.kind), codegen


@intrinsic
def below(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """Return a bit per lane at `offset` that is below `value`; bit 32 if one is neither that nor equal."""

    def codegen(context, builder, signature, arguments):
        (vector,) = loaded(context, builder, arguments[0], array, arguments[1], 1)
        limit = spread(builder, arguments[2])
        less = _bits(builder, builder.fcmp_ordered("<", vector, limit))
        broken = _bits(builder, builder.fcmp_unordered(">", vector, limit))
        return builder.or_(less, builder.shl(broken, ir.Constant(ir.IntType(64), 32)))

    return types.int64(array, types.int64, array.dtype), codegen


@intrinsic
def lowest_bit(typingctx: Any, bits: Any) -> Any:
    """Return the place of the lowest set bit of an int64 that is not 0."""

    def codegen(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen
