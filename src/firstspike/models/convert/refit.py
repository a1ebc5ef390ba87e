"""Weights that take the rounding of their inputs into account.

A layer of the converted network receives rounded and clipped values. Its weights move by the least-squares
step, drawn towards the given ones, that brings its membranes nearest to those of the given network.

Shape legend: B images, I inputs of a neuron, O neurons or maps, G groups, P places, S samples.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.models.convert.calibrate import BATCH, by_place, sampled
from firstspike.nn import Connection, Layer
from firstspike.nn.wiring import Convolution, Dense
from firstspike.spikes import Spikes

# Strength of the pull towards the given weights, as a share of the mean square of an input.
_PULL = 0.1
# Fan-ins beyond would take longer than all the rest.
_MOST_INPUTS = 1536


def refit(layer: Layer, inputs: Sequence[Spikes], membranes: Tensor) -> None:
    """Move the weights of `layer`.

    Args:
        layer: its connections in one group are moved together; without any, one whose maps each have their
            own. Transposed ones stay.
        inputs: spikes of every connection on the calibration images.
        membranes: wanted, in levels, at the `sampled` places of each batch, ``(O, S)``.
    """
    connections = (layer, *layer.shortcuts)
    chosen = [k for k, one in enumerate(connections) if _groups(one) == 1]
    if not chosen and len(connections) == 1 and _own_maps(layer):
        chosen = [0]
    fan_in = sum(connections[k].weight[0].numel() for k in chosen)
    if not chosen or fan_in > _MOST_INPUTS:
        return
    groups = max(1, _groups(connections[chosen[0]]))
    gram = torch.zeros(groups, fan_in, fan_in, dtype=torch.float64)
    cross = torch.zeros(groups, len(membranes) // groups, fan_in, dtype=torch.float64)
    start = 0
    for number, parts in enumerate(zip(*(one.split(BATCH) for one in inputs), strict=True)):
        found = by_place(layer.read(*parts)[1])
        places = sampled(found.shape[2], len(inputs[0]), number)
        found = found[:, :, places].transpose(0, 1).flatten(1)
        missing = (membranes[:, start : start + found.shape[1]] - found).unflatten(0, (groups, -1))
        start += found.shape[1]
        values = torch.cat([_patches(connections[k], parts[k], places) for k in chosen], 1)
        gram += values @ values.transpose(1, 2)
        cross += missing @ values.transpose(1, 2)
    pull = _PULL * gram.diagonal(dim1=1, dim2=2).mean() + 1e-9
    factor = torch.linalg.cholesky(gram + torch.eye(fan_in, dtype=torch.float64) * pull)
    moves = torch.cholesky_solve(cross.transpose(1, 2), factor).transpose(1, 2).flatten(0, 1)
    sizes = [connections[k].weight[0].numel() for k in chosen]
    for k, move in zip(chosen, moves.split(sizes, 1), strict=True):
        connections[k].weight.add_(move.reshape(connections[k].weight.shape).float())


def _groups(connection: Connection) -> int:
    """Groups of a connection; 0 for one that is not moved."""
    wiring = connection.wiring
    if isinstance(wiring, Dense):
        return 1
    return wiring.groups if isinstance(wiring, Convolution) else 0


def _own_maps(connection: Connection) -> bool:
    """Whether each map has its own input map, and only that."""
    wiring = connection.wiring
    return isinstance(wiring, Convolution) and wiring.groups == wiring.in_channels


def _patches(connection: Connection, spikes: Spikes, places: Tensor) -> Tensor:
    """The levels that the neurons at some places receive, ``(G, I, S)``."""
    levels, wiring = spikes.steps - spikes.times, connection.wiring
    if not isinstance(wiring, Convolution):
        return levels.flatten(1).t().unsqueeze(0)
    (pad_y, pad_x), (kernel_y, kernel_x) = wiring.padding, wiring.kernel_size
    framed = F.pad(levels, (pad_x, pad_x, pad_y, pad_y))
    columns = framed.shape[3]
    across = (columns - kernel_x) // wiring.stride[1] + 1
    corner = places // across * wiring.stride[0] * columns + places % across * wiring.stride[1]
    taps = (torch.arange(kernel_y)[:, None] * columns + torch.arange(kernel_x)).flatten()
    found = framed.flatten(2)[:, :, taps[:, None] + corner]
    # (B, channels, taps, P) to groups first.
    return found.unflatten(1, (wiring.groups, -1)).flatten(2, 3).permute(1, 2, 0, 3).flatten(2)
