"""How a signal spreads through many layers of once-only neurons at the start."""

import torch

from firstspike.decision import Votes
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.raster.settings import Init, RasterNeuron, RasterWeights


@torch.no_grad()
def input_spread(
    init: Init,
    *,
    fire_last: bool,
    depth: int = 8,
    width: int = 512,
    steps: int = 8,
    samples: int = 64,
    seed: int = 0,
) -> list[float]:
    """Return the standard deviation of the input per step ``X[t] = H[t] - H[t-1]`` of each layer.

    Over steps, neurons and samples; the network is freshly drawn, its input random latency spikes. ETTFS
    keeps it at 1: a neuron spikes once in ``T`` steps, so ``Var X = N Var W / T = 1`` for
    ``Var W = T / N`` (Eq. 14).

    Args:
        init: of the weights, without normalisation or affine.
        fire_last: whether the silent fire at the last step.
        depth, width: layers, and neurons in each.
        steps: ``T``.
        samples: random inputs.
        seed: of weights and inputs.
    """
    source = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (samples, 1, 1, width), generator=source).to(torch.uint8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RasterNetwork(
            "-".join([f"F{width}"] * depth),
            (1, 1, width),
            2,
            steps,
            neuron=RasterNeuron(fire_last=fire_last),
            weights=RasterWeights(init=init, norm="none", affine="none"),
            decoder=Votes(),
            code="latency",
        )
    membranes = network.membranes(pixels)[:depth]
    return [float(torch.diff(m, dim=0, prepend=torch.zeros_like(m[:1])).std()) for m in membranes]
