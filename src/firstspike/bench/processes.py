"""Figures that need a process of their own: peak memory, and the time to a first result."""

import json
import os
import subprocess
import sys
from typing import Any


def in_new_process(*arguments: int | str, module: str, threads: int) -> dict[str, Any]:
    """Return what ``python -m module arguments`` prints, one JSON object.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    if done.returncode:
        raise RuntimeError(f"{module} failed: {done.stderr}")
    return json.loads(done.stdout)


def peak_memory(batch: int, steps: int, threads: int) -> int:
    """Return the peak memory in bytes of a process that takes training steps with `batch` samples."""
    return in_new_process(batch, steps, module="firstspike.bench.train_once", threads=threads)["peak_bytes"]


def first_result(threads: int) -> dict[str, Any]:
    """Return the seconds of `firstspike.bench.first_result`."""
    return in_new_process(threads, module="firstspike.bench.first_result", threads=threads)
