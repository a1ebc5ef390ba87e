"""The start membrane of causal neurons: a bias, heard as an input that always spikes at step 0."""

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.neurons import Causal, Neuron
from firstspike.nn.geometry import Pair


def check_bias(bias: bool, neuron: Neuron) -> None:
    """Raise ValueError for a bias of causal neurons with the ramp synapse."""
    if bias and isinstance(neuron, Causal) and neuron.synapse == "ramp":
        raise ValueError("a causal layer with the ramp synapse has no bias; change its threshold instead")


def check_start(kernel_size: Pair, padding: Pair, groups: int) -> None:
    """Raise ValueError for a causal convolution in which not every output hears one input at its place."""
    if groups != 1 or any(2 * p >= k for k, p in zip(kernel_size, padding, strict=True)):
        raise ValueError(
            "a causal convolution with a bias needs one group and a padding below half the kernel, found "
            f"{groups} groups, padding {padding}, kernel {kernel_size}"
        )


def with_start(
    times: Tensor, weight: Tensor, bias: Tensor, padding: Pair = (0, 0)
) -> tuple[Tensor, Tensor]:
    """Return times and weight with one input more, which spikes at step 0 and adds the bias.

    Of a convolution it is one map more, of which each output hears one place, through the kernel's tap at
    `padding`, which lies inside the map for every output.

    Args:
        times: ``(batch, in_features)`` or ``(batch, in_channels, y, x)``.
        weight: ``(out_features, in_features)`` or ``(out_channels, in_channels, y, x)``.
        bias: ``(out_features,)`` or ``(out_channels,)``.
        padding: of the convolution.
    """
    always = torch.zeros_like(times[:, :1])
    if weight.dim() == 2:
        return torch.cat([times, always], 1), torch.cat([weight, bias.unsqueeze(1)], 1)
    (above, left), (rows, columns) = padding, weight.shape[2:]
    tap = F.pad(bias.reshape(-1, 1, 1, 1), (left, columns - 1 - left, above, rows - 1 - above))
    return torch.cat([times, always], 1), torch.cat([weight, tap], 1)
