"""Input spikes in the order of time: what every event-driven kernel walks through.

A spike is one key, its step in the upper half and its input in the lower one, so that a walk reads one
number per spike and sorted keys are in the order of time, then of input. Keys have 32 bits, or 64 where
there are more than 65,536 inputs (`key_type`). Steps are below 65,536. For compiled code, `key_type` apart.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.vectors import FEATURES, LANES, below, lowest_bit, spread

# Up to this many bits of the step are sorted in one pass; clearing more buckets costs more than a pass.
_ONE_PASS_BITS = 9
# Spare places after the keys, for walks that look so many spikes ahead.
AHEAD = 2
_BROKEN = 1 << 40


def key_type(inputs: int) -> np.dtype:
    """Return the type of the keys of spikes of so many inputs."""
    return np.dtype(np.uint32 if inputs <= 1 << 16 else np.uint64)


@intrinsic
def _half(typingctx: Any, key: Any) -> Any:
    """Return half the number of bits of a key."""

    def codegen(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(64), key.bitwidth // 2)

    return types.uint64(key), codegen


@compiled(inline="always")
def step_of(key):
    """Return the step of a key."""
    return np.int64(key >> _half(key))


@compiled(inline="always")
def input_of(key):
    """Return the input of a key."""
    return np.int64(key & ((np.uint64(1) << _half(key)) - np.uint64(1)))


@compiled(inline="always")
def first_key(step, like):
    """Return the key of a step and input 0, as an uint64; inputs are added to it."""
    return np.uint64(step) << _half(like)


def _compressed(builder, values, mask):
    """The lanes of a vector of int32 that the mask selects, moved to its beginning."""
    module, kind = builder.module, values.type
    if LANES == 16:
        name = f"llvm.x86.avx512.mask.compress.v{LANES}i32"
        function = builder.module.declare_intrinsic(
            name, (), ir.FunctionType(kind, [kind, kind, mask.type])
        )
        return builder.call(function, [values, values, mask])
    # Which lanes come first, for each mask.
    name = "firstspike_lanes_of_masks"
    if name in module.globals:
        table = module.globals[name]
    else:
        rows = [sorted(range(8), key=lambda lane: not bits >> lane & 1) for bits in range(256)]
        table = ir.GlobalVariable(module, ir.ArrayType(kind, 256), name)
        table.initializer = ir.Constant(table.value_type, [ir.Constant(kind, row) for row in rows])
        table.global_constant, table.linkage = True, "internal"
    bits = builder.zext(builder.bitcast(mask, ir.IntType(8)), ir.IntType(64))
    lanes = builder.load(builder.gep(table, [ir.Constant(ir.IntType(64), 0), bits]))
    function = module.declare_intrinsic("llvm.x86.avx2.permd", (), ir.FunctionType(kind, [kind, kind]))
    return builder.call(function, [values, lanes])


# Whether the processor has an instruction for it. Haswell is the name by which AVX2 is tried on a better
# one, without features.
_COMPRESSES = LANES == 16 or "+avx2" in FEATURES or config.CPU_NAME == "haswell"


@intrinsic
def _appends(typingctx: Any, keys: Any) -> Any:
    """Return whether `_append` works for these keys, which is known when it is compiled."""

    def codegen(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(1), _COMPRESSES and keys.dtype == types.uint32)

    return types.boolean(keys), codegen


@intrinsic
def _append(typingctx: Any, times: Any, i: Any, silent: Any, keys: Any, n: Any) -> Any:
    """Write the keys of the spikes among `LANES` times from `i` on to `n`; return the new number.

    A whole vector is written, within the room of as many keys as inputs that were looked at. `_BROKEN` is
    added to the number if a time is not an integer step in ``0 ... silent``.
    """

    def codegen(context, builder, signature, arguments):
        long = ir.IntType(64)
        if not (_COMPRESSES and keys.dtype == types.uint32):
            return ir.Constant(long, 0)

        def place(array, kind, offset, element):
            data = context.make_array(kind)(context, builder, array).data
            return builder.bitcast(builder.gep(data, [offset]), ir.VectorType(element, LANES).as_pointer())

        whole = ir.VectorType(ir.IntType(32), LANES)
        value = builder.load(place(arguments[0], times, arguments[1], ir.FloatType()), align=4)
        limit = spread(builder, arguments[2])
        spiking = builder.fcmp_ordered("<", value, limit)
        step = builder.fptosi(value, whole)
        zero = ir.Constant(whole, [0] * LANES)
        inexact = builder.fcmp_unordered("!=", builder.sitofp(step, value.type), value)
        wrong = builder.and_(spiking, builder.or_(inexact, builder.icmp_signed("<", step, zero)))
        wrong = builder.or_(wrong, builder.fcmp_unordered(">", value, limit))
        lane = ir.Constant(whole, list(range(LANES)))
        index = builder.add(spread(builder, builder.trunc(arguments[1], ir.IntType(32))), lane)
        key = builder.or_(builder.shl(step, ir.Constant(whole, [16] * LANES)), index)
        target = place(arguments[3], keys, arguments[4], ir.IntType(32))
        builder.store(_compressed(builder, key, spiking), target, align=4)
        bits = ir.IntType(LANES)
        count = builder.zext(builder.ctpop(builder.bitcast(spiking, bits)), long)
        any_wrong = builder.icmp_unsigned("!=", builder.bitcast(wrong, bits), ir.Constant(bits, 0))
        broken = builder.select(any_wrong, ir.Constant(long, _BROKEN), ir.Constant(long, 0))
        return builder.add(builder.add(arguments[4], count), broken)

    return types.int64(times, types.int64, times.dtype, keys, types.int64), codegen


@compiled
def find_spikes(times_I, first, last, silent, keys):
    """Write the keys of the inputs ``first ... last - 1`` that spike, by input; return how many.

    -1 if a time is not an integer step in ``0 ... silent``. Silent stretches cost one comparison per
    vector.
    """
    n = 0
    broken = np.int64(0)
    i = first
    if _appends(keys):
        while i + LANES <= last:
            n = _append(times_I, i, silent, keys, n)
            if n >= _BROKEN:
                return -1
            i += LANES
    while i + LANES <= last:
        spiking = below(times_I, i, silent)
        broken |= spiking >> 32
        spiking &= 0xFFFFFFFF
        while spiking:
            k = i + lowest_bit(spiking)
            spiking &= spiking - 1
            t = times_I[k]
            step = np.int32(t)
            broken |= np.int64(step < 0) | np.int64(np.float32(step) != t)
            keys[n] = first_key(step, keys[0]) | np.uint64(k)
            n += 1
        i += LANES
    while i < last:
        t = times_I[i]
        broken |= np.int64(not t <= silent)
        if t < silent:
            step = np.int32(t)
            broken |= np.int64(step < 0) | np.int64(np.float32(step) != t)
            keys[n] = first_key(step, keys[0]) | np.uint64(i)
            n += 1
        i += 1
    return -1 if broken else n


@compiled
def _pass(keys, n, shift, buckets, counts, out):
    digit = np.uint64(buckets - 1)
    counts[:buckets] = 0
    for k in range(n):
        counts[(keys[k] >> shift) & digit] += 1
    total = np.int32(0)
    for d in range(buckets):
        count = counts[d]
        counts[d] = total
        total += count
    for k in range(n):
        key = keys[k]
        d = (key >> shift) & digit
        place = counts[d]
        counts[d] = place + 1
        out[place] = key


@compiled
def sorting_room(inputs, kind):
    """Return the arrays that `sort_spikes` needs for so many inputs with keys of type `kind`."""
    return (
        np.empty(inputs + AHEAD, kind),
        np.empty(inputs + AHEAD, kind),
        np.empty(2 << _ONE_PASS_BITS, np.int32),
    )


@compiled
def sort_spikes(times_I, num_steps, room):
    """Return the keys of the inputs that spike, in the order of time, then of input; and how many.

    The number is -1 if a time is not an integer step in ``0 ... num_steps``. Counting sort, whose cost is
    the spikes' and does not grow with the number of steps: many steps are sorted in two passes. The array
    is one of those of `room`, and `AHEAD` longer than the inputs.
    """
    keys, spare, counts = room
    n = find_spikes(times_I, 0, times_I.shape[0], np.float32(num_steps), keys)
    bits = 0
    while (1 << bits) < num_steps:
        bits += 1
    half = _half(keys[0])
    if bits <= _ONE_PASS_BITS:
        _pass(keys, n, half, 1 << bits, counts, spare)
        return spare, n
    low = (bits + 1) // 2
    _pass(keys, n, half, 1 << low, counts, spare)
    _pass(spare, n, half + np.uint64(low), 1 << low, counts, keys)
    return keys, n
