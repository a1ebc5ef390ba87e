"""What causal neurons, ramps and running maxima mean, written without any code of the library.

Shape legend: B batch, I inputs, O outputs, T number of steps.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstspike import Causal, Ramp


def naive_raster(times_BI: Tensor, weight_OI: Tensor, steps: int, neuron: Causal | Ramp) -> np.ndarray:
    """Return every spike ``(T, batch, out_features)`` of integrate-and-fire neurons, without delay.

    Spiking-GAN Eqs. 1-2: add what arrives, fire at threshold, reset to 0 and stay clamped for
    ``t_ref = T`` steps, counted down. Nothing but the clamp keeps a neuron from firing twice.
    """
    times = times_BI.to(torch.float64).numpy()
    weight = weight_OI.to(torch.float64).numpy()
    membrane = np.zeros((len(times), len(weight)))
    current = np.zeros_like(membrane)
    clamped = np.zeros(membrane.shape, int)
    raster = np.zeros((steps, *membrane.shape))
    for t in range(steps):
        arriving = (times == t) @ weight.T
        if isinstance(neuron, Ramp):
            membrane, current = membrane + current, current + arriving
        else:
            membrane = membrane + arriving
        membrane[clamped > 0] = 0
        fires = membrane > neuron.threshold if neuron.strict else membrane >= neuron.threshold
        raster[t] = fires
        membrane[fires] = 0
        clamped = np.where(fires, steps, np.maximum(clamped - 1, 0))
    return raster


def naive_times(times_BI: Tensor, weight_OI: Tensor, steps: int, neuron: Causal | Ramp) -> Tensor:
    """Return the first crossing of the closed form of Eq. 1 plus the delay, ``T`` where none.

    ``V_j(t) = sum_i w_ji [t_i <= t]``, or ``sum_i w_ji max(t - t_i, 0)`` of ramps, for every step at once
    and without any reset.
    """
    since = np.arange(steps)[:, None, None] - times_BI.to(torch.float64).numpy()
    drive = np.maximum(since, 0) if isinstance(neuron, Ramp) else (since >= 0).astype(float)
    membrane = drive @ weight_OI.to(torch.float64).numpy().T
    above = membrane > neuron.threshold if neuron.strict else membrane >= neuron.threshold
    first = np.where(above.any(0), above.argmax(0) + neuron.delay, steps)
    return torch.from_numpy(np.minimum(first, steps)).to(torch.float32)


def naive_gradients(
    times_BI: Tensor, weight_OI: Tensor, crossing_BO: Tensor, delta_BO: Tensor, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``dL/dw`` and ``dL/dt_i`` of Spiking-GAN Eqs. 14-15 by three nested loops."""
    times, crossing = times_BI.tolist(), crossing_BO.tolist()
    weight, delta = weight_OI.tolist(), delta_BO.tolist()
    grad_weight, grad_times = np.zeros(weight_OI.shape), np.zeros(times_BI.shape)
    for b in range(times_BI.shape[0]):
        for i in range(times_BI.shape[1]):
            for j in range(weight_OI.shape[0]):
                if times[b][i] <= crossing[b][j] and times[b][i] < steps:
                    grad_weight[j, i] -= delta[b][j]
                    grad_times[b, i] += delta[b][j] * weight[j][i]
    return grad_weight, grad_times


class _Fired(torch.autograd.Function):
    """``M >= theta`` with the derivative ``1 / (1 + |M - theta| / width)^2``."""

    @staticmethod
    def forward(ctx: Any, peak: Tensor, threshold: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(peak, threshold)
        ctx.width = width
        return (peak >= threshold).to(peak.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        peak, threshold = ctx.saved_tensors
        return grad / (1 + (peak - threshold).abs() / ctx.width) ** 2, None, None


def dense_form(before: Tensor, weight: Tensor, threshold: Tensor, width: float) -> Tensor:
    """Return cumulative spikes at each level by a matrix product per level, with autograd's gradient.

    A running maximum belongs to its first level.
    """
    membrane = before @ weight.t()
    peaks = [membrane[:, 0]]
    for level in range(1, membrane.shape[1]):
        peaks.append(torch.where(membrane[:, level] > peaks[-1], membrane[:, level], peaks[-1]))
    fired: Tensor = _Fired.apply(torch.stack(peaks, 1), threshold.unsqueeze(1), width)
    return fired
