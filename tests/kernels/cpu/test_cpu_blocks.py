"""Every block of vectors that some processor takes gives the same numbers, to the bit on grid weights.

Convolutions and levels take the blocks at the ends: one vector, the longest of each kind of processor, of
backward kernels, and one between.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from neurons.oracles import naive_gradients, naive_times

from firstspike.kernels.cpu import conv2d, levels, linear
from firstspike.kernels.cpu.vectors import LANES
from firstspike.kernels.geometry import Geometry
from firstspike.neurons import Causal

# Forward kernels take up to 13 vectors where there are 32 registers, else up to 6; backward kernels up
# to 7.
FORWARD, BACKWARD, SOME = range(1, 14), range(1, 8), (1, 5, 6, 7, 13)
T = 9
# More than the longest block, and no whole number of any.
COLUMNS = 13 * LANES + 3

Fix = Callable[[int], None]


@pytest.fixture
def of_size(monkeypatch: pytest.MonkeyPatch) -> Fix:
    """A function that makes all kernels take blocks of so many vectors."""

    def fix(size: int) -> None:
        for module in (conv2d, levels, linear):
            monkeypatch.setattr(module, "blocks", lambda rows, most=0: (0,) * size)

    return fix


def draw(shape: tuple[int, ...], fan_in: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Return times of which half are silent, and rows of weights that are multiples of 1/64."""
    random = np.random.default_rng(fan_in)
    times = np.minimum(random.integers(0, 2 * T, shape), T).astype(np.float32)
    return times, (random.integers(-16, 24, (fan_in, COLUMNS)) / 64).astype(np.float32), random


def grid(random: np.random.Generator, *shape: int) -> np.ndarray:
    return (random.integers(-8, 9, shape) / 8).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("size", FORWARD)
def test_full_connections(of_size: Fix, size: int) -> None:
    times, rows, random = draw((6, 20), 20)
    crossing = naive_times(torch.from_numpy(times), torch.from_numpy(rows.T), T, Causal())
    of_size(size)
    assert np.array_equal(linear.forward(times, rows, 1.0, T), crossing)
    assert (crossing < T).any()
    if size in BACKWARD:
        delta = grid(random, *crossing.shape)
        for_weight, for_times = naive_gradients(
            torch.from_numpy(times), torch.from_numpy(rows.T), crossing, torch.from_numpy(delta), T
        )
        found = linear.weight_gradient(times, crossing.numpy(), delta, T)
        np.testing.assert_array_equal(found.T, for_weight)
        found = linear.input_gradient(times, rows, crossing.numpy(), delta, T)
        np.testing.assert_array_equal(found, for_times)


@pytest.mark.slow
@pytest.mark.parametrize("size", SOME)
def test_convolutions(of_size: Fix, size: int) -> None:
    geometry = Geometry(2, COLUMNS, 3, 3, 1, 1, 1, 1, groups=1)
    times, rows, random = draw((3, 2, 5, 4), 18)
    rows = rows[None]
    delta = grid(random, 3, COLUMNS, 5, 4)

    def everything() -> list[np.ndarray]:
        crossing = conv2d.forward(times, rows, geometry, 1.0, T)
        by_weight = conv2d.weight_gradient(times, crossing, delta, geometry, T)
        return [
            crossing,
            by_weight,
            conv2d.input_gradient(times, rows, crossing, delta, geometry, T),
        ]

    expected = everything()
    of_size(size)
    for found, right in zip(everything(), expected, strict=True):
        assert np.array_equal(found, right)
        assert np.unique(right).size > 2


@pytest.mark.slow
@pytest.mark.parametrize("size", SOME)
@pytest.mark.parametrize("threads", [1, 4])
def test_levels(of_size: Fix, size: int, threads: int) -> None:
    times, rows, random = draw((40, 20), 20)
    threshold = np.ones((40, COLUMNS), np.float32)
    at = np.array([0, 2, 3, 7])
    crossing = naive_times(torch.from_numpy(times), torch.from_numpy(rows.T), T, Causal())
    membranes = ((times[:, None] <= at[:, None]).astype(np.float32) @ rows).astype(np.float32)
    highest = np.maximum.accumulate(membranes, 1)
    grad = random.standard_normal(highest.shape).astype(np.float32)
    by_membrane = levels.membrane_gradient(grad, highest, threshold, 0.5)
    seen = (times[:, None] <= at[:, None]).astype(np.float64)
    by_weight = np.einsum("bki,bko->io", seen, by_membrane)

    of_size(size)
    count = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        out, peak = levels.forward(times, rows, threshold, at, T)
        found = levels.weight_gradient(times, grad, highest, threshold, 0.5, at, T)
    finally:
        torch.set_num_threads(count)
    assert np.array_equal(out, crossing)
    assert np.array_equal(peak, highest)
    np.testing.assert_allclose(found, by_weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [3, 300])
def test_the_gradient_at_levels_is_the_same_for_any_number_of_threads(count: int) -> None:
    # 300 levels: sums of fewer samples than a group's stay in the cache.
    random = np.random.default_rng(count)
    times = random.integers(0, 401, (50, 12)).astype(np.float32)
    at = np.linspace(0, 399, count).astype(np.int64)
    grad, threshold = grid(random, 50, count, 5 * LANES + 3), np.ones((50, 5 * LANES + 3), np.float32)
    peak = np.maximum.accumulate(grid(random, *grad.shape), 1)
    seen = (times[:, None] <= at[:, None]).astype(np.float64)
    expected = np.einsum("bki,bko->io", seen, levels.membrane_gradient(grad, peak, threshold, 0.5))
    found = []
    number = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            found.append(levels.weight_gradient(times, grad, peak, threshold, 0.5, at, 400))
    finally:
        torch.set_num_threads(number)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)
    assert all(np.array_equal(one, found[0]) for one in found)
