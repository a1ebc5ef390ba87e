"""Biases of causal neurons, heard as inputs that always spike: a start membrane or a constant current."""

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.neurons import Causal, Neuron
from firstspike.nn.geometry import Pair
from firstspike.spikes import check_times


def check_bias(bias: bool, constant: bool, neuron: Neuron) -> None:
    """Raise ValueError for a bias with the ramp synapse, or a constant current of other neurons."""
    if bias and isinstance(neuron, Causal) and neuron.synapse == "ramp":
        raise ValueError("a causal layer with the ramp synapse has no bias; change its threshold instead")
    if constant and not (bias and isinstance(neuron, Causal)):
        raise ValueError("a constant current is the bias of causal neurons: give bias=True and Causal")


def check_start(kernel_size: Pair, padding: Pair, groups: int) -> None:
    """Raise ValueError for a causal convolution in which not every output hears one input at its place."""
    if groups != 1 or any(2 * p >= k for k, p in zip(kernel_size, padding, strict=True)):
        raise ValueError(
            "a causal convolution with a bias needs one group and a padding below half the kernel, found "
            f"{groups} groups, padding {padding}, kernel {kernel_size}"
        )


def with_bias(
    times: Tensor, weight: Tensor, bias: Tensor, num_steps: int, steps: int, padding: Pair = (0, 0)
) -> tuple[Tensor, Tensor]:
    """Return times and weight with `steps` more inputs, which spike at step 0, 1, ... and add the bias.

    Of a convolution they are maps, of which each output hears one place, through the kernel's tap at
    `padding`, which lies inside the map for every output.

    Args:
        times: ``(batch, in_features)`` or ``(batch, in_channels, y, x)``.
        weight: ``(out_features, in_features)`` or ``(out_channels, in_channels, y, x)``.
        bias: ``(out_features,)`` or ``(out_channels,)``.
        num_steps: ``T``.
        steps: 1 for a start membrane, ``T`` for a constant current.
        padding: of the convolution.
    """
    if times.dtype not in (torch.float32, torch.float64):
        # A narrow type cannot count the steps.
        times = check_times(times, num_steps).to(torch.float32)
    clock = torch.arange(steps, dtype=times.dtype, device=times.device)
    clock = clock.reshape(1, -1, *([1] * (times.dim() - 2))).expand(len(times), steps, *times.shape[2:])
    added = bias.unsqueeze(1).expand(-1, steps)
    if weight.dim() == 4:
        (above, left), (rows, columns) = padding, weight.shape[2:]
        added = F.pad(added[..., None, None], (left, columns - 1 - left, above, rows - 1 - above))
    # First, so that sums begin with it, as the engine's do.
    return torch.cat([clock, times], 1), torch.cat([added, weight], 1)
