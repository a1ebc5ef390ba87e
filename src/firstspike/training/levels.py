"""The loss of causal classifiers that are trained through fired flags at a few steps."""

import math

import torch
from torch import Tensor

from firstspike.functional import causal_levels, causal_linear
from firstspike.losses import aggressive_targets, relative_targets
from firstspike.neurons import Causal
from firstspike.nn import Linear, Stack
from firstspike.training.config import ClassifierConfig, LevelTraining


def target_times(config: ClassifierConfig, times: Tensor, labels: Tensor, num_steps: int) -> Tensor:
    """Return the target times ``(batch, classes)`` of the loss, in a window of `num_steps`."""
    if config.loss == "aggressive":
        return aggressive_targets(times, labels, num_steps)
    return relative_targets(times, labels, num_steps, config.gamma)


def warped(steps: Tensor, num_steps: int, scale: float) -> Tensor:
    """Return `steps` on a logarithmic clock that runs from 0 at step 0 to 1 at ``T``."""
    return torch.log1p(steps / scale) / math.log1p(num_steps / scale)


def level_loss(
    config: ClassifierConfig, how: LevelTraining, model: Stack, inputs: Tensor, labels: Tensor
) -> Tensor:
    """Return a scalar with the gradient of the temporal least squares on the warped clock.

    Written with flags, an output's warped time is ``u = sum_k mu_k (1 - F[k])`` with the clock's
    increments ``mu``; the loss is ``error * u`` with the error ``u(t) - u(target)`` held fixed, so
    ``dL/dF[k] = -error mu_k``. Its value is no distance; only its gradient is used.

    Args:
        config: for loss, neurons and window.
        how: surrogates, margins and clock.
        model: two causal layers.
        inputs: spike times ``(batch, in_features)``.
        labels: int64 ``(batch,)``.
    """
    hidden, output = model
    assert isinstance(hidden, Linear)
    assert isinstance(output, Linear)
    assert isinstance(hidden.neuron, Causal)
    assert isinstance(output.neuron, Causal)
    num_steps = config.num_steps
    margins = torch.full((len(inputs), output.out_features), 1 - how.other_margin)
    margins.scatter_(1, labels.unsqueeze(1), 1 + how.label_margin)
    thresholds = margins * output.neuron.threshold

    with torch.no_grad():
        heard = causal_linear(inputs, hidden.weight, num_steps, hidden.neuron)
        _, times = causal_levels(None, heard, output.weight, thresholds, num_steps, how.output)
        error = _error(config, how, times, labels)
        # Most samples of a trained network have none, and cost no more than their spikes.
        wrong = error.any(1)

    even = torch.full((int(wrong.sum()), hidden.out_features), hidden.neuron.threshold)
    flags, times = causal_levels(None, inputs[wrong], hidden.weight, even, num_steps, how.hidden)
    flags, _ = causal_levels(flags, times, output.weight, thresholds[wrong], num_steps, how.output)
    ends = torch.tensor([*how.output.levels, num_steps], dtype=error.dtype)
    increments = warped(ends, num_steps, how.time_scale).diff()
    soft = ((1 - flags) * increments.reshape(1, -1, 1)).sum(1)
    return (error[wrong] * soft).sum() / len(labels)


def _error(config: ClassifierConfig, how: LevelTraining, times: Tensor, labels: Tensor) -> Tensor:
    """The outputs' distance to their targets on the warped clock, ``(batch, classes)``."""
    targets = target_times(config, times, labels, config.num_steps)
    error = warped(times, config.num_steps, how.time_scale) - warped(
        targets, config.num_steps, how.time_scale
    )
    error = error * torch.ones_like(error).scatter_(1, labels.unsqueeze(1), how.label_weight)
    if how.normalise:
        size = torch.linalg.vector_norm(error, dim=1, keepdim=True)
        error = error / size.clamp_min(torch.finfo(error.dtype).tiny)
    return error
