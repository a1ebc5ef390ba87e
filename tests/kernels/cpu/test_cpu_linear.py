"""The gradients' kernels at the ends of what a window holds, and of arrays that are no rows."""

import numpy as np
import pytest
import torch
from builders import dense, fires
from neurons.oracles import naive_gradients
from spike_cases import draw_times, draw_weight

from firstspike.kernels.cpu import linear
from firstspike.neurons import Causal


@pytest.mark.parametrize("num_steps", [2, 4096, 65_535])
def test_gradients_in_the_shortest_and_longest_window(num_steps: int) -> None:
    rng = np.random.default_rng(num_steps)
    times = draw_times(rng, (5, 23), num_steps, "half silent")
    weight = draw_weight(rng, (4, 23), "mixed")
    crossing = draw_times(rng, (5, 4), num_steps, "half silent")
    delta = rng.integers(-8, 9, (5, 4)) / 8
    given = (torch.from_numpy(array) for array in (times, weight, crossing, delta))
    expected_weight, expected_times = naive_gradients(*given, num_steps)
    grad_weight = linear.weight_gradient(times, crossing, delta, num_steps)
    rows = np.ascontiguousarray(weight.T)
    grad_times = linear.input_gradient(times, rows, crossing, delta, num_steps)
    np.testing.assert_allclose(grad_weight.T, expected_weight, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(grad_times, expected_times, rtol=1e-12, atol=1e-12)


def test_times_weights_and_gradients_need_not_be_contiguous() -> None:
    rng = np.random.default_rng(0)
    times = torch.from_numpy(draw_times(rng, (9, 21), 7, "half silent"))
    weight = torch.from_numpy(draw_weight(rng, (5, 21), "mixed"))
    delta = torch.from_numpy(rng.integers(-8, 9, (9, 5)) / 8).float()
    found = []
    for strided in (False, True):
        given = torch.stack([times, times], 2)[..., 0] if strided else times.clone()
        layer = dense(torch.stack([weight, weight], 2)[..., 0] if strided else weight, Causal())
        out = fires(layer, given.requires_grad_(), 7)
        back = delta.t().contiguous().t() if strided else delta
        found.append([out, *torch.autograd.grad(out, (given, layer.weight), back)])
    assert found[0][0].unique().numel() > 2
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)
