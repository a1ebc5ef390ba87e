"""One report for every classifier."""

import json
import math
from itertools import product

import numpy as np
import pytest
import torch
from builders import refused, seeded
from torch import Tensor

import firstspike
from firstspike.codes import encode_latency
from firstspike.decision import Votes
from firstspike.metrics.cost import spikes_per_layer, spikes_to_decision, synaptic_operations
from firstspike.metrics.report import Report, report
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.patches.settings import PatchCarry
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.raster.settings import RasterNeuron, RasterWeights
from firstspike.models.spiking_form import spiking_form
from firstspike.models.window import WindowNetwork
from firstspike.neurons import Causal, Neuron, Window
from firstspike.nn import AvgPool2d, Conv2d, Linear, Stack
from firstspike.spikes import Spikes

T, CLASSES = 16, 4


def make_stack(neuron: Neuron) -> Stack:
    """Return a random network that leaves some samples undecided and, of window neurons, tied."""
    source = seeded(0)
    stack = Stack(
        Linear(12, 9, neuron, generator=source),
        Linear(9, CLASSES, neuron, generator=source),
        steps=T,
    )
    with torch.no_grad():
        for layer in stack:
            layer.weight.sub_(neuron.drive() / layer.wiring.fan_in).mul_(2)
    return stack


def some_samples(count: int = 60) -> tuple[Tensor, Tensor]:
    source = seeded(1)
    times = torch.randint(0, T + 1, (count, 12), generator=source).float()
    return times, torch.randint(0, CLASSES, (count,), generator=source)


def as_spikes(times: Tensor) -> Spikes:
    return Spikes(times, T)


def classified(stack: Stack, times: Tensor, labels: Tensor, batch_size: int = 250) -> Report:
    """Return the report on spike times."""
    return report(stack, times, labels, encode=as_spikes, batch_size=batch_size)


@pytest.mark.parametrize("neuron", [Causal(), Window(low=0.25, high=0.75)])
def test_the_report_is_that_of_a_loop_over_samples(neuron: Neuron) -> None:
    stack = make_stack(neuron)
    times, labels = some_samples()
    latest = 2 * T if isinstance(neuron, Window) else 0
    strict = papers = ties = silent = 0
    decided: list[bool] = []
    steps, spikes, synops = [], [], []
    with torch.no_grad():
        for sample, label in zip(times, labels.tolist(), strict=True):
            layers = [sample.tolist()]
            for layer in stack:
                layers.append(layer(as_spikes(torch.tensor([layers[-1]]))).times[0].tolist())
            first = min(layers[2])
            leading = [j for j, t in enumerate(layers[2]) if t == first and first < T]
            decided.append(leading == [label])
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
    found = classified(stack, times, labels, batch_size=7)
    assert 0 < strict < 60
    assert silent > 0
    assert ties > 0 or isinstance(neuron, Causal)
    assert found.accuracy == strict / 60
    assert found.accuracy_papers_rule == papers / 60
    assert (found.tie_rate, found.silent_rate, found.count) == (ties / 60, silent / 60, 60)
    assert found.steps_to_decision == pytest.approx(sum(steps) / 60)
    assert found.spikes_to_decision_by_layer == pytest.approx(
        [sum(column) / 60 for column in zip(*spikes, strict=True)]
    )
    assert found.synops == pytest.approx(sum(synops) / 60)
    assert found.membrane_updates == (0 if latest == 0 else (9 + CLASSES) * 2 * T)
    assert found.energy_pj == pytest.approx((found.synops + found.membrane_updates) * 0.9)
    assert found.dense_energy_pj == pytest.approx((12 * 9 + 9 * CLASSES) * 4.6)
    for c in range(CLASSES):
        mine = [k for k, label in enumerate(labels.tolist()) if label == c]
        assert found.accuracy_by_class[c] == sum(decided[k] for k in mine) / len(mine)
        assert found.steps_by_class[c] == pytest.approx(sum(steps[k] for k in mine) / len(mine))
        assert found.spikes_by_class[c] == pytest.approx(sum(sum(spikes[k]) for k in mine) / len(mine))


