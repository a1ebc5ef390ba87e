"""Differentiable causal convolution on spike times: kernel and learning rule joined.

Shape legend: B batch, C input channels, O output channels, H W input map, Y X output map, G groups, R rows.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from firstspike.functional import normalise_gradient, step_threshold
from firstspike.kernels.cpu.order import InvalidInput
from firstspike.kernels.dispatch import common_device, kernels_for
from firstspike.kernels.geometry import Geometry
from firstspike.kernels.untraced import untraced
from firstspike.neurons import Causal
from firstspike.spikes import check_num_steps, check_times

Pair = int | tuple[int, int]


@untraced
def causal_conv2d(
    times: Tensor,
    weight: Tensor,
    num_steps: int,
    neuron: Causal,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    groups: int = 1,
) -> Tensor:
    """Return the spike times of a convolutional layer of causal neurons with the step synapse.

    Args:
        times: whole steps ``(batch, in_channels, height, width)``, ``num_steps`` silent.
        weight: ``(out_channels, in_channels / groups, kernel_y, kernel_x)``.
        num_steps: window length ``T`` on the clock that all layers share.
        neuron: threshold and gradient rule.
        stride, padding: in neurons, one number or (vertical, horizontal); padding is silent.
        groups: as torch's: so many blocks of channels that do not hear each other.

    Returns:
        float32 ``(batch, out_channels, y, x)``, whole steps; ``num_steps`` where a neuron stays silent.
        Its memory holds the channels last. The gradient follows `neuron.step_rule`; a norm is taken over
        all neurons of a sample.

    Raises:
        TypeError: `times` is not numeric, or the weights are not float32 or float64.
        ValueError: the neuron has a ramp synapse, shapes do not fit, the map is smaller than the kernel,
            a time is out of range or not whole, a weight is not finite.
    """
    check_num_steps(num_steps)
    if neuron.synapse != "step":
        raise ValueError(f"a causal convolution needs the step synapse, found {neuron.synapse!r}")
    geometry = conv_geometry(times, weight, stride, padding, groups)
    if times.dtype != torch.float32 or times.device.type != "cpu":
        check_times(times, num_steps)
        if not torch.isfinite(weight.detach()).all():
            raise ValueError("weight holds NaN or infinity")
    try:
        return _CausalConv2d.apply(times, weight, num_steps, neuron, geometry)
    except InvalidInput:
        check_times(times, num_steps)
        raise ValueError("weight holds NaN or infinity") from None


def conv_geometry(times: Tensor, weight: Tensor, stride: Pair, padding: Pair, groups: int) -> Geometry:
    """Return the sizes of a convolution after checking that they fit together.

    Raises:
        TypeError: the weights are not float32 or float64.
        ValueError: a stride or number of groups below 1, a padding below 0, or shapes that do not fit.
    """
    if weight.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"weight must be float32 or float64, found {weight.dtype}")
    strides, paddings = (
        (value, value) if isinstance(value, int) else tuple(value) for value in (stride, padding)
    )
    if min(strides) < 1 or min(paddings) < 0 or groups < 1:
        raise ValueError(
            f"expected stride >= 1, padding >= 0, groups >= 1, found {stride}, {padding}, {groups}"
        )
    fits = times.dim() == weight.dim() == 4 and min(weight.shape) > 0
    if not fits or times.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise ValueError(
            "expected times (batch, in_channels, height, width) and weight (out_channels, in_channels / "
            f"groups, kernel_y, kernel_x), found {tuple(times.shape)} and {tuple(weight.shape)} with "
            f"{groups} groups"
        )
    out_channels, _, kernel_y, kernel_x = weight.shape
    (stride_y, stride_x), (padding_y, padding_x) = strides, paddings
    geometry = Geometry(
        times.shape[1], out_channels, kernel_y, kernel_x, stride_y, stride_x, padding_y, padding_x, groups
    )
    if min(geometry.output_size(*times.shape[2:])) < 1:
        raise ValueError(
            f"a map of {tuple(times.shape[2:])} with padding {paddings} is smaller than the kernel "
            f"{(kernel_y, kernel_x)}"
        )
    return geometry


def _rows(weight: Tensor, groups: int) -> Tensor:
    """The weights with one contiguous run per input of a patch ``(groups, rows, out / groups)``."""
    own = weight.shape[0] // groups
    return weight.detach().reshape(groups, own, -1).transpose(1, 2).contiguous()


class _CausalConv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, times: Tensor, weight: Tensor, num_steps: int, neuron: Causal, geometry: Geometry
    ) -> Tensor:
        times_BCHW = times.detach().to(torch.float32).contiguous()
        kernels = kernels_for(common_device(times=times, weight=weight)).conv2d
        crossing = kernels.forward(
            times_BCHW,
            _rows(weight, geometry.groups),
            geometry,
            step_threshold(neuron, weight.dtype),
            num_steps,
        )
        ctx.save_for_backward(times_BCHW, weight, crossing)
        ctx.num_steps, ctx.neuron, ctx.geometry = num_steps, neuron, geometry
        if neuron.delay:
            return (crossing + neuron.delay).clamp_(max=num_steps)
        return crossing

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        times, weight, crossing = ctx.saved_tensors
        num_steps, neuron, geometry = ctx.num_steps, ctx.neuron, ctx.geometry
        delta = normalise_gradient(grad.to(weight.dtype), neuron.step_rule.norm)
        kernels = kernels_for(times.device).conv2d
        grad_times = grad_weight = None
        if ctx.needs_input_grad[1]:
            found = kernels.weight_gradient(times, crossing, delta, geometry, num_steps)
            grad_weight = found.transpose(1, 2).reshape(weight.shape)
        if ctx.needs_input_grad[0]:
            rows = _rows(weight, geometry.groups)
            grad_times = kernels.input_gradient(times, rows, crossing, delta, geometry, num_steps)
            grad_times = grad_times.to(torch.float32)
        return grad_times, grad_weight, None, None, None
