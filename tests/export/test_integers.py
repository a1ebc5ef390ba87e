"""Networks in integers: equal to the float layers on the grid, near them off it, exact always."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from builders import dense, refused
from drawn_networks import Drawn, networks
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import firstspike as fs
from firstspike.export import integers
from firstspike.export.integers import IntegerCausal, IntegerWindow
from firstspike.export.rounding import by_output
from firstspike.nn.description import describe


@settings(deadline=None, max_examples=80)
@given(networks(grid=64))
def test_weights_on_a_grid_spike_as_the_float_layers_do(drawn: Drawn) -> None:
    net, shape, images = drawn
    whole = fs.integer(net, in_shape=shape)
    spikes = net.encode(images)
    # Sums of such weights are exact in double precision, and so are the levels of windows of 2^k steps.
    expected, found = net.double().trace(spikes), whole.trace(whole.encode(images))
    for one, other in zip(expected, found, strict=True):
        assert one.steps == other.steps
        assert torch.equal(one.times.float(), other.times)


@settings(deadline=None, max_examples=40)
@given(networks(), st.integers(2, 8))
def test_narrow_and_wide_membranes_spike_alike(drawn: Drawn, bits: int) -> None:
    net, shape, images = drawn
    spikes = net.encode(images)
    narrow = fs.integer(net, bits=bits, in_shape=shape).trace(spikes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integers, "_NARROW", -1)
        patch.setattr(integers, "_EXACT", 0)
        wide = fs.integer(net, bits=bits, in_shape=shape).trace(spikes)
    for one, other in zip(narrow, wide, strict=True):
        assert torch.equal(one.times, other.times)


@settings(deadline=None, max_examples=40)
@given(networks(), st.sampled_from([2, 4, 8]), st.sampled_from(["channel", "layer"]))
def test_layers_hold_what_the_whole_numbers_stand_for(drawn: Drawn, bits: int, per: str) -> None:
    net, shape, images = drawn
    whole = fs.integer(net, bits=bits, in_shape=shape, per=per)  # type: ignore[arg-type]
    most = 2 ** (bits - 1) - 1
    floats = copy.deepcopy(whole).double()
    traced = whole.trace(whole.encode(images))
    for depth, (layer, given_) in enumerate(zip(whole.integers, floats, strict=True)):
        for one in layer.connections:
            assert int(one.weight.abs().max()) <= max(most, 1)
        fired = given_(*(traced[source] for source in floats.sources[depth]))
        # Float weights are off the grid by rounding errors, which move a membrane over a level at times.
        assert (fired.times - traced[depth + 1].times).abs().max() <= max(1, fired.steps)
        assert ((fired.times != traced[depth + 1].times).float().mean()) <= 0.05


def test_a_window_layer_by_hand() -> None:
    # Four steps; inputs 0 ... 1; the step of the weights is a quarter, that of the output's levels 1 / 2.
    net = fs.Stack(dense([[0.25, -0.5], [1.75, 0.0]], fs.Window(high=2.0, steps=4), [0.5, 0.0]), steps=4)
    (layer,) = fs.integer(net, bits=4).integers
    assert isinstance(layer, IntegerWindow)
    assert layer.connections[0].weight.tolist() == [[1, -2], [7, 0]]
    spikes = fs.Spikes([[0.0, 4.0], [0.0, 0.0], [2.0, 1.0]], 4)
    # Membranes .75, .25, .25 and 1.75, 1.75, .875 in levels of a half: 1, 0, 0 and 3, 3, 1.
    assert layer.read([spikes])[0].times.tolist() == [[3, 1], [4, 1], [4, 3]]


def test_a_causal_layer_by_hand() -> None:
    net = fs.Stack(dense([[0.5, 0.5, -1.0]], fs.Causal(threshold=1.0, delay=1)), steps=8)
    (layer,) = fs.integer(net, bits=3).integers
    assert isinstance(layer, IntegerCausal)
    assert layer.connections[0].weight.tolist() == [[1, 1, -2]]
    assert layer.level.tolist() == [2]
    spikes = fs.Spikes([[3.0, 5.0, 8.0], [3.0, 5.0, 4.0], [7.0, 7.0, 8.0]], 8)
    assert layer.read([spikes])[0].times.tolist() == [[6], [8], [8]]


@pytest.mark.parametrize(("strict", "level"), [(False, 4), (True, 5)])
def test_the_threshold_is_the_least_sum_that_fires(strict: bool, level: int) -> None:
    net = fs.Stack(dense([[0.25, 0.75]], fs.Causal(threshold=1.0, strict=strict)), steps=8)
    (layer,) = fs.integer(net).integers
    assert isinstance(layer, IntegerCausal)
    assert layer.level.tolist() == [level]


def test_few_bits_take_the_step_of_the_least_squared_error() -> None:
    weight = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    weight[0, 0] = 20.0
    net = fs.Stack(dense(weight.clone(), fs.Window()), steps=8)
    whole = fs.integer(net, bits=4)

    def error(step: torch.Tensor) -> torch.Tensor:
        return ((weight / step).round().clamp(-7, 7) * step - weight).square().sum(1)

    kept = (whole[0].weight.detach() - weight).square().sum(1)
    largest = weight.abs().amax(1, keepdim=True)
    assert (kept <= error(largest / 7) + 1e-3).all()
    assert kept[1] < error(largest / 7)[1]


def test_a_connection_past_has_steps_of_its_own() -> None:
    past = fs.Connection.conv2d(2, 2, 1, groups=2, source=1)
    past.weight.data.fill_(4.0)
    net = fs.Stack(fs.Conv2d(1, 2, 3, padding=1), fs.Conv2d(2, 2, 3, padding=1, shortcuts=[past]), steps=16)
    whole = fs.integer(net, in_shape=(1, 4, 4))
    first, second = whole.integers[1].connections
    assert int(first.weight.abs().max()) >= 64
    assert (second.shift > first.shift).all()


def test_channels_differ_less_from_the_network_than_a_layer() -> None:
    weight = torch.randn(8, 50, generator=torch.Generator().manual_seed(1))
    weight *= torch.logspace(-2, 0, 8)[:, None]
    net = fs.Stack(dense(weight.clone(), fs.Window()), steps=8)
    by_channel, by_layer = (
        float((fs.integer(net, bits=4, per=per)[0].weight.detach() - weight).norm())
        for per in ("channel", "layer")
    )
    assert by_channel < by_layer


def test_a_report_is_that_of_a_stack() -> None:
    source = torch.Generator().manual_seed(0)
    net = fs.Stack(fs.Linear(16, 8, generator=source), fs.Linear(8, 3, fs.Window.output(32)), steps=8)
    images = torch.randint(0, 256, (50, 4, 4), generator=source).to(torch.uint8)
    labels = torch.randint(0, 3, (50,), generator=source)
    whole = fs.integer(net)
    found, given_ = fs.report(whole, images, labels), fs.report(net, images, labels)
    assert found.count == 50
    assert math.isclose(found.synops or 0, given_.synops or 1, rel_tol=0.1)


def test_an_encoder_of_a_recipe_goes_with_the_network() -> None:
    recipe = replace(fs.preset("aggressive-ttfs-window").configure(dataset="digits"), min_intensity=128.0)
    model = recipe.build((1, 8, 8), 10)
    whole = fs.integer(recipe.exported(model))
    images = torch.arange(256, dtype=torch.uint8).reshape(4, 8, 8)
    assert torch.equal(whole.encode(images).times, recipe.encode(images).times)
    assert torch.equal(whole.encode(images / 255).times, recipe.encode(images).times)


def test_what_has_no_form_in_whole_numbers_is_refused() -> None:
    with refused(ValueError, "layer 1 (Linear)", "Ramp", "Window", "Causal"):
        fs.integer(fs.Stack(fs.Linear(4, 4, fs.Causal()), fs.Linear(4, 2, fs.Ramp()), steps=8))
    with refused(TypeError, "Stack", "Sequential"):
        fs.integer(nn.Sequential())  # type: ignore[call-overload]
    net = fs.Stack(fs.Linear(4, 2), steps=8)
    for bits in (1, 9, 2.5):
        with refused(ValueError, "integer.bits"):
            fs.integer(net, bits=bits)  # type: ignore[arg-type]
    with refused(ValueError, "per", "channel, layer"):
        fs.integer(net, per="row")  # type: ignore[call-overload]
    net[0].weight.data[0, 0] = math.nan
    with refused(ValueError, "layer 0 (Linear)", "weight", "NaN"):
        fs.integer(net)
    with refused(ValueError, "in_shape"):
        fs.integer(fs.Stack(fs.Conv2d(1, 2, 3), steps=8))


def test_an_accumulator_that_could_overflow_is_refused() -> None:
    layer = fs.Linear(70_000, 1, fs.Window(high=4.0), bias=False)
    layer.weight.data.fill_(1.0)
    layer.weight.data[0, ::2] = 127 / 128
    with refused(ValueError, "layer 0 (Linear)", "32 bits", "2,147,483,647"):
        fs.integer(fs.Stack(layer, steps=256))


@pytest.mark.parametrize("bits", [2, 4])
def test_rounded_weights_learn_and_leave_as_they_are(bits: int) -> None:
    source = torch.Generator().manual_seed(0)
    net = fs.Stack(fs.Linear(16, 8, generator=source), fs.Linear(8, 3, fs.Window.output(32)), steps=8)
    aware = fs.rounded_weights(net, bits=bits)
    images = torch.randint(0, 256, (64, 4, 4), generator=source).to(torch.uint8)
    labels = torch.randint(0, 3, (64,), generator=source)
    assert len(aware[0].synapses.weight[0].unique()) < 2**bits
    optimizer = torch.optim.SGD(aware.parameters(), 0.5)
    for _ in range(20):
        optimizer.zero_grad()
        fs.first_spike_cross_entropy(aware(aware.encode(images)), labels).backward()
        optimizer.step()
    whole = fs.integer(aware, bits=bits)
    # Their steps are those that they learnt with, though the largest weight may have moved.
    assert torch.allclose(whole[0].weight, aware[0].synapses.weight, atol=1e-6)
    assert not torch.allclose(whole[0].weight, fs.integer(net, bits=bits)[0].weight, atol=1e-6)
    differ = whole(whole.encode(images)).times != aware(aware.encode(images)).times
    assert differ.float().mean() <= 0.02
    with refused(ValueError, f"bits={bits + 1}"):
        fs.integer(aware, bits=bits + 1)
    with refused(TypeError, "rounded", "firstspike.integer"):
        describe(aware)


def test_connections_that_add_up_keep_the_steps_that_they_learnt() -> None:
    past = fs.Connection.linear(6, 6, source=0)
    past.weight.data *= 9
    net = fs.Stack(fs.Linear(6, 6), fs.Linear(6, 6, shortcuts=[past]), steps=8)
    aware = fs.rounded_weights(net, bits=4)
    whole, plain = fs.integer(aware, bits=4), fs.integer(net, bits=4)
    for one, other in zip(whole.integers, plain.integers, strict=True):
        for connection, same in zip(one.connections, other.connections, strict=True):
            assert torch.equal(connection.weight, same.weight)
            assert torch.equal(connection.shift, same.shift)


def test_one_step_of_the_weights_serves_causal_connections() -> None:
    past = fs.Connection.linear(6, 6, source=0)
    past.weight.data *= 20
    net = fs.Stack(fs.Linear(6, 6, fs.Causal()), fs.Linear(6, 6, fs.Causal(), shortcuts=[past]), steps=8)
    layer = fs.integer(net).integers[1]
    assert all(int(one.shift.max()) == 0 for one in layer.connections)
    largest = torch.stack([one.weight.abs().amax(1) for one in layer.connections])
    assert torch.equal(largest.argmax(0), torch.ones(6, dtype=torch.int64))
    assert (largest[0] < largest[1] / 4).all()


def test_weights_too_large_beside_the_range_are_refused() -> None:
    net = fs.Stack(dense([[1e6, -1e6]], fs.Window(high=1e-3, steps=256)), steps=2)
    with refused(ValueError, "layer 0 (Linear)", "too large", "range"):
        fs.integer(net)


def test_a_threshold_above_all_sums_needs_no_larger_numbers() -> None:
    net = fs.Stack(dense([[1e-9, 2e-9]], fs.Causal(threshold=1.0)), steps=8)
    (layer,) = fs.integer(net).integers
    assert layer.bound() < 1000
    assert layer.read([fs.Spikes([[0.0, 0.0]], 8)])[0].times.tolist() == [[8]]


def test_what_is_whole_already_is_refused() -> None:
    whole = fs.integer(fs.Stack(fs.Linear(4, 2), steps=8))
    with refused(TypeError, "integers already", "8 bits"):
        fs.integer(whole)
    with refused(ValueError, "8 bits", "not of 4"):
        fs.export.c(whole, "nowhere", bits=4)


@pytest.mark.parametrize("how", [{"groups": 8, "padding": 1}, {"padding": 2}])
def test_causal_convolutions_without_a_bias_stay_without(how: dict[str, int]) -> None:
    source = torch.Generator().manual_seed(0)
    net = fs.Stack(fs.Conv2d(8, 8, 3, fs.Causal(), generator=source, **how), steps=8)
    spikes = fs.Spikes(torch.randint(0, 9, (4, 8, 6, 6), generator=source), 8)
    whole = fs.integer(net, in_shape=(8, 6, 6))
    assert whole(spikes).shape == net(spikes).shape
    assert (whole(spikes).times != net(spikes).times).float().mean() < 0.05


@pytest.mark.parametrize("factor", [1e-6, 1e-25, 0.0])
def test_a_neuron_that_hardly_receives_anything_does_not_spoil_the_layer(factor: float) -> None:
    source = torch.Generator().manual_seed(0)
    net = fs.Stack(
        fs.Linear(64, 16, generator=source),
        fs.Linear(16, 10, fs.Window.output(64), generator=source),
        steps=16,
    )
    net[0].weight.data[3] *= factor
    net[1].weight.data[:, 5] *= factor
    images = torch.randint(0, 256, (50, 64), generator=source).to(torch.uint8)
    whole = fs.integer(net)
    exact, found = net.double().trace(net.encode(images))[1:], whole.trace(whole.encode(images))[1:]
    assert (exact[0].times != found[0].times).float().mean() < 0.03
    assert (exact[1].times - found[1].times).abs().max() <= 2


@pytest.mark.parametrize("bias", ["start", "current"])
@pytest.mark.parametrize("sign", [1, -1])
def test_biases_beyond_all_numbers_are_refused_or_exact(bias: str, sign: int) -> None:
    net = fs.Stack(dense([[0.5, 0.25]], fs.Causal(bias=bias), [sign * 1e25]), steps=8)  # type: ignore[arg-type]
    if bias == "current":
        with refused(ValueError, "layer 0 (Linear)", "32 bits", "biases"):
            fs.integer(net)
    else:
        spikes = fs.Spikes([[8.0, 8.0]], 8)
        assert torch.equal(fs.integer(net)(spikes).times, net(spikes).times)


def test_rounded_weights_look_at_what_they_are_given() -> None:
    net = fs.Stack(fs.Linear(4, 2), steps=8)
    for bits in (1, 16, "a"):
        with refused(ValueError, "rounded_weights.bits"):
            fs.rounded_weights(net, bits=bits)  # type: ignore[arg-type]
    with refused(ValueError, "per", "channel, layer"):
        fs.rounded_weights(net, bits=4, per="x")  # type: ignore[arg-type]
    with refused(TypeError, "Stack", "Linear"):
        fs.rounded_weights(nn.Linear(2, 2), bits=4)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60)
@given(networks(), st.sampled_from([2, 4, 8]))
def test_every_accumulator_holds_the_worst_that_spikes_can_do(drawn: Drawn, bits: int) -> None:
    net, shape, _ = drawn
    for layer in fs.integer(net, bits=bits, in_shape=shape).integers:
        held = isinstance(layer, IntegerWindow)
        worst = 0
        for one in layer.connections:
            # Any order of arrival: all positive weights before the first negative one, or the other way.
            sides = [
                by_output(one.wiring, one.weight).long().clamp(*side) for side in ((0, None), (None, 0))
            ]
            largest = torch.stack([side.sum(1).abs() for side in sides]).amax(0)
            worst = worst + (largest * (one.steps if held else 1) << one.shift)
        if isinstance(layer, IntegerWindow):
            started = layer.offset.abs().reshape(len(layer.offset), -1).amax(1)
            assert int((worst + started + layer.steps * layer.drive).max()) < 2**31
        else:
            fallen = layer.current.abs() * layer.connections[0].steps
            assert int((worst + layer.level.abs() + fallen).max()) < 2**31
