"""Losses on output spike times and membranes.

A target is a spike time. All target functions are pure: they read times and return times of the same
shape, without gradient.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def relative_targets(times: Tensor, labels: Tensor, num_steps: int, gamma: float = 3.0) -> Tensor:
    """Return S4NN's relative target times ``(batch, classes)`` (arXiv 1910.09495, section II-D).

    With the first spike at ``m = min_j t_j``: the label's target is ``m``; another neuron that fires
    within ``gamma`` steps of it gets ``min(m + gamma, T)``; the rest keep their own time. If all are
    silent, the label gets ``T - gamma`` and the others ``T``.

    Args:
        times: output times ``(batch, classes)``, ``num_steps`` silent.
        labels: int64 ``(batch,)``.
        num_steps: ``T``.
        gamma: margin in steps.
    """
    first = times.min(1, keepdim=True).values
    silent = first == num_steps
    targets = torch.where(times - first < gamma, (first + gamma).clamp(max=num_steps), times)
    targets = torch.where(silent, float(num_steps), targets)
    label_target = torch.where(silent, num_steps - gamma, first)
    return targets.scatter(1, labels.unsqueeze(1), label_target)


@torch.no_grad()
def aggressive_targets(times: Tensor, labels: Tensor, num_steps: int) -> Tensor:
    """Return Aggressive TTFS target times ``(batch, classes)`` (Spiking-GAN Eqs. 6-7).

    The label's target is ``tau``, the first output spike, or 0 if all are silent; every other
    neuron's target is ``T``, silence.
    """
    first = times.min(1, keepdim=True).values
    tau = torch.where(first == num_steps, 0.0, first)
    targets = torch.full_like(times, num_steps)
    return targets.scatter(1, labels.unsqueeze(1), tau)


@torch.no_grad()
def gan_targets(
    times: Tensor,
    desired: int,
    num_steps: int,
    kind: Literal["dynamic", "static"] = "dynamic",
    first: int = 0,
) -> Tensor:
    """Return target times for a discriminator's two outputs ``(batch, 2)``, 0 fake and 1 real.

    "dynamic" is Spiking-GAN's: the desired neuron's target is the first spike of the two (0 if both
    are silent), the other's is ``T``. "static": `first` and ``T``.

    Args:
        times: ``(batch, 2)``.
        desired: output that should fire first: 1 for real images and for the generator's step, 0 for
            generated images in the discriminator's step.
        num_steps: ``T``.
        kind: which targets.
        first: earliest step asked for by the static targets.

    Raises:
        ValueError: `kind` is unknown.
    """
    if kind == "dynamic":
        labels = torch.full((len(times),), desired, dtype=torch.int64, device=times.device)
        return aggressive_targets(times, labels, num_steps)
    if kind != "static":
        raise ValueError(f"kind must be 'dynamic' or 'static', found {kind!r}")
    targets = torch.full_like(times, num_steps)
    targets[:, desired] = first
    return targets


def temporal_least_squares(times: Tensor, targets: Tensor, num_steps: int) -> Tensor:
    """Return ``1/2 sum_j ((t_j - target_j) / T)^2``, mean over samples (Spiking-GAN Eqs. 4-5).

    The division by ``T`` makes the value independent of the time resolution; the papers' layer-wise
    normalisation removes it anyway.
    """
    return 0.5 * ((times - targets) / num_steps).square().sum(1).mean()


def first_spike_cross_entropy(
    times: Tensor, labels: Tensor, num_steps: int, sharpness: float = 10.0, label_smoothing: float = 0.0
) -> Tensor:
    """Return the cross-entropy of a softmax over ``-sharpness t_j / T``: earlier is likelier.

    Args:
        times: output times ``(batch, classes)``.
        labels: int64 ``(batch,)``.
        num_steps: ``T``.
        sharpness: logit between a spike at step 0 and silence.
        label_smoothing: share of the target that goes to all classes alike.
    """
    return F.cross_entropy(times * (-sharpness / num_steps), labels, label_smoothing=label_smoothing)


def membrane_cross_entropy(membrane: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of the output membranes ``(batch, classes)`` read as logits.

    It does not separate spike times: potentials above a window's range all fire at step 0 and tie. For a
    decision by the first spike take `first_spike_cross_entropy`.
    """
    return F.cross_entropy(membrane, labels, label_smoothing=label_smoothing)
