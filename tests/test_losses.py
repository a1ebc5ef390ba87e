import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from firstspike.losses import (
    aggressive_targets,
    first_spike_cross_entropy,
    gan_targets,
    membrane_cross_entropy,
    relative_targets,
    temporal_least_squares,
)

T = 16


@st.composite
def outputs(draw: st.DrawFn, classes: int | None = None) -> tuple[Tensor, Tensor]:
    """Draw output times, often tied or silent, and labels."""
    width = classes or draw(st.integers(1, 5))
    rows = draw(st.integers(0, 5))
    step = st.sampled_from([0, 1, 2, 5, 13, 14, 15, T, T])
    times = draw(st.lists(st.lists(step, min_size=width, max_size=width), min_size=rows, max_size=rows))
    labels = draw(st.lists(st.integers(0, width - 1), min_size=rows, max_size=rows))
    return torch.tensor(times, dtype=torch.float32).reshape(rows, width), torch.tensor(
        labels, dtype=torch.int64
    )


# Relative targets


def naive_relative(times: list[float], label: int, gamma: float) -> list[float]:
    """S4NN's targets for one sample, as PAPERS has them."""
    m = min(times)
    if m == T:
        return [T - gamma if j == label else T for j in range(len(times))]
    targets = [min(m + gamma, T) if t - m < gamma else t for t in times]
    targets[label] = m
    return targets


@settings(deadline=None)
@given(drawn=outputs(), gamma=st.sampled_from([1.0, 3.0, 3.5, 16.0]))
def test_relative_targets_are_those_of_a_naive_loop(drawn: tuple[Tensor, Tensor], gamma: float) -> None:
    times, labels = drawn
    targets = relative_targets(times, labels, T, gamma)
    assert targets.shape == times.shape
    for b in range(len(times)):
        assert targets[b].tolist() == naive_relative(times[b].tolist(), int(labels[b]), gamma)


@pytest.mark.parametrize(
    ("times", "label", "targets"),
    [
        # The first spike at 4: the label goes there, 6 is within 3 steps of it, 7 and 9 are not.
        ([4, 6, 7, 9], 3, [7, 7, 7, 4]),
        # The label is first already; 7 is not within the margin and stays.
        ([4, 6, 7, T], 0, [4, 7, 7, T]),
        # A tie for first: the others move back by the margin.
        ([5, 5, 5, T], 1, [8, 5, 8, T]),
        # The margin ends at T, and a silent neuron may be within it.
        ([14, 15, T, T], 0, [14, T, T, T]),
        ([T, T, T, T], 2, [T, T, T - 3, T]),
    ],
)
def test_relative_targets_by_hand(times: list[float], label: int, targets: list[float]) -> None:
    found = relative_targets(torch.tensor([times], dtype=torch.float32), torch.tensor([label]), T)
    assert found.tolist() == [targets]


# Aggressive and GAN targets


@settings(deadline=None)
@given(drawn=outputs())
def test_aggressive_targets_are_those_of_a_naive_loop(drawn: tuple[Tensor, Tensor]) -> None:
    times, labels = drawn
    targets = aggressive_targets(times, labels, T)
    for b in range(len(times)):
        row = times[b].tolist()
        tau = 0 if min(row) == T else min(row)
        assert targets[b].tolist() == [tau if j == labels[b] else T for j in range(len(row))]


def test_aggressive_targets_by_hand() -> None:
    times = torch.tensor([[4.0, 2, 9], [T, T, T], [3, 3, T]])
    targets = aggressive_targets(times, torch.tensor([0, 1, 2]), T)
    assert targets.tolist() == [[2, T, T], [T, 0, T], [T, T, 3]]


@pytest.mark.parametrize("desired", [0, 1])
def test_gan_targets_by_hand(desired: int) -> None:
    times = torch.tensor([[4.0, 2], [T, T], [5, T]])
    dynamic = [[T, T], [T, T], [T, T]]
    for row, tau in zip(dynamic, (2, 0, 5), strict=True):
        row[desired] = tau
    assert gan_targets(times, desired, T).tolist() == dynamic
    static = [T, T]
    static[desired] = 0
    assert gan_targets(times, desired, T, "static").tolist() == [static] * 3
    static[desired] = 5
    assert gan_targets(times, desired, T, "static", first=5).tolist() == [static] * 3
    assert gan_targets(times[:0], desired, T).shape == (0, 2)


