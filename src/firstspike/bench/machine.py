"""What a measurement was made on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from firstspike.kernels.cpu.vectors import LANES, MOST

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def machine(threads: int) -> dict[str, Any]:
    """Return the processor, its cores, the threads in use, the GPU if any, and the versions.

    ``lanes`` are the float32 of a vector that our kernels are compiled for, ``block`` the vectors that they
    hold in registers; ``caches`` are a core's data caches in KiB by level, where the system tells them.
    """
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "lanes": LANES,
        "block": MOST,
        "caches": caches(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("firstspike", "torch", "numba", "numpy")},
    }


def caches() -> dict[str, int]:
    """Return the sizes of the first core's data caches in KiB, such as ``{"L1": 32, "L2": 512}``."""
    found = {}
    for index in sorted(CACHES.glob("index*")):
        try:
            kind, level, size = (
                (index / name).read_text(encoding="ascii").strip() for name in ("type", "level", "size")
            )
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            found[f"L{level}"] = int(size[:-1])
    return found


def cpu_name() -> str:
    """Return the processor's name as the system tells it."""
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
