"""Random cases for the causal kernels.

Weights are multiples of 1/16 times a power of two, so every sum is exact in float32 and in any
order: two right answers are equal to the last bit.
"""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

PATTERNS = ("spread", "few steps", "all silent", "all at step 0", "all at the last step", "half silent")
SIGNS = ("mixed", "positive", "negative", "zero")


@dataclass(frozen=True)
class Case:
    """Times and weights of a layer; `num_steps` is ``T``."""

    times: Tensor
    weight: Tensor
    num_steps: int
    threshold: float


def draw_times(
    rng: np.random.Generator, shape: tuple[int, int], num_steps: int, pattern: str
) -> np.ndarray:
    """Return float32 integer steps ``(batch, in_features)`` that follow `pattern`."""
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
