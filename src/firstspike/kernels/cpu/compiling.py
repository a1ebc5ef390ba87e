"""The one way in which a kernel is compiled: free of Python's lock, kept on disk where that is possible."""

import functools
import logging
from collections.abc import Callable
from typing import Any

from numba import njit

_log = logging.getLogger(__name__)


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Return `function` compiled by Numba at its first call; also as ``@compiled(fastmath=...)``.

    What was compiled is kept in Numba's cache: the first that can be written of `NUMBA_CACHE_DIR`,
    ``__pycache__`` beside the source, and the user's cache folder. Where none can, it is compiled anew in
    every process, and one warning says so.
    """
    if function is None:
        return functools.partial(compiled, **options)
    # Division as numpy's, by 0 too: a test before each, for Python's error, would keep loops from becoming
    # vectors.
    kernel = njit(nogil=True, error_model="numpy", **options)(function)
    try:
        kernel.enable_caching()
    except RuntimeError:
        _warn_of_no_cache()
    return kernel


@functools.cache
def _warn_of_no_cache() -> None:
    _log.warning(
        "found no folder that can be written for compiled kernels, so every process compiles them anew, "
        "which takes up to a minute; set NUMBA_CACHE_DIR to such a folder"
    )
