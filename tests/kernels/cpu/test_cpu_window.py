"""Firing of window neurons: membranes of NaN are not lost, wherever in a vector they stand."""

import numpy as np
import pytest
import torch

from firstspike.kernels.cpu import window
from firstspike.neurons import Window


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 7, 16, 33, 1000])
def test_a_membrane_of_nan_gives_a_time_of_nan(size: int, dtype: type) -> None:
    membrane = np.random.default_rng(size).uniform(-1, 5, size).astype(dtype)
    expected = 16 - np.floor(np.clip((membrane - 0.5) * 4, 0, 16))
    np.testing.assert_array_equal(window.fire(membrane, 0.5, 4.0, 16), expected)
    for place in {0, size // 2, size - 1}:
        broken = membrane.copy()
        broken[place] = np.nan
        times = window.fire(broken, 0.5, 4.0, 16)
        assert np.flatnonzero(np.isnan(times)).tolist() == [place]
        times[place] = expected[place]
        np.testing.assert_array_equal(times, expected)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e30, -1e30, -0.0])
def test_extreme_membranes_fire_at_the_ends(value: float) -> None:
    times = window.fire(np.full(19, value, np.float32), 0.0, 4.0, 16)
    assert (times == (0 if value > 0 else 16)).all()


def test_nan_reaches_a_loss_through_the_layer() -> None:
    membrane = torch.tensor([[0.5, float("nan"), 2.0]], requires_grad=True)
    out = Window().quantise(membrane, 8).times
    assert out.isnan().tolist() == [[False, True, False]]
    loss = (out - 3).square().sum()
    loss.backward()
    assert loss.isnan()
    assert membrane.grad is not None
    assert membrane.grad.isnan().tolist() == [[False, True, False]]
