"""How many processor threads a training takes: two where its steps are long enough to be shared."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from firstspike.training import processes

# Multiply-adds of a step's forward pass, as `threads_for` counts them. Up to here a second thread that
# sleeps while it waits saves nothing, even with idle cores: docs/decisions/0004-threads.md.
SMALL_STEP = 1e10
# More would speed up few networks, and results differ from count to count.
MOST = 2


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads_kept() -> Iterator[None]:
    """Put torch's number of threads back at the end; also a function's decorator."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(network: nn.Module, images: Tensor, batch_size: int) -> int:
    """Return how many threads to train `network` with on `images` ``(count, ..., height, width)``.

    The weights of a convolution count once for each pixel of the image, as often as they are used at most.
    """
    pixels = images.shape[-2] * images.shape[-1]
    step = batch_size * sum(p.numel() * (pixels if p.dim() == 4 else 1) for p in network.parameters())
    return 1 if step <= SMALL_STEP else max(1, min(MOST, cores() // processes.count_here()))