def test_batches_do_not_change_the_report() -> None:
    stack, samples = make_stack(Causal()), some_samples()
    reports = [classified(stack, *samples, batch_size=size) for size in (1, 13, 60, 1000)]
    assert all(found == reports[0] for found in reports)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back(training: bool) -> None:
    stack = make_stack(Causal()).train(training)
    classified(stack, *some_samples())
    assert stack.training == training
    assert all(layer.training == training for layer in stack)


def test_a_class_without_samples_has_no_mean() -> None:
    times, _ = some_samples(5)
    found = classified(make_stack(Causal()), times, torch.zeros(5, dtype=torch.int64))
    for means in (found.accuracy_by_class, found.steps_by_class, found.spikes_by_class):
        assert math.isfinite(means[0])
        assert means[1:] == (None,) * (CLASSES - 1)
    json.dumps(found.as_dict(), allow_nan=False)


def test_no_samples_are_refused() -> None:
    with refused(ValueError, "no samples"):
        classified(make_stack(Causal()), torch.zeros(0, 12), torch.zeros(0).long())


def test_the_dictionary_has_the_names_of_the_command_line() -> None:
    found = classified(make_stack(Causal()), *some_samples())
    figures = found.as_dict()
    assert figures["decision_rule"] == "first spike; ties wrong; silence wrong"
    assert figures["spikes_to_decision"] == pytest.approx(sum(found.spikes_to_decision_by_layer))
    assert figures["energy_constants_pj"] == {"add": 0.9, "multiply_add": 4.6}
    expected = {"accuracy", "tie_rate", "silent_rate", "accuracy_papers_rule", "papers_rule", "count"}
    expected |= {"steps_to_decision", "spikes_to_decision", "synops", "energy_pj", "dense_energy_pj"}
    assert expected <= figures.keys()
    assert json.loads(json.dumps(figures)) == figures


def test_it_prints_as_a_table() -> None:
    lines = str(classified(make_stack(Causal()), *some_samples())).splitlines()
    names = [line.split("  ")[0] for line in lines]
    assert {"accuracy", "steps_to_decision", "energy_constants_pj / add"} <= set(names)
    starts = {len(line) - len(line[len(name) :].lstrip()) for name, line in zip(names, lines, strict=True)}
    assert len(starts) == 1


def test_a_stack_takes_images() -> None:
    stack = make_stack(Window(low=0.25, high=0.75))
    images = torch.randint(0, 256, (20, 3, 4), generator=seeded(0)).to(torch.uint8)
    labels = torch.arange(20) % CLASSES
    times = encode_latency(images.flatten(1), T).times
    assert firstspike.report(stack, images, labels) == classified(stack, times, labels)


def test_arrays_and_lists_are_taken() -> None:
    stack, times = make_stack(Window(low=0.25, high=0.75)), some_samples(20)[0]
    images, labels = (1 - times / T).numpy(), list(range(CLASSES)) * 5
    expected = firstspike.report(stack, torch.as_tensor(images), torch.tensor(labels))
    assert firstspike.report(stack, images, labels) == expected
    assert firstspike.report(stack, images.tolist(), np.array(labels, np.int32)) == expected


def test_an_encoder_is_for_a_stack_only() -> None:
    stack, labels = Stack(Linear(36, 3), steps=T), torch.arange(12) % 3
    images = torch.rand(12, 6, 6, generator=seeded(0))
    with refused(ValueError, "encode", "Stack", "Sequential"):
        report(torch.nn.Sequential(Encoder(), stack), images, labels, encode=stack.encode)


def test_parts_of_several_windows_are_refused() -> None:
    class Growing(torch.nn.Module):
        steps = 8

        def forward(self, images: Tensor) -> Spikes:
            self.steps *= 2
            return encode_latency(images.flatten(1), self.steps)

    with refused(ValueError, "16 and 32 steps"):
        report(Growing(), torch.rand(12, 3, generator=seeded(0)), torch.arange(12) % 3, batch_size=6)


def test_labels_name_a_class_for_each_image() -> None:
    images = torch.randint(0, 256, (12, 1, 6, 6), generator=seeded(0)).to(torch.uint8)
    labels = torch.arange(12) % 3
    one_step = OneStepNetwork("4C3-D-4C3", (1, 6, 6), 3, PatchCarry())
    stack = Stack(Linear(36, 3), steps=T)
    window = WindowNetwork("4C3-F8", (1, 6, 6), 3, in_steps=8, steps=8, out_steps=16, clip=2.0)
    window(images)
    wrapped = torch.nn.Sequential(Encoder(), stack)
    for network in (one_step, stack, window, wrapped):
        for wrong, words in (
            (labels + 100, ("0 ... 2", "100 ... 102")),
            (labels - 1, ("-1",)),
            (labels.unsqueeze(1), ("(12,)", "(12, 1)")),
            (labels[:-1], ("(12,)", "(11,)")),
        ):
            with refused(ValueError, "labels", *words):
                report(network, images, wrong)
        with refused(TypeError, "labels", "float32"):
            report(network, images, labels.float())


