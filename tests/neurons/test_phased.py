"""Phased neurons: the stepped simulation, causality, the window neuron's values, exact gradients."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from builders import dense, draw_spikes, fires, refused, seeded
from torch import Tensor

from firstspike import Connection, Conv2d, ConvTranspose2d, Linear, Phased, Spikes

T = 64
NEURON = Phased(source=(0, 16), target=(8, 40), low=0.0, high=4.0, input_low=-1.0, input_high=1.0)
APART = Phased(source=(0, 16), target=(16, 48), low=0.0, high=4.0)


def draw(seed: int, neuron: Phased) -> tuple[Spikes, Linear]:
    """Dyadic numbers, so that every sum is exact in float32."""
    source = seeded(seed)
    times = torch.randint(0, 17, (7, 12), generator=source).float()
    times[times == 16] = T
    weight = torch.randint(-16, 17, (9, 12), generator=source).float() / 16
    bias = torch.randint(-8, 9, (9,), generator=source).float() / 8
    return Spikes(times, T), dense(weight, neuron, bias)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("neuron", [NEURON, APART], ids=["overlapping", "apart"])
def test_times_are_those_of_the_walk_through_the_steps(seed: int, neuron: Phased) -> None:
    spikes, layer = draw(seed, neuron)
    found = layer(spikes)
    assert torch.equal(found.times, layer.simulate(spikes).times)
    assert 0 < found.silent.sum() < found.silent.numel()


def test_a_case_by_hand() -> None:
    # One input at step 4 of the phase 0 ... 16, value 12/16; u = 2 * 12/16 = 1.5, value 1.5/4 of the
    # phase 16 ... 48, so it fires at 48 - 32 * 0.375 = 36.
    layer = dense([[2.0]], APART)
    assert layer.membrane(Spikes([[4]], T)).item() == 1.5
    assert fires(layer, [[4]], T).item() == 36
    assert fires(dense([[-2.0]], APART), [[4]], T).item() == T


def test_later_inputs_change_nothing_before_them() -> None:
    spikes, layer = draw(11, NEURON)
    out = layer(spikes).times
    for cut in (4, 9, 13):
        other = fires(layer, torch.where(spikes.times >= cut, float(T), spikes.times), T)
        early = out <= cut
        assert torch.equal(out[early], other[early])
        assert (other[~early] > cut).all()


def test_after_the_gate_it_is_the_window_neurons_value() -> None:
    spikes, layer = draw(5, APART)
    out = layer(spikes).times
    asked = torch.ceil(48 - 32 * layer.membrane(spikes) / 4)
    late = (out > 16) & (out < T)
    assert late.any()
    assert torch.equal(out[late], asked[late])


def test_the_gradient_of_late_spikes_is_that_of_the_linear_map() -> None:
    spikes, layer = draw(5, APART)
    assert layer.bias is not None
    given = (layer.weight, layer.bias, spikes.times.requires_grad_())
    out = layer(spikes).times
    late = ((out > 16) & (out < T)).float()
    ours = torch.autograd.grad((out * late).sum(), given)
    asked = 48 - 32 * layer.membrane(spikes) / 4
    theirs = torch.autograd.grad((asked * late).sum(), given)
    torch.testing.assert_close(ours[:2], theirs[:2])
    fired = ~spikes.silent
    torch.testing.assert_close(ours[2][fired], theirs[2][fired])


def test_saturation_and_silence_drop_outward_gradients() -> None:
    neuron = Phased(source=(0, 16), target=(8, 40), saturates=True)
    for value, outward in ((9.0, 1.0), (-9.0, -1.0)):
        for sign in (1.0, -1.0):
            layer = dense([[value]], neuron)
            fires(layer, [[0]], T).backward(torch.tensor([[sign]]))
            assert layer.weight.grad is not None
            assert (layer.weight.grad.item() == 0) == (sign == outward)


def test_its_code_fills_its_phase() -> None:
    neuron = Phased(source=(48, 304), target=(48, 304))
    times = torch.cat([torch.arange(48.0, 304.0), torch.tensor([400.0])])
    assert torch.equal(neuron.encode(neuron.decode(Spikes(times, 400)), 400).times, times)
    assert neuron.decode(Spikes([[10, 48, 304, 400]], 400)).tolist() == [[1, 1, 0, 0]]
    assert neuron.encode(torch.tensor([0, 255], dtype=torch.uint8), 400).times.tolist() == [400, 48]


def test_spikes_that_come_too_early_are_held_back() -> None:
    neuron = Phased(source=(8, 16), target=(16, 32))
    times = torch.tensor([[0.0, 8.0, 11.0, T]], requires_grad=True)
    held = neuron.admit(Spikes(times, T))
    assert held.times.tolist() == [[8, 8, 11, T]]
    (grad,) = torch.autograd.grad(held.times.sum(), times)
    assert grad.tolist() == [[1, 1, 1, 1]]


# What is refused


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[
            ("source", value)
            for value in ((5, 5), (8, 2), (-1, 4), (0,), (0, 4, 8), (0, 4.5), (0, math.nan))
        ],
        ("target", (8, 8)),
        *[("min_slope", value) for value in (0.0, math.nan)],
        *[(name, math.nan) for name in ("low", "high", "input_low", "input_high")],
        ("high", math.inf),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(field: str, value: Any) -> None:
    options: dict[str, Any] = {"source": (0, 4), "target": (2, 8)}
    with refused(ValueError, f"Phased.{field}"):
        Phased(**(options | {field: value}))


def test_ranges_rise_and_steps_are_integers_of_any_kind() -> None:
    for options in ({"low": 4.0}, {"input_low": 1.0}):
        with refused(ValueError, "low < high", "input_low < input_high"):
            Phased(source=(0, 4), target=(2, 8), **options)  # type: ignore[arg-type]
    given: Any = [np.int64(0), np.int64(4)]
    assert Phased(source=given, target=(2, 8)) == Phased(source=(0, 4), target=(2, 8))


def test_phases_end_by_the_clock() -> None:
    layer = dense([[1.0]], APART)
    for call in (layer, layer.simulate):
        with refused(ValueError, "(16, 48)", "32 steps"):
            call(Spikes([[0]], 32))


def test_connections_and_precisions_that_it_does_not_take() -> None:
    for make in (Conv2d, ConvTranspose2d):
        with refused(ValueError, "Phased", "dense"):
            make(1, 2, 3, APART)
    with refused(ValueError, "Phased", "one connection", "2"):
        Linear(2, 3, APART, shortcuts=[Connection.linear(2, 3, source=0)])
    with refused(TypeError, "Phased", "float32", "float64"):
        Linear(2, 3, APART).double()(draw_spikes(4, 2, steps=T))


def test_a_gradient_that_is_asked_for_of_the_times_alone() -> None:
    spikes, layer = draw(3, NEURON)
    times: Tensor = spikes.times.requires_grad_()
    layer.requires_grad_(False)
    (grad,) = torch.autograd.grad(layer(spikes).times.sum(), times)
    assert grad.shape == times.shape
