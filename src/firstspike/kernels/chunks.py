"""Splitting a batch over threads, the same way for a given thread count."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def run_chunks(work: Callable[[int, int, int], None], size: int) -> int:
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
    key = (os.getpid(), parts)
    pool = _pools.get(key)
    if pool is None:
        pool = _pools.setdefault(key, ThreadPoolExecutor(parts - 1, "firstspike"))
    pending = [pool.submit(work, k, bounds[k], bounds[k + 1]) for k in range(1, parts)]
    work(0, 0, bounds[1])
    for future in pending:
        future.result()
    return parts


def sum_chunks(
    work: Callable[[np.ndarray, int, int], None], size: int, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> np.ndarray:
    """Return the sum of what ``work(part, start, stop)`` adds into zeros of `shape`, one per chunk."""
    parts = np.zeros((max(1, min(torch.get_num_threads(), size)), *shape), dtype)
    run_chunks(lambda chunk, begin, end: work(parts[chunk], begin, end), size)
    return parts[0] if len(parts) == 1 else parts.sum(0)
