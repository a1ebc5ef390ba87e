"""Random cases for the causal kernels, and an oracle that shares no code with the library.

Weights are whole multiples of 1/16 times a power of two, so every sum is exact in float32 and in any
order: two right answers are equal to the last bit.

Shape legend: B batch, I inputs, O outputs, T number of steps.
"""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from firstspike.neurons import Causal

PATTERNS = ("spread", "few steps", "all silent", "all at step 0", "all at the last step", "half silent")
SIGNS = ("mixed", "positive", "negative", "zero")


@dataclass(frozen=True)
class Case:
    """Inputs of one call of `causal_linear`; `num_steps` is ``T``."""

    times: Tensor
    weight: Tensor
    num_steps: int
    threshold: float


def draw_times(
    rng: np.random.Generator, shape: tuple[int, int], num_steps: int, pattern: str
) -> np.ndarray:
    """Return whole float32 times ``(batch, in_features)`` that follow `pattern`."""
    spread = rng.integers(0, num_steps + 1, shape)
    times = {
        "spread": spread,
        "few steps": rng.choice(rng.integers(0, num_steps + 1, 2), shape),
        "all silent": np.full(shape, num_steps),
        "all at step 0": np.zeros(shape),
        "all at the last step": np.full(shape, num_steps - 1),
        "half silent": np.where(rng.random(shape) < 0.5, num_steps, spread),
    }[pattern]
    return times.astype(np.float32)


def draw_weight(rng: np.random.Generator, shape: tuple[int, int], sign: str) -> np.ndarray:
    """Return dyadic float64 weights ``(out_features, in_features)`` in -4 ... 4."""
    weight = rng.integers(-64, 65, shape) / 16
    return {
        "mixed": weight,
        "positive": np.abs(weight),
        "negative": -np.abs(weight),
        "zero": np.zeros(shape),
    }[sign]


@st.composite
def cases(draw: st.DrawFn, min_batch: int = 0) -> Case:
    """Draw a case: odd shapes, layouts and types, weights from 2^-60 to 2^60 times 1/16."""
    num_steps = draw(st.sampled_from([2, 3, 7, 16, 61, 255]))
    batch, n_in, n_out = (draw(st.integers(low, 9)) for low in (min_batch, 1, 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    times = torch.from_numpy(draw_times(rng, (batch, n_in), num_steps, draw(st.sampled_from(PATTERNS)))).to(
        draw(st.sampled_from([torch.float32, torch.float64, torch.int16, torch.int64, torch.uint8]))
    )
    scale = 2.0 ** draw(st.sampled_from([-60, 0, 60]))
    weight = torch.from_numpy(draw_weight(rng, (n_out, n_in), draw(st.sampled_from(SIGNS))) * scale).to(
        draw(st.sampled_from([torch.float32, torch.float64]))
    )
    threshold = draw(st.integers(1, 200)) / 16 * scale
    return Case(draw(layouts(times)), draw(layouts(weight)), num_steps, threshold)


@st.composite
def layouts(draw: st.DrawFn, matrix: Tensor) -> Tensor:
    """Draw the same values as rows, as columns, or as a strided window into a larger tensor."""
    layout = draw(st.sampled_from(["rows", "columns", "window"]))
    if layout == "columns":
        return matrix.t().contiguous().t()
    if layout == "window":
        larger = torch.zeros(2 * matrix.shape[0] + 1, 3 * matrix.shape[1] + 1, dtype=matrix.dtype)
        window = larger[1::2, 1::3]
        window.copy_(matrix)
        return window
    return matrix


def naive_raster(times_BI: Tensor, weight_OI: Tensor, num_steps: int, neuron: Causal) -> np.ndarray:
    """Return every spike ``(T, batch, out_features)`` of integrate-and-fire neurons, without delay.

    Spiking-GAN Eqs. 1-2: add what arrives, fire at threshold, reset to 0 and stay clamped for
    ``t_ref = T`` steps, counted down. Nothing but the clamp keeps a neuron from firing twice.
    """
    times = times_BI.to(torch.float64).numpy()
    weight = weight_OI.to(torch.float64).numpy()
    membrane = np.zeros((len(times), len(weight)))
    current = np.zeros_like(membrane)
    clamped = np.zeros(membrane.shape, int)
    raster = np.zeros((num_steps, *membrane.shape))
    for t in range(num_steps):
        arriving = (times == t) @ weight.T
        if neuron.synapse == "ramp":
            membrane, current = membrane + current, current + arriving
        else:
            membrane = membrane + arriving
        membrane[clamped > 0] = 0
        fires = membrane > neuron.threshold if neuron.strict else membrane >= neuron.threshold
        raster[t] = fires
        membrane[fires] = 0
        clamped = np.where(fires, num_steps, np.maximum(clamped - 1, 0))
    return raster


def naive_times(times_BI: Tensor, weight_OI: Tensor, num_steps: int, neuron: Causal) -> Tensor:
    """Return the first crossing of the closed form of Eq. 1 plus the delay, ``T`` where none.

    ``V_j(t) = sum_i w_ji [t_i <= t]``, or ``sum_i w_ji max(t - t_i, 0)`` for the ramp synapse, for
    every step at once and without any reset.
    """
    steps = np.arange(num_steps)[:, None, None]
    since = steps - times_BI.to(torch.float64).numpy()
    drive = np.maximum(since, 0) if neuron.synapse == "ramp" else (since >= 0).astype(float)
    membrane = drive @ weight_OI.to(torch.float64).numpy().T
    above = membrane > neuron.threshold if neuron.strict else membrane >= neuron.threshold
    first = np.where(above.any(0), above.argmax(0) + neuron.delay, num_steps)
    return torch.from_numpy(np.minimum(first, num_steps)).to(torch.float32)


def naive_gradients(
    times_BI: Tensor,
    weight_OI: Tensor,
    crossing_BO: Tensor,
    delta_BO: Tensor,
    num_steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``dL/dw`` and ``dL/dt_i`` of Spiking-GAN Eqs. 14-15 by three nested loops.

    A silent input has neither.
    """
    times, crossing = times_BI.tolist(), crossing_BO.tolist()
    weight, delta = weight_OI.tolist(), delta_BO.tolist()
    grad_weight, grad_times = np.zeros(weight_OI.shape), np.zeros(times_BI.shape)
    for b in range(times_BI.shape[0]):
        for i in range(times_BI.shape[1]):
            for j in range(weight_OI.shape[0]):
                if times[b][i] < num_steps and times[b][i] <= crossing[b][j]:
                    grad_weight[j, i] -= delta[b][j]
                    grad_times[b, i] += delta[b][j] * weight[j][i]
    return grad_weight, grad_times


class _Flag(torch.autograd.Function):
    """``M >= theta`` with the derivative ``1 / (1 + |M - theta| / width)^2``."""

    @staticmethod
    def forward(ctx, peak, threshold, width):
        ctx.save_for_backward(peak, threshold)
        ctx.width = width
        return (peak >= threshold).to(peak.dtype)

    @staticmethod
    def backward(ctx, grad):
        peak, threshold = ctx.saved_tensors
        return grad / (1 + (peak - threshold).abs() / ctx.width) ** 2, None, None


def dense_flags(flags_in, weight, threshold, width):
    """The rule written with one matrix product per level; a maximum belongs to its first level."""
    membrane = flags_in @ weight.t()
    peaks = [membrane[:, 0]]
    for level in range(1, membrane.shape[1]):
        peaks.append(torch.where(membrane[:, level] > peaks[-1], membrane[:, level], peaks[-1]))
    return _Flag.apply(torch.stack(peaks, 1), threshold.unsqueeze(1), width)