def test_accuracies_of_classes_average_to_the_accuracy() -> None:
    """In every kind of network; a single class's is the accuracy on its samples alone."""
    images = torch.randint(0, 256, (60, 1, 6, 6), generator=seeded(0)).to(torch.uint8)
    labels = torch.randint(0, 3, (60,), generator=seeded(1))
    torch.manual_seed(0)
    window = WindowNetwork("4C3-F8", (1, 6, 6), 3, in_steps=8, steps=8, out_steps=16, clip=2.0)
    window(images)
    stack = Stack(Linear(36, 3), steps=T)
    networks = (
        stack,
        window,
        torch.nn.Sequential(Encoder(), stack),
        OneStepNetwork("4C3-D-4C3", (1, 6, 6), 3, PatchCarry()),
    )
    for network in networks:
        found = report(network, images, labels)
        shares = found.accuracy_by_class
        assert len(set(shares)) > 1
        assert found.accuracy == pytest.approx(
            sum(s * int((labels == c).sum()) for c, s in enumerate(shares)) / 60
        )
        alone = report(network, images[labels == 1], labels[labels == 1])
        assert alone.accuracy == alone.accuracy_by_class[1] == shares[1]
        assert alone.accuracy_by_class[0] is None


class Encoder(torch.nn.Module):
    """Images to spikes."""

    def forward(self, images: Tensor) -> Spikes:
        return encode_latency(images.flatten(1), T)


def test_a_network_is_reported_by_its_spiking_form() -> None:
    torch.manual_seed(0)
    net = WindowNetwork("4C3-F8", (1, 6, 6), 3, in_steps=8, steps=8, out_steps=16, clip=2.0)
    images = torch.randint(0, 256, (12, 1, 6, 6)).to(torch.uint8)
    labels = torch.arange(12) % 3
    net(images)
    found = report(net.train(), images, labels)
    assert net.training
    assert found == report(spiking_form(net.eval()), images, labels)
    assert 0 < found.spikes_per_hidden_neuron <= 1


def a_deep_network(kind: str) -> RasterNetwork | WindowNetwork:
    """Return a random network of maps of 2 x 8 x 8."""
    torch.manual_seed(3)
    if kind == "window":
        return WindowNetwork("4C3-E2-4R-6Rs2-F5", (2, 8, 8), 3, in_steps=8, steps=4, out_steps=16, clip=2.0)
    net = RasterNetwork(
        "4C3-A2-5C3-E2-F6",
        (2, 8, 8),
        3,
        5,
        neuron=RasterNeuron(),
        weights=RasterWeights(),
        decoder=Votes(neurons_per_class=2),
        code=kind,
    )
    with torch.no_grad():
        for layer in net.layers:
            # Enough to pass spikes on to the output.
            layer.gain.mul_(2)
            layer.shift.add_(0.3)
    return net


def receivers(stack: Stack, shapes: list[tuple[int, ...]]) -> list[Tensor]:
    """Return for every neuron of the input and of each layer how many neurons its spike reaches.

    Each spikes alone, through weights of one: what it reaches is what is not 0 then.
    """
    reached = [torch.zeros(shape, dtype=torch.int64) for shape in shapes]
    for layer, sources in zip(stack, stack.sources, strict=True):
        for connection, source in zip((layer, *layer.shortcuts), sources, strict=True):
            for neuron in product(*map(range, shapes[source])):
                alone = torch.zeros(1, *shapes[source])
                alone[0, *neuron] = 1
                if isinstance(connection, AvgPool2d):
                    arrives = torch.nn.functional.avg_pool2d(alone, connection.kernel_size)
                else:
                    wiring = connection.wiring
                    arrives = wiring.apply(alone, torch.ones(wiring.weight_shape), None, 0.0)
                reached[source][neuron] += int((arrives != 0).sum())
    return reached


