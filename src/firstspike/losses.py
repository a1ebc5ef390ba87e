"""Losses on output spikes.

A target is a spike time. All target functions are pure: they read spikes and return times of the same
shape, without gradient.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.inputs import check_labels
from firstspike.spikes import Spikes, check_spikes
from firstspike.support import check_choice, check_integer, check_number


@torch.no_grad()
def relative_targets(out: Spikes, labels: Any, gamma: float = 3.0) -> Tensor:
    """Return S4NN's relative target times ``(batch, classes)`` (arXiv 1910.09495, section II-D).

    With the first spike at ``m = min_j t_j``: the label's target is ``m``; another neuron that fires
    within ``gamma`` steps of it gets ``min(m + gamma, T)``; the rest keep their own time. If all are
    silent, the label gets ``T - gamma`` and the others ``T``.

    Args:
        out: output spikes ``(batch, classes)``.
        labels: integers ``(batch,)``, see `firstspike.inputs.check_labels`.
        gamma: margin in steps, 0 ... T.
    """
    column = _column(labels, out)
    gamma = check_number("relative_targets", "gamma", gamma, low=0, high=out.steps)
    times, steps = out.times, out.steps
    first = times.min(1, keepdim=True).values
    silent = first == steps
    targets = torch.where(times - first < gamma, (first + gamma).clamp(max=steps), times)
    targets = torch.where(silent, float(steps), targets)
    label_target = torch.where(silent, steps - gamma, first)
    return targets.scatter(1, column, label_target)


@torch.no_grad()
def aggressive_targets(out: Spikes, labels: Any) -> Tensor:
    """Return Aggressive TTFS target times ``(batch, classes)`` (Spiking-GAN Eqs. 6-7).

    The label's target is ``tau``, the first output spike, or 0 if all are silent; every other
    neuron's target is ``T``, silence.
    """
    column = _column(labels, out)
    first = out.times.min(1, keepdim=True).values
    tau = torch.where(first == out.steps, 0.0, first)
    return torch.full_like(out.times, out.steps).scatter(1, column, tau)


@torch.no_grad()
def gan_targets(
    out: Spikes, desired: int, kind: Literal["dynamic", "static"] = "dynamic", first: int = 0
) -> Tensor:
    """Return target times for a discriminator's two outputs ``(batch, 2)``, 0 fake and 1 real.

    "dynamic" is Spiking-GAN's: the desired neuron's target is the first spike of the two (0 if both
    are silent), the other's is ``T``. "static": `first` and ``T``.

    Args:
        out: output spikes ``(batch, 2)``.
        desired: output that should fire first: 1 for real images and for the generator's step, 0 for
            generated images in the discriminator's step.
        kind: which targets.
        first: earliest step asked for by the static targets.

    Raises:
        ValueError: `kind` is unknown, `desired` or `first` is out of range, or `first` is given with
            dynamic targets.
    """
    check_choice("gan_targets", "kind", kind, ("dynamic", "static"))
    number = check_integer("gan_targets", "desired", desired, low=0)
    column = _column(torch.full((len(check_spikes(out)),), number), out)
    earliest = check_number("gan_targets", "first", first, low=0, high=out.steps)
    if kind == "dynamic":
        if first:
            raise ValueError(f"dynamic targets take no first step, found {first}; leave it 0")
        return aggressive_targets(out, column.squeeze(1))
    return torch.full_like(out.times, out.steps).scatter(1, column, earliest)


def temporal_least_squares(out: Spikes, targets: Tensor) -> Tensor:
    """Return ``1/2 sum_j ((t_j - target_j) / T)^2``, mean over samples (Spiking-GAN Eqs. 4-5).

    The division by ``T`` makes the value independent of the time resolution; the papers' layer-wise
    normalisation removes it anyway.

    Raises:
        ValueError: `targets` have another shape than the spikes.
    """
    if targets.shape != check_spikes(out).shape:
        raise ValueError(f"targets must have the shape {tuple(out.shape)}, found {tuple(targets.shape)}")
    return 0.5 * ((out.times - targets) / out.steps).square().sum(1).mean()


def first_spike_cross_entropy(
    out: Spikes,
    labels: Any,
    *,
    sharpness: float = 10.0,
    label_delay: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the cross-entropy of a softmax over ``-sharpness t_j / T``: earlier is likelier.

    Args:
        out: output spikes ``(batch, classes)``.
        labels: integers ``(batch,)``.
        sharpness: logit between a spike at step 0 and silence.
        label_delay: steps by which the label's spike counts as later than it is; the loss is content only
            once the label leads by so much, which makes ties rare.
        label_smoothing: share of the target that goes to all classes alike.

    Raises:
        TypeError, ValueError: labels, see `firstspike.inputs.check_labels`; a number out of range.
    """
    name = "first_spike_cross_entropy"
    sharpness = check_number(name, "sharpness", sharpness, low=0, above=True)
    label_delay = check_number(name, "label_delay", label_delay, low=0)
    label_smoothing = check_number(name, "label_smoothing", label_smoothing, low=0, high=1)
    column = _column(labels, out)
    times = out.times
    if label_delay:
        times = times + label_delay * F.one_hot(column.squeeze(1), times.shape[1])
    return F.cross_entropy(
        times * (-sharpness / out.steps), column.squeeze(1), label_smoothing=label_smoothing
    )


def _column(labels: Any, out: Spikes) -> Tensor:
    """The labels, checked, as a column."""
    if check_spikes(out).times.dim() != 2:
        raise ValueError(f"output spikes must be (batch, classes), found {tuple(out.shape)}")
    return check_labels(labels, *out.shape).to(out.device).unsqueeze(1)
