"""The convolution with the step synapse: the operations of `firstspike.kernels.cpu.conv2d`.

A neuron at an output position receives the times of its patch, so a convolution is the fully connected walk
over the patches of all positions. A patch lists its inputs by channel, row and column, as the image does,
so equal times are added in the order of the image's inputs.

While an operation runs, the patches take ``kernel_y x kernel_x`` times the memory of the input's times, and
their sorted lists three times that again; nothing of it is kept for the backward pass.

Shape legend: B batch, C input channels, O output channels, G groups, R inputs of a patch in a group,
P output positions.
"""

import torch
from torch import Tensor

from firstspike.kernels.cuda import input_gradient as _input
from firstspike.kernels.cuda import weight_gradient as _weight
from firstspike.kernels.cuda.forward import first_crossings
from firstspike.kernels.cuda.lists import sort_spikes
from firstspike.kernels.geometry import Geometry


def forward(
    times_BCHW: Tensor, rows_GRO: Tensor, geometry: Geometry, threshold: float, num_steps: int
) -> Tensor:
    """Return first crossings ``(batch, out, y, x)``, as the function of that name there."""
    patches, size = _patches(times_BCHW, geometry, num_steps)
    lists = sort_spikes(patches.flatten(0, 2), num_steps)
    crossing = first_crossings(lists, rows_GRO.contiguous(), threshold, num_steps)
    # (B x P x G, O / G) to images.
    positions = crossing.reshape(len(times_BCHW), size[0] * size[1], geometry.out_channels)
    return positions.transpose(1, 2).reshape(len(times_BCHW), geometry.out_channels, *size)


def weight_gradient(
    times_BCHW: Tensor, crossing_BOHW: Tensor, delta_BOHW: Tensor, geometry: Geometry, num_steps: int
) -> Tensor:
    """Return ``dL/dw`` ``(groups, patch, out / groups)``, as the function of that name there."""
    patches, _ = _patches(times_BCHW, geometry, num_steps)
    grad = _weight.weight_gradient(
        patches.flatten(2).flatten(0, 1),
        _as_rows(crossing_BOHW, geometry),
        _as_rows(delta_BOHW, geometry),
        num_steps,
    )
    return grad.unflatten(0, (geometry.groups, -1))


def input_gradient(
    times_BCHW: Tensor,
    rows_GRO: Tensor,
    crossing_BOHW: Tensor,
    delta_BOHW: Tensor,
    geometry: Geometry,
    num_steps: int,
) -> Tensor:
    """Return ``dL/dt_i`` ``(batch, in, y, x)``, as the function of that name there."""
    patches, size = _patches(times_BCHW, geometry, num_steps)
    grad = _input.input_gradient(
        sort_spikes(patches.flatten(0, 2), num_steps),
        rows_GRO.contiguous(),
        _as_rows(crossing_BOHW, geometry).flatten(0, 1),
        _as_rows(delta_BOHW, geometry).flatten(0, 1),
    )
    if grad.numel() == 0:
        return grad.new_zeros(times_BCHW.shape)
    columns = grad.reshape(len(times_BCHW), size[0] * size[1], -1).transpose(1, 2)
    return torch.nn.functional.fold(
        columns,
        times_BCHW.shape[2:],
        (geometry.kernel_y, geometry.kernel_x),
        padding=(geometry.padding_y, geometry.padding_x),
        stride=(geometry.stride_y, geometry.stride_x),
    )


def _patches(times_BCHW: Tensor, geometry: Geometry, num_steps: int) -> tuple[Tensor, tuple[int, int]]:
    """Return the patches ``(B, P, G, R)``, padding silent, and the output's height and width."""
    y, x = geometry.padding_y, geometry.padding_x
    padded = torch.nn.functional.pad(times_BCHW, (x, x, y, y), value=float(num_steps))
    cut = padded.unfold(2, geometry.kernel_y, geometry.stride_y)
    cut = cut.unfold(3, geometry.kernel_x, geometry.stride_x)
    batch, channels, height, width = cut.shape[:4]
    per_group = channels // geometry.groups * geometry.kernel_y * geometry.kernel_x
    patches = cut.permute(0, 2, 3, 1, 4, 5).reshape(batch, height * width, geometry.groups, per_group)
    return patches, (height, width)


def _as_rows(values_BOHW: Tensor, geometry: Geometry) -> Tensor:
    """Return images as contiguous ``(B x P, G, O / G)``."""
    rows = values_BOHW.flatten(2).transpose(1, 2).contiguous()
    return rows.reshape(-1, geometry.groups, geometry.out_channels // geometry.groups)
