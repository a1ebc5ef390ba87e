"""Take training steps with one batch and print the peak memory of this process, as JSON.

``python -m firstspike.bench.train_once BATCH STEPS``
"""

import json
import resource
import sys
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from firstspike.bench.network import SIZES, causal_loss, causal_stack, training_step
from firstspike.spikes import Spikes

_ROWS = 256


def main() -> None:
    """Run it."""
    batch, steps = (int(text) for text in sys.argv[1:])
    torch.manual_seed(0)
    weights = tuple(torch.randn(n, m) * 0.05 + 0.01 for m, n in pairwise(SIZES))
    model = causal_stack(weights, steps)
    labels = torch.randint(0, SIZES[-1], (batch,))
    spikes = Spikes.trusted(inputs(batch, steps), steps)
    step = training_step(model, causal_loss(model), iter([(spikes, labels)] * 2))
    step()
    step()
    print(json.dumps({"peak_bytes": peak_bytes()}))


def inputs(batch: int, steps: int) -> Tensor:
    """Return random times ``(batch, 784)``, one in five active, made without a larger temporary."""
    times = torch.full((batch, SIZES[0]), float(steps))
    for rows in times.split(_ROWS):
        some = torch.rand(rows.shape) < 0.2
        rows[some] = torch.randint(0, steps, (int(some.sum()),)).to(torch.float32)
    return times


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    # Linux's ru_maxrss starts at what the process that started this one held; VmHWM does not.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
