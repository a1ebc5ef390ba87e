"""Deep networks on spike times: the very spikes of the trained form, and the costs by hand."""

import pytest
import torch
from builders import refused
from torch.nn import functional as F

from firstspike.decision import Votes
from firstspike.engine import Engine
from firstspike.metrics.cost import membrane_updates, multiply_adds, synaptic_operations
from firstspike.metrics.report import report as measure
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.patches.settings import PatchCarry
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.raster.settings import RasterNeuron, RasterWeights
from firstspike.models.spiking_form import spiking_form
from firstspike.models.window import WindowNetwork
from firstspike.nn import EarliestPool2d
from firstspike.spikes import Spikes

IN_SHAPE, CLASSES, T = (2, 12, 12), 4, 5
RASTER_LAYOUTS = ["6C3-A2-8C3s2-E3-F20", "5C5s2-7C3-A2-9C3-F11", "8C3-A2-F16", "F9-F8"]
WINDOW_LAYOUTS = ["6C3-A2-8C3s2-E3-F20", "5C5s2-5R-9Rs2-A3-F11", "8C3-E2-8R-A2-12R-A3", "F9-F8"]


def images(count=6):
    pixels = torch.randint(0, 256, (count, *IN_SHAPE), generator=torch.Generator().manual_seed(1))
    pixels[:, :, :4] = 0
    return pixels.to(torch.uint8)


def unpooled(traced, stack):
    """The spikes of the layers that have weights."""
    pairs = zip(traced[1:], stack, strict=True)
    return [spikes for spikes, layer in pairs if not isinstance(layer, EarliestPool2d)]


