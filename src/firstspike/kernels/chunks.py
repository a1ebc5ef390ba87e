"""Splitting a batch over threads, the same way for a given thread count."""

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_Work = Callable[[int, int, int], None]
_Task = tuple[_Work, int, int, int, "SimpleQueue[BaseException | None]"]

_shared: dict[str, Any] = {}


def _begin() -> None:
    """Start without threads: at first, and in the child of a fork, which copies all but the threads.

    The lock may have been held by one of them.
    """
    _shared.update(tasks=SimpleQueue(), threads=[], growing=threading.Lock())


_begin()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin)


def _serve(tasks: "SimpleQueue[_Task]") -> None:
    while True:
        work, chunk, start, stop, done = tasks.get()
        try:
            work(chunk, start, stop)
            done.put(None)
        except BaseException as error:  # handed to the caller, who raises it
            done.put(error)


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


def run_chunks(work: _Work, size: int) -> int:
    """Run ``work(chunk, start, stop)`` over ``range(size)`` split into equal parts; return how many.

    One part per torch thread (`torch.get_num_threads`), so results that are summed over parts are
    the same for the same thread count. `work` must release the GIL to gain from it.

    Plain Python threads are used rather than Numba's own parallel loops because those abort the
    process when called from two Python threads at once, and hang after a fork.
    """
    parts = max(1, min(torch.get_num_threads(), size))
    bounds = [size * k // parts for k in range(parts + 1)]
    if parts == 1:
        work(0, 0, size)
        return 1
    tasks = _tasks_for(parts - 1)
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for k in range(1, parts):
        tasks.put((work, k, bounds[k], bounds[k + 1], done))
    errors = []
    try:
        work(0, 0, bounds[1])
    finally:
        # The arrays belong to the caller: none may still be written when this returns.
        errors = [error for error in (done.get() for _ in range(1, parts)) if error is not None]
    if errors:
        raise errors[0]
    return parts


def sum_chunks(
    work: Callable[[np.ndarray, int, int], None], size: int, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> np.ndarray:
    """Return the sum of what ``work(part, start, stop)`` adds into zeros of `shape`, one per chunk."""
    parts = np.zeros((max(1, min(torch.get_num_threads(), size)), *shape), dtype)
    run_chunks(lambda chunk, begin, end: work(parts[chunk], begin, end), size)
    return parts[0] if len(parts) == 1 else parts.sum(0)
