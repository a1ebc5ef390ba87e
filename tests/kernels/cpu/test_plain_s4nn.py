"""The plain algorithm that the online row is timed against: as published, and what ours computes."""

import importlib.util
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from neurons.published_s4nn import DECAY, GAMMA, LEARNING_RATE, S4nn, draw_image

from firstspike.online import S4NNRule, s4nn_epoch
from firstspike.spikes import Spikes

T = 32
FILE = Path(__file__).parents[3] / "benchmarks" / "plain_s4nn.py"


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_s4nn", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("gain", [2.0, 1.0, 0.6], ids=["early", "middling", "some silent"])
def test_learns_what_the_published_algorithm_learns(plain, gain):
    rng = np.random.default_rng(5)
    published = S4nn(rng.uniform(-3, 5, (17, 50)) * gain, rng.uniform(-10, 20, (5, 17)) * gain, 20.0)
    weights = [published.hidden.copy(), published.output.copy()]
    rule = S4NNRule(thresholds=(20.0, 20.0), gamma=GAMMA, rate=LEARNING_RATE, weight_decay=DECAY)
    for label in (0, 1, 2, 3, 4, 2, 0):
        pixels = draw_image(rng, 50)
        times, _, expected = published.train(pixels, label)
        (found,) = plain.learn(times[np.newaxis], np.array([label]), weights, rule)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(weights[0], published.hidden, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(weights[1], published.output, rtol=1e-12, atol=1e-12)


RULE = SimpleNamespace(steps=T, gamma=3)


@pytest.mark.parametrize(
    ("times", "label", "wanted"),
    [
        ([32, 32, 32], 1, [32, 29, 32]),
        ([5, 7, 8], 0, [5, 8, 8]),
        ([5, 7, 9], 2, [8, 8, 5]),
        ([30, 31, 32], 1, [32, 30, 32]),
    ],
    ids=["all silent", "label first", "label late", "near the end"],
)
def test_relative_targets(plain, times, label, wanted):
    assert plain.targets(np.array(times, dtype=np.float32), label, RULE).tolist() == wanted


@pytest.mark.parametrize("decay", [0.0, 1e-3])
@pytest.mark.parametrize("features", [(30, 12, 5), (30, 9, 7, 4)], ids=["two layers", "three layers"])
def test_an_epoch_is_that_of_the_compiled_one(plain, features, decay):
    rng = np.random.default_rng(len(features))
    # A third of the inputs silent. The gains spread the spikes; some outputs never fire.
    drawn = rng.integers(0, T, (25, features[0]))
    times = np.where(rng.random(drawn.shape) < 0.3, T, drawn).astype(np.float32)
    labels = rng.integers(0, features[-1], 25)
    weights = [rng.uniform(-1, 2, (n, m)) for m, n in pairwise(features)]
    rule = S4NNRule(steps=T, thresholds=(6.0, 4.0, 4.0)[: len(weights)], weight_decay=decay)
    compiled = [torch.from_numpy(weight.copy()) for weight in weights]
    epoch = s4nn_epoch(Spikes(times, T), torch.from_numpy(labels), compiled, rule)
    before = [weight.copy() for weight in weights]
    seen = plain.learn(times, labels, weights, rule)
    np.testing.assert_array_equal(seen, epoch.output_times.numpy())
    assert len(np.unique(seen)) > 5
    for found, start, expected in zip(compiled, before, weights, strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)
        assert np.abs(expected - start).max() > 0.01
