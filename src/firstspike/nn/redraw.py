"""Re-drawing of neurons that no input makes fire."""

import torch
from torch import Tensor

from firstspike.nn.linear import Linear


@torch.no_grad()
def redraw_dead(
    layer: Linear,
    firing_rate: Tensor,
    *,
    low: float,
    high: float,
    min_rate: float = 1e-3,
    generator: torch.Generator | None = None,
) -> int:
    """Re-draw the incoming weights of neurons that fire too rarely; return how many.

    S4NN (arXiv 1910.09495) does so after each epoch for hidden neurons that fired on less than 0.1 %
    of the images.

    Args:
        layer: the layer, changed in place.
        firing_rate: share of samples on which each neuron fired, ``(out_features,)``.
        low, high: bounds of the uniform distribution of new weights.
        min_rate: neurons strictly below this share are re-drawn.
        generator: source of randomness.
    """
    dead = (firing_rate < min_rate).nonzero().flatten()
    if len(dead):
        fresh = torch.empty(len(dead), layer.in_features).uniform_(low, high, generator=generator)
        layer.weight[dead] = fresh
    return len(dead)
