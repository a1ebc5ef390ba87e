import json
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from firstspike.metrics.classification import ClassificationReport, classification_report
from firstspike.neurons import Causal, Neuron, Window
from firstspike.nn import Conv2d, Linear, Stack

T, CLASSES = 16, 4


def make_stack(neuron: Neuron, dropout: float = 0.0) -> Stack:
    """Return a random network that leaves some samples undecided and, of window neurons, tied."""
    generator = torch.Generator().manual_seed(0)
    stack = Stack(
        [
            Linear(12, 9, T, neuron, dropout=dropout, generator=generator),
            Linear(9, CLASSES, T, neuron, dropout=dropout, generator=generator),
        ]
    )
    with torch.no_grad():
        for layer in stack:
            layer.weight.mul_(2)
    return stack


def some_samples(count: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    times = torch.randint(0, T + 1, (count, 12), generator=generator).float()
    return times, torch.randint(0, CLASSES, (count,), generator=generator)


@pytest.mark.parametrize("neuron", [Causal(), Window(low=0.25, high=0.75)])
def test_the_report_is_that_of_a_loop_over_samples(neuron: Neuron) -> None:
    stack = make_stack(neuron)
    times, labels = some_samples()
    latest = 2 * T if isinstance(neuron, Window) else 0
    strict = papers = ties = silent = 0
    steps, spikes, synops = [], [], []
    with torch.no_grad():
        for sample, label in zip(times, labels.tolist(), strict=True):
            layers = [sample.tolist()]
            for layer in stack:
                layers.append(layer(torch.tensor([layers[-1]]))[0].tolist())
            first = min(layers[2])
            leading = [j for j, t in enumerate(layers[2]) if t == first and first < T]
            strict += leading == [label]
            papers += label in leading
            ties += len(leading) > 1
            silent += not leading
            steps.append(first + latest)
            if isinstance(neuron, Window):
                counted = [sum(t < T for t in layers[0]), sum(t < T for t in layers[1]), len(leading)]
            else:
                counted = [sum(t < T and t <= first for t in layer) for layer in layers]
            spikes.append(counted)
            synops.append(counted[0] * 9 + counted[1] * CLASSES)
    report = classification_report(stack, times, labels, CLASSES, batch_size=7)
    assert 0 < strict < 60
    assert silent > 0
    assert ties > 0 or isinstance(neuron, Causal)
    for score, right in ((report.strict, strict), (report.papers, papers)):
        assert (score.right, score.ties, score.silent, score.count) == (right, ties, silent, 60)
    assert report.steps == pytest.approx(sum(steps) / 60)
    assert report.spikes == pytest.approx([sum(column) / 60 for column in zip(*spikes, strict=True)])
    assert report.synops == pytest.approx(sum(synops) / 60)
    assert report.updates == (0 if latest == 0 else (9 + CLASSES) * 2 * T)
    assert report.energy_pj == pytest.approx((report.synops + report.updates) * 0.9)
    assert report.dense_energy_pj == pytest.approx((12 * 9 + 9 * CLASSES) * 4.6)
    for c in range(CLASSES):
        mine = [k for k, label in enumerate(labels.tolist()) if label == c]
        assert report.steps_by_class[c] == pytest.approx(sum(steps[k] for k in mine) / len(mine))
        assert report.spikes_by_class[c] == pytest.approx(sum(sum(spikes[k]) for k in mine) / len(mine))


def test_batches_do_not_change_the_report() -> None:
    stack, samples = make_stack(Causal()), some_samples()
    reports = [
        classification_report(stack, *samples, CLASSES, batch_size=size) for size in (1, 13, 60, 1000)
    ]
    assert all(report == reports[0] for report in reports)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_put_back(training: bool) -> None:
    stack = make_stack(Causal(), dropout=0.5).train(training)
    report = classification_report(stack, *some_samples(), CLASSES)
    assert report == classification_report(make_stack(Causal()), *some_samples(), CLASSES)
    assert stack.training == training
    assert all(layer.training == training for layer in stack)


def test_a_class_without_samples_has_no_mean() -> None:
    times, _ = some_samples(5)
    report = classification_report(make_stack(Causal()), times, torch.zeros(5, dtype=torch.int64), CLASSES)
    for means in (report.steps_by_class, report.spikes_by_class):
        assert math.isfinite(means[0])
        assert means[1:] == (None,) * (CLASSES - 1)
    json.dumps(report.as_dict(), allow_nan=False)


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="there are no samples to report on"):
        classification_report(make_stack(Causal()), torch.zeros(0, 12), torch.zeros(0).long(), CLASSES)


def test_the_dictionary_has_the_names_of_the_command_line() -> None:
    report = classification_report(make_stack(Causal()), *some_samples(), CLASSES)
    figures = report.as_dict()
    assert figures["accuracy"] == report.strict.accuracy
    assert figures["accuracy_papers_rule"] == report.papers.accuracy
    assert (figures["tie_rate"], figures["silent_rate"]) == (
        report.strict.tie_rate,
        report.strict.silent_rate,
    )
    assert figures["decision_rule"] == "first spike; ties wrong; silence wrong"
    assert figures["spikes_to_decision"] == pytest.approx(sum(report.spikes))
    assert figures["energy_constants_pj"] == {"add": 0.9, "multiply_add": 4.6}
    expected = {"steps_to_decision", "spikes_to_decision", "synops", "energy_pj", "count"}
    assert expected <= figures.keys()
    assert json.loads(json.dumps(figures)) == figures
    assert isinstance(replace(report, steps=1.0), ClassificationReport)


@pytest.mark.parametrize("neuron", [Causal(), Window(low=0.25, high=0.75)])
def test_a_convolution_that_covers_its_map_costs_what_the_fully_connected_layer_does(
    neuron: Neuron,
) -> None:
    dense = make_stack(neuron)
    hidden, output = dense
    conv = Conv2d(3, 9, 2, T, neuron)
    with torch.no_grad():
        conv.weight.copy_(hidden.weight.unflatten(1, (3, 2, 2)))
    times, labels = some_samples()
    expected = classification_report(dense, times, labels, CLASSES)
    maps = classification_report(Stack([conv, output]), times.unflatten(1, (3, 2, 2)), labels, CLASSES, 7)
    found = maps.as_dict()
    for name, value in expected.as_dict().items():
        assert found[name] == pytest.approx(value), name