@pytest.mark.parametrize("kind", ["window", "current", "latency"])
def test_the_counts_of_a_deep_network_are_those_of_a_loop_over_spikes(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = spiking_form(a_deep_network(kind).eval())
    stack, images, labels = form.stack, torch.randint(0, 256, (7, 2, 8, 8)).to(torch.uint8), [0] * 7
    with torch.no_grad():
        traced = stack.trace(form.encode(images))
    decision = form.decoder.spikes.decide(traced[-1]).steps + stack.offsets[-1]
    reached = receivers(stack, stack.shapes(form.in_shape))
    spikes, early = ([[0] * len(traced) for _ in images] for _ in range(2))
    operations = [0] * 7
    for depth, (layer, start) in enumerate(zip(traced, stack.offsets, strict=True)):
        for b, *neuron in product(*map(range, layer.shape)):
            time = float(layer.times[b, *neuron])
            if time < layer.steps:
                spikes[b][depth] += 1
                if start + time <= decision[b]:
                    early[b][depth] += 1
                    operations[b] += int(reached[depth][tuple(neuron)])
    assert spikes_per_layer(stack, traced).tolist() == spikes
    assert spikes_to_decision(stack, traced, decision).tolist() == early
    assert synaptic_operations(stack, traced, decision=decision).tolist() == operations
    # Not everything spikes, and on one clock not all of it before the decision.
    assert 0 < sum(map(sum, spikes)) < sum(layer.times.numel() for layer in traced)
    assert kind == "window" or early != spikes

    found = report(form, images, labels)
    assert found.synops == pytest.approx(sum(operations) / 7, rel=1e-6)
    assert found.spikes_to_decision_by_layer == pytest.approx(
        [sum(n) / 7 for n in zip(*early, strict=True)]
    )
    sizes = [layer[0].times.numel() for layer in traced]
    shares = [sum(n) / 7 / size for n, size in zip(zip(*spikes, strict=True), sizes, strict=True)]
    assert found.spikes_per_neuron_by_layer == pytest.approx(shares)
    # A network of large maps is measured a few samples at a time.
    monkeypatch.setattr("firstspike.metrics.report._TIMES_AT_ONCE", 3 * max(sizes))
    done: list[int] = []
    assert report(form, images, labels, progress=done.append) == found
    assert done == [3, 6, 7]


def test_progress_is_told_how_many_samples_are_measured() -> None:
    stack, (times, labels) = make_stack(Causal()), some_samples()
    one_step = OneStepNetwork("4C3", (1, 6, 6), CLASSES, PatchCarry())
    maps = torch.rand(60, 1, 6, 6, generator=seeded(0))
    for network, samples in ((stack, times), (Wrapped(stack), times), (one_step, maps)):
        done: list[int] = []
        encode = as_spikes if network is stack else None
        report(network, samples, labels, encode=encode, batch_size=25, progress=done.append)
        assert done == [25, 50, 60], network


class Wrapped(torch.nn.Module):
    """A network that is known by its output alone."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, times: Tensor) -> Spikes:
        assert not self.training
        return self.stack(as_spikes(times))


def test_any_module_that_returns_spikes_has_accuracy_and_steps() -> None:
    stack, samples = make_stack(Causal()), some_samples()
    found, whole = report(Wrapped(stack), *samples), classified(stack, *samples)
    assert found.synops is None
    assert found.as_dict().items() <= whole.as_dict().items()


@pytest.mark.parametrize("neuron", [Causal(), Window(low=0.25, high=0.75)])
def test_a_convolution_that_covers_its_map_costs_what_the_fully_connected_layer_does(
    neuron: Neuron,
) -> None:
    dense = make_stack(neuron)
    hidden, output = dense
    conv = Conv2d(3, 9, 2, neuron)
    with torch.no_grad():
        conv.weight.copy_(hidden.weight.unflatten(1, (3, 2, 2)))
        if hidden.bias is not None:
            conv.bias.copy_(hidden.bias)
    times, labels = some_samples()
    expected = classified(dense, times, labels)
    maps = classified(Stack(conv, output, steps=T), times.unflatten(1, (3, 2, 2)), labels, 7)
    found = maps.as_dict()
    for name, value in expected.as_dict().items():
        assert found[name] == pytest.approx(value), name
