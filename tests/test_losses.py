import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from builders import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from firstspike import (
    Spikes,
    aggressive_targets,
    first_spike_cross_entropy,
    gan_targets,
    relative_targets,
    temporal_least_squares,
)

T = 16


@st.composite
def outputs(draw: st.DrawFn, classes: int | None = None) -> tuple[Spikes, Tensor]:
    """Draw output times, often tied or silent, and labels."""
    width = classes or draw(st.integers(1, 5))
    rows = draw(st.integers(0, 5))
    step = st.sampled_from([0, 1, 2, 5, 13, 14, 15, T, T])
    times = draw(st.lists(st.lists(step, min_size=width, max_size=width), min_size=rows, max_size=rows))
    labels = draw(st.lists(st.integers(0, width - 1), min_size=rows, max_size=rows))
    return Spikes(torch.tensor(times).reshape(rows, width), T), torch.tensor(labels, dtype=torch.int64)


# Relative targets


def naive_relative(times: list[float], label: int, gamma: float) -> list[float]:
    """S4NN's targets for one sample, as the paper has them."""
    m = min(times)
    if m == T:
        return [T - gamma if j == label else T for j in range(len(times))]
    targets = [min(m + gamma, T) if t - m < gamma else t for t in times]
    targets[label] = m
    return targets


@settings(deadline=None)
@given(drawn=outputs(), gamma=st.sampled_from([1.0, 3.0, 3.5, 16.0]))
def test_relative_targets_are_those_of_a_naive_loop(drawn: tuple[Spikes, Tensor], gamma: float) -> None:
    out, labels = drawn
    targets = relative_targets(out, labels, gamma)
    assert targets.shape == out.shape
    for b in range(len(out)):
        assert targets[b].tolist() == naive_relative(out.times[b].tolist(), int(labels[b]), gamma)


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
    assert relative_targets(Spikes([times], T), [label]).tolist() == [targets]


# Aggressive and GAN targets


@settings(deadline=None)
@given(drawn=outputs())
def test_aggressive_targets_are_those_of_a_naive_loop(drawn: tuple[Spikes, Tensor]) -> None:
    out, labels = drawn
    targets = aggressive_targets(out, labels)
    for b in range(len(out)):
        row = out.times[b].tolist()
        tau = 0 if min(row) == T else min(row)
        assert targets[b].tolist() == [tau if j == labels[b] else T for j in range(len(row))]


def test_aggressive_targets_by_hand() -> None:
    out = Spikes([[4, 2, 9], [T, T, T], [3, 3, T]], T)
    assert aggressive_targets(out, [0, 1, 2]).tolist() == [[2, T, T], [T, 0, T], [T, T, 3]]


@pytest.mark.parametrize("desired", [0, 1])
def test_gan_targets_by_hand(desired: int) -> None:
    out = Spikes([[4, 2], [T, T], [5, T]], T)
    dynamic = [[T, T], [T, T], [T, T]]
    for row, tau in zip(dynamic, (2, 0, 5), strict=True):
        row[desired] = tau
    assert gan_targets(out, desired).tolist() == dynamic
    for first in (0, 5):
        static = [T, T]
        static[desired] = first
        assert gan_targets(out, desired, "static", first=first).tolist() == [static] * 3
    with refused(ValueError, "dynamic", "first", "5"):
        gan_targets(out, desired, "dynamic", first=5)
    for kind in ("dynamic", "static"):
        assert gan_targets(out[:0], desired, kind).shape == (0, 2)


@settings(deadline=None)
@given(drawn=outputs(classes=2), desired=st.integers(0, 1))
def test_dynamic_gan_targets_are_the_aggressive_ones(drawn: tuple[Spikes, Tensor], desired: int) -> None:
    out, labels = drawn
    expected = aggressive_targets(out, torch.full_like(labels, desired))
    assert torch.equal(gan_targets(out, desired, "dynamic"), expected)


TARGETS: list[Callable[[Spikes, Any], Tensor]] = [
    relative_targets,
    aggressive_targets,
    lambda out, labels: gan_targets(out, 1),
    lambda out, labels: gan_targets(out, 1, "static"),
]


