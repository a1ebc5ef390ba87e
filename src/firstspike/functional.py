"""Differentiable operations on spike times: kernels and learning rules joined.

Shape legend: B batch, I inputs, O outputs, T number of steps.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from firstspike.kernels.cpu import phased as phased_kernels
from firstspike.kernels.cpu import ramp as ramp_kernels
from firstspike.kernels.cpu import window as window_kernels
from firstspike.kernels.cpu.norms import unit_rows
from firstspike.kernels.cpu.order import InvalidInput
from firstspike.kernels.cpu.steps import are_steps
from firstspike.kernels.dispatch import common_device, kernels_for
from firstspike.kernels.untraced import untraced
from firstspike.neurons import Causal, Phased, Window
from firstspike.rules import Norm, RunningMaxRule
from firstspike.spikes import check_num_steps, check_times


@untraced
def causal_linear(times: Tensor, weight: Tensor, num_steps: int, neuron: Causal) -> Tensor:
    """Return the spike times of a fully connected layer of causal neurons.

    Args:
        times: whole steps ``(batch, in_features)``, ``num_steps`` silent.
        weight: ``(out_features, in_features)``; a layout with contiguous columns saves a copy.
        num_steps: window length ``T`` on the clock that all layers share.
        neuron: threshold, synapse and gradient rule.

    Returns:
        float32 ``(batch, out_features)``, whole steps; ``num_steps`` where a neuron stays silent.
        Neurons that cross in the same step tie. The gradient follows `neuron.step_rule` or
        `neuron.ramp_rule`.

    Raises:
        TypeError: `times` is not numeric, or the weights are not float32 or float64.
        ValueError: shapes do not fit, a time is out of range or not whole, a weight is not finite.
    """
    if neuron.synapse == "ramp":
        _check_linear(times, weight, num_steps)
        return _RampLinear.apply(times, weight, num_steps, neuron)
    check_num_steps(num_steps)
    _check_shapes(times, weight)
    if times.dtype != torch.float32 or times.device.type != "cpu":
        # The kernels of the CPU look at float32 times themselves.
        _check_linear(times, weight, num_steps)
    try:
        if torch.is_grad_enabled() and (times.requires_grad or weight.requires_grad):
            return _StepLinear.apply(times, weight, num_steps, neuron)
        return _fire(times, weight, num_steps, neuron)[0]
    except InvalidInput:
        _check_linear(times, weight, num_steps)
        raise


@untraced
def causal_membrane(times: Tensor, weight: Tensor, num_steps: int, neuron: Causal) -> Tensor:
    """Return the membrane at the last step as if the neuron never reset, ``(batch, out_features)``.

    Step synapse: the sum of the weights of all inputs that fired. Ramp synapse: the sum of
    ``w (T - 1 - t_i)`` over them. Gradients reach the weights; a step synapse's does not reach the
    input times, on which it does not depend.

    Raises:
        TypeError, ValueError: as for `causal_linear`.
    """
    _check_linear(times, weight, num_steps)
    if neuron.synapse == "ramp":
        value = (num_steps - 1 - times.to(weight.dtype)).clamp(min=0)
    else:
        value = (times < num_steps).to(weight.dtype)
    return torch.nn.functional.linear(value, weight)


@untraced
def window_membrane(
    times: Tensor, weight: Tensor, bias: Tensor | None, num_steps: int, neuron: Window
) -> Tensor:
    """Return the membrane at the end of the input window, ``u = b + W x``, ``(batch, out_features)``.

    Args:
        times: local steps ``(batch, in_features)`` of the input window, ``num_steps`` silent.
        weight: ``(out_features, in_features)``.
        bias: ``(out_features,)`` or None.
        num_steps: length of the input window.
        neuron: the values that a silent input and one at step 0 stand for.

    Raises:
        TypeError, ValueError: as for `causal_linear`.
    """
    _check_linear(times, weight, num_steps, bias)
    span = neuron.input_high - neuron.input_low
    value = neuron.input_high - times.to(weight.dtype) * (span / num_steps)
    return torch.nn.functional.linear(value, weight, bias)


@untraced
def window_fire(membrane: Tensor, out_steps: int, neuron: Window) -> Tensor:
    """Return the spike times of window neurons with the given membrane, local steps, same shape.

    ``t = out_steps - floor(clip((u - low) / (high - low), 0, 1) * out_steps)``; the gradient passes
    the floor straight through and the clip by `neuron.rule`.
    """
    unit = out_steps / (neuron.high - neuron.low)
    if membrane.device.type == "cpu" and neuron.rule.saturation in window_kernels.GRADIENTS:
        return _CompiledWindowFire.apply(membrane, neuron.low, unit, out_steps, neuron.rule.saturation)
    return _WindowFire.apply((membrane - neuron.low) * unit, out_steps, neuron.rule.saturation)


def _check_linear(times: Tensor, weight: Tensor, num_steps: int, bias: Tensor | None = None) -> None:
    check_num_steps(num_steps)
    quick = times.dtype == torch.float32 and times.device.type == "cpu"
    if not quick or not are_steps(times.detach().contiguous().numpy(), num_steps):
        check_times(times, num_steps)
    _check_shapes(times, weight)
    for name, values in (("weight", weight), ("bias", bias)):
        if values is None or torch.isfinite(values.detach().sum()):
            continue
        if not torch.isfinite(values.detach()).all():
            raise ValueError(f"{name} holds NaN or infinity")


def _check_shapes(times: Tensor, weight: Tensor) -> None:
    if weight.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"weight must be float32 or float64, found {weight.dtype}")
    if weight.dim() != 2 or times.dim() != 2 or times.shape[1] != weight.shape[1]:
        raise ValueError(
            "expected times (batch, in_features) and weight (out_features, in_features), found "
            f"{tuple(times.shape)} and {tuple(weight.shape)}"
        )


def _check_single(**tensors: Tensor | None) -> None:
    """Refuse what a kernel of single precision would take without a word, and round."""
    for name, values in tensors.items():
        if values is not None and values.dtype != torch.float32:
            raise TypeError(f"{name} must be float32, found {values.dtype}")


def _rows(weight: Tensor) -> np.ndarray:
    """The weights as one contiguous run per input, without a copy where they lie so already."""
    return weight.detach().t().contiguous().numpy()


def _fire(times: Tensor, weight: Tensor, num_steps: int, neuron: Causal) -> tuple[Tensor, Tensor, Tensor]:
    """Return spike times, the input times as the kernel read them, and crossings."""
    kernels = kernels_for(common_device(times=times, weight=weight)).linear
    times_BI = times.detach().to(torch.float32).contiguous()
    crossing_BO = kernels.forward(
        times_BI,
        weight.detach().t().contiguous(),
        step_threshold(neuron, weight.dtype),
        num_steps,
    )
    out = (crossing_BO + neuron.delay).clamp_(max=num_steps) if neuron.delay else crossing_BO
    return out, times_BI, crossing_BO


class _StepLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, times: Tensor, weight: Tensor, num_steps: int, neuron: Causal) -> Tensor:
        out, times_BI, crossing = _fire(times, weight, num_steps, neuron)
        ctx.save_for_backward(times_BI, weight, crossing)
        ctx.num_steps, ctx.neuron = num_steps, neuron
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        times, weight, crossing = ctx.saved_tensors
        num_steps, neuron = ctx.num_steps, ctx.neuron
        delta = normalise_gradient(grad.to(weight.dtype), neuron.step_rule.norm).contiguous()
        kernels = kernels_for(times.device).linear
        grad_weight = grad_times = None
        if ctx.needs_input_grad[1]:
            grad_weight = kernels.weight_gradient(times, crossing, delta, num_steps).t()
        if ctx.needs_input_grad[0]:
            rows = weight.detach().t().contiguous()
            grad_times = kernels.input_gradient(times, rows, crossing, delta, num_steps).to(torch.float32)
        return grad_times, grad_weight, None, None


def step_threshold(neuron: Causal, dtype: torch.dtype) -> float:
    """Return the least membrane of that precision at which the neuron fires."""
    if not neuron.strict:
        return neuron.threshold
    precision = np.float32 if dtype == torch.float32 else np.float64
    return float(np.nextafter(precision(neuron.threshold), precision(math.inf)))


class _RampLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, times: Tensor, weight: Tensor, num_steps: int, neuron: Causal) -> Tensor:
        times_BI = times.detach().to(torch.float32).contiguous()
        crossing, slope = ramp_kernels.forward(
            times_BI.numpy(), _rows(weight), neuron.threshold, neuron.strict, num_steps
        )
        crossing_BO, slope_BO = torch.from_numpy(crossing), torch.from_numpy(slope)
        ctx.save_for_backward(times_BI, weight, crossing_BO, slope_BO)
        ctx.num_steps, ctx.min_slope = num_steps, neuron.ramp_rule.min_slope
        step = torch.ceil(crossing_BO)
        if neuron.strict:
            step = torch.where((step == crossing_BO) & (slope_BO > 0), step + 1, step)
        return (step + neuron.delay).clamp_(max=num_steps).to(torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        times, weight, crossing, slope = ctx.saved_tensors
        scaled = torch.where(slope > 0, grad.to(torch.float64) / slope.clamp(min=ctx.min_slope), 0.0)
        grad_weight, grad_times = ramp_kernels.backward(
            times.numpy(), _rows(weight), crossing.numpy(), scaled.numpy(), ctx.num_steps
        )
        return (
            torch.from_numpy(grad_times).to(torch.float32),
            torch.from_numpy(grad_weight).t().to(weight.dtype),
            None,
            None,
        )


@untraced
def causal_levels(
    flags: Tensor | None,
    times: Tensor,
    weight: Tensor,
    threshold: Tensor,
    num_steps: int,
    rule: RunningMaxRule,
) -> tuple[Tensor, Tensor]:
    """Return fired flags ``(batch, levels, out)`` and spike times of a causal layer, step synapse.

    The gradient runs through the flags, layer by layer, by `rule`; the times carry none. The times
    are those of `causal_linear`.

    Args:
        flags: of the layer before, ``(batch, levels, in)``; None at the input.
        times: of the layer before, whole steps ``(batch, in)``, the truth that the flags sample.
        weight: ``(out, in)``, float32.
        threshold: ``(batch, out)``, float32, so that training can ask for a margin.
        num_steps: ``T``.
        rule: levels and width of the surrogate.

    Raises:
        TypeError: weights or thresholds are not float32.
        ValueError: as for `causal_linear`; a level is not below ``T``.
    """
    _check_single(weight=weight, threshold=threshold)
    if rule.levels[-1] >= num_steps:
        raise ValueError(f"levels must be below num_steps = {num_steps}, found {rule.levels[-1]}")
    _check_linear(times, weight, num_steps)
    shape = (times.shape[0], weight.shape[0])
    if threshold.shape != shape:
        raise ValueError(
            f"expected threshold (batch, out_features) = {shape}, found {tuple(threshold.shape)}"
        )
    return _Levels.apply(flags, times, weight, threshold, num_steps, rule)


class _Levels(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        flags: Tensor | None,
        times: Tensor,
        weight: Tensor,
        threshold: Tensor,
        num_steps: int,
        rule: RunningMaxRule,
    ) -> tuple[Tensor, Tensor]:
        place = common_device(times=times, weight=weight, threshold=threshold, flags=flags)
        levels = torch.tensor(rule.levels, device=place)
        times_BI, threshold_BO = times.to(torch.float32).contiguous(), threshold.contiguous()
        out_BO, peak = kernels_for(place).levels.forward(
            times_BI, weight.detach().t().contiguous(), threshold_BO, levels, num_steps
        )
        ctx.save_for_backward(times_BI, weight, threshold_BO, peak, levels)
        ctx.num_steps, ctx.rule = num_steps, rule
        ctx.mark_non_differentiable(out_BO)
        fired = out_BO.unsqueeze(1) <= levels.reshape(1, -1, 1)
        return fired.to(weight.dtype), out_BO

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_flags: Tensor, _: Tensor
    ) -> tuple[Tensor | None, None, Tensor, None, None, None]:
        times, weight, threshold, peak, levels = ctx.saved_tensors
        kernels = kernels_for(times.device).levels
        grad = grad_flags.clone(memory_format=torch.contiguous_format)
        kernels.membrane_gradient(grad, peak, threshold, ctx.rule.width)
        grad_weight = kernels.weight_gradient(times, grad, levels, ctx.num_steps).t()
        grad_input = grad @ weight if ctx.needs_input_grad[0] else None
        return grad_input, None, grad_weight, None, None, None


@untraced
def phased_linear(
    times: Tensor, weight: Tensor, bias: Tensor | None, num_steps: int, neuron: Phased
) -> Tensor:
    """Return the spike times of a fully connected layer of phased neurons, ``(batch, out_features)``.

    Args:
        times: whole steps ``(batch, in_features)`` of the shared clock, ``num_steps`` silent.
        weight: ``(out_features, in_features)``, float32, in the coordinates of values.
        bias: ``(out_features,)``, float32, or None.
        num_steps: length ``T`` of the clock.
        neuron: phases, ranges and gradient rule. The gradient is exact but for the rounding up to the
            next step.

    Raises:
        TypeError: weights or biases are not float32.
        ValueError: a phase ends after ``T``, shapes do not fit, or a time is not a whole step.
    """
    _check_single(weight=weight, bias=bias)
    _check_linear(times, weight, num_steps, bias)
    if max(neuron.source[1], neuron.target[1]) > num_steps:
        raise ValueError(f"phases {neuron.source}, {neuron.target} must end by num_steps = {num_steps}")
    currents, threshold = phased_parameters(weight, bias, neuron)
    return _PhasedLinear.apply(times, currents, threshold, num_steps, neuron)


@untraced
def phased_membrane(
    times: Tensor, weight: Tensor, bias: Tensor | None, num_steps: int, neuron: Phased
) -> Tensor:
    """Return ``u = b + W x`` of phased neurons, ``(batch, out_features)``, all inputs heard."""
    _check_linear(times, weight, num_steps, bias)
    first, last = neuron.source
    values = (last - times.to(weight.dtype).clamp(max=last)) / (last - first)
    scaled = neuron.input_low + (neuron.input_high - neuron.input_low) * values
    return torch.nn.functional.linear(scaled, weight, bias)


def phased_parameters(weight: Tensor, bias: Tensor | None, neuron: Phased) -> tuple[Tensor, Tensor]:
    """Return input currents per step ``(out, in)`` and thresholds ``(out,)`` of a phased layer."""
    steps_in = neuron.source[1] - neuron.source[0]
    steps_out = neuron.target[1] - neuron.target[0]
    span, unit = neuron.input_high - neuron.input_low, steps_out / (neuron.high - neuron.low)
    resting = neuron.input_low * weight.sum(1) - neuron.low
    if bias is not None:
        resting = resting + bias
    return weight * (span / steps_in * unit), neuron.target[1] - unit * resting


class _PhasedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, times: Tensor, currents: Tensor, threshold: Tensor, num_steps: int, neuron: Phased
    ) -> Tensor:
        times_BI = times.detach().to(torch.float32).contiguous()
        out, slope = phased_kernels.forward(
            times_BI.numpy(),
            _rows(currents),
            threshold.detach().numpy(),
            neuron.source[1],
            neuron.target[1],
            num_steps,
        )
        out_BO = torch.from_numpy(out)
        ctx.save_for_backward(times_BI, currents, out_BO, torch.from_numpy(slope))
        ctx.num_steps, ctx.neuron = num_steps, neuron
        return out_BO.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        times, currents, out, slope = ctx.saved_tensors
        neuron: Phased = ctx.neuron
        outwards = (out == ctx.num_steps) & (grad < 0)
        if neuron.saturates:
            outwards |= (out <= neuron.target[0]) & (grad > 0)
        scaled = torch.where(outwards, 0.0, grad / slope.clamp(min=neuron.min_slope)).contiguous()
        seen = out.clamp(max=neuron.source[1])
        grad_currents = torch.from_numpy(
            phased_kernels.weight_gradient(times.numpy(), seen.numpy(), scaled.numpy(), ctx.num_steps)
        ).t()
        grad_times = None
        if ctx.needs_input_grad[0]:
            grad_times = torch.from_numpy(
                phased_kernels.input_gradient(times.numpy(), _rows(currents), seen.numpy(), scaled.numpy())
            )
        return grad_times, grad_currents, scaled.sum(0), None, None


class _CompiledWindowFire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, membrane: Tensor, low: float, unit: float, out_steps: int, saturation: str
    ) -> Tensor:
        held = membrane.detach().contiguous()
        ctx.save_for_backward(held)
        ctx.window = low, unit, out_steps, saturation
        return torch.from_numpy(window_kernels.fire(held.numpy(), low, unit, out_steps))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (membrane,) = ctx.saved_tensors
        arrays = membrane.numpy(), grad.to(membrane.dtype).contiguous().numpy()
        return torch.from_numpy(window_kernels.gradient(*arrays, *ctx.window)), None, None, None, None


class _WindowFire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scaled: Tensor, out_steps: int, saturation: str) -> Tensor:
        ctx.save_for_backward(scaled)
        ctx.out_steps, ctx.saturation = out_steps, saturation
        return out_steps - torch.floor(scaled.clamp(0, out_steps))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (scaled,) = ctx.saved_tensors
        if ctx.saturation == "open":
            return -grad, None, None
        if ctx.saturation == "smooth":
            centred = scaled * (2 / ctx.out_steps) - 1
            return -grad * (1 - torch.tanh(centred).square()), None, None
        below, above = scaled < 0, scaled > ctx.out_steps
        if ctx.saturation == "one_sided":
            # Descent moves the potential along +grad: below the range only grad > 0 leads back.
            below, above = below & (grad < 0), above & (grad > 0)
        return torch.where(below | above, 0.0, -grad), None, None


def normalise_gradient(delta: Tensor, norm: Norm) -> Tensor:
    """Return `delta` ``(batch, neurons)`` with unit norm per sample, divided by the batch size.

    "none" returns it unchanged. A sample whose gradient is all zero stays zero.
    """
    if norm == "none":
        return delta
    share = 1 / max(delta.shape[0], 1)
    flat = delta.flatten(1).contiguous()
    if flat.device.type != "cpu":
        size = torch.linalg.vector_norm(flat, ord=1 if norm == "l1" else 2, dim=1, keepdim=True)
        unit = torch.where(size > 0, flat / size.clamp_min(torch.finfo(flat.dtype).tiny), 0.0)
        return (unit * share).reshape(delta.shape)
    return torch.from_numpy(unit_rows(flat.numpy(), 1 if norm == "l1" else 2, share)).reshape(delta.shape)
