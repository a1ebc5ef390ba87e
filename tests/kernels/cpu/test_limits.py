"""What a kernel meets at the edges of memory, processes and types."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from firstspike.convolution import causal_conv2d
from firstspike.functional import causal_linear

from firstspike import Causal, Linear
from firstspike.kernels.cpu import threads as pool
from firstspike.online import sort_spikes

_FULL = """
import resource, sys, torch
from firstspike import Causal
from firstspike.convolution import causal_conv2d

torch.set_num_threads(int(sys.argv[1]))
times = torch.randint(0, 11, (2, 16, 128, 128)).float()
weight = torch.randn(16, 16, 9, 9) * 0.1
causal_conv2d(times, weight, 10, Causal(), padding=4)
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (used * 1024 + 40 * 2**20, resource.RLIM_INFINITY))
try:
    causal_conv2d(times, weight, 10, Causal(), padding=4)
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


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.float16])
def test_every_type_of_whole_numbers_serves_as_times(dtype):
    times = torch.tensor([[0, 3, 7, 16], [16, 16, 2, 2]])
    weight = torch.rand(3, 4)
    expected = causal_linear(times.float(), weight, 16, Causal())
    assert torch.equal(causal_linear(times.to(dtype), weight, 16, Causal()), expected)
    lists = sort_spikes(times.to(dtype), 16)
    assert lists.num_steps == 16


def test_times_are_looked_at_before_they_are_rounded():
    with pytest.raises(ValueError, match="must be whole steps"):
        sort_spikes(torch.tensor([[3.0000000001, 0]], dtype=torch.float64), 256)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_a_second_derivative_is_refused(kind):
    weight = torch.rand(3, 2, 2, 2) if kind == "conv" else torch.rand(3, 8)
    weight.requires_grad_()
    times = torch.zeros(2, 2, 2, 2) if kind == "conv" else torch.zeros(2, 8)
    run = causal_conv2d if kind == "conv" else causal_linear
    out = run(times, weight, 4, Causal())
    (grad,) = torch.autograd.grad(out.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.square().sum().backward()


def test_a_layer_takes_its_times_in_any_type():
    layer = Linear(4, 3, 16, Causal(), bias=True)
    times = torch.tensor([[0, 3, 7, 16]])
    assert torch.equal(layer(times.to(torch.uint16)), layer(times.float()))