def raster(layout, code, weights, train_steps=0):
    torch.manual_seed(0)
    net = RasterNetwork(
        layout, IN_SHAPE, CLASSES, T,
        neuron=RasterNeuron(), weights=weights, decoder=Votes(neurons_per_class=3), code=code,
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    for _ in range(train_steps):
        loss = F.cross_entropy(net(images(32)), torch.arange(32) % CLASSES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if not train_steps:
        for layer in net.layers:
            owner = layer.norm or layer
            if owner.gain is not None:
                owner.gain.data.uniform_(0.5, 2)
                owner.shift.data.uniform_(-0.5, 1.3)
    return net.eval()


@pytest.mark.parametrize("layout", RASTER_LAYOUTS)
@pytest.mark.parametrize("code", ["current", "latency"])
@pytest.mark.parametrize(
    ("norm", "shift", "train_steps"),
    [
        ("weight", "once", 0),
        ("weight", "once", 10),
        ("weight", "per_step", 10),
        ("batch", "once", 10),
        ("none", "once", 0),
    ],
)
def test_a_raster_network_fires_the_same_spikes_as_layers_and_in_the_engine(
    layout, code, norm, shift, train_steps
):
    net = raster(layout, code, RasterWeights(norm=norm, shift=shift), train_steps)
    form = spiking_form(net)
    received = form.encode(images())
    kept = unpooled(form.stack.trace(received), form.stack)
    expected = net.trace(images())
    if code == "current":
        assert torch.equal(received.times, expected[0].times)
        expected = expected[1:]
    assert len(kept) == len(expected)
    for spikes, by_raster in zip(kept, expected, strict=True):
        assert torch.equal(spikes.times, by_raster.times)
    if shift == "once":
        engine = Engine(form.stack, form.in_shape)
        found = engine.run_many(received, early_exit=False)
        assert torch.equal(found.output_times, expected[-1].times)


def test_a_forced_last_spike_is_dropped():
    torch.manual_seed(0)
    more = {"weights": RasterWeights(), "decoder": Votes(neurons_per_class=3)}
    net = RasterNetwork("8C3-A2-F16", IN_SHAPE, CLASSES, T, neuron=RasterNeuron(fire_last=True), **more)
    form = spiking_form(net.eval())
    times = form.stack(form.encode(images())).times
    assert torch.equal(times, net.trace(images())[-1].times)
    net.train()
    layer, received = list(net._walk(images()))[-1]
    cumulative = layer(received).detach()
    # With all forced spikes counted, each neuron fires exactly once; up to the step before they agree.
    assert bool((cumulative[-1] == 1).all())
    forced = (cumulative == 0).sum(0)
    assert torch.equal(times.clamp(max=T - 1), forced.to(torch.float32))


@pytest.mark.parametrize("layout", WINDOW_LAYOUTS)
def test_a_window_network_fires_the_same_spikes_as_layers(layout):
    torch.manual_seed(0)
    net = WindowNetwork(layout, IN_SHAPE, CLASSES, in_steps=16, steps=8, out_steps=32, clip=2.0)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(8):
        loss = F.cross_entropy(-net(images(32)).times / 8, torch.arange(32) % CLASSES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    form = spiking_form(net)
    with torch.no_grad():
        values, out = net.trace(images())
        traced = form.stack.trace(form.encode(images()))
    kept = [traced[0], *unpooled(traced, form.stack)]
    assert [spikes.steps for spikes in kept] == [16, *[8] * (len(values) - 1), 32]
    for spikes, value in zip(kept, values, strict=False):
        assert torch.equal(spikes.values, value)
    assert torch.equal(kept[-1].times, out.times)


def test_another_network_has_none():
    with refused(TypeError, "WindowNetwork", "OneStepNetwork"):
        spiking_form(OneStepNetwork("4C3", IN_SHAPE, CLASSES, PatchCarry()))


def test_weights_too_large_for_exact_sums_are_refused():
    net = raster("8C3-A2-F16", "latency", RasterWeights(norm="none"))
    net.layers[1].weight.data.mul_(1e5)
    with refused(ValueError, "1024", "float32"):
        spiking_form(net)


def window_network(layout):
    windows = {"in_steps": 8, "steps": 8, "out_steps": 8}
    return WindowNetwork(layout, IN_SHAPE, CLASSES, **windows, clip=2.0).eval()


def test_that_of_a_compiled_network_is_its_own():
    net = window_network("6C3-F8")
    assert (
        spiking_form(torch.compile(net, backend="eager")).stack.windows == spiking_form(net).stack.windows
    )


def test_multiply_adds_are_those_of_the_layout_not_of_the_folded_kernels():
    net = raster("6C3-A2-8C3s2-F20", "current", RasterWeights())
    form = spiking_form(net)
    # Taps of a 3 x 3 kernel on 12 x 12 with padding: 34^2; stride 2 on 6 x 6: 2 + 3 + 3.
    first, second = 2 * 6 * 34**2, 6 * 8 * (2 + 3 + 3) ** 2
    assert form.current_multiply_adds == first
    assert form.multiply_adds == first + second + 72 * 20 + 20 * 12
    window = window_network("4R-6Rs2")
    form = spiking_form(window)
    assert form.multiply_adds == multiply_adds(form.stack, IN_SHAPE)


def only_input(stack, spikes):
    """A trace in which no layer fires."""
    silent = (s.with_times(torch.full_like(s.times, s.steps)) for s in stack.trace(spikes)[1:])
    return [spikes, *silent]


def test_a_shortcut_costs_its_spikes_times_its_fan_out():
    window = window_network("4R")
    stack = spiking_form(window).stack
    times = torch.full((1, *IN_SHAPE), 8.0)
    times[0, 1, 0, 0] = 3
    traced = only_input(stack, Spikes(times, 8))
    # A corner reaches 2 x 2 places of 4 maps through the kernel and 1 place of 4 past it.
    assert synaptic_operations(stack, traced, until_decision=False).tolist() == [4 * 4 + 4]
    plain = spiking_form(window_network("2R")).stack
    traced = only_input(plain, Spikes(times, 8))
    # Where the shape stays, values pass as they are: one addition.
    assert synaptic_operations(plain, traced, until_decision=False).tolist() == [4 * 2 + 1]


def test_a_shift_at_every_step_costs_an_addition_at_every_step():
    net = raster("F9-F8", "latency", RasterWeights(shift="per_step"))
    assert membrane_updates(spiking_form(net).stack) == T * (9 + 8 + 3 * CLASSES)
    net = raster("F9-F8", "latency", RasterWeights())
    assert membrane_updates(spiking_form(net).stack) == 0


def test_the_report_counts_what_the_spikes_say():
    net = raster("6C3-A2-8C3s2-F20", "current", RasterWeights())
    labels = torch.arange(6) % CLASSES
    report = measure(spiking_form(net), images(), labels, batch_size=4)
    times = [spikes.times for spikes in net.trace(images())]
    hidden = torch.cat([t.flatten(1) for t in times[:-1]], 1)
    assert report.spikes_per_hidden_neuron == pytest.approx(float((hidden < T).float().mean()))
    assert report.spikes_per_hidden_neuron <= 1
    worth = torch.tensor([1.5**-t for t in range(T)] + [0.0], dtype=torch.float64)
    totals = worth[times[-1].long()].unflatten(1, (CLASSES, 3)).sum(2)
    alone = (totals == totals.max(1, keepdim=True).values).sum(1) == 1
    assert report.accuracy == pytest.approx(float(((totals.argmax(1) == labels) & alone).float().mean()))
    assert report.tie_rate == pytest.approx(float((~alone).float().mean()))
    assert sum(report.steps_share) == pytest.approx(1)
    decided = spiking_form(net).decoder.spikes.decide(net.trace(images())[-1])
    for step, (mean, worst) in enumerate(
        zip(report.accuracy_by_step, report.worst_accuracy_by_step, strict=True)
    ):
        by_then = (decided.label == labels) & (decided.steps <= step)
        assert mean == pytest.approx(float(by_then.float().mean()))
        shares = [float(by_then[labels == c].float().mean()) for c in labels.unique()]
        assert worst == pytest.approx(min(shares))
    assert report.accuracy_by_step[-1] == pytest.approx(report.accuracy)
    assert report.multiply_adds == 2 * 6 * 34**2
    adds = 0.9 * (report.synops + report.membrane_updates)
    assert report.energy_pj == pytest.approx(adds + 4.6 * report.multiply_adds)
    named = {"accuracy", "tie_rate", "silent_rate", "decision_rule", "accuracy_membrane"}
    assert set(report.as_dict()) >= named
    with refused(ValueError, "no samples"):
        measure(spiking_form(net), images()[:0], labels[:0])


def test_the_mean_of_hidden_values_is_that_of_the_trace():
    torch.manual_seed(0)
    steps = {"in_steps": 8, "steps": 4, "out_steps": 16}
    network = WindowNetwork("4C3-8R-E2-F6", IN_SHAPE, 3, clip=2.0, **steps).train()
    values, out = network.trace(images())
    found, mean = network.with_mean(images())
    assert torch.equal(found.times, out.times)
    torch.testing.assert_close(mean, torch.cat([part.flatten() for part in values[1:]]).mean())
