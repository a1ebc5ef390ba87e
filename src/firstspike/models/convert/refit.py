"""Weights that take the rounding of their inputs into account.

A layer of the converted network receives rounded and clipped values. Its weights move by the least-squares
step, drawn towards the given ones, that brings its membranes nearest to those of the given network.

Shape legend: B images, I inputs of a neuron, O neurons or maps, G groups, P places, S samples.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from firstspike.models.convert.calibrate import sampled
from firstspike.nn import Connection, Layer
from firstspike.nn.wiring import Convolution, Dense
from firstspike.spikes import Spikes

# Strength of the pull towards the given weights, as a share of the mean square of an input.
_PULL = 0.1
# Fan-ins beyond would take longer than all the rest.
_MOST_INPUTS = 1536


def refit(layer: Layer, inputs: Sequence[Sequence[Spikes]], membranes: Tensor) -> None:
    """Move the weights of `layer`.

    Args:
        layer: with a bias for each place. Its connections in one group are moved together; without any,
            one whose maps each have their own. With a transposed one it stays as it is.
        inputs: spikes of every connection on the calibration images, batch after batch.
        membranes: wanted, in levels, at the `sampled` places of each batch, ``(O, S)``.
    """
    connections = (layer, *layer.shortcuts)
    kinds = [_groups(one) for one in connections]
    chosen = [k for k, groups in enumerate(kinds) if groups == 1]
    if not chosen and len(connections) == 1 and _own_maps(layer):
        chosen = [0]
    fan_in = sum(connections[k].weight[0].numel() for k in chosen)
    if 0 in kinds or not chosen or fan_in > _MOST_INPUTS:
        return
    groups = kinds[chosen[0]]
    gram = torch.zeros(groups, fan_in, fan_in, dtype=torch.float64)
    cross = torch.zeros(groups, len(membranes) // groups, fan_in, dtype=torch.float64)
    assert layer.bias is not None
    bias, across = layer.bias.reshape(len(layer.bias), -1), layer.bias.shape[-1]
    images, start = sum(len(parts[0]) for parts in inputs), 0
    for number, parts in enumerate(inputs):
        places = sampled(bias.shape[1], images, number)
        patches = [_patches(*one, places, across) for one in zip(connections, parts, strict=True)]
        found = bias[:, places].repeat(1, len(parts[0]))
        for one, received in zip(connections, patches, strict=True):
            weight = one.weight.flatten(1).unflatten(0, (len(received), -1))
            found += (weight @ received).flatten(0, 1)
        missing = (membranes[:, start : start + found.shape[1]] - found).unflatten(0, (groups, -1))
        start += found.shape[1]
        values = torch.cat([patches[k] for k in chosen], 1)
        gram += values @ values.transpose(1, 2)
        cross += missing @ values.transpose(1, 2)
    pull = _PULL * gram.diagonal(dim1=1, dim2=2).mean() + 1e-9
    factor = torch.linalg.cholesky(gram + torch.eye(fan_in, dtype=torch.float64) * pull)
    moves = torch.cholesky_solve(cross.transpose(1, 2), factor).transpose(1, 2).flatten(0, 1)
    sizes = [connections[k].weight[0].numel() for k in chosen]
    for k, move in zip(chosen, moves.split(sizes, 1), strict=True):
        connections[k].weight.add_(move.reshape(connections[k].weight.shape).float())


def _groups(connection: Connection) -> int:
    """Groups of a connection; 0 for a transposed one."""
    wiring = connection.wiring
    if isinstance(wiring, Dense):
        return 1
    return wiring.groups if isinstance(wiring, Convolution) else 0


def _own_maps(connection: Connection) -> bool:
    """Whether each map has its own input map, and only that."""
    wiring = connection.wiring
    return isinstance(wiring, Convolution) and wiring.groups == wiring.in_channels


def _patches(connection: Connection, spikes: Spikes, places: Tensor, across: int) -> Tensor:
    """The levels that the neurons at some places of a map, so many `across`, receive, ``(G, I, S)``."""
    wiring = connection.wiring
    if not isinstance(wiring, Convolution):
        return (spikes.steps - spikes.times).flatten(1).t().unsqueeze(0)
    (pad_y, pad_x), (kernel_y, kernel_x) = wiring.padding, wiring.kernel_size
    rows, columns = spikes.shape[2:]
    # (taps, P)
    taps = torch.arange(kernel_y * kernel_x)[:, None]
    y = places // across * wiring.stride[0] + taps // kernel_x - pad_y
    x = places % across * wiring.stride[1] + taps % kernel_x - pad_x
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    times = spikes.times.flatten(2)[:, :, torch.where(inside, y * columns + x, 0)]
    # (B, channels, taps, P) to groups first.
    levels = ((spikes.steps - times) * inside).unflatten(1, (wiring.groups, -1))
    return levels.flatten(2, 3).permute(1, 2, 0, 3).flatten(2)
