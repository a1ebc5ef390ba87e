from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from builders import dense, refused, seeded
from torch import Tensor

from firstspike.decision import FirstSpike
from firstspike.neurons import Causal
from firstspike.nn import Linear
from firstspike.online import OnlineEpoch, S4NNRule, redraw_dead, s4nn_epoch, sort_spikes
from firstspike.spikes import Spikes

RULE = S4NNRule(steps=32, thresholds=(2.0, 2.0))


def problem() -> tuple[Spikes, Tensor, list[Tensor]]:
    """Return spikes ``(20, 12)``, labels of 3 classes and the weights of 12-9-3."""
    source = seeded(0)
    times = torch.randint(0, 33, (20, 12), generator=source)
    labels = torch.randint(0, 3, (20,), generator=source)
    weights = [torch.rand(9, 12, generator=source), torch.rand(3, 9, generator=source)]
    return Spikes(times, 32), labels, weights


def epoch(**changes: Any) -> tuple[OnlineEpoch, list[Tensor]]:
    """Run an epoch of `problem` with `changes` to it; return it and the weights after it."""
    spikes, labels, weights = problem()
    given: dict[str, Any] = {"images": spikes, "labels": labels, "weights": weights, "rule": RULE} | changes
    return s4nn_epoch(**given), given["weights"]


def test_a_rate_of_zero_only_looks() -> None:
    spikes, labels, weights = problem()
    before = [weight.clone() for weight in weights]
    seen = s4nn_epoch(spikes, labels, weights, S4NNRule(steps=32, thresholds=(2, 2), rate=0))
    neuron = Causal(threshold=2, strict=True, delay=1)
    hidden = dense(weights[0], neuron)(spikes)
    output = dense(weights[1], neuron)(hidden)
    assert torch.equal(seen.output_times, output.times)
    assert torch.allclose(seen.firing_rates[0], (~hidden.silent).float().mean(0))
    assert seen.strict == FirstSpike().decide(output).score(labels)
    assert seen.papers == FirstSpike(ties="label").decide(output).score(labels)
    assert all(torch.equal(one, two) for one, two in zip(before, weights, strict=True))


def test_learning_gets_the_labels_right() -> None:
    # Class c spikes first in its own quarter of the inputs.
    source = seeded(1)
    labels = torch.randint(0, 3, (200,), generator=source)
    times = torch.randint(8, 33, (200, 12), generator=source)
    for k in range(200):
        times[k, 4 * labels[k] : 4 * labels[k] + 4] = 0
    _, _, weights = problem()
    first, *_, last = (s4nn_epoch(Spikes(times, 32), labels, weights, RULE) for _ in range(8))
    assert last.strict.accuracy > max(0.9, first.strict.accuracy)


def test_sorted_spikes_parameters_and_other_layouts_give_the_same() -> None:
    spikes, labels, weights = problem()
    expected, after = epoch()
    strided = torch.zeros(20, 24)[:, ::2].copy_(spikes.times)
    for images in (sort_spikes(spikes), spikes.to(torch.float64), spikes.with_times(strided)):
        seen, found = epoch(images=images)
        assert torch.equal(seen.output_times, expected.output_times)
        assert all(torch.equal(one, two) for one, two in zip(found, after, strict=True))
    parameters = [torch.nn.Parameter(weight.t().contiguous().t()) for weight in problem()[2]]
    _, found = epoch(weights=parameters)
    assert all(torch.equal(one, two) for one, two in zip(found, after, strict=True))
    assert not torch.equal(after[0], weights[0])
    for same in (labels.tolist(), labels.numpy().astype(np.uint8)):
        assert all(torch.equal(one, two) for one, two in zip(epoch(labels=same)[1], after, strict=True))


def test_order_is_that_of_images_put_in_that_order() -> None:
    spikes, labels, _ = problem()
    order = torch.tensor([3, 0, 19, 3])
    seen, found = epoch(order=order)
    expected, after = epoch(images=spikes[order], labels=labels[order])
    assert torch.equal(seen.output_times, expected.output_times)
    assert seen.strict == expected.strict
    assert all(torch.equal(one, two) for one, two in zip(found, after, strict=True))


def test_an_epoch_of_two_halves_is_two_epochs_up_to_rounding() -> None:
    spikes, labels, weights = problem()
    weights = [weight.double() for weight in weights]
    whole = [weight.clone() for weight in weights]
    s4nn_epoch(spikes, labels, whole, RULE)
    for half in (slice(0, 10), slice(10, 20)):
        s4nn_epoch(spikes[half], labels[half], weights, RULE)
    assert all(torch.allclose(one, two, rtol=1e-12) for one, two in zip(weights, whole, strict=True))