@settings(deadline=None)
@given(drawn=outputs(classes=2), desired=st.integers(0, 1))
def test_dynamic_gan_targets_are_the_aggressive_ones(drawn: tuple[Tensor, Tensor], desired: int) -> None:
    times, labels = drawn
    expected = aggressive_targets(times, torch.full_like(labels, desired), T)
    assert torch.equal(gan_targets(times, desired, T, "dynamic"), expected)


def test_an_unknown_kind_of_gan_targets_is_refused() -> None:
    with pytest.raises(ValueError, match="kind must be 'dynamic' or 'static', found 'fixed'"):
        gan_targets(torch.zeros(1, 2), 0, T, "fixed")  # type: ignore[arg-type]


def test_targets_are_pure_and_carry_no_gradient() -> None:
    times = torch.tensor([[4.0, 6.0]], requires_grad=True)
    before = times.detach().clone()
    labels = torch.tensor([1])
    for targets in (
        relative_targets(times, labels, T),
        aggressive_targets(times, labels, T),
        gan_targets(times, 1, T),
        gan_targets(times, 1, T, "static"),
    ):
        assert not targets.requires_grad
    assert torch.equal(times.detach(), before)
    assert labels.tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_targets_have_the_type_of_the_times(dtype: torch.dtype) -> None:
    times, labels = torch.tensor([[4.0, T], [T, T]], dtype=dtype), torch.tensor([1, 0])
    for targets in (
        relative_targets(times, labels, T),
        aggressive_targets(times, labels, T),
        gan_targets(times, 0, T),
    ):
        assert targets.dtype == dtype


# Losses


def test_temporal_least_squares_by_hand() -> None:
    times = torch.tensor([[4.0, 8.0], [0.0, 16.0]], requires_grad=True)
    loss = temporal_least_squares(times, torch.tensor([[0.0, 16.0], [0.0, 8.0]]), T)
    # ((4/16)^2 + (8/16)^2) / 2 and (0 + (8/16)^2) / 2, mean over the two samples.
    assert loss.item() == pytest.approx(((1 / 16 + 1 / 4) / 2 + (1 / 4) / 2) / 2, rel=1e-6)
    loss.backward()
    # Eqs. 16-17: t - target, here over T^2 and the two samples.
    assert times.grad is not None
    assert torch.allclose(times.grad, torch.tensor([[4.0, -8.0], [0.0, 8.0]]) / T**2 / 2)


@settings(deadline=None)
@given(drawn=outputs(), gamma=st.sampled_from([1.0, 3.0]))
def test_temporal_least_squares_is_that_of_a_naive_loop(drawn: tuple[Tensor, Tensor], gamma: float) -> None:
    times, labels = drawn
    if not len(times):
        return
    targets = relative_targets(times, labels, T, gamma)
    total = 0.0
    for row, goal in zip(times.tolist(), targets.tolist(), strict=True):
        total += sum(((t - g) / T) ** 2 for t, g in zip(row, goal, strict=True)) / 2
    loss = temporal_least_squares(times, targets, T)
    assert loss.item() == pytest.approx(total / len(times), rel=1e-5)


def test_first_spike_cross_entropy_is_a_softmax_over_minus_times() -> None:
    times = torch.tensor([[0.0, 8.0, 16.0]], dtype=torch.float64)
    exponents = np.exp([0.0, -2.5, -5.0])
    for label in range(3):
        expected = -math.log(exponents[label] / exponents.sum())
        found = first_spike_cross_entropy(times, torch.tensor([label]), T, sharpness=5.0)
        assert found.item() == pytest.approx(expected, rel=1e-9)
    earlier = first_spike_cross_entropy(times, torch.tensor([0]), T)
    assert earlier < first_spike_cross_entropy(times, torch.tensor([1]), T)


def test_membrane_cross_entropy_is_a_softmax_over_membranes() -> None:
    membrane = torch.tensor([[1.0, -1.0, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([2, 1])
    exponents = np.exp(membrane.numpy())
    logs = np.log(exponents / exponents.sum(1, keepdims=True))
    assert membrane_cross_entropy(membrane, labels).item() == pytest.approx(
        -(logs[0, 2] + logs[1, 1]) / 2, rel=1e-9
    )
    smooth = 0.3
    expected = (1 - smooth) * -(logs[0, 2] + logs[1, 1]) / 2 + smooth * -logs.mean()
    found = membrane_cross_entropy(membrane, labels, label_smoothing=smooth)
    assert found.item() == pytest.approx(expected, rel=1e-9)
