"""Compiled loops on the threads that torch's own operations run on.

Handing work to a sleeping thread costs tens of microseconds, as much as a layer. Torch's OpenMP threads
wait awake for a while after each operation, so a kernel that runs on them starts at once, and two sets of
threads do not fight for the cores. Where torch uses another library, or in the child of a fork, where
those threads do not exist, the chunks run on plain threads instead (`firstspike.kernels.chunks`).
"""

import ctypes
import os
from collections.abc import Callable
from typing import Any

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from firstspike.kernels.chunks import run_chunks


def _find_openmp() -> int:
    """Return the address of GNU OpenMP's ``GOMP_parallel`` in the library torch has loaded, else 0."""
    if "OpenMP" not in torch.__config__.parallel_info():
        return 0
    try:
        entry = ctypes.CDLL("libgomp.so.1").GOMP_parallel
    except (OSError, AttributeError):
        return 0
    return ctypes.cast(entry, ctypes.c_void_p).value or 0


_openmp = {"address": _find_openmp()}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _openmp.update(address=0))


def parts(size: int) -> int:
    """Return the number of chunks that `run` makes of that many items."""
    return max(1, min(torch.get_num_threads(), size))


def run(launch: Callable[..., int], kernel: Callable[..., None], size: int, *arguments: Any) -> None:
    """Run ``kernel(*arguments, begin, end)`` over ``range(size)``, split over torch's threads.

    Args:
        launch: the compiled function that calls `share` with this kernel.
        kernel: compiled, without the GIL; may run out of memory and raises nothing else.
        size: chunks are the same for the same number of threads (`torch.get_num_threads`).
        arguments: passed on.

    Raises:
        MemoryError: a chunk found no room for its scratch.
    """
    count = parts(size)
    if count == 1:
        kernel(*arguments, 0, size)
    elif _openmp["address"]:
        if launch(_openmp["address"], count, size, arguments):
            raise MemoryError("no room for the scratch of a compiled kernel")
    else:
        run_chunks(lambda _, begin, end: kernel(*arguments, begin, end), size)


@intrinsic
def share(typingctx: Any, address: Any, parts: Any, size: Any, kernel: Any, arguments: Any) -> Any:
    """Call ``kernel(*arguments, begin, end)`` for each of `parts` chunks on as many OpenMP threads.

    Returns 1 if a call failed, else 0: an exception cannot leave the thread that it is raised in.
    """
    signature = (*arguments, types.int64, types.int64)
    compiled = kernel.dispatcher.get_compile_result(typingctx.resolve_function_type(kernel, signature, {}))

    def codegen(context, builder, outer, values):  # type: ignore[no-untyped-def]
        long, pointer = ir.IntType(64), cgutils.voidptr_t
        entry, count, length, _, packed = values
        shared_type = ir.LiteralStructType([long, long, long, packed.type, long])
        body_type = ir.FunctionType(ir.VoidType(), [pointer])
        body = ir.Function(
            builder.module, body_type, builder.module.get_unique_name(f"{builder.function.name}_team")
        )
        body.linkage = "internal"
        context.active_code_library.add_linking_library(compiled.library)

        inner = ir.IRBuilder(body.append_basic_block("entry"))
        shared = inner.bitcast(body.args[0], shared_type.as_pointer())
        field = [cgutils.gep_inbounds(inner, shared, 0, k) for k in range(5)]
        parts_, size_ = inner.load(field[1]), inner.load(field[2])
        items = cgutils.unpack_tuple(inner, inner.load(field[3]))
        take, work, done = (body.append_basic_block(name) for name in ("take", "work", "done"))
        inner.branch(take)
        inner.position_at_end(take)
        # Chunks are taken, not given, so that a team smaller than asked for still does all of them.
        chunk = inner.atomic_rmw("add", field[0], ir.Constant(long, 1), "monotonic")
        inner.cbranch(inner.icmp_signed("<", chunk, parts_), work, done)
        inner.position_at_end(work)
        following = inner.add(chunk, ir.Constant(long, 1))
        begin, end = (inner.sdiv(inner.mul(size_, k), parts_) for k in (chunk, following))
        status, _ = context.call_internal_no_propagate(
            inner, compiled.fndesc, compiled.signature, [*items, begin, end]
        )
        with inner.if_then(status.is_error, likely=False):
            inner.store(ir.Constant(long, 1), field[4])
        inner.branch(take)
        inner.position_at_end(done)
        inner.ret_void()

        shared = cgutils.alloca_once(builder, shared_type)
        none = ir.Constant(long, 0)
        for k, value in enumerate((none, count, length, packed, none)):
            builder.store(value, cgutils.gep_inbounds(builder, shared, 0, k))
        parallel_type = ir.FunctionType(
            ir.VoidType(), [body_type.as_pointer(), pointer, ir.IntType(32), ir.IntType(32)]
        )
        parallel = builder.inttoptr(entry, parallel_type.as_pointer())
        builder.call(
            parallel,
            [
                body,
                builder.bitcast(shared, pointer),
                builder.trunc(count, ir.IntType(32)),
                ir.Constant(ir.IntType(32), 0),
            ],
        )
        return builder.load(cgutils.gep_inbounds(builder, shared, 0, 4))

    return types.int64(types.int64, types.int64, types.int64, kernel, arguments), codegen
