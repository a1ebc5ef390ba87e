"""An epoch in one call against S4NN's algorithm in plain Python, image by image and step by step."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from neurons.published_s4nn import DECAY, GAMMA, LEARNING_RATE, S4nn, T, draw_image
from spike_cases import PATTERNS, draw_times

from firstspike.codes import encode_latency
from firstspike.online import S4NNRule, s4nn_epoch
from firstspike.spikes import Spikes


def plain_times(times_I: list[int], weight_OI: np.ndarray, threshold: float, steps: int) -> list[int]:
    """Strict threshold; the spike leaves one step after the crossing; at T everyone fires."""
    out = [steps] * len(weight_OI)
    V = np.zeros(len(weight_OI), weight_OI.dtype)
    for t in range(steps):
        for i, arrival in enumerate(times_I):
            if arrival == t:
                V = V + weight_OI[:, i]
        for j in range(len(V)):
            if V[j] > weight_OI.dtype.type(threshold) and out[j] == steps:
                out[j] = t + 1
    return out


def plain_targets(times: list[int], label: int, rule: S4NNRule) -> list[float]:
    m, steps = min(times), rule.steps
    if rule.loss == "aggressive":
        return [(m if m < steps else 0) if j == label else steps for j in range(len(times))]
    if m == steps:
        return [steps - rule.gamma if j == label else steps for j in range(len(times))]
    targets = [min(m + rule.gamma, steps) if t - m < rule.gamma else t for t in times]
    targets[label] = m
    return targets


def plain_norm(delta: list[float], kind: str) -> float:
    total = 0.0
    for d in delta:
        total += abs(d) if kind == "l1" else d * d
    return total if kind == "l1" else math.sqrt(total)


def plain_image(
    times_I: list[int], label: int, weights: list[np.ndarray], rule: S4NNRule
) -> list[list[int]]:
    """Learn from one image in place; return the times of every layer before the update."""
    seen = [times_I]
    for weight, threshold in zip(weights, rule.thresholds, strict=True):
        seen.append(plain_times(seen[-1], weight, threshold, rule.steps))
    targets = plain_targets(seen[-1], label, rule)
    delta = [(target - t) / rule.steps for target, t in zip(targets, seen[-1], strict=True)]
    for depth in range(len(weights) - 1, -1, -1):
        weight, t_in, t_out = weights[depth], seen[depth], seen[depth + 1]
        norm = plain_norm(delta, rule.norm)
        delta = [d / norm for d in delta] if norm > 0 else delta
        for j in range(len(t_out)):
            for i in range(len(t_in)):
                if t_in[i] < t_out[j]:
                    weight[j, i] -= weight.dtype.type(rule.rate * delta[j])
        weight -= weight.dtype.type(rule.rate * rule.weight_decay) * weight
        below = []
        for i in range(len(t_in)):
            total = 0.0
            for j in range(len(t_out)):
                if t_in[i] < t_out[j]:
                    total += delta[j] * float(weight[j, i])
            below.append(total)
        delta = below
    return seen


def as_tensors(weights: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(weight.copy()) for weight in weights]


@st.composite
def networks(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, list[np.ndarray], S4NNRule]:
    steps = draw(st.sampled_from([2, 5, 16, 255, 300]))
    sizes = [
        draw(st.sampled_from([1, 3, 20])),
        *(draw(st.sampled_from([1, 4, 15, 17, 70])) for _ in range(draw(st.integers(0, 2)))),
        draw(st.integers(1, 4)),
    ]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(0, 5))
    times = draw_times(rng, (count, sizes[0]), steps, draw(st.sampled_from(PATTERNS)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    low = draw(st.sampled_from([-1.0, 0.0]))
    weights = [
        rng.uniform(low, 4 / max(1, n_in) ** 0.5, (n_out, n_in)).astype(dtype)
        for n_in, n_out in pairwise(sizes)
    ]
    rule = S4NNRule(
        steps=steps,
        thresholds=tuple(rng.uniform(0.2, 1.5, len(weights)).tolist()),
        gamma=draw(st.sampled_from([0.0, 1.0, 1.5])),
        rate=0.3,
        weight_decay=0.0,
        loss=draw(st.sampled_from(["relative", "aggressive"])),
        norm=draw(st.sampled_from(["l2", "l1"])),
    )
    labels = torch.from_numpy(rng.integers(0, sizes[-1], count))
    return torch.from_numpy(times), labels, weights, rule


@settings(deadline=None, max_examples=150)
@given(drawn=networks())
def test_without_decay_every_bit_is_the_plain_algorithms(
    drawn: tuple[torch.Tensor, torch.Tensor, list[np.ndarray], S4NNRule],
) -> None:
    times, labels, weights, rule = drawn
    found = as_tensors(weights)
    seen = s4nn_epoch(Spikes(times, rule.steps), labels, found, rule)
    fired = [np.zeros(len(weight)) for weight in weights]
    for k in range(len(times)):
        layers = plain_image(times[k].int().tolist(), int(labels[k]), weights, rule)
        assert seen.output_times[k].tolist() == layers[-1]
        for count, layer in zip(fired, layers[1:], strict=True):
            count += np.array(layer) < rule.steps
    for weight, expected in zip(found, weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), expected)
    assert len(seen.firing_rates) == len(weights) - 1
    for rate, count in zip(seen.firing_rates, fired, strict=False):
        np.testing.assert_allclose(rate.numpy(), count / max(1, len(times)), rtol=1e-6)


@pytest.mark.parametrize("loss", ["relative", "aggressive"])
@pytest.mark.parametrize("decay", [1e-6, 0.05, 2.0])
def test_with_decay_times_are_equal_and_weights_up_to_rounding(loss: str, decay: float) -> None:
    # A decay of 2 takes 40 % of each weight per image, so that the factor is multiplied in many times.
    rng = np.random.default_rng(5)
    rule = S4NNRule(steps=64, thresholds=(3.0, 4.0, 4.0), rate=0.2, weight_decay=decay, loss=loss)  # type: ignore[arg-type]
    weights = [rng.uniform(-0.5, 1, (30, 40)), rng.uniform(-0.5, 1, (20, 30)), rng.uniform(0, 1, (4, 20))]
    times = torch.from_numpy(draw_times(rng, (12, 40), 64, "half silent"))
    labels = torch.from_numpy(rng.integers(0, 4, 12))
    found = as_tensors(weights)
    start = [weight.copy() for weight in weights]
    seen = s4nn_epoch(Spikes(times, rule.steps), labels, found, rule)
    for k in range(12):
        layers = plain_image(times[k].int().tolist(), int(labels[k]), weights, rule)
        assert seen.output_times[k].tolist() == layers[-1]
    for weight, expected, before in zip(found, weights, start, strict=True):
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-11, atol=1e-13)
        assert np.abs(expected - before).max() > 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_the_published_algorithm_as_the_other_oracle_writes_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gain = (2.0, 1.0, 1.0, 0.6)[seed]
    published = S4nn(rng.uniform(-3, 5, (17, 50)) * gain, rng.uniform(-10, 20, (5, 17)) * gain, 20)
    weights = as_tensors([published.hidden, published.output])
    labels = [0, 1, 2, 3, 4, 2, 0]
    pixels = np.stack([draw_image(rng, 50) for _ in labels])
    rule = S4NNRule(steps=T, thresholds=(20, 20), gamma=GAMMA, rate=LEARNING_RATE, weight_decay=DECAY)
    seen = s4nn_epoch(encode_latency(torch.from_numpy(pixels), T), torch.tensor(labels), weights, rule)
    for k, label in enumerate(labels):
        assert seen.output_times[k].tolist() == published.train(pixels[k], label)[2].tolist()
    np.testing.assert_allclose(weights[0].numpy(), published.hidden, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(weights[1].numpy(), published.output, rtol=1e-11, atol=1e-12)


def test_the_largest_number_of_steps() -> None:
    rng = np.random.default_rng(0)
    rule = S4NNRule(steps=65_535, thresholds=(1, 1), weight_decay=0.0)
    weights = [rng.uniform(-0.5, 1, (6, 5)), rng.uniform(-0.5, 1, (2, 6))]
    times = torch.from_numpy(draw_times(rng, (3, 5), 65_535, "spread"))
    times[0, 0], times[1, 1] = 65_534, 65_535
    found = as_tensors(weights)
    seen = s4nn_epoch(Spikes(times, rule.steps), torch.tensor([0, 1, 0]), found, rule)
    for k, label in enumerate((0, 1, 0)):
        assert (
            seen.output_times[k].tolist() == plain_image(times[k].int().tolist(), label, weights, rule)[-1]
        )
    for weight, expected in zip(found, weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), expected)
