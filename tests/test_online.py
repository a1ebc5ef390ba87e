from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from firstspike.decision import PAPERS, STRICT
from firstspike.functional import causal_linear
from firstspike.neurons import Causal
from firstspike.online import S4NN, OnlineEpoch, s4nn_epoch, sort_spikes

CONFIG = S4NN(num_steps=32, thresholds=(2.0, 2.0))


def problem(seed: int = 0, count: int = 20) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return times ``(count, 12)``, labels of 3 classes and the weights of 12-9-3."""
    source = torch.Generator().manual_seed(seed)
    times = torch.randint(0, 33, (count, 12), generator=source).float()
    labels = torch.randint(0, 3, (count,), generator=source)
    weights = [torch.rand(9, 12, generator=source), torch.rand(3, 9, generator=source)]
    return times, labels, weights


def epoch(**changes: Any) -> tuple[OnlineEpoch, list[Tensor]]:
    """Run an epoch of `problem` with `changes` to it; return it and the weights after it."""
    times, labels, weights = problem()
    given = {"images": times, "labels": labels, "weights": weights, "config": CONFIG} | changes
    return s4nn_epoch(**given), given["weights"]


def test_a_rate_of_zero_only_looks() -> None:
    times, labels, weights = problem()
    before = [weight.clone() for weight in weights]
    seen = s4nn_epoch(times, labels, weights, S4NN(num_steps=32, thresholds=(2, 2), rate=0))
    neuron = Causal(threshold=2, strict=True, delay=1)
    hidden = causal_linear(times, weights[0], 32, neuron)
    output = causal_linear(hidden, weights[1], 32, neuron)
    assert torch.equal(seen.output_times, output)
    assert torch.allclose(seen.firing_rates[0], (hidden < 32).float().mean(0))
    assert seen.strict == STRICT.score(output, labels, 32)
    assert seen.papers == PAPERS.score(output, labels, 32)
    assert all(torch.equal(one, two) for one, two in zip(before, weights, strict=True))


def test_learning_gets_the_labels_right() -> None:
    # Class c spikes first in its own quarter of the inputs.
    source = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (200,), generator=source)
    times = torch.randint(8, 33, (200, 12), generator=source).float()
    for k in range(200):
        times[k, 4 * labels[k] : 4 * labels[k] + 4] = 0
    _, _, weights = problem()
    first, *_, last = (s4nn_epoch(times, labels, weights, CONFIG) for _ in range(8))
    assert last.strict.accuracy > max(0.9, first.strict.accuracy)


def test_sorted_spikes_parameters_and_other_layouts_give_the_same() -> None:
    times, _, weights = problem()
    expected, after = epoch()
    strided = torch.zeros(20, 24)[:, ::2].copy_(times)
    for images in (sort_spikes(times, 32), times.to(torch.int16), times.double(), strided):
        seen, found = epoch(images=images)
        assert torch.equal(seen.output_times, expected.output_times)
        assert all(torch.equal(one, two) for one, two in zip(found, after, strict=True))
    parameters = [torch.nn.Parameter(weight.t().contiguous().t()) for weight in problem()[2]]
    _, found = epoch(weights=parameters)
    assert all(torch.equal(one, two) for one, two in zip(found, after, strict=True))
    assert not torch.equal(after[0], weights[0])


def test_order_is_that_of_images_put_in_that_order() -> None:
    times, labels, _ = problem()
    order = torch.tensor([3, 0, 19, 3])
    seen, found = epoch(order=order)
    expected, after = epoch(images=times[order], labels=labels[order])
    assert torch.equal(seen.output_times, expected.output_times)
    assert seen.strict == expected.strict
    assert all(torch.equal(one, two) for one, two in zip(found, after, strict=True))


def test_an_epoch_of_two_halves_is_two_epochs_up_to_rounding() -> None:
    times, labels, weights = problem()
    weights = [weight.double() for weight in weights]
    whole = [weight.clone() for weight in weights]
    s4nn_epoch(times, labels, whole, CONFIG)
    for half in (slice(0, 10), slice(10, 20)):
        s4nn_epoch(times[half], labels[half], weights, CONFIG)
    assert all(torch.allclose(one, two, rtol=1e-12) for one, two in zip(weights, whole, strict=True))


def test_no_images_change_nothing() -> None:
    weights = problem()[2]
    seen, after = epoch(images=torch.zeros(0, 12), labels=torch.zeros(0, dtype=torch.int64))
    assert seen.output_times.shape == (0, 3)
    assert seen.firing_rates[0].tolist() == [0.0] * 9
    assert all(torch.equal(one, two) for one, two in zip(after, weights, strict=True))


def test_threads_do_not_disturb_each_other() -> None:
    expected = epoch()[1]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: epoch()[1], range(16)))
    for found in results:
        assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": torch.full((20, 12), NAN)}, ValueError, "times holds NaN"),
        ({"images": torch.full((20, 12), 33.0)}, ValueError, r"times must lie in 0 \.\.\. 32"),
        ({"images": torch.full((20, 12), -1.0)}, ValueError, "found -1.0"),
        ({"images": torch.full((20, 12), 0.5)}, ValueError, "whole steps, found 0.5"),
        ({"images": torch.zeros(20, 3, 4)}, ValueError, r"times must be a tensor \(images, in_features\)"),
        ({"images": torch.zeros(20, 12, dtype=torch.bool)}, TypeError, "torch.bool"),
        ({"images": torch.zeros(20, 11)}, ValueError, "images have 11 features"),
        ({"images": sort_spikes(torch.zeros(20, 12), 16)}, ValueError, "sorted for 16 steps"),
        ({"labels": torch.zeros(19, dtype=torch.int64)}, ValueError, r"labels must have the shape \(20,\)"),
        ({"labels": torch.full((20,), 3)}, ValueError, r"labels must lie in 0 \.\.\. 2, found 3"),
        ({"labels": torch.full((20,), -1)}, ValueError, "found -1"),
        ({"labels": torch.zeros(20)}, TypeError, "labels must be int64"),
        ({"order": torch.tensor([20])}, ValueError, r"order must lie in 0 \.\.\. 19"),
        ({"order": torch.tensor([[1]])}, ValueError, "order must have the shape"),
        ({"order": torch.tensor([1.0])}, TypeError, "order must be int64"),
        ({"weights": []}, ValueError, "2 thresholds need as many weights, found 0"),
        ({"weights": [torch.zeros(9, 12)]}, ValueError, "found 1"),
        ({"weights": [torch.zeros(9, 12), torch.zeros(3, 8)]}, ValueError, "what the one before gives"),
        ({"weights": [torch.zeros(9, 12), torch.zeros(27)]}, ValueError, r"\(out_features, in_features\)"),
        ({"weights": [torch.zeros(9, 12), torch.zeros(3, 9).double()]}, TypeError, "all float32 or all"),
        ({"weights": [torch.zeros(9, 12).half(), torch.zeros(3, 9).half()]}, TypeError, "float16"),
        ({"weights": [torch.full((9, 12), NAN), torch.zeros(3, 9)]}, ValueError, "NaN or infinity"),
    ],
)
def test_bad_input_is_one_clear_error(changes: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        epoch(**changes)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_steps", 1),
        ("thresholds", ()),
        ("thresholds", (1.0, 0.0)),
        ("thresholds", (1.0, NAN)),
        ("gamma", -1.0),
        ("gamma", 257),
        ("rate", -0.1),
        ("rate", NAN),
        ("weight_decay", 5.0),
        ("weight_decay", NAN),
        ("loss", "absolute"),
        ("norm", "l0"),
    ],
)
def test_bad_configuration_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        S4NN(**{field: value})