def test_no_images_change_nothing() -> None:
    weights = problem()[2]
    seen, after = epoch(images=Spikes(torch.zeros(0, 12), 32), labels=torch.zeros(0, dtype=torch.int64))
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
    ("changes", "error", "words"),
    [
        ({"images": torch.zeros(20, 12)}, TypeError, ("Spikes", "Tensor")),
        ({"images": Spikes(torch.zeros(20, 12), 16)}, ValueError, ("16 steps", "32")),
        ({"images": sort_spikes(Spikes(torch.zeros(20, 12), 16))}, ValueError, ("16 steps", "32")),
        ({"images": Spikes.trusted(torch.full((20, 12), NAN), 32)}, ValueError, ("0 ... 32",)),
        ({"images": Spikes.trusted(torch.full((20, 12), 33.0), 32)}, ValueError, ("0 ... 32",)),
        (
            {"images": Spikes(torch.zeros(20, 3, 4), 32)},
            ValueError,
            ("(images, in_features)", "(20, 3, 4)"),
        ),
        ({"images": Spikes(torch.zeros(20, 11), 32)}, ValueError, ("11 features",)),
        ({"labels": torch.zeros(19, dtype=torch.int64)}, ValueError, ("(20,)", "(19,)")),
        ({"labels": torch.zeros(20, 1, dtype=torch.int64)}, ValueError, ("(20,)", "(20, 1)")),
        ({"labels": torch.tensor(0)}, ValueError, ("(20,)", "()")),
        ({"labels": torch.full((20,), 3)}, ValueError, ("0 ... 2", "3")),
        ({"labels": torch.full((20,), -1)}, ValueError, ("0 ... 2", "-1")),
        ({"labels": torch.zeros(20)}, TypeError, ("labels", "float32")),
        ({"labels": torch.zeros(20, dtype=torch.bool)}, TypeError, ("labels", "bool")),
        ({"order": torch.tensor([20])}, ValueError, ("order", "0 ... 19", "20")),
        ({"order": torch.tensor([[1]])}, TypeError, ("order", "one axis")),
        ({"order": torch.tensor([1.0])}, TypeError, ("order", "int64")),
        ({"weights": []}, ValueError, ("2 thresholds", "0")),
        ({"weights": [torch.zeros(9, 12)]}, ValueError, ("2 thresholds", "1")),
        ({"weights": [torch.zeros(9, 12), torch.zeros(3, 8)]}, ValueError, ("what the one before gives",)),
        ({"weights": [torch.zeros(9, 12), torch.zeros(27)]}, ValueError, ("(out_features, in_features)",)),
        ({"weights": [torch.zeros(9, 12), torch.zeros(3, 9).double()]}, TypeError, ("float32", "float64")),
        ({"weights": [torch.zeros(9, 12).half(), torch.zeros(3, 9).half()]}, TypeError, ("float16",)),
        ({"weights": [torch.full((9, 12), NAN), torch.zeros(3, 9)]}, ValueError, ("weights", "NaN")),
    ],
)
def test_bad_input_is_one_clear_error(
    changes: dict[str, Any], error: type[Exception], words: tuple[str, ...]
) -> None:
    with refused(error, *words):
        epoch(**changes)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 1),
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
def test_bad_numbers_are_refused_by_name(field: str, value: Any) -> None:
    with refused(ValueError, f"S4NNRule.{field}"):
        S4NNRule(**{field: value})


# Re-drawing neurons that do not fire


def test_only_neurons_below_the_rate_are_redrawn_within_the_bounds() -> None:
    layer = Linear(200, 4, Causal(), generator=seeded(0))
    before = layer.weight.detach().clone()
    # S4NN's bound is strict: 0.1 % is alive.
    rates = torch.tensor([0.0, 0.001, 0.5, 0.0009])
    assert redraw_dead(layer, rates, low=2.0, high=5.0, generator=seeded(1)) == 2
    assert torch.equal(layer.weight[[1, 2]], before[[1, 2]])
    fresh = layer.weight[[0, 3]]
    assert 2 <= fresh.min() < 2.1
    assert 4.9 < fresh.max() <= 5
    assert not torch.equal(fresh[0], fresh[1])
    assert layer.weight.requires_grad
    after = layer.weight.detach().clone()
    assert redraw_dead(layer, torch.ones(4), low=0.0, high=1.0) == 0
    assert torch.equal(layer.weight, after)


def test_the_least_rate_may_be_given_and_draws_are_seeded() -> None:
    weights = []
    for _ in range(2):
        layer = Linear(200, 4, Causal(), generator=seeded(0))
        rates = torch.tensor([0.4, 0.6, 0.4, 0.6])
        assert redraw_dead(layer, rates, low=0.0, high=1.0, min_rate=0.5, generator=seeded(7)) == 2
        weights.append(layer.weight)
    assert torch.equal(*weights)


def test_a_redrawn_neuron_fires() -> None:
    layer, spikes = dense(torch.full((4, 200), -1.0), Causal()), Spikes(torch.zeros(3, 200), 16)
    rates = (~layer(spikes).silent).float().mean(0)
    assert redraw_dead(layer, rates, low=0.0, high=5.0) == 4
    assert (layer(spikes).times == 0).all()
