"""What every neuron promises, shipped or of a user's own."""

import copy
import dataclasses
import math
import pickle
from typing import Any

import pytest
import torch
from builders import draw_spikes, refused, seeded
from test_one_room import Doubling

import firstspike as fs
from firstspike import Causal, Linear, Neuron, Phased, Ramp, Spikes, Window

T = 16


SHIPPED: list[Neuron] = [
    Causal(threshold=0.5),
    Causal(threshold=0.5, norm="l1", delay=1),
    Causal(threshold=0.5, bias="current"),
    Ramp(threshold=2.0),
    Phased(source=(0, 12), target=(4, 16), low=-0.5, high=0.5),
    Window(low=-0.5, high=0.5),
    Window(low=-0.5, high=0.5, saturation="smooth", steps=8),
    Window.output(),
]
NEURONS = [*SHIPPED, Doubling()]
# Those that convolutions take.
ON_MAPS = [neuron for neuron in NEURONS if not isinstance(neuron, Ramp | Phased)]


def biased(neuron: Neuron) -> bool:
    return neuron.has_bias or (isinstance(neuron, Causal) and neuron.bias == "current")


def linear(neuron: Neuron) -> fs.Linear:
    return fs.Linear(12, 5, neuron, bias=biased(neuron), generator=seeded(0))


