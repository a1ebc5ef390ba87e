"""What a kernel meets at the edges of memory and processes."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from firstspike.kernels.cpu import threads as pool

_FULL = """
import resource, sys, torch
from firstspike import Causal, Conv2d, Spikes

torch.set_num_threads(int(sys.argv[1]))
spikes = Spikes(torch.randint(0, 11, (2, 16, 128, 128)), 10)
layer = Conv2d(16, 16, 9, Causal(), padding=4)
layer(spikes)
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (used * 1024 + 40 * 2**20, resource.RLIM_INFINITY))
try:
    layer(spikes)
except MemoryError as error:
    print("MemoryError")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and limits its own memory")
@pytest.mark.parametrize("threads", [1, 2])
def test_scratch_that_finds_no_room_is_an_error_on_every_thread(threads):
    line = [sys.executable, "-c", _FULL, str(threads)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "MemoryError\n", done.stderr[-500:]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_another_thread_starts_workers_does_not_hang():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pool._shared["growing"]:
            child = os.fork()
            if not child:
                signal.alarm(20)
                seen = []
                pool.run_plainly(lambda begin, end: seen.append((begin, end)), 10)
                os._exit(0 if sorted(seen) == [(0, 5), (5, 10)] else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        torch.set_num_threads(before)
