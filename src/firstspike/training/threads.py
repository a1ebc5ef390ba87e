"""How many processor threads a training takes: two where its steps are long enough to be shared."""

import os

from torch import Tensor, nn

from firstspike.training import processes

# Multiply-adds of a step's forward pass. Up to here one thread takes a few milliseconds, of which a second
# one saves little, and loses much where it waits for a busy core.
SMALL_STEP = 2e7
# More would speed up few networks, and results differ from count to count.
MOST = 2


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(network: nn.Module, images: Tensor, batch_size: int) -> int:
    """Return how many threads to train `network` with on `images` ``(count, ..., height, width)``.

    The weights of a convolution count once for each pixel of the image, as often as they are used at most.
    """
    pixels = images.shape[-2] * images.shape[-1]
    step = batch_size * sum(p.numel() * (pixels if p.dim() == 4 else 1) for p in network.parameters())
    return 1 if step <= SMALL_STEP else max(1, min(MOST, cores() // processes.count_here()))