@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
def test_neurons_are_values(neuron: Neuron) -> None:
    for same in (dataclasses.replace(neuron), copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert same == neuron
        assert hash(same) == hash(neuron)
    assert neuron != Doubling(threshold=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(neuron, dataclasses.fields(neuron)[0].name, 2.0)
    with pytest.raises(TypeError):
        type(neuron)(1.0)  # type: ignore[call-arg]


def test_where_each_neuron_fires() -> None:
    phased = Phased(source=(0, 8), target=(4, 12))
    for neuron, waits, ends in (
        (Causal(delay=3), 0, T),
        (Ramp(), 0, T),
        (phased, 0, 12),
        (Doubling(), 0, T),
    ):
        assert (neuron.out_steps(T), neuron.waits(T), neuron.ends(T)) == (T, waits, ends)
    assert (Window().waits(T), Window(steps=8).out_steps(T), Window(steps=8).ends(T)) == (T, 8, 8)


def test_additions_without_spikes() -> None:
    assert [Causal().additions(T, biased=flag) for flag in (False, True)] == [0, 0]
    assert [Causal(bias="current").additions(T, biased=flag) for flag in (False, True)] == [0, T]
    assert Ramp().additions(T, biased=False) == T
    assert Window(steps=8).additions(T, biased=True) == T + 8
    assert Phased(source=(0, 8), target=(4, 12)).additions(T, biased=True) == 12


@pytest.mark.parametrize("neuron", [Ramp(), Phased(source=(0, 8), target=(4, 12))])
def test_a_neuron_of_the_cpu_says_so(neuron: Neuron) -> None:
    for place in ({"weight": "meta"}, {"spikes": "meta"}):
        layer = Linear(4, 3, neuron).to(place.get("weight", "cpu"))
        spikes = draw_spikes(2, 4).to(place.get("spikes", "cpu"))
        with refused(ValueError, type(neuron).__name__, "on the CPU", "meta"):
            layer(spikes)


def test_a_bias_is_a_current_where_the_neuron_says_so() -> None:
    assert Causal(bias="current").bias_is_current
    for neuron in (Causal(), Ramp(), Window(), Phased(source=(0, 8), target=(4, 12)), Doubling()):
        assert not neuron.bias_is_current


def test_rounding_passes_the_gradient_straight_through() -> None:
    values = torch.tensor([-0.6, 0.4, 2.5], requires_grad=True)
    rounded = fs.round_ste(values)
    assert rounded.tolist() == [-1, 0, 2]
    assert torch.autograd.grad(rounded.square().sum(), values)[0].tolist() == [-2, 0, 4]


# Derivatives


@pytest.mark.parametrize("neuron", SHIPPED, ids=repr)
def test_a_second_derivative_of_times_is_refused(neuron: Neuron) -> None:
    layers = [linear(neuron)]
    if neuron in ON_MAPS:
        layers.append(fs.Conv2d(3, 5, 2, neuron, bias=biased(neuron), generator=seeded(0)))  # type: ignore[arg-type]
    for layer in layers:
        spikes = draw_spikes(7, 3, 2, 2)
        spikes.times.requires_grad_()
        for given in (layer.weight, spikes.times):
            loss = layer(spikes).times.square().sum()
            with refused(RuntimeError, "create_graph=True"):
                torch.autograd.grad(loss, given, create_graph=True)
            with refused(RuntimeError, "create_graph=True"):
                layer(spikes).times.sum().backward(create_graph=True)
        # The first derivative is there all the same, and twice.
        loss = layer(spikes).times.square().sum()
        first = torch.autograd.grad(loss, layer.weight, retain_graph=True)[0]
        assert torch.equal(torch.autograd.grad(loss, layer.weight)[0], first)


def test_a_second_derivative_of_membranes_is_right() -> None:
    layer = linear(Window())
    loss = layer.membrane(draw_spikes(7, 12)).square().sum()
    (grad,) = torch.autograd.grad(loss, layer.weight, create_graph=True)
    (second,) = torch.autograd.grad(grad.sum(), layer.weight)
    values = draw_spikes(7, 12).values
    # d/dw_i sum_k dL/dw_k = 2 sum_b x_i sum_k x_k.
    torch.testing.assert_close(second, (2 * values * values.sum(1, keepdim=True)).sum(0).expand(5, 12))


@pytest.mark.parametrize("neuron", SHIPPED, ids=repr)
@pytest.mark.parametrize("batch", [0, 3])
def test_gradients_have_the_types_and_shapes_of_what_they_belong_to(neuron: Neuron, batch: int) -> None:
    for weights in (torch.float32,) if isinstance(neuron, Phased) else (torch.float32, torch.float64):
        for kind in (torch.float32, torch.float64):
            layer, spikes = linear(neuron).to(weights), draw_spikes(batch, 12).to(kind)
            spikes.times.requires_grad_()
            out = layer(spikes)
            # Times leave in the type that they came in, membranes in that of the weights.
            assert (out.shape, out.times.dtype) == ((batch, 5), kind)
            assert layer.membrane(spikes).dtype == weights
            out.times.sum().backward()
            for tensor in (spikes.times, layer.weight):
                assert tensor.grad is not None
                assert (tensor.grad.shape, tensor.grad.dtype) == (tensor.shape, tensor.dtype)


# Precisions


@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_refused(neuron: Neuron, dtype: torch.dtype) -> None:
    layer = linear(neuron).to(dtype)
    for call in (layer, layer.membrane, layer.read):
        with refused(TypeError, "float32 or float64", str(dtype), "autocast"):
            call(draw_spikes(7, 12))


@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
def test_autocast_keeps_times_and_gradients_in_single_precision(neuron: Neuron) -> None:
    layer, spikes = linear(neuron), draw_spikes(7, 12)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(spikes)
        found.times.sum().backward()
    assert found.times.dtype == torch.float32
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    if isinstance(neuron, Causal | Ramp | Phased):
        # The event kernels know no half precision.
        assert torch.equal(found.times, layer(spikes).times)
    else:
        assert torch.equal(found.times, found.times.round())
        assert (found.times - layer(spikes).times).abs().max() <= 2


# What is not finite


@pytest.mark.parametrize("neuron", SHIPPED, ids=repr)
@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_broken_weights_end_in_an_error_and_not_in_a_decision(
    neuron: Neuron, name: str, value: float
) -> None:
    layer, last = linear(neuron), fs.Linear(5, 3, Window(steps=8))
    broken = getattr(layer, name)
    if broken is None or (name == "bias" and abs(value) == math.inf and isinstance(neuron, Window)):
        # An infinite bias of a window neuron is a neuron that always or never fires.
        return
    with torch.no_grad():
        broken[2] = value
    spikes = Spikes(torch.full((4, 12), float(T)), T)
    for net in (fs.Stack(layer, steps=T), fs.Stack(layer, last, steps=T)):
        with pytest.raises(ValueError, match="NaN") as caught:
            fs.FirstSpike().decide(net(spikes))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("neuron", SHIPPED, ids=repr)
@pytest.mark.parametrize("value", [math.nan, -1.0, T + 1.0])
def test_times_that_a_broken_layer_gave_are_an_error_or_go_on_as_nan(neuron: Neuron, value: float) -> None:
    times = torch.zeros(2, 12)
    times[1, 3] = value
    layer = linear(neuron)
    if isinstance(neuron, Window):
        assert not math.isnan(value) or layer(Spikes.trusted(times, T)).times[1].isnan().all()
        return
    with refused(ValueError, "times", "0 ... 16"):
        layer(Spikes.trusted(times, T))


def test_finite_weights_whose_sum_overflows_are_fine() -> None:
    for neuron in (Causal(), Ramp()):
        layer = fs.Linear(2, 1, neuron)
        torch.nn.init.constant_(layer.weight, 3e38)
        assert layer(Spikes([[0, 0]], T)).times.item() <= 1


def test_a_layer_asks_for_a_neuron_where_it_once_took_the_steps() -> None:
    wrong: Any
    for wrong in (16, Window, None):
        for make in (
            lambda w: fs.Linear(3, 2, w),
            lambda w: fs.Conv2d(1, 2, 3, w),
            lambda w: fs.AvgPool2d(2, w),
        ):
            with refused(TypeError, "Neuron", "Window()", "steps"):
                make(wrong)


@pytest.mark.parametrize("neuron", SHIPPED, ids=repr)
def test_weights_hold_in_another_window_where_the_neuron_says_so(neuron: Neuron) -> None:
    """In a window four times as long a spike lies at the same share of it, to a step of the shorter one."""
    if isinstance(neuron, Phased):
        # Its phases are time steps.
        assert not neuron.any_window()
        return
    layer = linear(neuron)
    torch.nn.init.uniform_(layer.weight, -0.3, 0.6, generator=seeded(1))
    short = draw_spikes(64, 12, steps=T)
    if isinstance(neuron, Window) and neuron.steps is not None:
        longer = fs.Linear(12, 5, dataclasses.replace(neuron, steps=4 * neuron.steps))
    else:
        longer = fs.Linear(12, 5, neuron, bias=layer.bias is not None)
    longer.load_state_dict(layer.state_dict())
    one, four = layer(short), longer(Spikes(4 * short.times, 4 * T))
    assert not one.silent.all()
    off = (one.times / one.steps - four.times / four.steps).abs().max()
    assert (off <= 1 / one.steps) == neuron.any_window()
