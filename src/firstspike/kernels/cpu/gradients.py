"""Blocks of vectors in backward kernels: sums of gradients over the lanes that a spike reaches.

For compiled code only; see `firstspike.kernels.cpu.vectors`.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from firstspike.kernels.cpu.vectors import (
    LANES,
    call,
    loaded,
    pack,
    pointers_of,
    spread,
    unpack,
    vector_type,
)


@intrinsic
def store_steps(typingctx: Any, array: Any, offset: Any, block: Any) -> Any:
    """Write a block of integer steps below 65,536 to `offset` of a uint16 C-contiguous array."""

    def codegen(context, builder, signature, arguments):
        wide = ir.VectorType(ir.IntType(32), LANES)
        places = pointers_of(context, builder, arguments[0], array, arguments[1], block.count)
        for vector, place in zip(unpack(builder, arguments[2]), places, strict=True):
            steps = builder.trunc(builder.fptosi(vector, wide), vector_type(array.dtype))
            builder.store(steps, place, align=2)
        return context.get_dummy_value()

    return types.void(array, types.int64, block), codegen


def _seen(builder: Any, times: list, step: Any, values: list) -> list:
    """The values where the times, floats or uint16, are at the step or later, else 0."""
    now = spread(builder, step, times[0].type.count)
    integers = isinstance(step.type, ir.IntType)
    reached = builder.icmp_unsigned if integers else builder.fcmp_ordered
    return [
        builder.select(reached(">=", time, now), value, ir.Constant(value.type, [0.0] * LANES))
        for time, value in zip(times, values, strict=True)
    ]


@intrinsic
def subtract_seen(typingctx: Any, block: Any, values: Any, times: Any, offset: Any, step: Any) -> Any:
    """Return the block minus the lanes of `values` at `offset` where the `times` are ``>= step``."""

    def codegen(context, builder, signature, arguments):
        value, time = (
            loaded(context, builder, given, kind, arguments[3], block.count)
            for given, kind in ((arguments[1], values), (arguments[2], times))
        )
        pairs = zip(unpack(builder, arguments[0]), _seen(builder, time, arguments[4], value), strict=True)
        return pack(builder, [builder.fsub(held, seen) for held, seen in pairs])

    return block(block, values, times, types.int64, times.dtype), codegen


def _sum(builder: Any, vector: Any) -> Any:
    """The sum of the lanes, halves onto each other: the same order on every machine of this width."""
    width = LANES
    while width > 1:
        width //= 2
        upper = ir.Constant(
            ir.VectorType(ir.IntType(32), LANES), [(k + width) % LANES for k in range(LANES)]
        )
        vector = builder.fadd(vector, builder.shuffle_vector(vector, vector, upper))
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


@intrinsic
def dot_seen(typingctx: Any, rows: Any, offset: Any, values: Any, times: Any, step: Any) -> Any:
    """Return the row at `offset` times `values`, summed over the lanes at which `times` are ``>= step``."""

    def codegen(context, builder, signature, arguments):
        vectors = loaded(context, builder, arguments[0], rows, arguments[1], values.count)
        times = unpack(builder, arguments[3])
        seen = _seen(builder, times, arguments[4], unpack(builder, arguments[2]))
        total = None
        for row, value in zip(vectors, seen, strict=True):
            product = builder.fmul(row, value)
            total = product if total is None else builder.fadd(total, product)
        return _sum(builder, total)

    return values.kind(rows, types.int64, values, times, times.kind), codegen


@intrinsic
def add_products_seen(
    typingctx: Any, block: Any, rows: Any, offset: Any, values: Any, times: Any, place: Any, step: Any
) -> Any:
    """Return the block plus the row at `offset` times `values` at `place` where `times` are ``>= step``."""

    def codegen(context, builder, signature, arguments):
        row, value, time = (
            loaded(context, builder, given, kind, at, block.count)
            for given, kind, at in (
                (arguments[1], rows, arguments[2]),
                (arguments[3], values, arguments[5]),
                (arguments[4], times, arguments[5]),
            )
        )
        seen = _seen(builder, time, arguments[6], value)
        triples = zip(unpack(builder, arguments[0]), row, seen, strict=True)
        return pack(builder, [builder.fadd(held, builder.fmul(one, two)) for held, one, two in triples])

    return block(block, rows, types.int64, values, times, types.int64, times.dtype), codegen


@intrinsic
def sum_of(typingctx: Any, block: Any) -> Any:
    """Return the sum of all lanes of a block, in the same order on every machine of this width."""

    def codegen(context, builder, signature, arguments):
        total, *others = unpack(builder, arguments[0])
        for vector in others:
            total = builder.fadd(total, vector)
        return _sum(builder, total)

    return block.kind(block), codegen


@intrinsic
def add_fast_sigmoid(
    typingctx: Any, block: Any, grad: Any, peak: Any, offset: Any, threshold: Any, place: Any, steep: Any
) -> Any:
    """Return the block plus `grad` times the fast sigmoid's derivative of the membranes at `offset`.

    That is ``1 / (1 + steep |peak - threshold|)^2``, with the thresholds at `place`.
    """

    def codegen(context, builder, signature, arguments):
        grads, peaks, limits = (
            loaded(context, builder, given, kind, at, block.count)
            for given, kind, at in (
                (arguments[1], grad, arguments[3]),
                (arguments[2], peak, arguments[3]),
                (arguments[4], threshold, arguments[5]),
            )
        )
        slope = spread(builder, arguments[6])
        one = ir.Constant(slope.type, [1.0] * LANES)
        totals = []
        held = unpack(builder, arguments[0])
        for total, given, value, limit in zip(held, grads, peaks, limits, strict=True):
            away = call(builder, "fabs", builder.fsub(value, limit))
            far = builder.fadd(one, builder.fmul(away, slope))
            totals.append(builder.fadd(total, builder.fdiv(given, builder.fmul(far, far))))
        return pack(builder, totals)

    return block(block, grad, peak, types.int64, threshold, types.int64, block.kind), codegen


@intrinsic
def where_equal(typingctx: Any, array: Any, one: Any, two: Any, same: Any, other: Any) -> Any:
    """Return the lanes of `same` where the array is equal at offsets `one` and `two`, else of `other`."""

    def codegen(context, builder, signature, arguments):
        left, right = (
            loaded(context, builder, arguments[0], array, at, same.count) for at in arguments[1:3]
        )
        blocks = (unpack(builder, given) for given in arguments[3:])
        chosen = [
            builder.select(builder.fcmp_ordered("==", a, b), equal, unequal)
            for a, b, equal, unequal in zip(left, right, *blocks, strict=True)
        ]
        return pack(builder, chosen)

    return same(array, types.int64, types.int64, same, same), codegen
