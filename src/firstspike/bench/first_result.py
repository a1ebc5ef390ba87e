"""Import firstspike, make a network, take one training step; print how long each took, as JSON.

``python -m firstspike.bench.first_result THREADS``
"""

import time

BEGAN = time.perf_counter()

import json  # noqa: E402
import sys  # noqa: E402

import torch  # noqa: E402

from firstspike.losses import temporal_least_squares  # noqa: E402
from firstspike.neurons import Causal  # noqa: E402
from firstspike.nn import Linear, Stack  # noqa: E402
from firstspike.spikes import Spikes  # noqa: E402

IMPORTED = time.perf_counter()


def main() -> None:
    """Run it."""
    torch.set_num_threads(int(sys.argv[1]))
    began = time.perf_counter()
    neuron = Causal(norm="l1")
    model = Stack(Linear(784, 400, neuron), Linear(400, 10, neuron), steps=256)
    out = model(Spikes(torch.randint(0, 257, (256, 784)), steps=256))
    temporal_least_squares(out, torch.zeros_like(out.times)).backward()
    seconds = time.perf_counter() - began
    print(json.dumps({"first_step": seconds, "import": IMPORTED - BEGAN}))


if __name__ == "__main__":
    main()
