"""Membranes of window neurons behind a convolution, through torch's own convolutions.

An input that the map does not have is silent, so it stands for the value of a silent input.
"""

import torch
from torch import Tensor

from firstspike.neurons import Window
from firstspike.spikes import check_num_steps, check_times

Pair = int | tuple[int, int]


def window_conv2d_membrane(
    times: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    num_steps: int,
    neuron: Window,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    groups: int = 1,
) -> Tensor:
    """Return the membrane at the end of the input window, ``(batch, out_channels, out_y, out_x)``.

    Args:
        times: local steps ``(batch, in_channels, in_y, in_x)`` of the input window, ``num_steps`` silent.
        weight: ``(out_channels, in_channels / groups, kernel_y, kernel_x)``.
        bias: ``(out_channels,)`` or None.
        num_steps: length of the input window.
        neuron: the values that a silent input and one at step 0 stand for.
        stride, padding: in inputs, for both axes or ``(y, x)``; padded inputs are silent.
        groups: parts of the channels that do not hear each other.

    Raises:
        TypeError: `times` is not numeric, or the weights are not float32 or float64.
        ValueError: shapes do not fit, a time is out of range or not whole, a weight is not finite.
    """
    pad_y, pad_x = _pair(padding)
    in_channels = weight.shape[1] * groups if weight.dim() == 4 else 0
    expected = "(out_channels, in_channels / groups, kernel_y, kernel_x)"
    _check(times, weight, bias, num_steps, in_channels, expected)
    if groups < 1 or weight.shape[0] % groups:
        raise ValueError(f"{weight.shape[0]} output channels do not divide into {groups} groups")
    if times.shape[2] + 2 * pad_y < weight.shape[2] or times.shape[3] + 2 * pad_x < weight.shape[3]:
        raise ValueError(
            f"the kernel {tuple(weight.shape[2:])} is larger than the map {tuple(times.shape[2:])} with "
            f"padding {(pad_y, pad_x)}"
        )
    values = _values(times, weight.dtype, num_steps, neuron)
    if neuron.input_low and (pad_y or pad_x):
        values = _surround(values, pad_y, pad_x, neuron.input_low)
        pad_y = pad_x = 0
    return torch.nn.functional.conv2d(
        values, weight, bias, stride=_pair(stride), padding=(pad_y, pad_x), groups=groups
    )


def window_conv_transpose2d_membrane(
    times: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    num_steps: int,
    neuron: Window,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    groups: int = 1,
) -> Tensor:
    """Return the membrane at the end of the input window, ``(batch, out_channels, out_y, out_x)``.

    The input at ``i`` adds its value times ``weight[..., k]`` to the output at
    ``i * stride + k - padding``. Inputs beyond the map's edge, which an output near it would hear on a
    larger map, are silent.

    Args:
        times, bias, num_steps, neuron, groups: as for `window_conv2d_membrane`.
        weight: ``(in_channels, out_channels / groups, kernel_y, kernel_x)``.
        stride: in outputs, for both axes or ``(y, x)``.
        padding: outputs cut off at each edge.

    Raises:
        TypeError, ValueError: as for `window_conv2d_membrane`.
    """
    in_channels = weight.shape[0] if weight.dim() == 4 else 0
    expected = "(in_channels, out_channels / groups, kernel_y, kernel_x)"
    strides, paddings = _pair(stride), _pair(padding)
    out_channels = weight.shape[1] * groups if weight.dim() == 4 else 0
    _check(times, weight, bias, num_steps, in_channels, expected, out_channels)
    if groups < 1 or in_channels % groups:
        raise ValueError(f"{in_channels} input channels do not divide into {groups} groups")
    sizes = [(times.shape[2 + a] - 1) * strides[a] - 2 * paddings[a] + weight.shape[2 + a] for a in (0, 1)]
    if min(sizes) < 1:
        raise ValueError(f"padding {paddings} cuts off all that the map {tuple(times.shape[2:])} gives")
    values = _values(times, weight.dtype, num_steps, neuron)
    if neuron.input_low:
        # As many rows beyond the edge as reach an output; the wider map's own edge is cut off again.
        rim = [(weight.shape[2 + a] - 1) // strides[a] for a in (0, 1)]
        values = _surround(values, rim[0], rim[1], neuron.input_low)
        paddings = (paddings[0] + rim[0] * strides[0], paddings[1] + rim[1] * strides[1])
    return torch.nn.functional.conv_transpose2d(
        values, weight, bias, stride=strides, padding=paddings, groups=groups
    )


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _values(times: Tensor, dtype: torch.dtype, num_steps: int, neuron: Window) -> Tensor:
    span = neuron.input_high - neuron.input_low
    return neuron.input_high - times.to(dtype) * (span / num_steps)


def _surround(values: Tensor, rim_y: int, rim_x: int, value: float) -> Tensor:
    return torch.nn.functional.pad(values, (rim_x, rim_x, rim_y, rim_y), value=value)


def _check(
    times: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    num_steps: int,
    in_channels: int,
    expected: str,
    out_channels: int | None = None,
) -> None:
    check_times(times, check_num_steps(num_steps))
    if weight.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"weight must be float32 or float64, found {weight.dtype}")
    if weight.dim() != 4 or times.dim() != 4 or times.shape[1] != in_channels:
        raise ValueError(
            f"expected times (batch, in_channels, in_y, in_x) and weight {expected}, found "
            f"{tuple(times.shape)} and {tuple(weight.shape)}"
        )
    outputs = weight.shape[0] if out_channels is None else out_channels
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"expected bias (out_channels,) = ({outputs},), found {tuple(bias.shape)}")
    for name, values in (("weight", weight), ("bias", bias)):
        if values is not None and not torch.isfinite(values.detach()).all():
            raise ValueError(f"{name} holds NaN or infinity")
