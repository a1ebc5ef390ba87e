"""Compiled loops over chunks of a batch, on the threads that torch's own operations run on.

Handing work to a sleeping thread costs tens of microseconds, as much as a layer. Torch's OpenMP threads
wait awake for a while after each operation, so a kernel that runs on them starts at once, and two sets of
threads do not fight for the cores. Where torch uses another library, or in the child of a fork, where
those threads do not exist, the chunks run on plain Python threads instead. Numba's own parallel loops abort
the process when called from two Python threads at once, and hang after a fork.

Chunks are the same for the same number of threads (`torch.get_num_threads`), and so is what is summed over
them.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from firstspike.kernels.cpu.compiling import compiled

_Work = Callable[[int, int], None]
_Task = tuple[_Work, int, int, "SimpleQueue[BaseException | None]"]


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
_shared: dict[str, Any] = {}


def _begin() -> None:
    """Start without plain threads: at first, and in the child of a fork, which copies all but the threads.

    The lock may have been held by one of them.
    """
    _shared.update(tasks=SimpleQueue(), threads=[], growing=threading.Lock())


def _begin_in_child() -> None:
    _openmp.update(address=0)
    _begin()


_begin()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)


def parts(size: int) -> int:
    """Return the number of chunks that `run` makes of that many items."""
    return max(1, min(torch.get_num_threads(), size))


def sum_parts(values: np.ndarray) -> np.ndarray:
    """Return the sum over the first axis, which has one entry per chunk."""
    total: np.ndarray = values[0] if len(values) == 1 else values.sum(0)
    return total


@compiled
def part_of(begin, parts, size):
    """Return which of `parts` chunks of `size` items begins at item `begin`."""
    return -(-begin * parts // max(size, 1))


def run(launch: Callable[..., int], kernel: Callable[..., None], size: int, *arguments: Any) -> None:
    """Run ``kernel(*arguments, begin, end)`` over ``range(size)``, split over torch's threads.

    Args:
        launch: the compiled function that calls `share` with this kernel.
        kernel: compiled, without the GIL; may run out of memory and raises nothing else.
        size: of the range; the chunks differ by one at most.
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
        run_plainly(lambda begin, end: kernel(*arguments, begin, end), size)


def _lent(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """An argument with its arrays' reference counts removed, for the time of the call.

    Numba counts at every view and call, and atomic updates of one counter from several threads are slow.
    The caller holds the arrays until all threads are done; a kernel keeps and returns none.
    """
    if isinstance(kind, types.BaseTuple):
        parts = zip(kind.types, cgutils.unpack_tuple(builder, value), strict=True)
        return context.make_tuple(builder, kind, [_lent(context, builder, *part) for part in parts])
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = cgutils.get_null_value(array.meminfo.type)
        array.parent = cgutils.get_null_value(array.parent.type)
        value = array._getvalue()
    return value


@intrinsic
def share(typingctx: Any, address: Any, parts: Any, size: Any, kernel: Any, arguments: Any) -> Any:
    """Call ``kernel(*arguments, begin, end)`` for each of `parts` chunks on as many OpenMP threads.

    Returns 1 if a call failed, else 0: an exception cannot leave the thread that it is raised in.
    """
    signature = (*arguments, types.int64, types.int64)
    callee = kernel.dispatcher.get_compile_result(typingctx.resolve_function_type(kernel, signature, {}))
    if callee.signature.return_type != types.none:
        raise TypingError("a kernel that threads share returns nothing")

    def codegen(context, builder, outer, values):
        long, pointer = ir.IntType(64), cgutils.voidptr_t
        entry, count, length, _, packed = values
        shared_type = ir.LiteralStructType([long, long, long, packed.type, long])
        body_type = ir.FunctionType(ir.VoidType(), [pointer])
        body = ir.Function(
            builder.module, body_type, builder.module.get_unique_name(f"{builder.function.name}_team")
        )
        body.linkage = "internal"
        context.active_code_library.add_linking_library(callee.library)

        inner = ir.IRBuilder(body.append_basic_block("entry"))
        shared = inner.bitcast(body.args[0], shared_type.as_pointer())
        field = [cgutils.gep_inbounds(inner, shared, 0, k) for k in range(5)]
        parts_, size_ = inner.load(field[1]), inner.load(field[2])
        items = cgutils.unpack_tuple(inner, inner.load(field[3]))
        items = [_lent(context, inner, *pair) for pair in zip(arguments, items, strict=True)]
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
            inner, callee.fndesc, callee.signature, [*items, begin, end]
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


def run_plainly(work: _Work, size: int) -> None:
    """Run ``work(begin, end)`` over the same chunks of ``range(size)`` on plain Python threads."""
    count = parts(size)
    bounds = [size * k // count for k in range(count + 1)]
    tasks = _tasks_for(count - 1)
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for k in range(1, count):
        tasks.put((work, bounds[k], bounds[k + 1], done))
    try:
        work(0, bounds[1])
    finally:
        # The arrays belong to the caller: none may still be written when this returns.
        errors = [error for error in (done.get() for _ in range(1, count)) if error is not None]
    if errors:
        raise errors[0]


def _tasks_for(workers: int) -> "SimpleQueue[_Task]":
    """Return the queue of this process after making sure that so many threads read it."""
    tasks: SimpleQueue[_Task] = _shared["tasks"]
    threads: list[threading.Thread] = _shared["threads"]
    if len(threads) >= workers:
        return tasks
    with _shared["growing"]:
        while len(threads) < workers:
            # A thread of a thread pool would take part in the interpreter's exit; this one just ends.
            thread = threading.Thread(target=_serve, args=(tasks,), name="firstspike", daemon=True)
            thread.start()
            threads.append(thread)
    return tasks


def _serve(tasks: "SimpleQueue[_Task]") -> None:
    while True:
        work, begin, end, done = tasks.get()
        try:
            work(begin, end)
            done.put(None)
        except BaseException as error:  # handed to the caller, who raises it
            done.put(error)
