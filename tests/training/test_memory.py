"""Freed memory that stays with the process, where the C library can be told."""

import subprocess
import sys

import pytest

# Faults of pages are counted while a large tensor is made and dropped again and again.
COUNT = """
import resource, sys
import torch
from firstspike.training.memory import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    keep_freed_memory()
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(20_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library is glibc on Linux only")
def test_memory_comes_back_without_a_fault_for_each_page():
    found = {
        how: int(subprocess.run([sys.executable, "-c", COUNT, how], check=True, capture_output=True).stdout)
        for how in ("given back", "kept")
    }
    assert found["kept"] < found["given back"] / 10
