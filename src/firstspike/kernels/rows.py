"""Rows of weights, added to membranes or changed, by vectors of a fixed number of lanes.

LLVM's own vector types are used, so that nothing is left to be done element by element at a row's end,
which costs as much as the row itself for few neurons. Each membrane is added to in the order of the
spikes, so sums are those of a plain loop to the last bit.

A row's last vector may reach into what follows the row: arrays of weights end with `LANES` spare
elements, and membranes and steps are as long as `padded` says.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

LANES = 16


def _places(context: Any, builder: Any, array: Any, data: Any, offsets: Any) -> tuple[Any, list[Any]]:
    """The vector type of an array, and where its vectors at `offsets` lie."""
    vector = ir.VectorType(context.get_data_type(array.dtype), LANES)
    start = context.make_array(array)(context, builder, data).data
    return vector, [builder.bitcast(builder.gep(start, [k]), vector.as_pointer()) for k in offsets]


def _load(builder: Any, place: Any) -> Any:
    # Rows begin anywhere, so no more than an element's alignment is promised.
    return builder.load(place, align=4)


def _spread(builder: Any, scalar: Any, vector: Any) -> Any:
    empty = ir.Constant(vector, ir.Undefined)
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(
        builder.insert_element(empty, scalar, ir.Constant(ir.IntType(32), 0)), empty, lanes
    )


@intrinsic
def _add_four(typingctx: Any, membrane: Any, at: Any, rows: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Add the vectors at four places of `rows` to the membranes from `at` on, one after the other."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, (held,) = _places(context, builder, membrane, arguments[0], arguments[1:2])
        _, added = _places(context, builder, rows, arguments[2], arguments[3:])
        total = _load(builder, held)
        for place in added:
            total = builder.fadd(total, _load(builder, place))
        builder.store(total, held, align=4)
        return context.get_dummy_value()

    return types.void(membrane, types.int64, rows, *[types.int64] * 4), codegen


@intrinsic
def _add_last(typingctx: Any, membrane: Any, at: Any, rows: Any, a: Any, limit: Any) -> Any:
    """Add one vector; return a bit per lane, set where the membrane is now at or above `limit`."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, (held,) = _places(context, builder, membrane, arguments[0], arguments[1:2])
        _, (added,) = _places(context, builder, rows, arguments[2], arguments[3:4])
        total = builder.fadd(_load(builder, held), _load(builder, added))
        builder.store(total, held, align=4)
        flags = builder.fcmp_ordered(">=", total, _spread(builder, arguments[4], vector))
        return builder.zext(builder.bitcast(flags, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(membrane, types.int64, rows, types.int64, membrane.dtype), codegen


@intrinsic
def _subtract(typingctx: Any, rows: Any, at: Any, step: Any, start: Any) -> Any:
    """Subtract the vector of `step` from `start` on from the one of `rows` from `at` on."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, (target,) = _places(context, builder, rows, arguments[0], arguments[1:2])
        _, (change,) = _places(context, builder, step, arguments[2], arguments[3:4])
        builder.store(builder.fsub(_load(builder, target), _load(builder, change)), target, align=4)
        return context.get_dummy_value()

    return types.void(rows, types.int64, step, types.int64), codegen


@intrinsic
def _lowest_bit(typingctx: Any, bits: Any) -> Any:
    """Return the place of the lowest set bit of an int64 that is not 0."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


@njit(cache=True, nogil=True)
def padded(size):  # type: ignore[no-untyped-def]
    """Return `size` rounded up to whole vectors."""
    return (size + LANES - 1) // LANES * LANES


@njit(cache=True, nogil=True)
def add_rows(flat, start, row, first, last, membrane, n_out, limit, found, count):  # type: ignore[no-untyped-def]
    """Add the rows of the spikes of one step, then append to `found` who crossed; return the new count.

    Membranes of those who crossed are set to minus infinity, so that they never cross again.

    Args:
        flat: weights; the row of input ``i`` is the `n_out` elements from ``start + i n_out`` on.
        start: where this layer's weights begin.
        row: inputs in the order of time.
        first, last: the step's spikes, ``row[first:last]``, one or more.
        membrane: ``(padded(n_out),)``.
        n_out: how many neurons there are.
        limit: a neuron crosses at or above it, looked at after the last row.
        found, count: who crossed before, and how many; who crosses now is appended in ascending order.
    """
    k = first
    # Four rows per pass: the membranes are loaded and stored once for all of them.
    while k + 4 < last:
        one, two = start + np.int64(row[k]) * n_out, start + np.int64(row[k + 1]) * n_out
        three, four = start + np.int64(row[k + 2]) * n_out, start + np.int64(row[k + 3]) * n_out
        for j in range(0, n_out, LANES):
            _add_four(membrane, j, flat, one + j, two + j, three + j, four + j)
        k += 4
    while k + 1 < last:
        one = start + np.int64(row[k]) * n_out
        for j in range(0, n_out, LANES):
            _add_last(membrane, j, flat, one + j, limit)
        k += 1
    one = start + np.int64(row[k]) * n_out
    for j in range(0, n_out, LANES):
        bits = _add_last(membrane, j, flat, one + j, limit)
        if j + LANES > n_out:
            bits &= (1 << (n_out - j)) - 1
        while bits:
            neuron = j + _lowest_bit(bits)
            bits &= bits - 1
            membrane[neuron] = -np.inf
            found[count] = neuron
            count += 1
    return count


@njit(cache=True, nogil=True)
def subtract_row(flat, start, n_out, step):  # type: ignore[no-untyped-def]
    """``row -= step`` of the row of `n_out` elements from `start` on; `step` ends with zeros (`padded`)."""
    for j in range(0, n_out, LANES):
        _subtract(flat, start + j, step, j)


@njit(cache=True, nogil=True)
def run_length(size):  # type: ignore[no-untyped-def]
    """Return the room for a run of `size` membranes that `add_run` adds to, in elements."""
    return padded(size) if size >= LANES // 2 else size


@njit(cache=True, nogil=True)
def add_run(flat, start, membrane, at, size, limit):  # type: ignore[no-untyped-def]
    """Add `size` weights from `start` on to the membranes from `at` on; return whether one is at `limit`.

    The membranes have the room that `run_length` says.
    """
    reached = np.int64(0)
    if size < LANES // 2:
        for j in range(size):
            value = membrane[at + j] + flat[start + j]
            membrane[at + j] = value
            reached |= np.int64(value >= limit)
        return reached != 0
    for j in range(0, size, LANES):
        bits = _add_last(membrane, at + j, flat, start + j, limit)
        reached |= bits if j + LANES <= size else bits & ((1 << (size - j)) - 1)
    return reached != 0