@pytest.mark.parametrize("targets_of", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_targets_are_pure_and_of_the_type_of_the_times(
    targets_of: Callable[[Spikes, Any], Tensor], dtype: torch.dtype
) -> None:
    times, labels = torch.tensor([[4.0, T], [T, T]], dtype=dtype, requires_grad=True), torch.tensor([1, 0])
    targets = targets_of(Spikes(times, T), labels)
    assert (targets.dtype, targets.requires_grad) == (dtype, False)
    assert times.tolist() == [[4, T], [T, T]]
    assert labels.tolist() == [1, 0]


# Losses


def test_temporal_least_squares_by_hand() -> None:
    times = torch.tensor([[4.0, 8.0], [0.0, 16.0]], requires_grad=True)
    loss = temporal_least_squares(Spikes(times, T), torch.tensor([[0.0, 16.0], [0.0, 8.0]]))
    # ((4/16)^2 + (8/16)^2) / 2 and (0 + (8/16)^2) / 2, mean over the two samples.
    assert loss.item() == pytest.approx(((1 / 16 + 1 / 4) / 2 + (1 / 4) / 2) / 2, rel=1e-6)
    loss.backward()
    # Eqs. 16-17: t - target, here over T^2 and the two samples.
    assert times.grad is not None
    assert torch.allclose(times.grad, torch.tensor([[4.0, -8.0], [0.0, 8.0]]) / T**2 / 2)


@settings(deadline=None)
@given(drawn=outputs().filter(lambda drawn: len(drawn[1]) > 0), gamma=st.sampled_from([1.0, 3.0]))
def test_temporal_least_squares_is_that_of_a_naive_loop(drawn: tuple[Spikes, Tensor], gamma: float) -> None:
    out, labels = drawn
    targets = relative_targets(out, labels, gamma)
    total = 0.0
    for row, goal in zip(out.times.tolist(), targets.tolist(), strict=True):
        total += sum(((t - g) / T) ** 2 for t, g in zip(row, goal, strict=True)) / 2
    assert temporal_least_squares(out, targets).item() == pytest.approx(total / len(out), rel=1e-5)


def test_first_spike_cross_entropy_is_a_softmax_over_minus_times() -> None:
    out = Spikes(torch.tensor([[0.0, 8.0, 16.0]], dtype=torch.float64), T)
    logs = np.array([0.0, -2.5, -5.0])
    logs -= np.log(np.exp(logs).sum())
    for label in range(3):
        found = first_spike_cross_entropy(out, [label], sharpness=5.0)
        assert found.item() == pytest.approx(-logs[label], rel=1e-9)
        smooth = first_spike_cross_entropy(out, [label], sharpness=5.0, label_smoothing=0.3)
        assert smooth.item() == pytest.approx(-0.7 * logs[label] - 0.3 * logs.mean(), rel=1e-9)
    later = Spikes(torch.tensor([[3.0, 8.0, 16.0]], dtype=torch.float64), T)
    found = first_spike_cross_entropy(out, [0], label_delay=3)
    assert found.item() == first_spike_cross_entropy(later, [0]).item()


# What is refused

OUT = Spikes([[4, 2, 9], [T, T, T], [3, 3, T], [1, 2, 3]], T)


@pytest.mark.parametrize("loss", [relative_targets, aggressive_targets, first_spike_cross_entropy])
@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (torch.zeros(4, 1, dtype=torch.int64), ValueError, ("(4,)", "(4, 1)")),
        (torch.tensor(0), ValueError, ("(4,)", "()")),
        ([0], ValueError, ("(4,)", "(1,)")),
        # One-hot.
        (torch.zeros(4, 3, dtype=torch.int64), ValueError, ("(4,)", "(4, 3)")),
        ([0, 1, -1, 0], ValueError, ("0 ... 2", "-1")),
        ([0, 1, -100, 0], ValueError, ("0 ... 2", "-100")),
        ([0, 1, 3, 0], ValueError, ("0 ... 2", "3")),
        ([0.0, 1.0, 2.0, 0.0], TypeError, ("labels", "float")),
        ([True, False, True, False], TypeError, ("labels", "bool")),
        (None, TypeError, ("labels",)),
    ],
)
def test_labels_that_are_none_are_refused_by_every_loss(
    loss: Any, labels: Any, error: type[Exception], words: tuple[str, ...]
) -> None:
    with refused(error, *words):
        loss(OUT, labels)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: relative_targets(OUT.times, [0] * 4), TypeError, ("Spikes",)),  # type: ignore[arg-type]
        (lambda: temporal_least_squares(OUT.times, OUT.times), TypeError, ("Spikes",)),  # type: ignore[arg-type]
        (lambda: gan_targets(OUT.times, 0), TypeError, ("Spikes",)),  # type: ignore[arg-type]
        (
            lambda: aggressive_targets(Spikes([[[1]]], T), [0]),
            ValueError,
            ("(batch, classes)", "(1, 1, 1)"),
        ),
        (lambda: temporal_least_squares(OUT, torch.zeros(4, 1)), ValueError, ("(4, 3)", "(4, 1)")),
        (lambda: temporal_least_squares(OUT, torch.zeros(3)), ValueError, ("(4, 3)", "(3,)")),
        (lambda: gan_targets(OUT, 0, "fixed"), ValueError, ("kind", "dynamic, static", "fixed")),  # type: ignore[arg-type]
        (lambda: gan_targets(OUT, 3), ValueError, ("0 ... 2", "3")),
        (lambda: gan_targets(OUT, -1, "static"), ValueError, ("desired", "-1")),
        (lambda: gan_targets(OUT, 0, "static", first=T + 1), ValueError, ("first", "17")),
        (lambda: relative_targets(OUT, [0] * 4, math.nan), ValueError, ("gamma", "nan")),
        (lambda: relative_targets(OUT, [0] * 4, T + 1), ValueError, ("gamma", "16", "17")),
        *[
            (
                lambda option=option, value=value: first_spike_cross_entropy(
                    OUT, [0] * 4, **{option: value}
                ),
                ValueError,
                (option, str(value)),
            )
            for option, value in [
                ("sharpness", 0.0),
                ("sharpness", math.inf),
                ("label_delay", math.nan),
                ("label_delay", -3),
                ("label_smoothing", 2.0),
                ("label_smoothing", -0.1),
            ]
        ],
    ],
)
def test_what_else_is_refused(
    call: Callable[[], object], error: type[Exception], words: tuple[str, ...]
) -> None:
    with refused(error, *words):
        call()
